//! Connections: last responses, drain, and tunnels that are not established.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::accept::BUSY;
use super::connection::{LAST_REQUEST_GRACE, LINGER_TIME, lingering_close, send_last_response};
use super::*;
use crate::http::body::Body;

#[tokio::test(start_paused = true)]
async fn lingering_close_reads_after_last_response() {
    // A pipe that holds hardly anything.
    let (mut ours, mut callers) = duplex(4);
    let caller = tokio::spawn(async move {
        let mut answer = Vec::new();
        callers.read_to_end(&mut answer).await.unwrap();
        callers.write_all(&[b'x'; 1000]).await.map(|()| answer)
    });
    send_last_response(&mut ours, BUSY).await;
    drop(ours);
    assert_eq!(caller.await.unwrap().unwrap(), BUSY);
}

#[tokio::test(start_paused = true)]
async fn lingering_close_is_bounded() {
    let (mut ours, _callers) = duplex(4);
    let before = tokio::time::Instant::now();
    lingering_close(&mut ours).await;
    assert_eq!(before.elapsed(), LINGER_TIME);
}

/// Reads one response without a body.
async fn answer(stream: &mut tokio::net::UnixStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap().to_ascii_lowercase()
}

const LIMITS: Limits = Limits {
    request_header_timeout: Duration::from_secs(60),
    write_timeout: Duration::from_secs(5),
    max_connections: 10,
    drain_timeout: Duration::from_secs(60),
    max_request_header: 8192,
    unreadable_code: 6,
};

/// A listening socket and its folder.
fn listener() -> (tempfile::TempDir, std::path::PathBuf, Listener) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::from(tokio::net::UnixListener::bind(&path).unwrap());
    (folder, path, listener)
}

/// Reports its drop.
struct Last(tokio::sync::mpsc::Sender<()>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.try_send(()).unwrap();
    }
}

#[tokio::test]
async fn tunnel_ends_if_101_cannot_be_written() {
    let (_folder, path, listener) = listener();
    let stop = CancellationToken::new();
    let (asked, mut was_asked) = tokio::sync::mpsc::channel(1);
    let (ends, mut ended) = tokio::sync::mpsc::channel(1);
    let gone = Arc::new(tokio::sync::Notify::new());
    let caller_gone = gone.clone();
    let handler = move |mut request: Request<Incoming>, _| {
        let (asked, ends, gone) = (asked.clone(), ends.clone(), gone.clone());
        async move {
            let afterwards: UpgradeTask = request.extensions_mut().remove().unwrap();
            let last = Last(ends);
            afterwards.set(async move {
                let _last = last;
                if hyper::upgrade::on(request).await.is_ok() {
                    std::future::pending().await
                }
            });
            asked.send(()).await.unwrap();
            gone.notified().await;
            let mut answer = Response::new(Body::Whole(None));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer
        }
    };
    let serving = tokio::spawn(serve(vec![listener], LIMITS, stop.clone(), handler));
    let mut caller = tokio::net::UnixStream::connect(&path).await.unwrap();
    let upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    caller.write_all(upgrade).await.unwrap();
    was_asked.recv().await.unwrap();
    drop(caller);
    caller_gone.notify_one();
    let ended = timeout(Duration::from_secs(20), ended.recv()).await;
    assert_eq!(ended, Ok(Some(())), "its task is there for ever");
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn request_in_flight_at_drain_is_answered() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let (_folder, path, listener) = listener();
    let stop = CancellationToken::new();
    let handler = async |_, _| Response::new(Body::Whole(None));
    let serving = tokio::spawn(serve(vec![listener], LIMITS, stop.clone(), handler));
    let [mut late, mut idle] = [
        tokio::net::UnixStream::connect(&path).await.unwrap(),
        tokio::net::UnixStream::connect(&path).await.unwrap(),
    ];
    for kept in [&mut late, &mut idle] {
        kept.write_all(REQUEST).await.unwrap();
        assert!(!answer(kept).await.contains("connection: close"));
    }
    stop.cancel();
    tokio::time::sleep(LAST_REQUEST_GRACE / 2).await;
    late.write_all(REQUEST).await.unwrap();
    let last = answer(&mut late).await;
    assert!(last.starts_with("http/1.1 200 ") && last.contains("connection: close"), "{last}");
    for mut closed in [late, idle] {
        assert_eq!(closed.read(&mut [0]).await.unwrap(), 0);
    }
    serving.await.unwrap();
}
