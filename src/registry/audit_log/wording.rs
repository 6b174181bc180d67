//! What the log says about ends of processes and about what follows.

use std::borrow::Cow;

use super::FailureKind;
use crate::model::client::{ClientRecord, Exit, Moment, Phase, RestartHistory};
use crate::model::fleet::Fleet;

pub(super) const HELD_BY_OPERATOR: &str =
    "held until its unit is started, start_client is called or the machine boots";

pub(super) fn is_held_by_operator(record: &ClientRecord) -> bool {
    record.history.held && matches!(record.phase, Phase::Gone(exit) if exit.is_stopped_by_operator())
}

/// What follows a failure, if that needs to be said. `record` is that of the client, unless it left the list.
pub(super) fn what_follows(
    fleet: &Fleet,
    record: Option<&ClientRecord>,
    kind: FailureKind,
    now: Moment,
) -> Option<Cow<'static, str>> {
    let limit = fleet.rules().restart_limit;
    let Some(record) = record else {
        return (kind != FailureKind::NotStopped).then(|| "not tried again, for its caller was told".into());
    };
    match (kind, record.phase) {
        // The controller ends, and can do no more.
        (FailureKind::NotStopped, Phase::Gone(_)) => Some("it is left running".into()),
        (FailureKind::NotStopped, Phase::Stopping) => Some("trying again".into()),
        (FailureKind::NotStopped, _) => Some("it keeps running until stop_client is called again".into()),
        (FailureKind::Postponed, _) if !record.history.held => Some("trying again every 5 s".into()),
        (_, Phase::Gone(_)) if is_held_by_operator(record) => Some(HELD_BY_OPERATOR.into()),
        (_, Phase::Gone(_)) if record.history.held => Some(held(&record.history, limit).into()),
        (_, Phase::Gone(_)) => next_start(&record.history, limit, now).map(Cow::Owned),
        // A start that waited has its place.
        _ => None,
    }
}

/// What follows for a client that is held by the restart policy.
pub(super) fn held(history: &RestartHistory, limit: u32) -> String {
    let count = match history.failures {
        failures if failures >= limit && failures > 1 => format!(" after {failures} failures in a row"),
        _ => String::new(),
    };
    format!("held{count}, not started again until start_client is called")
}

/// Whether all that is new is the reason of the exit.
pub(super) fn is_late_reason(before: &RestartHistory, now: &RestartHistory) -> bool {
    before.reason.is_none() && RestartHistory { reason: now.reason.clone(), ..before.clone() } == *now
}

/// Whether a plan is worth a line after the one `before`. A start that is only postponed again is not.
pub(super) fn is_new_plan(before: Option<&RestartHistory>, now: &RestartHistory) -> bool {
    let without_time = |history: &RestartHistory| RestartHistory { next_start: None, ..history.clone() };
    before.is_none_or(|before| without_time(before) != without_time(now))
}

/// When an account is started again, if it is.
pub(super) fn next_start(history: &RestartHistory, limit: u32, now: Moment) -> Option<String> {
    let seconds = history.next_start?.since(now).as_secs_f64();
    Some(match history.failures {
        0 => format!("starting in {seconds:.1} s"),
        failures => format!("starting again in {seconds:.1} s (failure {failures} of {limit})"),
    })
}

/// How a process ended, without the verb with which callers are told.
pub(super) fn in_words(exit: Exit) -> String {
    exit.to_string().trim_start_matches("was ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postponed_start_is_logged_once() {
        let waits = |next_start: u64, reason: &str| RestartHistory {
            reason: Some(reason.into()),
            next_start: Some(Moment(next_start)),
            ..RestartHistory::default()
        };
        let first = waits(5_000, "no bus");
        assert!(is_new_plan(None, &first));
        // It is tried in between, and postponed again.
        let tried = RestartHistory { next_start: None, ..first.clone() };
        assert!(!is_new_plan(Some(&first), &tried) && !is_new_plan(Some(&tried), &waits(10_000, "no bus")));
        assert!(is_new_plan(Some(&first), &waits(10_000, "no token")));
        assert!(is_new_plan(Some(&first), &RestartHistory { failures: 1, ..first.clone() }));
    }

    #[test]
    fn next_start_counts_failures() {
        let history = RestartHistory { next_start: Some(Moment(1_100)), ..RestartHistory::default() };
        assert_eq!(next_start(&history, 5, Moment(0)).unwrap(), "starting in 1.1 s");
        let failed = RestartHistory { failures: 1, ..history };
        assert_eq!(next_start(&failed, 5, Moment(0)).unwrap(), "starting again in 1.1 s (failure 1 of 5)");
        assert_eq!(next_start(&RestartHistory::default(), 5, Moment(0)), None);
    }

    #[test]
    fn exit_is_told_without_a_verb() {
        for (exit, text) in [
            (Exit::Signal(9), "ended by signal 9"),
            (Exit::Code(3), "exited with status 3"),
            (Exit::OutOfMemory, "killed for want of memory"),
        ] {
            assert_eq!(in_words(exit), text);
        }
    }
}
