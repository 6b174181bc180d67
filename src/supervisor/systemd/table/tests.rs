use super::*;
use crate::model::client::Generation;
use crate::model::name::ClientName;

const UNIT: &str = "wqclient@a.service";

fn launch() -> Launch {
    Launch { name: ClientName::new("a").unwrap(), generation: Generation(7) }
}

fn running() -> Table {
    let mut table = Table::default();
    table.prepare(&UNIT.into(), launch()).unwrap();
    assert!(say(&mut table, "active", "1", 0).is_empty());
    assert!(table.confirm(UNIT, "1".into()).is_empty());
    table
}

fn of_unit(state: &str, invocation: &str, job: u32) -> Option<OfUnit> {
    Some(OfUnit {
        alive: crate::supervisor::systemd::told::is_alive(state),
        state: state.into(),
        invocation: (!invocation.is_empty()).then(|| invocation.into()),
        has_job: job != 0,
        frozen: None,
    })
}

fn of_service(result: &str, code: i32, status: i32, main_pid: u32) -> Option<OfService> {
    Some(OfService { main_pid, last_pid: main_pid, result: result.into(), code, status })
}

fn say(table: &mut Table, state: &str, invocation: &str, job: u32) -> Vec<Event> {
    table.hear(UNIT, of_unit(state, invocation, job), None)
}

fn ended(exit: Exit) -> Vec<Event> {
    vec![Event::Ended(launch(), exit)]
}

#[test]
fn an_end_is_told_once_and_how() {
    let mut table = running();
    assert!(table.hear(UNIT, None, of_service("exit-code", 1, 7, 0)).is_empty());
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Code(7)));
    assert!(say(&mut table, "failed", "1", 0).is_empty() && !table.removed(UNIT));
}

#[test]
fn an_operators_stop_is_no_failure_whatever_it_looks_like() {
    for (state, service) in [
        ("inactive", of_service("success", 1, 0, 0)),
        ("inactive", of_service("success", 2, 15, 0)),
        ("failed", of_service("timeout", 2, 9, 0)),
    ] {
        let mut table = running();
        table.job_new(UNIT);
        assert!(say(&mut table, "deactivating", "1", 5).is_empty());
        table.hear(UNIT, None, service);
        assert!(say(&mut table, state, "1", 5).is_empty(), "the job may be a restart");
        assert_eq!(say(&mut table, state, "1", 0), ended(Exit::Stopped));
    }
}

#[test]
fn a_job_that_is_over_is_not_held_against_a_later_end() {
    let mut table = running();
    table.job_new(UNIT);
    assert!(say(&mut table, "active", "1", 0).is_empty());
    table.hear(UNIT, None, of_service("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
}

#[test]
fn our_own_stop_tells_the_signal() {
    let mut table = running();
    let end = table.ask_stop(UNIT, "1").unwrap();
    assert!(table.ask_stop(UNIT, "0").is_none(), "another run");
    table.job_new(UNIT);
    table.hear(UNIT, None, of_service("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
    assert_eq!(*end.borrow(), Some(true), "to be reset");
}

#[test]
fn a_restart_is_the_same_launch_with_another_process() {
    let mut table = running();
    table.job_new(UNIT);
    assert!(say(&mut table, "inactive", "1", 5).is_empty());
    assert!(say(&mut table, "activating", "2", 5).is_empty());
    assert!(table.hear(UNIT, None, of_service("success", 0, 0, 88)).is_empty());
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    assert_eq!(say(&mut table, "active", "2", 5), [Event::Replaced(launch(), handle)]);
    assert!(say(&mut table, "active", "2", 0).is_empty());
    table.hear(UNIT, None, of_service("success", 1, 0, 0));
    assert_eq!(say(&mut table, "inactive", "2", 0), ended(Exit::Code(0)));
}

#[test]
fn a_restart_that_fails_is_a_failure() {
    let mut table = running();
    table.job_new(UNIT);
    say(&mut table, "inactive", "1", 5);
    table.hear(UNIT, None, of_service("exit-code", 1, 243, 0));
    assert_eq!(say(&mut table, "failed", "2", 0), ended(Exit::Code(243)));
}

#[test]
fn what_is_not_loaded_any_more_is_asked_about() {
    let mut table = running();
    table.hear(UNIT, None, of_service("success", 1, 0, 0));
    assert!(table.removed(UNIT));
    let unloaded = table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0));
    assert_eq!(unloaded, ended(Exit::Code(0)), "how is known from before");

    let mut table = running();
    assert!(table.removed(UNIT));
    let reloaded = table.learn(UNIT, of_unit("active", "1", 0), of_service("success", 0, 0, 77));
    assert!(reloaded.is_empty());
}

#[test]
fn an_end_before_the_start_is_known_is_told_after_it() {
    let mut table = Table::default();
    table.prepare(&UNIT.into(), launch()).unwrap();
    table.hear(UNIT, None, of_service("exit-code", 1, 3, 0));
    assert!(say(&mut table, "failed", "1", 0).is_empty());
    assert_eq!(table.confirm(UNIT, "1".into()), ended(Exit::Code(3)));
}

#[test]
fn what_is_asked_never_overrules_what_was_said_since() {
    let mut table = running();
    table.doubt();
    say(&mut table, "active", "1", 0);
    assert!(table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0)).is_empty());
    table.doubt();
    let gone = table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0));
    assert_eq!(gone, ended(Exit::Clean));
}

#[test]
fn who_starts_hears_of_jobs_and_of_doubt() {
    let mut table = Table::default();
    let mut news = table.prepare(&UNIT.into(), launch()).unwrap();
    assert!(table.prepare(&UNIT.into(), launch()).is_none());
    table.job_removed(UNIT, "/job/1", "done");
    table.doubt();
    assert_eq!(news.try_recv(), Ok(JobNews::Removed("/job/1".into(), "done".into())));
    assert_eq!(news.try_recv(), Ok(JobNews::Missed));
}

#[test]
fn freezing_is_told() {
    let mut table = running();
    let mut frozen = |frozen| {
        let said = OfUnit { frozen: Some(frozen), ..of_unit("active", "1", 0).unwrap() };
        table.hear(UNIT, Some(said), None)
    };
    assert_eq!(frozen(true), [Event::Frozen(launch(), true)]);
    assert!(frozen(true).is_empty());
    assert_eq!(frozen(false), [Event::Frozen(launch(), false)]);
    assert_eq!(table.hear_frozen(UNIT, true), [Event::Frozen(launch(), true)]);
    assert!(table.hear_frozen(UNIT, true).is_empty());
    table.doubt();
    assert!(table.hear_frozen(UNIT, false).is_empty(), "it is asked for");
}

#[test]
fn what_an_operator_stopped_he_can_start() {
    let mut table = running();
    table.job_new(UNIT);
    table.hear(UNIT, None, of_service("success", 1, 0, 0));
    assert_eq!(say(&mut table, "inactive", "1", 0), ended(Exit::Stopped));
    assert_eq!(table.set_aside(UNIT), Some(launch()));
    assert!(!table.contains(UNIT));
    let again = |table: &mut Table, pid| {
        table.rejoin(
            &UNIT.into(),
            of_unit("active", "2", 0).unwrap(),
            of_service("success", 0, 0, pid).unwrap(),
        )
    };
    assert_eq!(again(&mut table, 0), None, "without a process it is not up yet");
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    assert_eq!(again(&mut table, 88), Some(vec![Event::Replaced(launch(), handle)]));
    assert!(table.contains(UNIT) && table.set_aside(UNIT).is_none());
    assert_eq!(again(&mut table, 88), None, "once");
    table.hear(UNIT, None, of_service("signal", 2, 9, 0));
    assert_eq!(say(&mut table, "failed", "2", 0), ended(Exit::Signal(9)));
    assert_eq!(table.set_aside(UNIT), None, "what failed the controller starts again");
}

#[test]
fn what_is_started_by_us_or_forgotten_is_not_aside() {
    for forget in [true, false] {
        let mut table = Table::default();
        table.put_aside(&UNIT.into(), launch());
        if forget {
            table.drop_aside(UNIT);
        } else {
            assert!(table.prepare(&UNIT.into(), launch()).is_some());
        }
        assert_eq!(table.set_aside(UNIT), None);
    }
}

#[test]
fn a_restart_is_told_when_its_process_is_known() {
    let mut table = running();
    table.job_new(UNIT);
    say(&mut table, "inactive", "1", 5);
    table.hear(UNIT, None, of_service("success", 0, 0, 0));
    assert!(say(&mut table, "active", "2", 5).is_empty(), "pid 0 is nobody's");
    let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
    let told = table.hear(UNIT, None, of_service("success", 0, 0, 88));
    assert_eq!(told, [Event::Replaced(launch(), handle)]);
}
