//! When a client is started again after an exit.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::client::{Exit, Moment, RestartHistory};

/// Which exits are followed by a new start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// None.
    Never,
    /// Those with a signal or a status other than 0. A client that exits with status 0 is held, since the reason is unknown.
    #[default]
    OnFailure,
    /// All that were not asked for, including those with status 0.
    Always,
}

impl RestartPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Never, Self::OnFailure, Self::Always];

    /// The word of the configuration, which is systemd's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }

    /// Whether this exit is followed by a new start.
    pub fn restarts(self, exit: Exit) -> bool {
        match self {
            // Whatever the policy: a new start ends in the same way, or puts out the login that replaced this one.
            _ if exit.is_final() => false,
            Self::Never => false,
            Self::OnFailure => !exit.is_success(),
            Self::Always => true,
        }
    }
}

/// The first pause before a new start.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After how many ends in a row by a mistake in its configuration a process is held: what a new start hardly mends.
const MISCONFIGURED_LIMIT: u32 = 3;
/// The uptime after which the failure count resets.
pub const HEALTHY: Duration = Duration::from_secs(600);

impl RestartHistory {
    /// A caller stops it and keeps it.
    pub fn stop(&mut self) {
        (self.held, self.stopped, self.returning) = (true, true, false);
        (self.next_start, self.reason, self.failures) = (None, None, 0);
    }

    /// It is not held any more.
    pub fn release(&mut self) {
        (self.held, self.stopped) = (false, false);
    }

    /// The longest reason, in bytes; a longer one is cut.
    pub const REASON_MAX: usize = 500;

    /// Counts an exit after `uptime` and plans the next start, or holds the client. The pause differs from
    /// client to client, so that those that fail together do not start together.
    pub fn record_exit(
        &mut self,
        exit: Exit,
        uptime: Duration,
        policy: RestartPolicy,
        limit: u32,
        now: Moment,
        client: &str,
    ) {
        self.exits = self.exits.saturating_add(1);
        self.last_exit = Some(exit);
        // 1 and not 0, as this exit is the first of a new row.
        self.failures = if uptime >= HEALTHY { 1 } else { self.failures.saturating_add(1) };
        let limit = if exit.is_misconfigured() { limit.min(MISCONFIGURED_LIMIT) } else { limit };
        self.held = self.failures >= limit || !policy.restarts(exit);
        self.next_start = (!self.held).then(|| now.after(pause(self.failures, jitter(client, self.exits))));
    }
}

/// The pause before a start: doubles from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], including up to a quarter of jitter.
fn pause(failures: u32, jitter: u64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    // Four fifths, so that it is at most the longest pause with the jitter on top.
    let pause = doubled.min(LONGEST_PAUSE * 4 / 5);
    pause + pause * u32::try_from(jitter % 251).unwrap_or(0) / 1000
}

/// A number that differs between clients and between the exits of one. The same each time, as the fleet is deterministic.
fn jitter(client: &str, exits: u32) -> u64 {
    // Not `RandomState`, which hashes differently in each run.
    BuildHasherDefault::<DefaultHasher>::default().hash_one((client, exits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(history: &mut RestartHistory, life: u64) -> Option<u64> {
        history.record_exit(
            Exit::Code(1),
            Duration::from_secs(life),
            RestartPolicy::OnFailure,
            13,
            Moment(0),
            "a",
        );
        history.next_start.map(|moment| moment.0)
    }

    #[test]
    fn restart_pause_doubles_up_to_five_minutes() {
        let mut history = RestartHistory::default();
        let mut least = 1000;
        for failure in 1..=12 {
            let pause = fail(&mut history, 5).unwrap();
            assert!((least..=least * 5 / 4).contains(&pause), "{failure}: {pause}");
            assert!(pause <= 300_000);
            least = (least * 2).min(240_000);
        }
        assert_eq!((fail(&mut history, 5), history.held, history.exits), (None, true, 13));
    }

    #[test]
    fn healthy_uptime_resets_the_failure_count() {
        let mut history = RestartHistory::default();
        for failures in 1..=12 {
            fail(&mut history, 599);
            assert_eq!(history.failures, failures, "not quite healthy");
        }
        assert!(fail(&mut history, 600).unwrap() <= 1250);
        assert_eq!((history.failures, history.held), (1, false));
    }

    #[test]
    fn misconfigured_process_is_held_after_three_ends() {
        let mut history = RestartHistory::default();
        let mut ended = |exit| {
            let policy = RestartPolicy::OnFailure;
            history.record_exit(exit, Duration::from_secs(1), policy, 10, Moment(0), "a");
            history.held
        };
        let exits =
            [Exit::Misconfigured(134), Exit::Misconfigured(134), Exit::Signal(9), Exit::Misconfigured(134)];
        assert_eq!(exits.map(&mut ended), [false, false, false, true]);
    }

    #[test]
    fn jitter_spreads_restarts() {
        let pauses: std::collections::BTreeSet<Duration> =
            (0..100).map(|exits| pause(9, jitter("a", exits))).collect();
        assert!(pauses.len() > 50);
    }

    #[test]
    fn restart_policies() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (exit, restarted_by) in [
            (Exit::Code(0), &[Always][..]),
            (Exit::Code(1), &[OnFailure, Always]),
            (Exit::Code(2), &[OnFailure, Always]),
            (Exit::Signal(15), &[OnFailure, Always]),
            (Exit::Unknown, &[OnFailure, Always]),
            (Exit::Code(77), &[]),
            (Exit::Unusable, &[]),
        ] {
            for policy in [Never, OnFailure, Always] {
                assert_eq!(policy.restarts(exit), restarted_by.contains(&policy), "{policy:?} {exit}");
            }
        }
        let mut history = RestartHistory::default();
        history.record_exit(Exit::Code(1), Duration::ZERO, RestartPolicy::Never, 12, Moment(0), "a");
        assert_eq!((history.held, history.next_start), (true, None));
        // An account that was logged out elsewhere stays logged out, whatever the policy.
        let mut history = RestartHistory::default();
        history.record_exit(
            Exit::Code(77),
            Duration::from_secs(9999),
            RestartPolicy::Always,
            12,
            Moment(0),
            "a",
        );
        assert_eq!((history.held, history.next_start), (true, None));
    }
}
