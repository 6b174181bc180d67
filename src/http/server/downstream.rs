//! [`Downstream`]: the caller's connection, as the service sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::drain::Drain;
use super::informational::InformationalQueue;
use super::listener::Peer;

/// The connection that a request came from.
#[derive(Debug)]
pub struct Downstream {
    /// The peer.
    pub peer: Peer,
    /// The peer's address as it is passed on to clients.
    pub(in crate::http) address: String,
    informational: InformationalQueue,
    /// Whether the request has a body that was not read to its end yet.
    body_unread: AtomicBool,
    /// Once the drain has begun, the next response is the last one.
    drain: Drain,
    /// Whether the connection has switched protocols.
    switched: Arc<AtomicBool>,
}

impl Downstream {
    /// `switched` becomes true when the connection has switched protocols.
    pub(super) fn new(
        peer: Peer,
        informational: InformationalQueue,
        drain: Drain,
        switched: Arc<AtomicBool>,
    ) -> Self {
        Self {
            peer,
            address: peer.address(),
            informational,
            body_unread: AtomicBool::default(),
            drain,
            switched,
        }
    }

    /// The final response is there: informational ones that still wait are dropped. Returns whether it has to be
    /// the last response of the connection.
    pub(super) fn begin_response(&self) -> bool {
        self.informational.end();
        // Reset for the next request. Relaxed, here and below: one task runs all of a connection.
        self.body_unread.swap(false, Ordering::Relaxed) || self.drain.is_draining()
    }

    /// The connection has switched protocols.
    pub(super) fn switch_protocols(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Sends the head of a 1xx response before the final one. HTTP/1.0 has none (RFC 9110, 15.2).
    pub(in crate::http) fn send_informational(&self, head: &[u8]) {
        self.informational.add(head);
    }

    /// The request has a body. Unless it [was drained](Self::request_body_drained) before the response, the
    /// response is the last one of the connection: the rest of the body could be taken for a request.
    pub(in crate::http) fn request_body_started(&self) {
        self.body_unread.store(true, Ordering::Relaxed);
    }

    /// The request body was read to its end, and other readers see the end at the same byte.
    pub(in crate::http) fn request_body_drained(&self) {
        self.body_unread.store(false, Ordering::Relaxed);
    }

    /// Wakes the current task when everything written so far has been flushed.
    pub(in crate::http) fn notify_when_flushed(&self, context: &Context<'_>) {
        self.informational.notify_when_flushed(context);
    }

    /// Whether it has been.
    pub(in crate::http) fn poll_flushed(&self, context: &Context<'_>) -> Poll<()> {
        self.informational.poll_flushed(context)
    }
}
