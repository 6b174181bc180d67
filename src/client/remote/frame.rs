//! [`RemoteFrame`]: what comes from an implementation.

use super::event::RemoteEvent;
use super::reply::ActionResponse;

/// An incoming frame.
#[derive(Debug)]
pub(crate) enum RemoteFrame {
    /// The answer to the call with this `echo`.
    Reply(String, ActionResponse),
    /// An answer to no call. Some implementations refuse a token with it before they close.
    Unasked(ActionResponse),
    /// An event.
    Event(Box<RemoteEvent>, Envelope),
}

/// The fields that all events have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The time in Unix seconds.
    pub time: Option<u64>,
    /// The account.
    pub self_id: Option<u64>,
}

/// A frame, or the body of a request or an answer, as it was read.
#[derive(Debug)]
pub(crate) struct Parsed<T> {
    /// The content.
    pub what: T,
    /// Whether it was invalid JSON, so that parts of it are lost.
    pub is_repaired: bool,
}

/// Why a frame or a body is unreadable. Its text is not repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// It is not JSON.
    #[error("it is not JSON ({0})")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but not of this protocol.
    #[error("it is JSON, but neither an event nor an answer of the protocol")]
    Foreign,
}
