//! [`Pauses`]: how long it takes until the implementation is tried again. Pure.

use std::time::Duration;

use crate::client::backoff::{Backoff, Dice, Failure};

/// The shortest and the longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The pause after a token was refused: that is an operator's mistake, and does not go away by itself.
const TOKEN_PAUSE: Duration = Duration::from_secs(60);

/// The pauses, by what came before.
pub(super) struct Pauses {
    backoff: Backoff,
    dice: Dice,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1), dice: Dice::default() }
    }
}

impl Pauses {
    /// There was a login.
    pub(super) fn begin_anew(&mut self) {
        self.backoff.succeeded();
    }

    /// The next pause, longer than the one before.
    pub(super) fn next(&mut self) -> Duration {
        self.backoff.failed(Failure::Unavailable, self.dice.throw()).max(PAUSE.0)
    }

    /// The pause after a token was refused, at least [`TOKEN_PAUSE`].
    pub(super) fn after_refusal(&mut self) -> Duration {
        TOKEN_PAUSE.mul_f64(1.0 + self.dice.throw() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_a_second_at_first_and_half_a_minute_at_most() {
        let mut pauses = Pauses::default();
        for _ in 0..2 {
            assert_eq!(pauses.next(), Duration::from_secs(1));
            let later: Vec<_> = (0..50).map(|_| pauses.next().as_secs_f64()).collect();
            assert!(later.iter().all(|pause| (1.0..=30.0).contains(pause)), "{later:?}");
            assert!(later[10..].iter().all(|pause| *pause >= 15.0), "{later:?}");
            assert!(
                later[10..].windows(2).any(|pair| pair[0] != pair[1]),
                "all would come at once: {later:?}"
            );
            pauses.begin_anew();
        }
        let refused: Vec<_> = (0..50).map(|_| pauses.after_refusal().as_secs_f64()).collect();
        assert!(refused.iter().all(|pause| (60.0..=75.0).contains(pause)), "{refused:?}");
    }
}
