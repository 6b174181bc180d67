//! [`ReconnectBackoff`]: how long to wait before the implementation is tried again.

use std::time::Duration;

use crate::client::backoff::{AttemptFailure, Backoff};

/// The shortest and the longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The shortest pause after a token was refused. An operator has to put that right, so it is not worth trying often.
const TOKEN_PAUSE: Duration = Duration::from_secs(60);

/// The pauses between attempts to log in.
pub(crate) struct ReconnectBackoff(Backoff);

impl Default for ReconnectBackoff {
    fn default() -> Self {
        Self(Backoff::new(PAUSE.0, PAUSE.1))
    }
}

impl ReconnectBackoff {
    /// There was a login: the next pause is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }

    /// The pause after a failed attempt.
    pub(crate) fn next(&mut self) -> Duration {
        // Jitter takes up to a half off, also off the shortest pause.
        self.0.next_pause(AttemptFailure::Unavailable).max(PAUSE.0)
    }

    /// The pause after a token or an account was refused.
    pub(crate) fn after_refusal(&mut self) -> Duration {
        // The clients of one controller may share a token, and then all of them are refused at the same time.
        self.0.stretch(TOKEN_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnect_pauses_grow_from_one_to_thirty_seconds() {
        let mut pauses = ReconnectBackoff::default();
        for _ in 0..2 {
            assert_eq!(pauses.next(), Duration::from_secs(1));
            let later: Vec<_> = (0..50).map(|_| pauses.next().as_secs_f64()).collect();
            assert!(later.iter().all(|pause| (1.0..=30.0).contains(pause)), "{later:?}");
            assert!(later[10..].iter().all(|pause| *pause >= 15.0), "{later:?}");
            assert!(
                later[10..].windows(2).any(|pair| pair[0] != pair[1]),
                "all would come at once: {later:?}"
            );
            pauses.reset();
        }
        let refused: Vec<_> = (0..50).map(|_| pauses.after_refusal().as_secs_f64()).collect();
        assert!(refused.iter().all(|pause| (60.0..=75.0).contains(pause)), "{refused:?}");
    }
}
