//! [`ProcessKind`] and [`EndCause`]: the labels of starts and ends. There are few values of each, so that the number of series
//! has a bound.

use crate::model::client::Exit;

/// What a process is to its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// Its client.
    Client,
    /// The program that holds it.
    Implementation,
}

impl ProcessKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Client, Self::Implementation];

    /// The value of the label `kind`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Implementation => "implementation",
        }
    }
}

/// Why a process ended, or there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// It exited by itself.
    Exited,
    /// A signal ended it.
    Signal,
    /// Memory ran out.
    OutOfMemory,
    /// systemd's watchdog killed it.
    Watchdog,
    /// It was killed because it did not stop in time.
    Timeout,
    /// It could not be launched.
    NotLaunched,
    /// It exited because of its configuration or its surroundings.
    Misconfigured,
    /// Its account was logged out by a login elsewhere.
    PutOut,
    /// A caller, an operator or the controller stopped it.
    Stopped,
    /// That can't be found out.
    Unknown,
}

impl EndCause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Exited,
        Self::Signal,
        Self::OutOfMemory,
        Self::Watchdog,
        Self::Timeout,
        Self::NotLaunched,
        Self::Misconfigured,
        Self::PutOut,
        Self::Stopped,
        Self::Unknown,
    ];

    /// The cause of an exit. `was_asked` says whether the process was to end: how it does so then tells nothing, unless it had
    /// to be killed.
    pub fn of(exit: Exit, was_asked: bool) -> Self {
        match exit {
            Exit::OutOfMemory => Self::OutOfMemory,
            Exit::Watchdog => Self::Watchdog,
            Exit::Timeout => Self::Timeout,
            Exit::NotLaunched => Self::NotLaunched,
            _ if was_asked || exit.is_stop_asked() || exit.is_stopped_by_operator() => Self::Stopped,
            _ if exit.is_logged_out_elsewhere() => Self::PutOut,
            Exit::Misconfigured(_) | Exit::Unusable => Self::Misconfigured,
            Exit::Signal(_) => Self::Signal,
            Exit::Unknown => Self::Unknown,
            Exit::Code(_) | Exit::Stopped | Exit::Clean => Self::Exited,
        }
    }

    /// The value of the label `cause`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signal => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::Watchdog => "watchdog",
            Self::Timeout => "timeout",
            Self::NotLaunched => "not_launched",
            Self::Misconfigured => "misconfigured",
            Self::PutOut => "put_out",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{LOGGED_OUT_ELSEWHERE, STOP_ASKED};

    #[test]
    fn cause_of_an_end_depends_on_whether_it_was_asked_for() {
        for (exit, by_itself, asked) in [
            (Exit::Code(0), EndCause::Exited, EndCause::Stopped),
            (Exit::Code(1), EndCause::Exited, EndCause::Stopped),
            (Exit::Code(STOP_ASKED.into()), EndCause::Stopped, EndCause::Stopped),
            (Exit::Code(LOGGED_OUT_ELSEWHERE.into()), EndCause::PutOut, EndCause::Stopped),
            (Exit::Signal(11), EndCause::Signal, EndCause::Stopped),
            (Exit::Unknown, EndCause::Unknown, EndCause::Stopped),
            (Exit::NotLaunched, EndCause::NotLaunched, EndCause::NotLaunched),
            (Exit::OutOfMemory, EndCause::OutOfMemory, EndCause::OutOfMemory),
            (Exit::Watchdog, EndCause::Watchdog, EndCause::Watchdog),
            (Exit::Timeout, EndCause::Timeout, EndCause::Timeout),
            (Exit::Stopped, EndCause::Stopped, EndCause::Stopped),
            (Exit::Clean, EndCause::Stopped, EndCause::Stopped),
            (Exit::Misconfigured(1), EndCause::Misconfigured, EndCause::Stopped),
            (Exit::Unusable, EndCause::Misconfigured, EndCause::Stopped),
        ] {
            assert_eq!((EndCause::of(exit, false), EndCause::of(exit, true)), (by_itself, asked), "{exit:?}");
        }
    }

    #[test]
    fn numbers_of_labels_are_their_places() {
        for (place, cause) in EndCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place, "{}", cause.label());
        }
        for (place, kind) in ProcessKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{}", kind.label());
        }
    }
}
