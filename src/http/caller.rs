//! [`Caller`]: the other end of a connection, as those know it who answer its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::ending::Ending;
use super::interim::Interim;
use super::listener::Peer;

/// Who sent a request.
#[derive(Debug)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// The same, as clients are told it.
    pub(super) address: String,
    interim: Interim,
    /// Whether the request has a body whose end nobody has seen yet.
    unread: AtomicBool,
    /// Once it is asked for, the next answer is the last one.
    ending: Ending,
    /// Whether the connection goes on in another protocol.
    changed: Arc<AtomicBool>,
}

impl Caller {
    /// `changed` becomes true when the connection goes on in another protocol.
    pub(super) fn new(peer: Peer, interim: Interim, ending: Ending, changed: Arc<AtomicBool>) -> Self {
        Self { peer, address: peer.address(), interim, unread: AtomicBool::default(), ending, changed }
    }

    /// The answer is there: nothing announces it any more. Returns whether it has to be the last one of the connection.
    pub(super) fn finish_request(&self) -> bool {
        self.interim.end();
        self.unread.swap(false, Ordering::Relaxed) || self.ending.is_asked()
    }

    /// The connection goes on in another protocol.
    pub(super) fn change_protocol(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Sends the head of an interim answer before the answer itself. To HTTP/1.0 there must be none (RFC 9110, 15.2).
    pub(super) fn announce(&self, head: &[u8]) {
        self.interim.add(head);
    }

    /// The request has a body. Unless its end [was seen](Self::saw_end) when the answer is there, that is the last one of
    /// the connection: what follows could be taken for a part of the body.
    pub(super) fn expect_end(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The body of the request is over, and everybody sees that where we do.
    pub(super) fn saw_end(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// Asks to wake who polls once all is written that was given to be written before.
    pub(super) fn ask_written(&self, context: &Context<'_>) {
        self.interim.ask_written(context);
    }

    /// Whether that is so.
    pub(super) fn poll_written(&self, context: &Context<'_>) -> Poll<()> {
        self.interim.poll_written(context)
    }
}
