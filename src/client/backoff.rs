//! [`Backoff`]: how long to wait before something that failed is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptFailure {
    /// The connection ended before an answer came. If it had worked before, the receiver most likely closed the idle
    /// connection at the moment when the request was written.
    BrokeOff,
    /// No connection, no answer in time, or an answer that asks for patience without saying how much.
    Unavailable,
    /// An answer that asks to wait this long.
    RetryAfter(Duration),
}

/// Exponential backoff with jitter. It belongs to the receiver and not to a report: a receiver that is down is not asked
/// more often because more reports wait.
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    jitter: Jitter,
}

impl Backoff {
    /// The first pause is about `first`. Each further one is twice the one before, up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        // The operator sets the two independently (post_retry_min, post_retry_max).
        Self { first, longest: longest.max(first), failures: 0, jitter: Jitter::default() }
    }

    /// An attempt succeeded: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after another failed attempt.
    pub(crate) fn next_pause(&mut self, failure: AttemptFailure) -> Duration {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        // At once only the first time: a receiver that breaks off every connection must not be asked in a loop.
        if before == 0 && failure == AttemptFailure::BrokeOff {
            return Duration::ZERO;
        }
        let pause = self.pause_after(before);
        match failure {
            // A receiver can ask for more patience, not for less, and a wrong date must not stop reports for years.
            AttemptFailure::RetryAfter(asked) => pause.max(asked.min(MAX_RETRY_AFTER)),
            AttemptFailure::BrokeOff | AttemptFailure::Unavailable => pause,
        }
    }

    /// How long to wait after a failure that `earlier` ones preceded. The caller counts them.
    pub(crate) fn pause_after(&mut self, earlier: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(earlier.min(31));
        let pause = self.first.saturating_mul(doubled).min(self.longest);
        // Up to a half less: many clients whose receiver was down must not all come back at once.
        pause.mul_f64(1.0 - self.jitter.next() / 2.0)
    }

    /// `pause`, and up to a quarter more.
    pub(crate) fn stretch(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + self.jitter.next() / 4.0)
    }

    #[cfg(test)]
    fn with_jitter(first: Duration, longest: Duration, jitter: f64) -> Self {
        Self { jitter: Jitter { fixed: Some(jitter), ..Jitter::default() }, ..Self::new(first, longest) }
    }
}

/// Numbers from 0 to 1 that differ from client to client. Nothing depends on how random they are.
#[derive(Default)]
struct Jitter {
    seed: RandomState,
    count: u64,
    #[cfg(test)]
    fixed: Option<f64>,
}

impl Jitter {
    fn next(&mut self) -> f64 {
        #[cfg(test)]
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        self.count += 1;
        // 32 bits, which an f64 holds exactly.
        let number = self.seed.hash_one(self.count) >> 32;
        f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    fn pauses(failure: AttemptFailure, jitter: f64) -> Vec<u64> {
        let mut backoff = Backoff::with_jitter(FIRST, LONGEST, jitter);
        (0..8).map(|_| backoff.next_pause(failure).as_millis().try_into().unwrap()).collect()
    }

    #[test]
    fn pause_doubles_up_to_the_longest_and_jitter_shortens_it() {
        let full = [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000];
        assert_eq!(pauses(AttemptFailure::Unavailable, 0.0), full);
        assert_eq!(pauses(AttemptFailure::Unavailable, 1.0), full.map(|pause| pause / 2));
        assert_eq!(pauses(AttemptFailure::BrokeOff, 0.0), [&[0], &full[1..]].concat());
    }

    #[test]
    fn retry_after_is_honoured_within_bounds() {
        assert_eq!(pauses(AttemptFailure::RetryAfter(Duration::from_secs(10)), 0.0)[..3], [10_000; 3]);
        assert_eq!(pauses(AttemptFailure::RetryAfter(Duration::from_secs(10)), 0.0)[4], 16_000);
        assert_eq!(pauses(AttemptFailure::RetryAfter(Duration::MAX), 0.0), [300_000; 8]);
        assert_eq!(pauses(AttemptFailure::RetryAfter(Duration::ZERO), 0.0)[0], 1000);
    }

    #[test]
    fn success_resets_the_pause() {
        let mut backoff = Backoff::with_jitter(FIRST, LONGEST, 0.0);
        for _ in 0..100 {
            backoff.next_pause(AttemptFailure::Unavailable);
        }
        backoff.reset();
        assert_eq!(backoff.next_pause(AttemptFailure::Unavailable), FIRST);
    }

    #[test]
    fn jitter_differs_between_clients() {
        let (mut one, mut two) = (Jitter::default(), Jitter::default());
        let numbers: Vec<f64> = (0..100).map(|_| one.next()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert_ne!(numbers, (0..100).map(|_| two.next()).collect::<Vec<_>>());
    }
}
