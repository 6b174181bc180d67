//! Requests to an implementation on this machine: one connection each, whose owner is checked before anything is sent, since
//! another program may listen at the port while the implementation does not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::peers::{ListenerRefusal, PeerPolicy};

/// The largest answer that is read, in bytes. LLBot puts the image of a code into its own.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Refused(#[from] ListenerRefusal),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("its socket is that of another user")]
    Foreign,
    #[error("what has the name of its socket is none, but perhaps a link to one")]
    NoSocket,
    #[error("its answer has HTTP status {0}")]
    Status(u16),
    #[error("its answer is longer than {MAX_ANSWER} bytes, or broke off")]
    Body,
    #[error("its answer is no JSON")]
    Json(#[from] serde_json::Error),
}

/// Whose connections are used: those of this unit, as far as `policy` can tell users apart.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) policy: Option<&'a PeerPolicy>,
    pub(super) unit: Option<&'a str>,
}

/// Posts a JSON object to a port of this machine.
pub(super) async fn post(
    port: u16,
    owner: Owner<'_>,
    path: &'static str,
    bearer: Option<&str>,
    body: &Value,
) -> Result<Value, AskError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(address).await?;
    if let (Some(policy), Some(unit)) = (owner.policy, owner.unit) {
        policy.check_upstream(&stream, unit).await?;
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this request.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        headers.insert(HOST, host);
    }
    if let Some(bearer) = bearer
        && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {bearer}"))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let response = sender.send_request(request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(AskError::Status(status.as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
        Ok(_) => AskError::Body,
        Err(error) => error.downcast::<hyper::Error>().map_or(AskError::Body, |error| AskError::Http(*error)),
    })?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// Sends a line to a Unix socket, and reads the line that comes back. The program there must be that of the user `owner`, who
/// has the folder: the implementation could leave a link there to a socket where the controller has rights that it has not. Even to
/// connect and hang up may end a program, so no link is followed.
pub(super) async fn ask_socket(path: &Path, owner: u32, line: &str) -> Result<Value, AskError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
    let is_socket =
        FileType::from_raw_mode(fstat(&found).map_err(io::Error::from)?.st_mode) == FileType::Socket;
    if !is_socket {
        return Err(AskError::NoSocket);
    }
    // By the descriptor, as the path may lead to another one by now.
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", found.as_raw_fd())).await?;
    if stream.peer_cred()?.uid() != owner {
        return Err(AskError::Foreign);
    }
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let limit = MAX_ANSWER as u64;
    BufReader::new(read.take(limit)).read_until(b'\n', &mut answer).await?;
    if answer.last() != Some(&b'\n') {
        return Err(AskError::Body);
    }
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    const NO_OWNER: Owner<'static> = Owner { policy: None, unit: None };

    /// A port that answers one request with these bytes, and what it was asked.
    async fn answering(answer: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            // The caller may have heard enough before all is written.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (port, asked)
    }

    #[tokio::test]
    async fn request_has_token_and_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"retcode\":-403}".to_vec();
        let (port, asked) = answering(answer).await;
        let body = serde_json::json!({});
        let answer = post(port, NO_OWNER, "/api/get_login_info", Some("geheim"), &body).await.unwrap();
        assert_eq!(answer["retcode"], -403);
        let asked = asked.await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("post /api/get_login_info http/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("authorization: bearer geheim\r\n") && asked.ends_with("\r\n\r\n{}"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn lying_answers_are_errors() {
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; MAX_ANSWER + 1]].concat();
        for answer in [
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}".to_vec(),
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            endless,
            Vec::new(),
        ] {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
            let (port, asked) = answering(answer).await;
            let asked_for = post(port, NO_OWNER, "/", None, &Value::Null).await;
            assert!(asked_for.is_err(), "{shown}: {asked_for:?}");
            asked.await.unwrap();
        }
    }

    #[tokio::test]
    async fn socket_answers_with_one_bounded_line() {
        let folder = tempfile::tempdir().unwrap();
        let me = rustix::process::geteuid().as_raw();
        for (answer, good) in [
            (b"{\"id\":\"1\"}\nmore".to_vec(), true),
            (b"{\"id\":\"1\"}".to_vec(), false),
            (b"nonsense\n".to_vec(), false),
            (vec![b' '; MAX_ANSWER + 1], false),
        ] {
            let path = folder.path().join("socket");
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            let answering = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = [0; 9];
                stream.read_exact(&mut line).await.unwrap();
                let _ = stream.write_all(&answer).await;
                line
            });
            let found = ask_socket(&path, me, "question").await;
            assert_eq!(found.is_ok(), good, "{found:?}");
            assert_eq!(&answering.await.unwrap(), b"question\n");
        }
        let path = folder.path().join("other");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(ask_socket(&path, me + 1, "question").await, Err(AskError::Foreign)));
        let listener = UnixListener::bind(folder.path().join("third")).unwrap();
        for (link, target) in [("link", "third"), ("nowhere", "none"), ("file", "/dev/null")] {
            let link = folder.path().join(link);
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert!(matches!(ask_socket(&link, me, "question").await, Err(AskError::NoSocket)), "{target}");
        }
        let accepted = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err(), "its program has seen nothing of that");
    }
}
