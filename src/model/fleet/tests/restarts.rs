//! What waits for the registry file, and restarts after failures.

use super::*;

#[test]
fn launch_and_stop_wait_for_the_disk() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let a = launch_of("a", 1);
    let mut apply = |input| words(fleet.apply(now, input));
    assert_eq!(apply(start(1, "a")), ["probe a#1 5000"]);
    assert_eq!(apply(Input::Probed(a.clone(), PortState::Free)), ["save 1"]);
    assert_eq!(apply(Input::Saved(Revision(1))), ["launch a#1 5000"]);
    assert_eq!(apply(Input::Launched(a.clone(), handle(7))), ["save 2"]);
    assert_eq!(
        apply(Input::Saved(Revision(2))),
        ["1: started 5000 7"],
        "told when the file names the process"
    );
    assert_eq!(apply(stop(2, "a")), ["save 3"]);
    assert_eq!(apply(Input::Saved(Revision(3))), ["terminate a#1 7"]);
    assert_eq!(apply(ProcessEvent::Exited(a, Exit::Signal(15)).into()), ["2: stopped 5000 7", "save 4"]);
}

#[test]
fn start_of_a_unit_is_answered_before_the_disk() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let a = launch_of("a", 1);
    let unit =
        Handle::Unit { name: "wqclient@a.service".into(), invocation_id: "1".repeat(32).into(), pid: 7 };
    let mut apply = |input| words(fleet.apply(now, input));
    apply(start(1, "a"));
    assert_eq!(apply(Input::Probed(a.clone(), PortState::Free)), ["save 1"]);
    assert_eq!(apply(Input::Saved(Revision(1))), ["launch a#1 5000"], "not before the file has its launch");
    assert_eq!(apply(Input::Launched(a, unit)), ["1: started 5000 7", "save 2"]);
}

#[test]
fn full_disk_refuses_starts_and_stops() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let full = |revision| Input::SaveFailed(Revision(revision), "no space".into());
    let (a, b) = (launch_of("a", 1), launch_of("b", 2));
    for input in [
        start(1, "a"),
        Input::Probed(a.clone(), PortState::Free),
        Input::Saved(Revision(1)),
        Input::Launched(a.clone(), handle(7)),
        Input::Saved(Revision(2)),
        start(2, "b"),
        Input::Probed(b, PortState::Free),
    ] {
        fleet.apply(now, input);
    }
    assert_eq!(words(fleet.apply(now, full(3))), ["save 4"]);
    assert_eq!(words(fleet.apply(now, full(4))), ["2: failed: no space"]);
    assert_eq!(fleet.records().count(), 1);
    fleet.apply(now, stop(3, "a"));
    assert_eq!(words(fleet.apply(now, full(5))), ["3: failed: no space"]);
    assert_eq!(fleet.get(&name("a")).unwrap().phase, Phase::Up, "what cannot be written is not done");
    let again = fleet.next_tick().unwrap();
    assert_eq!(words(fleet.apply(again, Input::Tick)), ["save 6"], "it is tried on");
    assert_eq!(fleet.image().1.clients[0].desired, Desired::Running);
}

#[test]
fn exited_client_has_no_port_during_its_stop() {
    let mut bench = Bench::new(RULES);
    let launch = bring_up(&mut bench, "a", 7);
    assert!(bench.get("a").has_process());
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert!(!bench.get("a").has_process());
    bring_up(&mut bench, "b", 8);
    assert_eq!(bench.get("b").port, bench.get("a").port);
    // While the wish is written to disk.
    let (now, revision) = (bench.now, bench.fleet.image().0);
    bench.fleet.apply(now, stop(3, "a"));
    assert_ne!(bench.fleet.image().0, revision);
    assert_eq!(bench.get("a").phase, Phase::Stopping);
    assert!(!bench.get("a").has_process() && bench.get("b").has_process());
}

#[test]
fn failing_client_is_restarted_until_held() {
    let mut bench = Bench::new(RULES);
    let mut launch = bring_up(&mut bench, "a", 7);
    for generation in [2, 3] {
        assert_eq!(words(bench.apply(ProcessEvent::Exited(launch.clone(), Exit::Signal(9)))), [""; 0]);
        assert_eq!(bench.get("a").phase, Phase::Gone(Exit::Signal(9)));
        assert_eq!(bench.get("a").state().as_str(), "stop");
        assert_eq!(bench.wait(Duration::from_secs(3)), [format!("probe a#{generation} 5000")]);
        launch = launch_of("a", generation);
        bench.apply(Input::Probed(launch.clone(), PortState::Free));
        bench.apply(Input::Launched(launch.clone(), handle(7)));
    }
    bench.apply(ProcessEvent::Exited(launch, Exit::Code(1)));
    let history = bench.get("a").history.clone();
    assert_eq!((history.exits, history.held, history.last_exit), (3, true, Some(Exit::Code(1))));
    assert_eq!(bench.wait(Duration::from_secs(3600)), [""; 0]);
    assert_eq!(bench.saved().len(), 1, "it is not forgotten");

    assert_eq!(words(bench.apply(start(9, "a"))), ["probe a#4 5000"], "a caller can start it anew");
    assert_eq!(bench.get("a").history, RestartHistory::default());
}

#[test]
fn failed_launch_counts_as_failure() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Code(1)));
    bench.wait(Duration::from_secs(2));
    let a = launch_of("a", 2);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    bench.apply(Input::LaunchFailed(a, "no perl".into()));
    let history = bench.get("a").history.clone();
    assert_eq!((history.exits, history.last_exit), (2, Some(Exit::NotLaunched)));
    assert!(history.next_start.is_some());
}

#[test]
fn postponed_launch_is_retried_without_counting() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Code(1)));
    let before = bench.get("a").history.clone();
    bench.wait(Duration::from_secs(2));
    // More often than restart_limit allows failures.
    for generation in 2..20 {
        let a = launch_of("a", generation);
        bench.apply(Input::Probed(a.clone(), PortState::Free));
        bench.apply(Input::LaunchPostponed(a, "no bus".into()));
        let history = bench.get("a").history.clone();
        assert_eq!((history.exits, history.failures), (before.exits, before.failures));
        assert_eq!((history.held, history.last_exit), (false, Some(Exit::Code(1))));
        bench.wait(Duration::from_secs(5));
    }
}

#[test]
fn postponed_launch_of_a_held_client_holds_it_again() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Stopped));
    assert!(bench.get("a").history.held);
    bench.apply(start(1, "a"));
    let a = launch_of("a", 2);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    assert_eq!(words(bench.apply(Input::LaunchPostponed(a, "no bus".into()))), ["1: failed: no bus"]);
    let history = &bench.get("a").history;
    assert_eq!((history.held, history.next_start, history.reason.as_deref()), (true, None, Some("no bus")));
    assert!(bench.wait(Duration::from_secs(3600)).is_empty());
}

#[test]
fn postponed_first_launch_fails_and_is_not_retried() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    let a = launch_of("a", 1);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    assert_eq!(words(bench.apply(Input::LaunchPostponed(a, "no bus".into()))), ["1: failed: no bus"]);
    assert!(bench.is_empty());
}

#[test]
fn client_waiting_for_a_scan_is_left_alone() {
    let mut bench = Bench::new(Rules { restart: RestartPolicy::Always, ..RULES });
    let a = bring_up(&mut bench, "a", 7);
    for state in ["init", "loading", "scaning", "confirming", "updating", "running", "whatever"] {
        let report = StateReport::parse(format!(r#"{{"state":"{state}"}}"#).as_bytes()).unwrap();
        assert_eq!(words(bench.apply(Input::Report(a.clone(), Arc::new(report)))), [""; 0]);
        assert_eq!(bench.wait(Duration::from_secs(30 * 86_400)), [""; 0], "{state}");
        let record = bench.get("a");
        assert_eq!(
            (record.phase, record.state().as_str(), record.generation),
            (Phase::Up, state, a.generation)
        );
    }
}

#[test]
fn healthy_uptime_breaks_a_row_of_failures() {
    let mut bench = Bench::new(RULES);
    for generation in 1..=9 {
        let launch = launch_of("a", generation);
        if generation == 1 {
            bring_up(&mut bench, "a", 7);
        } else {
            bench.apply(Input::Probed(launch.clone(), PortState::Free));
            bench.apply(Input::Launched(launch.clone(), handle(7)));
        }
        bench.wait(Duration::from_secs(600));
        bench.apply(ProcessEvent::Exited(launch, Exit::Code(1)));
        bench.wait(Duration::from_secs(2));
    }
    assert_eq!((bench.get("a").history.exits, bench.get("a").history.failures), (9, 1));
}

#[test]
fn exits_under_other_restart_policies() {
    let mut bench = Bench::new(Rules { restart: RestartPolicy::Never, ..RULES });
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Code(1)));
    assert!(bench.get("a").history.held);
    bench.apply(Input::Rules(Rules { restart: RestartPolicy::Always, ..RULES }));
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(ProcessEvent::Exited(b, Exit::Code(0)));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe b#3 5000"]);
    // What the client itself was told to do wins over any policy.
    let c = bring_up(&mut bench, "c", 9);
    bench.apply(Input::StopAccepted(c.clone()));
    assert!(bench.saved().contains(&("c".to_owned(), Desired::Stopped)));
    bench.apply(ProcessEvent::Exited(c, Exit::Code(1)));
    assert!(bench.fleet.get(&name("c")).is_none());
    assert!(bench.saved().iter().all(|(client, _)| client != "c"));
}

#[test]
fn client_waiting_for_restart_can_be_stopped() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Code(1)));
    assert_eq!(words(bench.apply(stop(1, "a"))), ["1: stopped 5000 0"]);
    assert!(bench.is_empty());
    assert_eq!(bench.wait(Duration::from_secs(60)), [""; 0]);
}

#[test]
fn restart_keeps_the_port_if_it_is_free() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "a"));
    bench.apply(ProcessEvent::Exited(a, Exit::Code(0)));
    bench.apply(ProcessEvent::Exited(b, Exit::Code(1)));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe b#3 5001"], "not the lowest one");
    let b = launch_of("b", 3);
    bench.apply(Input::Probed(b.clone(), PortState::Free));
    bench.apply(Input::Launched(b.clone(), handle(9)));
    bench.apply(ProcessEvent::Exited(b, Exit::Code(1)));
    // A port that is only remembered holds up no start.
    bring_up(&mut bench, "c", 10);
    assert_eq!(words(bench.apply(start(2, "d"))), ["probe d#5 5001"]);
    assert_eq!(bench.wait(Duration::from_secs(3)), ["probe b#6 5002"]);
}

/// A bench with the client `a` up, and a disk that takes nothing from now on.
fn up_on_a_full_disk() -> (Fleet, Launch) {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    (bench.fleet, a)
}

/// Applies `input`; every save that it asks for fails.
fn apply_on_full_disk(fleet: &mut Fleet, input: Input) -> Vec<String> {
    let mut effects = fleet.apply(Moment(0), input);
    while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Save(_))) {
        let Effect::Save(revision) = effects.remove(at) else { unreachable!() };
        effects.extend(fleet.apply(Moment(0), Input::SaveFailed(revision, "no space".into())));
    }
    words(effects)
}

#[test]
fn full_disk_holds_no_client() {
    let (mut fleet, a) = up_on_a_full_disk();
    fleet.apply(Moment(0), ProcessEvent::Exited(a, Exit::Signal(9)).into());
    let (mut now, mut tries) = (Moment(0), 0);
    // As long as ten failures with their pauses would take.
    while now < Moment(3_600_000) {
        now = fleet.next_tick().unwrap();
        let mut effects = fleet.apply(now, Input::Tick);
        while let Some(effect) = effects.pop() {
            effects.extend(match effect {
                Effect::Probe(launch, _) => fleet.apply(now, Input::Probed(launch, PortState::Free)),
                Effect::Save(revision) => {
                    tries += 1;
                    fleet.apply(now, Input::SaveFailed(revision, "no space".into()))
                }
                _ => vec![],
            });
        }
    }
    let record = fleet.get(&name("a")).unwrap();
    assert_eq!((record.history.held, record.history.failures), (false, 1), "{record:?}");
    assert!(tries > 100, "{tries}");
}

#[test]
fn second_stop_fails_with_the_unwritten_first() {
    let (mut fleet, a) = up_on_a_full_disk();
    apply_on_full_disk(&mut fleet, Input::StopAccepted(a));
    assert_eq!(apply_on_full_disk(&mut fleet, start(1, "a")), ["terminate a#1 7"]);
    let mode = Input::Stop(RequestId(2), name("a"), StopMode::NoWait);
    assert_eq!(
        apply_on_full_disk(&mut fleet, mode),
        ["1: failed: it was stopped before it was up", "2: failed: no space"]
    );
}

#[test]
fn twice_failed_stop_keeps_what_is_on_disk() {
    let (mut fleet, a) = up_on_a_full_disk();
    let revision = Revision(3);
    assert_eq!(words(fleet.apply(Moment(0), stop(1, "a"))), ["save 3"]);
    assert_eq!(words(fleet.apply(Moment(0), Input::Saved(revision))), ["terminate a#1 7"]);
    apply_on_full_disk(&mut fleet, Input::StopFailed(a, "it hangs".into()));
    assert_eq!(apply_on_full_disk(&mut fleet, stop(2, "a")), ["2: failed: no space"]);
    // The file says that it should be gone, so a start can't say that all is well.
    assert_eq!(apply_on_full_disk(&mut fleet, start(3, "a")), ["terminate a#1 7"]);
}

#[test]
fn refused_launch_is_invalid_and_holds_an_acknowledged_client() {
    let mut bench = Bench::new(RULES);
    let a = launch_of("a", 1);
    bench.apply(start(1, "a"));
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    let refused = |launch: &Launch| Input::LaunchRefused(launch.clone(), "no URL".into());
    assert_eq!(words(bench.apply(refused(&a))), ["1: invalid: no URL"]);
    assert_eq!(bench.saved().len(), 0, "it never ran");

    let b = bring_up(&mut bench, "b", 7);
    bench.apply(ProcessEvent::Exited(b, Exit::Code(1)));
    bench.wait(Duration::from_secs(2));
    let b = Launch { generation: bench.get("b").generation, ..launch_of("b", 0) };
    bench.apply(Input::Probed(b.clone(), PortState::Free));
    bench.apply(refused(&b));
    let history = bench.get("b").history.clone();
    assert!(history.held && history.next_start.is_none(), "{history:?}");
    assert_eq!(bench.wait(Duration::from_secs(3600)), [""; 0]);
    assert_eq!(bench.saved().len(), 1, "it is not lost");
    bench.apply(start(2, "b"));
    assert!(!bench.get("b").history.held, "a caller can start it anew");
}
