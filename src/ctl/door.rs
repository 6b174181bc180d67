//! [`Door`]: where a controller is reached, and the connection to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use url::Url;

use super::failure::{Failure, Outcome};
use crate::http_client;
use crate::peers::PeerPolicy;

/// The Unix socket that systemd holds (wqcontroller-unix.socket).
const SOCKET: &str = "/run/wqcontroller.sock";
/// The address that is listened on by default.
const ADDRESS: (&str, u16) = ("127.0.0.1", 4000);
/// The user of wqcontroller.service.
const SERVICE_USER: &str = "wqcontroller";
/// How long a connection may take. Other machines may be far away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A place where a controller may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) kind: DoorKind,
    /// What stands before every path, where another server is in front of it.
    pub(super) prefix: String,
    /// Whether it was not named, so that any program may be there.
    is_guess: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DoorKind {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool },
}

/// A connection.
pub(super) type Connection = TokioIo<Box<dyn Stream>>;

/// What a connection can do.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Door {
    /// The door that is named.
    pub(super) fn of_url(text: &str) -> Outcome<Self> {
        const FORM: &str = "http://HOST:PORT, https://HOST or unix:/PATH";
        let new = |kind, prefix: &str| Ok(Self { kind, prefix: prefix.to_owned(), is_guess: false });
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return match path.is_absolute() {
                true => new(DoorKind::Unix(path), ""),
                false => Err(Failure::usage(format!("--url: the path of a socket is absolute: {FORM}"))),
            };
        }
        // The text is not shown: it may be a secret.
        let wrong = || Failure::usage(format!("--url must be {FORM}"));
        let url = Url::parse(text).map_err(|_| wrong())?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let why = "--url takes no password and no query: every user of this machine sees arguments";
            return Err(
                Failure::usage(why).next("put the token into a file, and name that with --token-file")
            );
        }
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let host = url.host_str().ok_or_else(wrong)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        new(DoorKind::Tcp { host, port, tls }, url.path().trim_end_matches('/'))
    }

    /// The doors that are tried where none is named.
    pub(super) fn guesses() -> Vec<Self> {
        let (socket, (host, port)) = defaults();
        let kinds = [DoorKind::Unix(socket), DoorKind::Tcp { host, port, tls: false }];
        kinds.map(|kind| Self { kind, prefix: String::new(), is_guess: true }).into()
    }

    /// Whether it is on this machine, as far as can be told by its name.
    pub(super) fn is_here(&self) -> bool {
        match &self.kind {
            DoorKind::Unix(_) => true,
            DoorKind::Tcp { host, .. } => {
                let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// For the header `Host`.
    pub(super) fn host(&self) -> String {
        match &self.kind {
            DoorKind::Unix(_) => "localhost".to_owned(),
            DoorKind::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Connects. With `secret` something is to be sent that no other program may see.
    pub(super) async fn connect(&self, secret: bool) -> io::Result<Connection> {
        let connecting = async {
            Ok(TokioIo::new(match &self.kind {
                DoorKind::Unix(path) => Box::new(UnixStream::connect(path).await?) as _,
                DoorKind::Tcp { host, port, tls } => {
                    // Brackets are for URLs only.
                    let bare = host.trim_matches(['[', ']']);
                    let stream = TcpStream::connect((bare, *port)).await?;
                    // Requests are small, and a pause after each would be seen.
                    stream.set_nodelay(true)?;
                    if secret && self.is_guess {
                        check_listener(&stream).await?;
                    }
                    match tls {
                        false => Box::new(stream) as Box<dyn Stream>,
                        true => {
                            let connector = http_client::tls_connector().map_err(io::Error::other)?;
                            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
                            Box::new(connector.connect(name, stream).await?)
                        }
                    }
                }
            }))
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

/// Refuses a program of another user: while no controller runs, any user may listen at its address and would be shown the token.
async fn check_listener(stream: &TcpStream) -> io::Result<()> {
    // Where the kernel does not tell, there is nothing to go by.
    let Ok(policy) = PeerPolicy::of_controller() else { return Ok(()) };
    policy.check_service(stream, SERVICE_USER).await.map_err(io::Error::other)
}

#[cfg(not(debug_assertions))]
fn defaults() -> (PathBuf, (String, u16)) {
    (SOCKET.into(), (ADDRESS.0.to_owned(), ADDRESS.1))
}

/// A test can't have the machine's own, so it names a path and a port.
#[cfg(debug_assertions)]
fn defaults() -> (PathBuf, (String, u16)) {
    let named = std::env::var("WQCONTROLLER_TEST_DOORS").unwrap_or_default();
    let named = named.split_once(' ').and_then(|(path, port)| Some((path.into(), port.parse().ok()?)));
    let (path, port) = named.unwrap_or((SOCKET.into(), ADDRESS.1));
    (path, (ADDRESS.0.to_owned(), port))
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DoorKind::Unix(path) => write!(f, "{}", path.display()),
            DoorKind::Tcp { host, port, .. } => write!(f, "{host}:{port}{}", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let door = |text: &str| Door::of_url(text).map(|door| (door.to_string(), door.host()));
        let of = |shown: &str, host: &str| Ok((shown.to_owned(), host.to_owned()));
        assert_eq!(door("http://h:1"), of("h:1", "h:1"));
        assert_eq!(door("https://h/wq/"), of("h:443/wq", "h:443"));
        assert_eq!(door("http://[::1]:4000/"), of("[::1]:4000", "[::1]:4000"));
        assert_eq!(door("unix:/run/x"), of("/run/x", "localhost"));
        assert_eq!(door("unix:///run/x"), of("/run/x", "localhost"));
        for bad in ["h:1", "", "ftp://h", "unix:run/x", "http://me:hunter2@h/", "http://h/?token=hunter2"] {
            let failure = Door::of_url(bad).unwrap_err().to_string();
            assert!(failure.contains("--url") && !failure.contains("hunter2"), "{failure}");
        }
    }
}
