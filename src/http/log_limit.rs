//! [`LogRateLimiter`]: limits repeated log messages, so that a flood of one kind does not hide the others.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::locks::locked;

/// The limit starts anew after this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Decides which of many similar messages are logged.
#[derive(Debug)]
pub(crate) struct LogRateLimiter {
    /// How many are logged in each [`WINDOW`].
    most: u32,
    window: Mutex<Window>,
}

/// How many messages were suppressed before one that is logged; text to put behind that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} similar messages were suppressed)"),
        }
    }
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl LogRateLimiter {
    /// Allows `most` messages a minute.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, window: Mutex::default() }
    }

    /// Whether to log another message, and how many were suppressed since the last one. A message that is not
    /// logged is counted.
    pub(crate) fn allow(&self) -> Option<Suppressed> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<Suppressed> {
        let mut window = locked(&self.window);
        if window.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            // `suppressed` is kept: the next message that is logged says how many were not.
            (window.since, window.logged) = (Some(now), 0);
        }
        if window.logged == self.most {
            window.suppressed += 1;
            return None;
        }
        window.logged += 1;
        Some(Suppressed(std::mem::take(&mut window.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_over_the_limit_are_counted() {
        let limiter = LogRateLimiter::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(limiter.allow_at(start), Some(Suppressed(0)));
        }
        for _ in 0..5 {
            assert_eq!(limiter.allow_at(start + WINDOW / 2), None);
        }
        assert_eq!(limiter.allow_at(start + WINDOW), Some(Suppressed(5)));
        assert_eq!(limiter.allow_at(start + WINDOW), Some(Suppressed(0)));
    }
}
