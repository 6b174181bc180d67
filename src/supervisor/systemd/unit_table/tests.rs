use super::*;
use crate::model::client::Generation;
use crate::model::name::ClientName;

const UNIT: &str = "wqclient@a.service";

fn launch() -> Launch {
    Launch { name: ClientName::new("a").unwrap(), generation: Generation(7) }
}

fn running() -> UnitTable {
    let mut table = UnitTable::default();
    table.prepare(&UNIT.into(), launch()).unwrap();
    assert!(say(&mut table, "active", "1", 0).is_empty());
    assert!(table.confirm(UNIT, "1".into()).is_empty());
    table
}

fn unit_props(state: &str, invocation: &str, job: u32) -> Option<UnitProps> {
    Some(UnitProps {
        alive: crate::supervisor::systemd::properties::is_alive(state),
        state: state.into(),
        invocation: (!invocation.is_empty()).then(|| invocation.into()),
        has_job: job != 0,
        frozen: None,
    })
}

fn service_props(result: &str, code: i32, status: i32, main_pid: u32) -> Option<ServiceProps> {
    Some(ServiceProps {
        main_pid,
        last_pid: main_pid,
        result: result.into(),
        code,
        status,
        status_text: None,
    })
}

fn say(table: &mut UnitTable, state: &str, invocation: &str, job: u32) -> Vec<ProcessEvent> {
    table.on_signal(UNIT, unit_props(state, invocation, job), None)
}

fn ended(exit: Exit) -> Vec<ProcessEvent> {
    vec![ProcessEvent::Exited(launch(), exit)]
}

#[test]
fn exit_is_reported_once() {
    let mut table = running();
    assert!(table.on_signal(UNIT, None, service_props("exit-code", 1, 7, 0)).is_empty());
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Code(7)));
    assert!(say(&mut table, "failed", "1", 0).is_empty() && !table.removed(UNIT));
}

#[test]
fn operator_stop_is_no_failure() {
    for (state, service) in [
        ("inactive", service_props("success", 1, 0, 0)),
        ("inactive", service_props("success", 2, 15, 0)),
        ("failed", service_props("timeout", 2, 9, 0)),
    ] {
        let mut table = running();
        table.job_new(UNIT);
        assert!(say(&mut table, "deactivating", "1", 5).is_empty());
        table.on_signal(UNIT, None, service);
        assert!(say(&mut table, state, "1", 5).is_empty(), "the job may be a restart");
        assert_eq!(say(&mut table, state, "1", 0), ended(Exit::Stopped));
    }
}

#[test]
fn exit_during_a_reload_is_a_failure() {
    let crash = || service_props("signal", 2, 11, 0);
    // A reload by an operator.
    let mut table = running();
    table.job_new(UNIT);
    say(&mut table, "active", "1", 5);
    say(&mut table, "reloading", "1", 5);
    table.on_signal(UNIT, None, crash());
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(11)));
    // Our own reload. Not all of its states may arrive as signals.
    for states in [&[][..], &["active"], &["active", "reloading"]] {
        let mut table = running();
        let Reloadable::Now(mut news) = table.expect_reload(UNIT, &launch()) else { panic!("it runs") };
        table.job_new(UNIT);
        for state in states {
            say(&mut table, state, "1", 5);
        }
        table.on_signal(UNIT, None, crash());
        assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(11)), "{states:?}");
        assert!(matches!(news.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }
    // One that an operator's stop cancels.
    let mut table = running();
    assert!(matches!(table.expect_reload(UNIT, &launch()), Reloadable::Now(_)));
    say(&mut table, "reloading", "1", 5);
    say(&mut table, "deactivating", "1", 6);
    table.on_signal(UNIT, None, service_props("success", 2, 15, 0));
    assert_eq!(say(&mut table, "inactive", "1", 0), ended(Exit::Stopped));
}

#[test]
fn only_the_running_unit_of_a_launch_is_reloaded_and_once_at_a_time() {
    let mut table = running();
    let later = Launch { generation: Generation(8), ..launch() };
    assert!(matches!(table.expect_reload(UNIT, &later), Reloadable::No));
    let Reloadable::Now(mut news) = table.expect_reload(UNIT, &launch()) else { panic!("it runs") };
    assert!(matches!(table.expect_reload(UNIT, &launch()), Reloadable::Later));
    table.job_removed(UNIT, "/job/5", "done");
    assert_eq!(news.try_recv(), Ok(JobEvent::Removed("/job/5".into(), "done".into())));
    table.end_reload(UNIT, &launch());
    table.on_freezer_state(UNIT, true);
    assert!(matches!(table.expect_reload(UNIT, &launch()), Reloadable::Later), "frozen");
    table.on_freezer_state(UNIT, false);
    assert!(matches!(table.expect_reload(UNIT, &launch()), Reloadable::Now(_)));
    let mut starting = UnitTable::default();
    starting.prepare(&UNIT.into(), launch()).unwrap();
    assert!(matches!(starting.expect_reload(UNIT, &launch()), Reloadable::No));
}

#[test]
fn finished_job_does_not_explain_later_exit() {
    let mut table = running();
    table.job_new(UNIT);
    assert!(say(&mut table, "active", "1", 0).is_empty());
    table.on_signal(UNIT, None, service_props("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
}

#[test]
fn own_stop_reports_signal() {
    let mut table = running();
    let end = table.ask_stop(UNIT, "1").unwrap();
    assert!(table.ask_stop(UNIT, "0").is_none(), "another run");
    table.job_new(UNIT);
    table.on_signal(UNIT, None, service_props("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
    assert_eq!(*end.borrow(), Some(true), "to be reset");
}

#[test]
fn operator_restart_replaces_process_of_same_launch() {
    let mut table = running();
    table.job_new(UNIT);
    assert!(say(&mut table, "inactive", "1", 5).is_empty());
    assert!(say(&mut table, "activating", "2", 5).is_empty());
    assert!(table.on_signal(UNIT, None, service_props("success", 0, 0, 88)).is_empty());
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    assert_eq!(say(&mut table, "active", "2", 5), [ProcessEvent::Replaced(launch(), handle)]);
    assert!(say(&mut table, "active", "2", 0).is_empty());
    table.on_signal(UNIT, None, service_props("success", 1, 0, 0));
    assert_eq!(say(&mut table, "inactive", "2", 0), ended(Exit::Code(0)));
}

#[test]
fn failed_operator_restart_is_a_failure() {
    let mut table = running();
    table.job_new(UNIT);
    say(&mut table, "inactive", "1", 5);
    table.on_signal(UNIT, None, service_props("exit-code", 1, 243, 0));
    assert_eq!(say(&mut table, "failed", "2", 0), ended(Exit::Code(243)));
}

#[test]
fn unloaded_unit_is_queried() {
    let mut table = running();
    table.on_signal(UNIT, None, service_props("success", 1, 0, 0));
    assert!(table.removed(UNIT));
    let unloaded = table.on_reply(UNIT, unit_props("inactive", "", 0), service_props("success", 0, 0, 0));
    assert_eq!(unloaded, ended(Exit::Code(0)), "how is known from before");

    let mut table = running();
    assert!(table.removed(UNIT));
    let reloaded = table.on_reply(UNIT, unit_props("active", "1", 0), service_props("success", 0, 0, 77));
    assert!(reloaded.is_empty());
}

#[test]
fn exit_before_confirm_is_reported_after_it() {
    let mut table = UnitTable::default();
    table.prepare(&UNIT.into(), launch()).unwrap();
    table.on_signal(UNIT, None, service_props("exit-code", 1, 3, 0));
    assert!(say(&mut table, "failed", "1", 0).is_empty());
    assert_eq!(table.confirm(UNIT, "1".into()), ended(Exit::Code(3)));
}

#[test]
fn reply_does_not_override_newer_signal() {
    let mut table = running();
    table.invalidate();
    say(&mut table, "active", "1", 0);
    assert!(
        table.on_reply(UNIT, unit_props("inactive", "", 0), service_props("success", 0, 0, 0)).is_empty()
    );
    table.invalidate();
    let gone = table.on_reply(UNIT, unit_props("inactive", "", 0), service_props("success", 0, 0, 0));
    assert_eq!(gone, ended(Exit::Clean));
}

#[test]
fn starter_receives_job_events() {
    let mut table = UnitTable::default();
    let mut news = table.prepare(&UNIT.into(), launch()).unwrap();
    assert!(table.prepare(&UNIT.into(), launch()).is_none());
    table.job_removed(UNIT, "/job/1", "done");
    table.invalidate();
    assert_eq!(news.try_recv(), Ok(JobEvent::Removed("/job/1".into(), "done".into())));
    assert_eq!(news.try_recv(), Ok(JobEvent::Missed));
}

#[test]
fn freeze_and_thaw_are_reported() {
    let mut table = running();
    let mut frozen = |frozen| {
        let said = UnitProps { frozen: Some(frozen), ..unit_props("active", "1", 0).unwrap() };
        table.on_signal(UNIT, Some(said), None)
    };
    assert_eq!(frozen(true), [ProcessEvent::Frozen(launch(), true)]);
    assert!(frozen(true).is_empty());
    assert_eq!(frozen(false), [ProcessEvent::Frozen(launch(), false)]);
    assert_eq!(table.on_freezer_state(UNIT, true), [ProcessEvent::Frozen(launch(), true)]);
    assert!(table.on_freezer_state(UNIT, true).is_empty());
    table.invalidate();
    assert!(table.on_freezer_state(UNIT, false).is_empty(), "it is asked for");
}

#[test]
fn stopped_unit_can_be_readopted() {
    let mut table = running();
    table.job_new(UNIT);
    table.on_signal(UNIT, None, service_props("success", 1, 0, 0));
    assert_eq!(say(&mut table, "inactive", "1", 0), ended(Exit::Stopped));
    assert_eq!(table.stopped_launch(UNIT), Some(launch()));
    assert!(!table.contains(UNIT));
    let again = |table: &mut UnitTable, pid| {
        table.readopt(
            &UNIT.into(),
            unit_props("active", "2", 0).unwrap(),
            service_props("success", 0, 0, pid).unwrap(),
            false,
        )
    };
    assert_eq!(again(&mut table, 0), None, "without a process it is not up yet");
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    assert_eq!(again(&mut table, 88), Some(vec![ProcessEvent::Replaced(launch(), handle)]));
    assert!(table.contains(UNIT) && table.stopped_launch(UNIT).is_none());
    assert_eq!(again(&mut table, 88), None, "once");
    table.on_signal(UNIT, None, service_props("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "2", 0), ended(Exit::Signal(9)));
    assert_eq!(table.stopped_launch(UNIT), Some(launch()), "also while the controller waits to start it");
}

#[test]
fn last_words_precede_exit_and_status_2_is_unusable() {
    for (built_in, exit) in [(true, Exit::Unusable), (false, Exit::Code(2))] {
        let mut table = running();
        table.set_built_in(UNIT, built_in);
        let service = service_props("exit-code", 1, 2, 0).unwrap();
        table.on_signal(UNIT, None, Some(ServiceProps { status_text: Some("no port".into()), ..service }));
        let words = ProcessEvent::LastWords(launch(), "no port".into());
        assert_eq!(say(&mut table, "failed", "1", 0), [words, ProcessEvent::Exited(launch(), exit)]);
    }
}

#[test]
fn prepared_or_removed_unit_is_not_stopped() {
    for forget in [true, false] {
        let mut table = UnitTable::default();
        table.put_stopped(&UNIT.into(), launch());
        if forget {
            table.remove_stopped(UNIT, Generation(6));
            assert!(table.stopped_launch(UNIT).is_some(), "by an earlier launch");
            table.remove_stopped(UNIT, Generation(8));
        } else {
            assert!(table.prepare(&UNIT.into(), launch()).is_some());
        }
        assert_eq!(table.stopped_launch(UNIT), None);
    }
}

#[test]
fn restart_is_reported_when_pid_is_known() {
    let mut table = running();
    table.job_new(UNIT);
    say(&mut table, "inactive", "1", 5);
    table.on_signal(UNIT, None, service_props("success", 0, 0, 0));
    assert!(say(&mut table, "active", "2", 5).is_empty(), "pid 0 is nobody's");
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    let told = table.on_signal(UNIT, None, service_props("success", 0, 0, 88));
    assert_eq!(told, [ProcessEvent::Replaced(launch(), handle)]);
}

#[test]
fn unit_with_unknown_start_outcome_is_readopted() {
    let mut table = UnitTable::default();
    table.prepare(&UNIT.into(), launch()).unwrap();
    assert_eq!(table.running(&UNIT.into()), None);
    table.put_stopped(&UNIT.into(), launch());
    let (unit_props, service_props) =
        (unit_props("active", "2", 0).unwrap(), service_props("success", 0, 0, 88).unwrap());
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    let rejoined = table.readopt(&UNIT.into(), unit_props, service_props, false);
    assert_eq!(rejoined, Some(vec![ProcessEvent::Replaced(launch(), handle.clone())]));
    assert_eq!(table.running(&UNIT.into()), Some((launch(), handle)));
}
