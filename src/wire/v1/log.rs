//! [`LogEntry`]: a line of the log of an account.

use serde::Serialize;
use utoipa::ToSchema;

/// The most bytes of a message; what is longer is cut.
pub const MAX_MESSAGE: usize = 4096;

/// A line of the log of an account.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LogEntry {
    /// When it was written, in Unix seconds.
    #[schema(example = 1_764_523_445.123_456)]
    pub time: f64,
    /// Who wrote it.
    pub from: LogOrigin,
    /// How important it is, 0 to 7 as in syslog(3): 3 is an error, 6 information.
    #[schema(minimum = 0, maximum = 7)]
    pub priority: u8,
    /// What it says, at most 4096 bytes of it.
    pub message: String,
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogOrigin {
    /// The client of the account.
    Client,
    /// The program that holds the account.
    Implementation,
    /// The controller.
    Controller,
}

/// The last lines of the log of an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogEntries {
    /// The oldest one first.
    pub entries: Vec<LogEntry>,
}

/// A message of at most [`MAX_MESSAGE`] bytes.
pub fn cut(mut message: String) -> String {
    let mut end = message.len().min(MAX_MESSAGE);
    // Ends at 0 at the latest, which is a boundary.
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("界".repeat(2000));
        assert!(long.len() <= MAX_MESSAGE && long.len() > MAX_MESSAGE - 3 && long.ends_with('界'));
    }
}
