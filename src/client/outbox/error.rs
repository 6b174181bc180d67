//! [`SendError`]: why a message was not sent, and its code on the wire.

use std::time::Duration;

use crate::client::backend::BackendError;

/// The network took the message, and its outcome is not known.
const NO_ANSWER: i32 = -1;
/// The client ended before the message's turn.
const STOPPED: i32 = -3;
/// The backend refused the message.
const NOT_DELIVERED: i32 = -4;
/// The network refused the message with a code.
const REFUSED: i32 = -5;
/// The message has no content.
const NO_CONTENT: i32 = -6;
/// Too many messages are queued, or this one waited too long.
const TOO_MANY: i32 = -8;

/// Why a message was not sent. The text is `info` on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The network refused, or its outcome is not known.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The client stopped before the message's turn.
    #[error("the client stopped before the message's turn")]
    Stopped,
    /// It was killed, or the machine went down, before the message's turn.
    #[error("the client was killed before the message's turn")]
    Killed,
    /// The message has no content.
    #[error("the message has no content")]
    NoContent,
    /// Too many messages are queued before it.
    #[error("too many messages wait to be sent; try again in {retry_after} s")]
    TooMany {
        /// After how many seconds there is room again, at the earliest.
        retry_after: u64,
    },
    /// Its caller gave up, or waited too long, before a byte was written.
    #[error("the message was not sent in time and was withdrawn")]
    Withdrawn,
}

impl SendError {
    pub(crate) fn too_many(wait: Duration) -> Self {
        // Rounded up, and at least 1: after 0 a caller would try again at once, in a loop.
        Self::TooMany { retry_after: wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1) }
    }

    /// The code on the wire. -1 and -5 are the original's.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Backend(BackendError::NoAnswer) => NO_ANSWER,
            Self::Stopped | Self::Killed => STOPPED,
            Self::Backend(BackendError::Code(_)) => REFUSED,
            Self::Backend(_) => NOT_DELIVERED,
            Self::NoContent => NO_CONTENT,
            Self::TooMany { .. } | Self::Withdrawn => TOO_MANY,
        }
    }
}
