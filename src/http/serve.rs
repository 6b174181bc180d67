//! The accept loop: connections in, with their limits; a drain at the end. It knows nothing of what is served.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::alarm::OneAlarm;
use super::answer::Body;
use super::caller::Caller;
use super::clocked::Clocked;
use super::ending::Ending;
use super::interim::Interim;
use super::lengths::Watched;
use super::listener::{Accepted, Listener, Peer};
use super::sparing::Sparing;
use super::{CLOSE, listener};
use crate::locks::locked;
use crate::model::chain::Chain;

/// What one listener's callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a caller may take to send the headers of a request; also how long an idle connection is kept.
    pub request_header_timeout: Duration,
    /// How long a caller may take nothing of what is written to him.
    pub write_timeout: Duration,
    /// How many connections may be open at once; one more is answered with 503.
    pub max_connections: usize,
    /// How long open requests may go on after the end was asked for.
    pub drain_timeout: Duration,
    /// The most bytes of request line and headers, at least 8 KiB; more is answered with 431.
    pub max_request_header: usize,
}

/// What is left to be done with a connection when it has changed to another protocol. A request that asks for that has
/// one of these among its extensions.
#[derive(Clone, Default)]
pub struct Afterwards(Arc<Mutex<Option<Task>>>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Afterwards {
    /// `task` has the connection, by [`hyper::upgrade::on`], once the answer with status 101 is out. It counts as one as
    /// long as it goes on, and is dropped when the time to drain is over, or where that answer can't be written.
    pub fn set(&self, task: impl Future<Output = ()> + Send + 'static) {
        *locked(&self.0) = Some(Box::pin(task));
    }

    fn take(&self) -> Option<Task> {
        locked(&self.0).take()
    }
}

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How a connection begins whose caller takes for granted that it is one of HTTP/2 (RFC 9113, 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const NO_HTTP_2: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How many callers beyond the limit are told so at once; further ones are closed without a word.
const MAX_REFUSALS: usize = 64;

/// How long what a caller still sends is read after the last answer: closing before would make the kernel take the
/// answer back (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection on which nothing goes on is kept after the end was asked for: a caller who sends a request just
/// now does not know of it yet. The answer then says that it is the last one.
const LAST_REQUEST: Duration = Duration::from_millis(300);

/// Serves `listeners` with `handler` until `stop` is cancelled, then drains: no new connection or request is
/// taken, open ones have `limits.drain_timeout` to end. Returns when the last connection is closed.
pub async fn serve<H, F>(listeners: Vec<Listener>, limits: Limits, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>, Arc<Caller>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let crowding = Arc::new(Sparing::new(1));
    let tasks = TaskTracker::new();
    let ending = Ending::default();
    tasks.spawn(ending.clone().follow(stop));
    for (place, listener) in listeners.into_iter().enumerate() {
        let server = Server {
            limits,
            ending: ending.clone(),
            places: places.clone(),
            refusals: refusals.clone(),
            crowding: crowding.clone(),
            tasks: tasks.clone(),
            handler: handler.clone(),
        };
        tasks.spawn(server.accept(place, listener));
    }
    tasks.close();
    tasks.wait().await;
}

#[derive(Clone)]
struct Server<H> {
    limits: Limits,
    ending: Ending,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Connections for which there was no place, in the log.
    crowding: Arc<Sparing>,
    tasks: TaskTracker,
    handler: H,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Arc<Caller>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn accept(self, place: usize, listener: Listener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.ending.wait() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(Accepted::Tcp(stream, remote, local)) => {
                    // Only ever fails on a socket that is already dead, which the first read will say.
                    let _ = stream.set_nodelay(true);
                    self.admit(stream, Peer::Tcp { remote, local });
                }
                Ok(Accepted::Unix(stream)) => self.admit(stream, Peer::Unix { listener: place }),
                Err(error) if listener::is_callers_fault(&error) => continue,
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
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let limit = self.limits.max_connections;
            match self.crowding.note() {
                None => {}
                Some(0) => warn!(%peer, "a connection was refused: {limit} are open already"),
                Some(left_out) => {
                    warn!(%peer, left_out, "a connection was refused: {limit} are open already");
                }
            }
            if let Ok(refusal) = self.refusals.clone().try_acquire_owned() {
                self.tasks.spawn(async move {
                    say_last(&mut stream, BUSY).await;
                    drop(refusal);
                });
            }
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
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let handler = self.handler;
        let afterwards = Afterwards::default();
        // Whether the end of the connection is all that tells the caller of the end of an answer.
        let ends_by_close = Arc::new(AtomicBool::new(false));
        // Whether a request had two lengths: nothing that follows one is to be read.
        let doubled = Arc::new(AtomicBool::new(false));
        let (interim, changed) = (Interim::default(), Arc::new(AtomicBool::new(false)));
        let caller = Arc::new(Caller::new(peer, interim.clone(), self.ending.clone(), changed.clone()));
        let stream = Clocked::new(stream, self.limits.write_timeout, changed);
        let (slot, is_old, is_last) = (afterwards.clone(), ends_by_close.clone(), doubled.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Whoever asks to change the protocol may already have gone on in the other one.
            let asked_change = request.headers().contains_key(UPGRADE);
            if asked_change {
                request.extensions_mut().insert(slot.clone());
            }
            if request.version() < Version::HTTP_11 {
                is_old.store(true, Ordering::Relaxed);
            }
            let is_last = asked_change || is_last.load(Ordering::Relaxed);
            // In a box at once: it is large, and would be moved several times.
            let answer = Box::pin(handler(request, caller.clone()));
            let caller = caller.clone();
            async move {
                let mut answer = answer.await;
                let ends = caller.finish_request();
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    caller.change_protocol();
                } else if is_last || ends {
                    answer.headers_mut().insert(CONNECTION, CLOSE);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(OneAlarm::default())
            .header_read_timeout(self.limits.request_header_timeout)
            .max_buf_size(self.limits.max_request_header)
            // Most answers are small, and one piece costs the kernel less than two.
            .writev(false)
            // Programs of 2016 look for names as the original wrote them.
            .title_case_headers(true)
            .serve_connection(TokioIo::new(Watched::new(stream, doubled, interim)), service)
            .with_upgrades();
        let ended = tokio::select! {
            biased;
            () = self.ending.wait() => {
                let until = Instant::now() + self.limits.drain_timeout;
                match timeout(LAST_REQUEST.min(self.limits.drain_timeout), &mut connection).await {
                    Ok(ended) => Some(ended),
                    Err(_) => {
                        Pin::new(&mut connection).graceful_shutdown();
                        timeout_at(until, &mut connection).await.ok()
                    }
                }
            }
            ended = &mut connection => Some(ended),
        };
        // Where the answer that announces a tunnel could not be written there is none: what was to be it is dropped here.
        if let (Some(task), Some(Ok(()))) = (afterwards.take(), &ended) {
            // Nor is there one where the connection was not handed on, which the task is told when this is gone.
            drop(connection);
            tokio::select! {
                () = task => {}
                () = async {
                    self.ending.wait().await;
                    tokio::time::sleep(self.limits.drain_timeout).await;
                } => debug!(%peer, "tunnel cut: it did not end within the drain time"),
            }
            return;
        }
        let Some(ended) = ended else {
            debug!(%peer, "connection cut: its request did not end within the drain time");
            return;
        };
        // None where it was handed on.
        let Some(parts) = connection.into_parts() else { return };
        let (mut stream, gave_up) = parts.io.into_inner().into_inner().into_inner();
        match ended {
            // Boxed, as what is needed in the end only need not be there from the beginning.
            Ok(()) => Box::pin(linger(&mut stream)).await,
            Err(error) => {
                debug!(%peer, error = %Chain(&error), "connection broke off");
                if error.is_timeout() && !parts.read_buf.is_empty() {
                    Box::pin(say_last(&mut stream, TOO_SLOW)).await;
                } else if parts.read_buf.starts_with(HTTP_2) {
                    Box::pin(say_last(&mut stream, NO_HTTP_2)).await;
                } else if error.is_parse() {
                    // hyper has told the caller.
                    Box::pin(linger(&mut stream)).await;
                } else if gave_up || ends_by_close.load(Ordering::Relaxed) {
                    // What broke off must not look complete: a reset is no end. It also frees what the kernel still holds
                    // for a caller who takes nothing. Fails on what is dead already.
                    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                }
            }
        }
    }
}

/// Writes the last answer of a connection.
async fn say_last(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) {
    // One write: the socket's buffer is empty. A caller that is gone already is no loss.
    let said = timeout(LINGER, async {
        stream.write_all(answer).await?;
        stream.shutdown().await
    });
    if let Ok(Ok(())) = said.await {
        linger(stream).await;
    }
}

/// Reads on, up to [`LINGER`], after our side was shut down.
async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = [0; 4096];
    let read_all = async { while !matches!(stream.read(&mut nothing).await, Ok(0) | Err(_)) {} };
    let _ = timeout(LINGER, read_all).await;
}

#[cfg(test)]
mod tests;
