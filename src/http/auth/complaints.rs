//! Refused requests in the log: enough to see who it is, not so many that nothing else can be seen.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::Refusal;
use crate::http::serve::Peer;

/// How many are logged in each [`SPAN`].
const MOST: u32 = 10;
/// The time after which as many are logged again.
const SPAN: Duration = Duration::from_secs(60);

/// What was logged of late.
#[derive(Clone, Debug, Default)]
pub struct Complaints(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl Complaints {
    /// Logs a refusal, or counts it.
    pub fn note(&self, peer: Peer, refusal: &Refusal) {
        let left_out = self.0.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now());
        match left_out {
            None => {}
            Some(0) => warn!(%peer, "a request was refused: {refusal}"),
            Some(left_out) => warn!(%peer, left_out, "a request was refused: {refusal}"),
        }
    }
}

impl Recent {
    /// Whether to log this one, and how many were left out before it.
    fn note(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged == MOST {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let mut recent = Recent::default();
        let start = Instant::now();
        for _ in 0..MOST {
            assert_eq!(recent.note(start), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(recent.note(start + SPAN / 2), None);
        }
        assert_eq!(recent.note(start + SPAN), Some(5));
        assert_eq!(recent.note(start + SPAN), Some(0));
    }
}
