//! What follows the exit of a client's process, or a launch that failed: the rules, first match wins.

use crate::model::client::Exit;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterExit {
    /// A start that waited for the exit is carried out.
    StartQueued,
    /// The client leaves the list and the registry file.
    Remove,
    /// The client stays as it is. The process ended because a controller did, which is no failure: the next controller starts
    /// the client, or a start is planned already. Or a caller stopped it and keeps it.
    Keep,
    /// The client is held: an operator stopped it, and has the last word.
    Hold,
    /// The exit counts, and the restart policy decides whether and when the client is started again.
    Restart,
}

/// What the rules look at besides the exit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExitContext {
    /// Whether a start waits for the exit.
    pub(super) start_queued: bool,
    /// Whether a caller was told that the client runs.
    pub(super) acknowledged: bool,
    /// Whether the client should run, by the last word of a caller.
    pub(super) wanted: bool,
    /// Whether a caller stops it and keeps it.
    pub(super) kept: bool,
    /// Whether the controller was stopping the process.
    pub(super) stopped_by_controller: bool,
    /// Whether the controller was asked to shut down.
    pub(super) shutdown_requested: bool,
    /// Whether the controller stops its clients, as the last thing that it does.
    pub(super) shutting_down: bool,
}

/// Decides what follows an exit.
pub(super) fn after_exit(exit: Exit, context: &ExitContext) -> AfterExit {
    // However it ended: callers wait for the start.
    if context.start_queued {
        return AfterExit::StartQueued;
    }
    // However it ended: a caller was told that the account stays.
    if context.kept && context.wanted {
        return AfterExit::Keep;
    }
    // A start that no caller was told of is not repeated.
    if !context.acknowledged || !context.wanted || exit.is_stop_asked() {
        return AfterExit::Remove;
    }
    // The signal that ends the controller may go to the whole service, or to all processes of the machine. Many programs exit
    // with status 0 then.
    let may_end_with_controller = matches!(exit, Exit::Signal(15) | Exit::Code(0));
    if context.shutting_down
        || context.stopped_by_controller
        || context.shutdown_requested && may_end_with_controller
    {
        return AfterExit::Keep;
    }
    if exit.is_stopped_by_operator() { AfterExit::Hold } else { AfterExit::Restart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::STOP_ASKED;

    const UP: ExitContext = ExitContext {
        start_queued: false,
        acknowledged: true,
        wanted: true,
        kept: false,
        stopped_by_controller: false,
        shutdown_requested: false,
        shutting_down: false,
    };

    #[test]
    fn exit_of_a_wanted_client_is_followed_by_a_restart_unless_an_operator_stopped_it() {
        for exit in [Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Unknown, Exit::NotLaunched] {
            assert_eq!(after_exit(exit, &UP), AfterExit::Restart, "{exit}");
        }
        for exit in [Exit::Stopped, Exit::Clean] {
            assert_eq!(after_exit(exit, &UP), AfterExit::Hold, "{exit}");
        }
    }

    #[test]
    fn client_that_nobody_wants_or_was_told_of_is_removed() {
        let exit = Exit::Code(1);
        assert_eq!(after_exit(exit, &ExitContext { wanted: false, ..UP }), AfterExit::Remove);
        assert_eq!(after_exit(exit, &ExitContext { acknowledged: false, ..UP }), AfterExit::Remove);
        assert_eq!(after_exit(Exit::Code(STOP_ASKED.into()), &UP), AfterExit::Remove);
    }

    #[test]
    fn exit_because_of_the_controller_is_no_failure() {
        let shutting_down = ExitContext { shutting_down: true, ..UP };
        let stopping = ExitContext { stopped_by_controller: true, ..UP };
        for exit in [Exit::Code(1), Exit::Signal(9), Exit::Stopped] {
            assert_eq!(after_exit(exit, &shutting_down), AfterExit::Keep, "{exit}");
            assert_eq!(after_exit(exit, &stopping), AfterExit::Keep, "{exit}");
        }
        let requested = ExitContext { shutdown_requested: true, ..UP };
        assert_eq!(after_exit(Exit::Signal(15), &requested), AfterExit::Keep);
        assert_eq!(after_exit(Exit::Code(0), &requested), AfterExit::Keep);
        assert_eq!(after_exit(Exit::Code(1), &requested), AfterExit::Restart, "it failed by itself");
    }

    #[test]
    fn account_that_a_caller_keeps_stays_however_it_ended() {
        for exit in [Exit::Code(0), Exit::Signal(9), Exit::Stopped, Exit::Code(STOP_ASKED.into())] {
            assert_eq!(after_exit(exit, &ExitContext { kept: true, ..UP }), AfterExit::Keep, "{exit}");
        }
        let removed = ExitContext { kept: true, wanted: false, ..UP };
        assert_eq!(after_exit(Exit::Code(0), &removed), AfterExit::Remove, "it is removed after all");
    }

    #[test]
    fn queued_start_comes_first() {
        let context = ExitContext { start_queued: true, wanted: false, shutting_down: true, ..UP };
        assert_eq!(after_exit(Exit::Signal(15), &context), AfterExit::StartQueued);
    }
}
