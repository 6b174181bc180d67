//! The accept loop: accepts connections within the limits, until the drain begins.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::{Connection, send_last_response};
use super::downstream::Downstream;
use super::drain::Drain;
use super::gate::Gate;
use super::listener::{self, Accepted, Listener, Peer};
use super::{CurrentLimits, Limits};
use crate::http::body::Body;
use crate::http::log_limit::LogRateLimiter;

pub(super) const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How many connections over the limit get a 503 at once; further ones are closed without a response.
const MAX_REFUSALS: usize = 64;

/// Serves `listeners` with `handler` until `stop` is cancelled, then drains: no new connection or request is
/// accepted, open requests have `limits.drain_timeout` to finish. Returns when the last connection is closed.
pub async fn serve<H, F>(listeners: Vec<Listener>, limits: Limits, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>, Arc<Downstream>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_behind(Gate::default(), listeners, limits, stop, handler).await;
}

/// As [`serve`], but only for callers that `gate` admits.
pub async fn serve_behind<H, F>(
    gate: Gate,
    listeners: Vec<Listener>,
    limits: impl Into<CurrentLimits>,
    stop: CancellationToken,
    handler: H,
) where
    H: Fn(Request<Incoming>, Arc<Downstream>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let limits = limits.into();
    let max_connections = limits.now().max_connections;
    let slots = Arc::new(Semaphore::new(max_connections));
    let refusal_slots = Arc::new(Semaphore::new(MAX_REFUSALS));
    let over_limit_log = Arc::new(LogRateLimiter::new(1));
    let tasks = TaskTracker::new();
    let drain = Drain::default();
    tasks.spawn(drain.clone().follow(stop));
    for (slot, listener) in listeners.into_iter().enumerate() {
        let server = Server {
            limits: limits.clone(),
            max_connections,
            drain: drain.clone(),
            slots: slots.clone(),
            refusal_slots: refusal_slots.clone(),
            over_limit_log: over_limit_log.clone(),
            gate: gate.clone(),
            tasks: tasks.clone(),
            handler: handler.clone(),
        };
        tasks.spawn(server.accept(slot, listener));
    }
    // A closed tracker still takes new connections (tokio-util). It only lets `wait` return once all tasks have ended.
    tasks.close();
    tasks.wait().await;
}

#[derive(Clone)]
struct Server<H> {
    limits: CurrentLimits,
    max_connections: usize,
    drain: Drain,
    slots: Arc<Semaphore>,
    refusal_slots: Arc<Semaphore>,
    /// Logs connections over the limit.
    over_limit_log: Arc<LogRateLimiter>,
    gate: Gate,
    tasks: TaskTracker,
    handler: H,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Arc<Downstream>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn accept(self, slot: usize, mut listener: Listener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.drain.draining_begun() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(Accepted::Tcp(stream, remote, local)) => {
                    // Fails only on a socket that is already dead; the first read reports that.
                    let _ = stream.set_nodelay(true);
                    self.admit(stream, Peer::Tcp { remote, local });
                }
                Ok(Accepted::Unix(stream)) => self.admit(stream, Peer::Unix { listener: slot }),
                Err(error) if listener::is_callers_fault(&error) => continue,
                Err(error) => {
                    // Probably out of file descriptors, which passes when connections close.
                    if !failing {
                        warn!(%error, "cannot accept connections ({error}); retrying");
                    }
                    failing = true;
                    // The connection stays in the queue, so without a pause the next attempt fails at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
            failing = false;
        }
    }

    fn admit<S>(&self, mut stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + 'static,
    {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let limit = self.max_connections;
            if let Some(suppressed) = self.over_limit_log.allow() {
                warn!(%peer, "connection from {peer} refused: {limit} are open (max_connections){suppressed}");
            }
            if let Ok(refusal) = self.refusal_slots.clone().try_acquire_owned() {
                self.tasks.spawn(async move {
                    send_last_response(&mut stream, BUSY).await;
                    drop(refusal);
                });
            }
            return;
        };
        let server = self.clone();
        // The check runs in the new task, as a look-up may take seconds and must not hold up the next caller. The slot bounds
        // how many are looked up.
        self.tasks.spawn(async move {
            if let Err(refused) = server.gate.check(&stream, peer).await {
                // A refused connection takes no slot from others.
                drop(slot);
                if let (Some(answer), Ok(_refusal)) =
                    (refused.answer, server.refusal_slots.try_acquire_owned())
                {
                    send_last_response(&mut stream, &answer).await;
                }
                return;
            }
            let connection =
                Connection { limits: server.limits, drain: server.drain, handler: server.handler };
            connection.run(stream, peer).await;
            drop(slot);
        });
    }
}
