//! What lasts: the registry file, new starts after failures, and the next controller.

use super::*;

#[test]
fn nothing_is_done_before_it_is_on_disk() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let a = launch_of("a", 1);
    let mut apply = |input| words(fleet.apply(now, input));
    assert_eq!(apply(start(1, "a")), ["probe a#1 5000"]);
    assert_eq!(apply(Input::Probed(a.clone(), PortState::Free)), ["save 1"]);
    assert_eq!(apply(Input::Saved(Version(1))), ["launch a#1 5000"]);
    assert_eq!(apply(Input::Launched(a.clone(), handle(7))), ["save 2"]);
    assert_eq!(
        apply(Input::Saved(Version(2))),
        ["1: started 5000 7"],
        "told when the file names the process"
    );
    assert_eq!(apply(stop(2, "a")), ["save 3"]);
    assert_eq!(apply(Input::Saved(Version(3))), ["terminate a#1 7"]);
    assert_eq!(apply(Input::Exited(a, Exit::Signal(15))), ["2: stopped 5000 7", "save 4"]);
}

#[test]
fn a_unit_is_promised_as_soon_as_it_is_there() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let a = launch_of("a", 1);
    let unit =
        Handle::Unit { name: "wqclient@a.service".into(), invocation_id: "1".repeat(32).into(), pid: 7 };
    let mut apply = |input| words(fleet.apply(now, input));
    apply(start(1, "a"));
    assert_eq!(apply(Input::Probed(a.clone(), PortState::Free)), ["save 1"]);
    assert_eq!(apply(Input::Saved(Version(1))), ["launch a#1 5000"], "not before the file has its launch");
    assert_eq!(apply(Input::Launched(a, unit)), ["1: started 5000 7", "save 2"]);
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let now = Moment(0);
    let full = |version| Input::SaveFailed(Version(version), "no space".into());
    let (a, b) = (launch_of("a", 1), launch_of("b", 2));
    for input in [
        start(1, "a"),
        Input::Probed(a.clone(), PortState::Free),
        Input::Saved(Version(1)),
        Input::Launched(a.clone(), handle(7)),
        Input::Saved(Version(2)),
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
fn one_that_ended_has_no_port_though_it_is_asked_to_stop() {
    let mut bench = Bench::new(RULES);
    let launch = bring_up(&mut bench, "a", 7);
    assert!(bench.get("a").has_process());
    bench.apply(Input::Exited(launch, Exit::Signal(9)));
    assert!(!bench.get("a").has_process());
    bring_up(&mut bench, "b", 8);
    assert_eq!(bench.get("b").port, bench.get("a").port);
    // While the wish is written to disk.
    let (now, version) = (bench.now, bench.fleet.image().0);
    bench.fleet.apply(now, stop(3, "a"));
    assert_ne!(bench.fleet.image().0, version);
    assert_eq!(bench.get("a").phase, Phase::Stopping);
    assert!(!bench.get("a").has_process() && bench.get("b").has_process());
}

#[test]
fn a_client_that_fails_is_started_again_and_at_last_held() {
    let mut bench = Bench::new(RULES);
    let mut launch = bring_up(&mut bench, "a", 7);
    for generation in [2, 3] {
        assert_eq!(words(bench.apply(Input::Exited(launch.clone(), Exit::Signal(9)))), [""; 0]);
        assert_eq!(bench.get("a").phase, Phase::Gone(Exit::Signal(9)));
        assert_eq!(bench.get("a").state().as_str(), "stop");
        assert_eq!(bench.wait(Duration::from_secs(3)), [format!("probe a#{generation} 5000")]);
        launch = launch_of("a", generation);
        bench.apply(Input::Probed(launch.clone(), PortState::Free));
        bench.apply(Input::Launched(launch.clone(), handle(7)));
    }
    bench.apply(Input::Exited(launch, Exit::Code(1)));
    let history = bench.get("a").history;
    assert_eq!((history.exits, history.held, history.last_exit), (3, true, Some(Exit::Code(1))));
    assert_eq!(bench.wait(Duration::from_secs(3600)), [""; 0]);
    assert_eq!(bench.saved().len(), 1, "it is not forgotten");

    assert_eq!(words(bench.apply(start(9, "a"))), ["probe a#4 5000"], "a caller can start it anew");
    assert_eq!(bench.get("a").history, History::default());
}

#[test]
fn a_launch_that_fails_again_is_an_exit_too() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Exited(a, Exit::Code(1)));
    bench.wait(Duration::from_secs(2));
    let a = launch_of("a", 2);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    bench.apply(Input::LaunchFailed(a, "no perl".into()));
    let history = bench.get("a").history;
    assert_eq!((history.exits, history.last_exit), (2, Some(Exit::NotLaunched)));
    assert!(history.next_start.is_some());
}

#[test]
fn one_that_waits_for_a_scan_is_left_alone_for_as_long_as_it_takes() {
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
fn a_healthy_life_is_no_failure_in_a_row() {
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
        bench.apply(Input::Exited(launch, Exit::Code(1)));
        bench.wait(Duration::from_secs(2));
    }
    assert_eq!((bench.get("a").history.exits, bench.get("a").history.failures), (9, 1));
}

#[test]
fn a_clean_end_leaves_the_list_at_once_and_the_file_a_little_later() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Exited(a, Exit::Code(0)));
    assert!(bench.is_empty());
    assert_eq!(bench.saved().len(), 1, "if we are asked to end now, the machine is going down");
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.saved().len(), 0);

    let a = bring_up(&mut bench, "a", 8);
    bench.apply(Input::Exited(a, Exit::Code(0)));
    assert_eq!(words(bench.apply(stop(1, "a"))), ["1: not exists"]);
    assert_eq!(bench.saved().len(), 0, "by now somebody said that it should be gone");

    let a = bring_up(&mut bench, "a", 9);
    bench.apply(Input::Exited(a, Exit::Code(0)));
    bench.apply(Input::Shutdown(Shutdown::EndClients));
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.saved().len(), 1);
}

#[test]
fn other_policies() {
    let mut bench = Bench::new(Rules { restart: RestartPolicy::Never, ..RULES });
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Exited(a, Exit::Code(1)));
    assert!(bench.get("a").history.held);
    bench.apply(Input::Rules(Rules { restart: RestartPolicy::Always, ..RULES }));
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(Input::Exited(b, Exit::Code(0)));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe b#3 5000"]);
    // What the client itself was told to do wins over any policy.
    let c = bring_up(&mut bench, "c", 9);
    bench.apply(Input::StopAnnounced(c.clone()));
    assert!(bench.saved().contains(&("c".to_owned(), Desired::Stopped)));
    bench.apply(Input::Exited(c, Exit::Code(1)));
    assert!(bench.fleet.get(&name("c")).is_none());
    assert!(bench.saved().iter().all(|(client, _)| client != "c"));
}

#[test]
fn a_client_that_waits_to_be_started_again_can_be_stopped() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Exited(a, Exit::Code(1)));
    assert_eq!(words(bench.apply(stop(1, "a"))), ["1: stopped 5000 0"]);
    assert!(bench.is_empty());
    assert_eq!(bench.wait(Duration::from_secs(60)), [""; 0]);
}

/// What the file of `bench` would give to the next controller.
fn restored(bench: &Bench, rules: Rules, found: impl Fn(&str) -> Found) -> (Bench, Vec<String>) {
    let (_, saved) = bench.fleet.image();
    let mut next = Bench { fleet: Fleet::new(rules, saved.last_generation), now: Moment(0) };
    let mut effects = Vec::new();
    for client in saved.clients {
        let found = found(client.spec.name.as_str());
        effects.extend(words(next.apply(Input::Restored(Box::new(client), found))));
    }
    (next, effects)
}

#[test]
fn the_next_controller_takes_up_what_lives_and_starts_what_does_not() {
    let mut bench = Bench::new(RULES);
    for (pid, client) in [(7, "a"), (8, "b"), (9, "c")] {
        bring_up(&mut bench, client, pid);
    }
    let found = |client: &str| match client {
        "a" => Found::Running(handle(7)),
        _ => Found::Gone { rebooted: false },
    };
    let (mut next, effects) = restored(&bench, RULES, found);
    assert_eq!(effects, ["watch a#1"]);
    let a = next.get("a");
    assert_eq!((a.phase, a.port, a.generation, a.pid()), (Phase::Up, 5000, Generation(1), Some(7)));
    assert_eq!(next.get("b").history.exits, 1, "it ended while nobody looked");
    assert_eq!(next.wait(Duration::ZERO), ["probe b#4 5001"], "with its port, if that is free");
    assert_eq!(next.wait(Duration::from_millis(999)), [""; 0], "one after the other");
    assert_eq!(next.wait(Duration::from_millis(1)), ["probe c#5 5002"]);

    let (mut next, _) = restored(&bench, RULES, |_| Found::Gone { rebooted: true });
    assert_eq!(next.get("b").history, History { next_start: Some(Moment(1000)), ..History::default() });
    assert_eq!(next.wait(Duration::from_secs(9)).len(), 3);

    let (mut next, _) = restored(&bench, RULES, |_| Found::Ended(Exit::Code(77)));
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(9)).is_empty(), "put out meanwhile");

    let rules = Rules { restore: false, ..RULES };
    let (mut next, _) = restored(&bench, rules, |_| Found::Gone { rebooted: true });
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(9)).is_empty());
}

#[test]
fn an_end_that_no_controller_saw_counts_like_any_other() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    let failed = |_: &str| Found::Ended(Exit::Code(1));
    let (mut next, _) = restored(&bench, RULES, failed);
    let history = next.get("a").history;
    assert_eq!((history.exits, history.failures, history.held), (1, 1, false));
    assert_eq!(next.wait(Duration::ZERO), ["probe a#2 5000"], "it has waited long enough");

    let (mut next, _) = restored(&bench, Rules { restart: RestartPolicy::Never, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());
    let (mut next, _) = restored(&bench, Rules { restart_limit: 1, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());
    let (mut next, _) = restored(&bench, Rules { restore: false, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());

    // Whoever stopped it has the last word, and that is no failure.
    let (mut next, _) = restored(&bench, RULES, |_| Found::Ended(Exit::Stopped));
    let history = next.get("a").history;
    assert_eq!((history.failures, history.held), (0, true));
    assert!(next.wait(Duration::from_secs(999)).is_empty());
}

#[test]
fn a_generation_is_never_given_again() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "b"));
    bench.apply(Input::Exited(b, Exit::Code(0)));
    // The file remembers even that of one that is gone.
    let (mut next, _) = restored(&bench, RULES, |_| Found::Running(handle(7)));
    assert_eq!(words(next.apply(start(2, "b"))), ["probe b#3 5001"]);
    // And where it did not, those that are there would tell.
    let (_, saved) = next.fleet.image();
    let mut forgetful = Bench::new(RULES);
    for client in saved.clients {
        forgetful.apply(Input::Restored(Box::new(client), Found::Running(handle(7))));
    }
    assert_eq!(words(forgetful.apply(start(3, "c"))), ["probe c#2 5001"]);
}

#[test]
fn a_client_that_is_started_again_has_its_port_again_if_that_is_free() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "a"));
    bench.apply(Input::Exited(a, Exit::Code(0)));
    bench.apply(Input::Exited(b, Exit::Code(1)));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe b#3 5001"], "not the lowest one");
    let b = launch_of("b", 3);
    bench.apply(Input::Probed(b.clone(), PortState::Free));
    bench.apply(Input::Launched(b.clone(), handle(9)));
    bench.apply(Input::Exited(b, Exit::Code(1)));
    // Nobody is made to wait for a port that is only remembered.
    bring_up(&mut bench, "c", 10);
    assert_eq!(words(bench.apply(start(2, "d"))), ["probe d#5 5001"]);
    assert_eq!(bench.wait(Duration::from_secs(3)), ["probe b#6 5002"]);
}

#[test]
fn clients_that_should_have_ended_with_their_controller_begin_anew() {
    let rules = Rules { clients_outlive_controller: false, ..RULES };
    let mut bench = Bench::new(rules);
    bring_up(&mut bench, "a", 7);
    let (mut next, effects) = restored(&bench, rules, |_| Found::Running(handle(7)));
    assert_eq!(effects, ["watch a#1", "terminate a#1 7"]);
    next.apply(Input::Exited(launch_of("a", 1), Exit::Unknown));
    assert_eq!(next.wait(Duration::ZERO), ["probe a#2 5000"]);
    assert_eq!(next.get("a").history, History::default(), "it did nothing wrong");
}

#[test]
fn a_stop_that_was_cut_off_is_carried_out() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "a"));
    bench.apply(stop(2, "b"));
    let found = |client: &str| match client {
        "a" => Found::Running(handle(7)),
        _ => Found::Gone { rebooted: false },
    };
    let (mut next, effects) = restored(&bench, RULES, found);
    assert_eq!(effects, ["watch a#1", "terminate a#1 7"]);
    assert!(next.fleet.get(&name("b")).is_none());
    next.apply(Input::Exited(launch_of("a", 1), Exit::Unknown));
    assert!(next.is_empty() && next.saved().is_empty());
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
        let Effect::Save(version) = effects.remove(at) else { unreachable!() };
        effects.extend(fleet.apply(Moment(0), Input::SaveFailed(version, "no space".into())));
    }
    words(effects)
}

#[test]
fn a_stop_that_joins_one_that_could_not_be_written_is_not_promised() {
    let (mut fleet, a) = up_on_a_full_disk();
    apply_on_full_disk(&mut fleet, Input::StopAnnounced(a));
    assert_eq!(apply_on_full_disk(&mut fleet, start(1, "a")), ["terminate a#1 7"]);
    let at_once = Input::Stop(Ticket(2), name("a"), AtOnce::Yes);
    assert_eq!(
        apply_on_full_disk(&mut fleet, at_once),
        ["1: failed: it was stopped before it was up", "2: failed: no space"]
    );
}

#[test]
fn a_stop_that_fails_twice_leaves_the_wish_that_is_on_disk() {
    let (mut fleet, a) = up_on_a_full_disk();
    let version = Version(3);
    assert_eq!(words(fleet.apply(Moment(0), stop(1, "a"))), ["save 3"]);
    assert_eq!(words(fleet.apply(Moment(0), Input::Saved(version))), ["terminate a#1 7"]);
    apply_on_full_disk(&mut fleet, Input::StopFailed(a, "it hangs".into()));
    assert_eq!(apply_on_full_disk(&mut fleet, stop(2, "a")), ["2: failed: no space"]);
    // The file says that it should be gone, so a start can't say that all is well.
    assert_eq!(apply_on_full_disk(&mut fleet, start(3, "a")), ["terminate a#1 7"]);
}
