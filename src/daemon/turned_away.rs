//! Who called while there was to be a controller, and it can't start.
//!
//! systemd keeps them in the queue of its sockets and starts the service for them again and again. They would wait for ever,
//! or until systemd has had enough and fails the sockets. So they are answered, and for so long that the service is not
//! started too often.

use std::io;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::http::listener::Listener;
use crate::http::not_started;
use crate::http::serve::{Limits, serve};
use crate::service::activation::Activated;

/// How long callers are answered once there is one. systemd fails a socket for which it started the service 20 times in 2 s
/// (`TriggerLimitBurst=`, systemd.socket(5)).
const ANSWERING: Duration = Duration::from_secs(1);

/// Nobody needs long for a request that is in the queue already.
const LIMITS: Limits = Limits {
    request_header_timeout: ANSWERING,
    write_timeout: ANSWERING,
    max_connections: 256,
    drain_timeout: ANSWERING,
    max_request_header: 8192,
};

/// Tells callers who wait at `doors` that there is no controller, and those who come within the next second. Where nobody
/// waits it returns at once, as whoever starts the service by hand need not wait. Whether it told anybody.
pub fn answer_callers(doors: Vec<Activated>) -> io::Result<bool> {
    if !doors.iter().any(Activated::is_called) {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listeners = doors.into_iter().map(listener).collect::<io::Result<_>>()?;
        let stop = CancellationToken::new();
        let answer = |_: Request<Incoming>, _| async { not_started() };
        let end = async {
            sleep(ANSWERING).await;
            stop.cancel();
        };
        tokio::join!(serve(listeners, LIMITS, stop.clone(), answer), end);
        Ok(true)
    })
}

fn listener(door: Activated) -> io::Result<Listener> {
    match door {
        Activated::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
        Activated::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
    }
}
