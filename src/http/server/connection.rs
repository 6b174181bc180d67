//! One connection: its requests, and how it is closed.

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
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::CurrentLimits;
use super::downstream::Downstream;
use super::drain::Drain;
use super::informational::InformationalQueue;
use super::listener::Peer;
use super::request_reader::{HeadTracker, RequestReader};
use super::stall_timeout::StallTimeoutIo;
use crate::http::body::{Body, CLOSE};
use crate::http::timer::ReusableTimer;
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;

/// What runs on a connection after it has switched protocols. A request with `Upgrade` has one of these among
/// its extensions.
#[derive(Clone, Default)]
pub struct UpgradeTask(Arc<Mutex<Option<Task>>>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl UpgradeTask {
    /// `task` gets the connection through [`hyper::upgrade::on`] once the 101 response is written. It counts as
    /// a connection while it runs. It is dropped when the drain timeout is over, or if the 101 can't be written.
    pub fn set(&self, task: impl Future<Output = ()> + Send + 'static) {
        *locked(&self.0) = Some(Box::pin(task));
    }

    fn take(&self) -> Option<Task> {
        locked(&self.0).take()
    }
}

/// How an HTTP/2 connection begins whose client skips the negotiation (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const VERSION_NOT_SUPPORTED: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How long to keep reading after the last response. Closing at once would make the kernel discard the response
/// (RFC 9112, 9.6).
pub(super) const LINGER_TIME: Duration = Duration::from_secs(1);

/// How long an idle connection is kept when the drain begins: a request may be on its way. Its response then
/// says `Connection: close`.
pub(super) const LAST_REQUEST_GRACE: Duration = Duration::from_millis(300);

/// An accepted connection.
pub(super) struct Connection<H> {
    pub(super) limits: CurrentLimits,
    pub(super) drain: Drain,
    pub(super) handler: H,
}

impl<H, F> Connection<H>
where
    H: Fn(Request<Incoming>, Arc<Downstream>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    /// Serves the connection until it is closed.
    pub(super) async fn run<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let handler = self.handler;
        let limits = self.limits.now();
        let upgrade = UpgradeTask::default();
        // HTTP/1.0 clients know the end of a streamed body only from the end of the connection.
        let closes_to_end_body = Arc::new(AtomicBool::new(false));
        let heads = Arc::new(HeadTracker::default());
        let (informational, switched) = (InformationalQueue::default(), Arc::new(AtomicBool::new(false)));
        let downstream =
            Arc::new(Downstream::new(peer, informational.clone(), self.drain.clone(), switched.clone()));
        let stream = StallTimeoutIo::new(stream, limits.write_timeout, switched);
        let (slot, is_http10, tracker) = (upgrade.clone(), closes_to_end_body.clone(), heads.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            tracker.note(&request);
            // After a refused upgrade the client may already be speaking the other protocol, so the connection
            // is not reused.
            let asked_change = request.headers().contains_key(UPGRADE);
            if asked_change {
                request.extensions_mut().insert(slot.clone());
            }
            if request.version() < Version::HTTP_11 {
                is_http10.store(true, Ordering::Relaxed);
            }
            // Boxed at once: the future is large, and would be moved several times.
            let answer = Box::pin(handler(request, downstream.clone()));
            let (downstream, tracker) = (downstream.clone(), tracker.clone());
            async move {
                let mut answer = answer.await;
                let ends = downstream.begin_response();
                // Checked after the handler: reading the request body may have made it doubtful.
                let is_last = asked_change || tracker.is_doubtful();
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    downstream.switch_protocols();
                } else if is_last || ends {
                    answer.headers_mut().insert(CONNECTION, CLOSE);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let reader =
            RequestReader::new(stream, limits.max_request_header, heads).with_informational(informational);
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(ReusableTimer::default())
            .header_read_timeout(limits.request_header_timeout)
            // One more than the reader lets through, so that the reader refuses first.
            .max_buf_size(limits.max_request_header + 1)
            // Most responses are small; one write of one piece costs the kernel less than two pieces.
            .writev(false)
            // Programs of 2016 compare header names as the original wrote them.
            .title_case_headers(true)
            .serve_connection(TokioIo::new(reader), service)
            .with_upgrades();
        let ended = tokio::select! {
            biased;
            () = self.drain.draining_begun() => {
                let drain_timeout = self.limits.now().drain_timeout;
                let until = Instant::now() + drain_timeout;
                match timeout(LAST_REQUEST_GRACE.min(drain_timeout), &mut connection).await {
                    Ok(ended) => Some(ended),
                    Err(_) => {
                        Pin::new(&mut connection).graceful_shutdown();
                        timeout_at(until, &mut connection).await.ok()
                    }
                }
            }
            ended = &mut connection => Some(ended),
        };
        // If the 101 response could not be written there is no tunnel, and its task is dropped here.
        if let (Some(task), Some(Ok(()))) = (upgrade.take(), &ended) {
            // If hyper did not hand the connection on, dropping it fails the task's `OnUpgrade`.
            drop(connection);
            tokio::select! {
                () = task => {}
                () = async {
                    self.drain.draining_begun().await;
                    tokio::time::sleep(self.limits.now().drain_timeout).await;
                } => debug!(%peer, "tunnel of {peer} cut at the end of drain_timeout"),
            }
            return;
        }
        let Some(ended) = ended else {
            debug!(%peer, "connection of {peer} cut at the end of drain_timeout");
            return;
        };
        // None if the connection was handed on.
        let Some(parts) = connection.into_parts() else { return };
        let (stream, too_large) = parts.io.into_inner().into_parts();
        let (mut stream, timed_out) = stream.into_inner();
        match ended {
            // Boxed: the state of closing takes no memory while the connection lives.
            Ok(()) => Box::pin(lingering_close(&mut stream)).await,
            Err(error) => {
                debug!(%peer, "connection of {peer} failed: {}", ErrorChain(&error));
                if let Some(too_large) = too_large {
                    let answer = limits.too_large(too_large);
                    Box::pin(send_last_response(&mut stream, answer.as_bytes())).await;
                } else if error.is_timeout() && !parts.read_buf.is_empty() {
                    Box::pin(send_last_response(&mut stream, REQUEST_TIMEOUT)).await;
                } else if parts.read_buf.starts_with(HTTP2_PREFACE) {
                    Box::pin(send_last_response(&mut stream, VERSION_NOT_SUPPORTED)).await;
                } else if error.is_parse() {
                    // hyper has sent a response already.
                    Box::pin(lingering_close(&mut stream)).await;
                } else if timed_out || closes_to_end_body.load(Ordering::Relaxed) {
                    // A truncated body must not look complete, so the connection is reset instead of closed. A
                    // reset also frees what the kernel still buffers for a stalled peer. It fails only on dead
                    // sockets.
                    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                }
            }
        }
    }
}

/// Writes the last response of a connection.
pub(super) async fn send_last_response(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) {
    // The socket's buffer is empty, so one write does. It does not matter if the peer is gone.
    let said = timeout(LINGER_TIME, async {
        stream.write_all(answer).await?;
        stream.shutdown().await
    });
    if let Ok(Ok(())) = said.await {
        lingering_close(stream).await;
    }
}

/// Reads and discards for up to [`LINGER_TIME`] after the write side was shut down.
pub(super) async fn lingering_close(stream: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = [0; 4096];
    let read_all = async { while !matches!(stream.read(&mut nothing).await, Ok(0) | Err(_)) {} };
    let _ = timeout(LINGER_TIME, read_all).await;
}
