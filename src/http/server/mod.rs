//! The HTTP server: connections in, with their limits, and a drain at the end. It knows nothing of the service
//! behind it.
//!
//! - `accept`: the accept loop
//! - `listener`, `gate`: sockets, and which users of this machine may connect to them
//! - `connection`: the requests of one connection, and how it is closed
//! - `drain`: tells connections that the server shuts down
//! - `downstream`: a caller's connection, as the service sees it
//!
//! hyper reads and writes through a stack of adapters, outermost first:
//!
//! - [`request_reader`]: targets that hyper would refuse, and heads that are too large; `request_scanner` and
//!   `chunk_scanner` find them in the bytes
//! - `informational`: 1xx responses, between those of hyper
//! - `stall_timeout`: write stalls and closed peers

mod accept;
mod chunk_scanner;
mod connection;
mod downstream;
mod drain;
mod gate;
mod informational;
mod listener;
pub mod request_reader;
mod request_scanner;
mod stall_timeout;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use accept::{serve, serve_behind};
pub use connection::UpgradeTask;
pub use downstream::Downstream;
pub use gate::Gate;
pub use listener::{Listener, Peer};

use tokio::sync::watch;

use crate::wire::Reply;
use request_scanner::TooLarge;

/// Limits of a server and its connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the headers of a request may take; also how long an idle connection is kept.
    pub request_header_timeout: Duration,
    /// How long a peer may stall without reading anything of a response.
    pub write_timeout: Duration,
    /// How many connections may be open; one more gets a 503.
    pub max_connections: usize,
    /// How long open requests may go on after the drain has begun.
    pub drain_timeout: Duration,
    /// The most bytes of request line and headers, at least 8 KiB. A larger head gets a 414 or 431.
    pub max_request_header: usize,
    /// The `code` in responses to requests that can't be read.
    pub unreadable_code: i32,
}

/// The limits that are in force. Those of a connection are read when it is accepted, except `drain_timeout`, which is read when
/// the drain begins. `max_connections` never changes.
#[derive(Clone, Debug)]
pub struct CurrentLimits(watch::Receiver<Limits>);

impl CurrentLimits {
    fn now(&self) -> Limits {
        *self.0.borrow()
    }
}

impl From<Limits> for CurrentLimits {
    fn from(limits: Limits) -> Self {
        // The last value stays readable without its sender.
        Self(watch::channel(limits).1)
    }
}

impl From<watch::Receiver<Limits>> for CurrentLimits {
    fn from(limits: watch::Receiver<Limits>) -> Self {
        Self(limits)
    }
}

impl Limits {
    /// The response to a head that is too large.
    fn too_large(&self, too_large: TooLarge) -> String {
        let (code, most) = (self.unreadable_code, self.max_request_header);
        let (status, reply) = match too_large {
            TooLarge::Target => ("414 URI Too Long", Reply::target_too_long(code, most)),
            TooLarge::Headers => {
                ("431 Request Header Fields Too Large", Reply::headers_too_large(code, most))
            }
        };
        let body = serde_json::Value::from(reply.body).to_string();
        let size = body.len();
        // hyper has given up by now, so the response is written without it.
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}"
        )
    }
}
