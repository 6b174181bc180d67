//! [`FailureLog`]: logs a repeated failure once.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two log lines about the same failure. On a full disk each completed file makes
/// room for a few reports.
pub(crate) const SAID_TIME: Duration = Duration::from_secs(60);

/// Tracks a failure: logged when it begins and when it ends, not each time.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    /// When it was logged last.
    said: Option<Instant>,
    pub(crate) lasts: bool,
}

impl FailureLog {
    /// It failed. True: log it.
    pub(crate) fn should_log_failure(&mut self) -> bool {
        if self.lasts || self.said.is_some_and(|said| said.elapsed() < SAID_TIME) {
            // `lasts` stays false where a line is left out: an end without a beginning is not logged either.
            return false;
        }
        (self.said, self.lasts) = (Some(Instant::now()), true);
        true
    }

    /// It works. True: log it.
    pub(crate) fn should_log_recovery(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}
