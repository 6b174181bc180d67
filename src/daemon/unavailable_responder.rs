//! Answers callers with 503 when the controller can't start.
//!
//! systemd keeps connections in the queue of its sockets and starts the service for them again and again, until it fails the sockets.
//! So callers are answered, and for long enough that the service is not started too often.

use std::io;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::http::control::unavailable;
use crate::http::server::Listener;
use crate::http::server::{Limits, serve};
use crate::service::activation::Activated;
use crate::wire::INVALID;

/// How long callers are answered after the first. systemd fails a socket for which it started the service 20 times in 2 s
/// (`TriggerLimitBurst=`, systemd.socket(5)).
const ANSWERING: Duration = Duration::from_secs(1);

/// Short times: the requests are in the queue already.
const LIMITS: Limits = Limits {
    request_header_timeout: ANSWERING,
    write_timeout: ANSWERING,
    max_connections: 256,
    drain_timeout: ANSWERING,
    max_request_header: 8192,
    unreadable_code: INVALID,
};

/// Answers callers that wait at `sockets`, and those of the next second. Returns whether there was one; without any it returns at
/// once, so that an operator who starts the service by hand does not wait.
pub fn answer_callers(sockets: Vec<Activated>) -> io::Result<bool> {
    if !sockets.iter().any(Activated::is_called) {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listeners = sockets.into_iter().map(listener).collect::<io::Result<_>>()?;
        let stop = CancellationToken::new();
        let answer = |request: Request<Incoming>, _| async move { unavailable(request.headers()) };
        let end = async {
            sleep(ANSWERING).await;
            stop.cancel();
        };
        // Joined, since the server ends by itself only when `end` has cancelled it.
        tokio::join!(serve(listeners, LIMITS, stop.clone(), answer), end);
        Ok(true)
    })
}

fn listener(socket: Activated) -> io::Result<Listener> {
    match socket {
        Activated::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
        Activated::Unix(listener) => UnixListener::from_std(listener).map(Listener::from),
    }
}
