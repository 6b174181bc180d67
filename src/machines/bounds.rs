//! How much a machine may tell, and how it is borne that tells what it should not. Pure.
//!
//! A machine may be broken, or in other hands. It then costs its own accounts, and neither memory nor the log of the door.

use std::time::Duration;

/// The most accounts of a machine: twice as many as a controller has.
pub(super) const MAX_ACCOUNTS: usize = 20_000;

/// The most text of all accounts of a machine, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024 * 1024;

/// An account with less text, in bytes, always has room: most have one kilobyte.
pub(super) const SMALL: usize = 8 * 1024;

/// The longest reason that is kept, in characters: a machine may have written it.
const MAX_REASON: usize = 300;

/// The longest pause before a machine is asked again that answers wrongly.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long a machine has to be followed before it counts as right again.
const RIGHT: Duration = Duration::from_secs(60);

/// What is too much.
pub(super) const TOO_MUCH: &str = "it tells of more accounts than a controller can have";

/// A reason as it is logged and shown: short, and in one line.
pub(super) fn reason(why: &str) -> String {
    let mut short: String =
        why.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    short
}

/// How often in a row a machine has answered wrongly. Each time the pause is longer: the machine is there, so nothing is won by haste.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrongs(u32);

impl Wrongs {
    /// It has answered wrongly, after it was followed for so long.
    pub(super) fn add(&mut self, followed: Duration) {
        self.0 = if followed >= RIGHT { 1 } else { self.0.saturating_add(1) };
    }

    /// The pause before it is asked again.
    pub(super) fn pause(self) -> Duration {
        match self.0 {
            0 => Duration::ZERO,
            count => Duration::from_secs(1 << count.min(10)).min(MAX_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_a_machine_is_wrong() {
        let mut wrongs = Wrongs::default();
        assert_eq!(wrongs.pause(), Duration::ZERO);
        let pauses = [2, 4, 8, 16, 32, 60, 60];
        for seconds in pauses {
            wrongs.add(Duration::from_secs(59));
            assert_eq!(wrongs.pause(), Duration::from_secs(seconds));
        }
        (0..100).for_each(|_| wrongs.add(Duration::ZERO));
        assert_eq!(wrongs.pause(), MAX_PAUSE);
        wrongs.add(RIGHT);
        assert_eq!(wrongs.pause(), Duration::from_secs(2), "it was right for long");
    }

    #[test]
    fn reasons_are_short_and_one_line() {
        assert_eq!(reason("no route"), "no route");
        assert_eq!(reason("a\nb\u{1b}[31m"), "a b [31m");
        let long = reason(&"小".repeat(5000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (301, true));
    }
}
