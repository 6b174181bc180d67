//! The ways to an implementation. Over each of them calls go out and events come in.

// Common to all: calls and their answers, and the queue of events.
pub(super) mod calls;
pub(super) mod inbox;

// The ways.
pub(super) mod event_stream;
pub(super) mod http_calls;
pub(super) mod listener;
mod text_frames;
pub(super) mod token;
mod unverified;
pub(super) mod websocket;

use std::fmt;

use crate::peers::ListenerRefusal;

/// Why a login or its connection ended, or could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// Nothing listens there. Implementations listen only once they are logged in.
    Unreachable(String),
    /// The token was refused, or cannot be read.
    TokenRefused(String),
    /// Another account is logged in than the one that the client belongs to.
    OtherAccount(String),
    /// It listens there, and has no WebSocket at that path.
    NoWebSocket(String),
    /// The implementation says that it is not logged in to the account.
    LoggedOut,
    /// Any other reason.
    Lost(String),
    /// A relogin was requested.
    Relogin,
    /// The receiver of the events is gone: the client stops.
    Closed,
}

impl SessionEnd {
    /// Another account has the port of the implementation, so nothing is sent to it.
    fn foreign(refusal: &ListenerRefusal) -> Self {
        Self::Unreachable(format!("the implementation is not running: {refusal}"))
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::NoWebSocket(why) | Self::Lost(why) | Self::OtherAccount(why) => {
                f.write_str(why)
            }
            Self::TokenRefused(why) => write!(f, "the token is refused: {why}"),
            Self::LoggedOut => f.write_str("the account is not logged in in its implementation"),
            Self::Relogin => f.write_str("relogin was called"),
            Self::Closed => f.write_str("the client ends"),
        }
    }
}
