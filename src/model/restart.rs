//! When a client that ended is started again.

use std::time::Duration;

use super::client::{Exit, History, Moment};

/// Which ends are followed by a new start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// None.
    Never,
    /// Those with a status other than 0 or by a signal.
    #[default]
    OnFailure,
    /// All that nobody asked for.
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

    /// Whether an end like this one counts as wished for: then the client leaves the list.
    pub fn accepts(self, exit: Exit) -> bool {
        exit.is_success() && self != Self::Always
    }
}

/// The first pause before a new start.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Who lived for so long was healthy: what failed before is forgotten.
pub const HEALTHY: Duration = Duration::from_secs(600);

impl History {
    /// Takes the end of a process into account that lived for `life`, and plans what follows. `salt` tells clients apart,
    /// so that those who fail together do not start together.
    pub fn take(
        &mut self,
        exit: Exit,
        life: Duration,
        policy: RestartPolicy,
        limit: u32,
        now: Moment,
        salt: u64,
    ) {
        self.exits = self.exits.saturating_add(1);
        self.last_exit = Some(exit);
        self.failures = if life >= HEALTHY { 1 } else { self.failures.saturating_add(1) };
        self.held = policy == RestartPolicy::Never || self.failures >= limit || exit.is_put_out();
        self.next_start = (!self.held).then(|| now.after(pause(self.failures, salt ^ u64::from(self.exits))));
    }
}

/// Doubles from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], and up to a quarter longer by chance, but never longer than that.
fn pause(failures: u32, salt: u64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    let pause = doubled.min(LONGEST_PAUSE * 4 / 5);
    // splitmix64, as good a die as is needed.
    let mut die = salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
    die = (die ^ (die >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    die = (die ^ (die >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let thousandths = (die >> 32) % 251;
    pause + pause * u32::try_from(thousandths).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(history: &mut History, life: u64) -> Option<u64> {
        history.take(Exit::Code(1), Duration::from_secs(life), RestartPolicy::OnFailure, 13, Moment(0), 7);
        history.next_start.map(|moment| moment.0)
    }

    #[test]
    fn pauses_double_with_some_chance_up_to_five_minutes() {
        let mut history = History::default();
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
    fn a_healthy_life_makes_a_new_beginning() {
        let mut history = History::default();
        for failures in 1..=12 {
            fail(&mut history, 599);
            assert_eq!(history.failures, failures, "not quite healthy");
        }
        assert!(fail(&mut history, 600).unwrap() <= 1250);
        assert_eq!((history.failures, history.held), (1, false));
    }

    #[test]
    fn those_who_fail_together_do_not_start_together() {
        let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|salt| pause(9, salt)).collect();
        assert!(pauses.len() > 50);
    }

    #[test]
    fn policies() {
        assert!(
            RestartPolicy::OnFailure.accepts(Exit::Code(0)) && !RestartPolicy::Always.accepts(Exit::Code(0))
        );
        assert!(
            !RestartPolicy::OnFailure.accepts(Exit::Unknown)
                && !RestartPolicy::Never.accepts(Exit::Signal(9))
        );
        let mut history = History::default();
        history.take(Exit::Code(1), Duration::ZERO, RestartPolicy::Never, 12, Moment(0), 0);
        assert_eq!((history.held, history.next_start), (true, None));
        // An account that was put out stays out, whatever the policy.
        let mut history = History::default();
        history.take(Exit::Code(77), Duration::from_secs(9999), RestartPolicy::Always, 12, Moment(0), 0);
        assert_eq!((history.held, history.next_start), (true, None));
    }
}
