//! What may go wrong a thousand times a second in the log: enough to see what it is, not so much that nothing else can be
//! seen.

use crate::locks::locked;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time after which as many are logged again.
const SPAN: Duration = Duration::from_secs(60);

/// Says which of many lines to log.
#[derive(Debug)]
pub(super) struct Sparing {
    /// How many are logged in each [`SPAN`].
    most: u32,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl Sparing {
    /// Lets `most` lines a minute through.
    pub(super) fn new(most: u32) -> Self {
        Self { most, recent: Mutex::default() }
    }

    /// Whether to log one more, and how many were left out before it. What is left out is counted.
    pub(super) fn note(&self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&self, now: Instant) -> Option<u64> {
        let mut recent = locked(&self.recent);
        if recent.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (recent.since, recent.logged) = (Some(now), 0);
        }
        if recent.logged == self.most {
            recent.left_out += 1;
            return None;
        }
        recent.logged += 1;
        Some(std::mem::take(&mut recent.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let sparing = Sparing::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(sparing.note_at(start), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(sparing.note_at(start + SPAN / 2), None);
        }
        assert_eq!(sparing.note_at(start + SPAN), Some(5));
        assert_eq!(sparing.note_at(start + SPAN), Some(0));
    }
}
