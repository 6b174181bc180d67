//! The accept loop: connections in, with their limits; a drain at the end. It knows nothing of what is served.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::answer::Body;
use crate::model::chain::Chain;

/// A socket that is being listened on.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// Somebody on this machine, through a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What one listener's callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a caller may take to send the headers of a request; also how long an idle connection is kept.
    pub request_header_timeout: Duration,
    /// How many connections may be open at once; one more is answered with 503.
    pub max_connections: usize,
    /// How long open requests may go on after the end was asked for.
    pub drain_timeout: Duration,
}

/// The most bytes of request line and headers. hyper's smallest buffer is 8 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves `listeners` with `handler` until `stop` is cancelled, then drains: no new connection or request is
/// taken, open ones have `limits.drain_timeout` to end. Returns when the last connection is closed.
pub async fn serve<H, F>(listeners: Vec<Listener>, limits: Limits, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let tasks = TaskTracker::new();
    for listener in listeners {
        let server = Server {
            limits,
            stop: stop.clone(),
            places: places.clone(),
            tasks: tasks.clone(),
            handler: handler.clone(),
        };
        tasks.spawn(server.accept(listener));
    }
    tasks.close();
    tasks.wait().await;
}

#[derive(Clone)]
struct Server<H> {
    limits: Limits,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    handler: H,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn accept(self, listener: Listener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&listener) => accepted,
            };
            match accepted {
                Ok(Accepted::Tcp(stream, address)) => {
                    // Only ever fails on a socket that is already dead, which the first read will say.
                    let _ = stream.set_nodelay(true);
                    self.admit(stream, Peer::Tcp(address));
                }
                Ok(Accepted::Unix(stream)) => self.admit(stream, Peer::Unix),
                Err(error) if is_callers_fault(&error) => continue,
                Err(error) => {
                    // Out of file descriptors, most likely: it passes when connections close.
                    if !failing {
                        warn!(%error, "new connections can't be accepted for now");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
            failing = false;
        }
    }

    fn admit<S>(&self, mut stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            debug!(%peer, "connection refused: {} are open already", self.limits.max_connections);
            // A fresh socket's buffer is empty, so this is one write; a caller that is gone already is no loss.
            self.tasks.spawn(async move {
                let _ = timeout(Duration::from_secs(1), stream.write_all(BUSY)).await;
            });
            return;
        };
        let server = self.clone();
        self.tasks.spawn(async move {
            server.converse(stream, peer).await;
            drop(place);
        });
    }

    async fn converse<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handler = self.handler;
        let service = service_fn(move |request| {
            let answer = handler(request, peer);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.request_header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            // Programs of 2016 look for names as the original wrote them.
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(self.limits.drain_timeout, connection).await.ok()
            }
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => debug!(%peer, error = %Chain(&error), "connection broke off"),
            None => debug!(%peer, "connection cut: its request did not end within the drain time"),
        }
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match listener {
        Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer)),
        Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
    }
}

/// Errors that `accept(2)` passes on from a connection that died in the queue.
fn is_callers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
