//! [`Backoff`]: how long to wait after something failed that is tried again. Pure: it knows no clock, and the [`Dice`] are
//! thrown elsewhere.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest that a receiver's `Retry-After` is honoured.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection ended before an answer came. Where it had served before, the receiver most likely closed it
    /// while nothing was to be said, in the same moment as we spoke.
    BrokeOff,
    /// Nobody there, no answer in time, or an answer that asks for patience without saying how much.
    Unavailable,
    /// An answer that asks for patience, for so long.
    Asked(Duration),
}

/// The pauses between attempts. They belong to the receiver, not to a report: a receiver that is down is not asked more
/// often because more reports wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// The first pause is about `first`, each further one twice the one before, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), failures: 0 }
    }

    /// The receiver works.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now. `dice`, from 0 to 1, takes up to half of it away, so that many clients whose receiver was
    /// down do not all come back at once.
    pub(super) fn failed(&mut self, failure: Failure, dice: f64) -> Duration {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        if before == 0 && failure == Failure::BrokeOff {
            return Duration::ZERO;
        }
        let doubled = 2_u32.saturating_pow(before.min(31));
        let pause = self.first.saturating_mul(doubled).min(self.longest);
        let pause = pause.mul_f64(1.0 - dice.clamp(0.0, 1.0) / 2.0);
        match failure {
            // Never less than asked for, within reason.
            Failure::Asked(asked) => pause.max(asked.min(LONGEST_ASKED)),
            Failure::BrokeOff | Failure::Unavailable => pause,
        }
    }
}

/// Numbers from 0 to 1 that differ from client to client. Nothing depends on how good they are.
#[derive(Default)]
pub(super) struct Dice {
    seed: RandomState,
    throws: u64,
}

impl Dice {
    /// From 0 to 1.
    pub(super) fn throw(&mut self) -> f64 {
        self.throws += 1;
        let number = self.seed.hash_one(self.throws) >> 32;
        f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(failure: Failure, dice: f64) -> Vec<u64> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        (0..8).map(|_| backoff.failed(failure, dice).as_millis().try_into().unwrap()).collect()
    }

    #[test]
    fn doubles_up_to_the_longest_less_the_dice() {
        let full = [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000];
        assert_eq!(pauses(Failure::Unavailable, 0.0), full);
        assert_eq!(pauses(Failure::Unavailable, 1.0), full.map(|pause| pause / 2));
        assert_eq!(pauses(Failure::BrokeOff, 0.0), [&[0], &full[1..]].concat());
    }

    #[test]
    fn patience_is_had_within_bounds() {
        assert_eq!(pauses(Failure::Asked(Duration::from_secs(10)), 0.0)[..3], [10_000; 3]);
        assert_eq!(pauses(Failure::Asked(Duration::from_secs(10)), 0.0)[4], 16_000);
        assert_eq!(pauses(Failure::Asked(Duration::MAX), 0.0), [300_000; 8]);
        assert_eq!(pauses(Failure::Asked(Duration::ZERO), 0.0)[0], 1000);
    }

    #[test]
    fn a_success_forgives() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..100 {
            backoff.failed(Failure::Unavailable, 0.5);
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(Failure::Unavailable, 0.0), Duration::from_secs(1));
    }

    #[test]
    fn dice_differ() {
        let (mut one, mut two) = (Dice::default(), Dice::default());
        let throws: Vec<f64> = (0..100).map(|_| one.throw()).collect();
        assert!(throws.iter().all(|throw| (0.0..=1.0).contains(throw)));
        assert_ne!(throws, (0..100).map(|_| two.throw()).collect::<Vec<_>>());
    }
}
