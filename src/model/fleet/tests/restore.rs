//! What a controller makes of what an earlier one left.

use super::*;

/// What the file of `bench` would give to the next controller.
fn restored(bench: &Bench, rules: Rules, found: impl Fn(&str) -> ProcessStatus) -> (Bench, Vec<String>) {
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
fn restore_adopts_running_clients_and_starts_others() {
    let mut bench = Bench::new(RULES);
    for (pid, client) in [(7, "a"), (8, "b"), (9, "c")] {
        bring_up(&mut bench, client, pid);
    }
    let found = |client: &str| match client {
        "a" => ProcessStatus::Running(handle(7)),
        _ => ProcessStatus::Gone { rebooted: false },
    };
    let (mut next, effects) = restored(&bench, RULES, found);
    assert_eq!(effects, ["watch a#1"]);
    let a = next.get("a");
    assert_eq!((a.phase, a.port, a.generation, a.pid()), (Phase::Up, 5000, Generation(1), Some(7)));
    assert_eq!(next.get("b").history.exits, 1, "it ended while nobody looked");
    assert_eq!(next.wait(Duration::ZERO), ["probe b#4 5001"], "with its port, if that is free");
    assert_eq!(next.wait(Duration::from_millis(999)), [""; 0], "one after the other");
    assert_eq!(next.wait(Duration::from_millis(1)), ["probe c#5 5002"]);

    let (mut next, _) = restored(&bench, RULES, |_| ProcessStatus::Gone { rebooted: true });
    assert_eq!(
        next.get("b").history,
        RestartHistory { next_start: Some(Moment(1000)), ..RestartHistory::default() }
    );
    assert_eq!(next.wait(Duration::from_secs(9)).len(), 3);

    let (mut next, _) = restored(&bench, RULES, |_| ProcessStatus::Ended(Exit::Code(77)));
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(9)).is_empty(), "put out meanwhile");

    let rules = Rules { restore: false, ..RULES };
    let (mut next, _) = restored(&bench, rules, |_| ProcessStatus::Gone { rebooted: true });
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(9)).is_empty());
}

#[test]
fn restore_counts_unseen_exits() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    let failed = |_: &str| ProcessStatus::Ended(Exit::Code(1));
    let (mut next, _) = restored(&bench, RULES, failed);
    let history = next.get("a").history.clone();
    assert_eq!((history.exits, history.failures, history.held), (1, 1, false));
    assert_eq!(next.wait(Duration::ZERO), ["probe a#2 5000"], "it has waited long enough");

    let (mut next, _) = restored(&bench, Rules { restart: RestartPolicy::Never, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());
    let (mut next, _) = restored(&bench, Rules { restart_limit: 1, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());
    let (mut next, _) = restored(&bench, Rules { restore: false, ..RULES }, failed);
    assert!(next.get("a").history.held && next.wait(Duration::from_secs(999)).is_empty());

    // The operator's stop has the last word, and is no failure.
    let (mut next, _) = restored(&bench, RULES, |_| ProcessStatus::Ended(Exit::Stopped));
    let history = next.get("a").history.clone();
    assert_eq!((history.failures, history.held), (0, true));
    assert!(next.wait(Duration::from_secs(999)).is_empty());
}

#[test]
fn generations_are_never_reused() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "b"));
    bench.apply(ProcessEvent::Exited(b, Exit::Code(0)));
    // The file remembers even that of one that is gone.
    let (mut next, _) = restored(&bench, RULES, |_| ProcessStatus::Running(handle(7)));
    assert_eq!(words(next.apply(start(2, "b"))), ["probe b#3 5001"]);
    // And where it did not, those that are there would tell.
    let (_, saved) = next.fleet.image();
    let mut forgetful = Bench::new(RULES);
    for client in saved.clients {
        forgetful.apply(Input::Restored(Box::new(client), ProcessStatus::Running(handle(7))));
    }
    assert_eq!(words(forgetful.apply(start(3, "c"))), ["probe c#2 5001"]);
}

#[test]
fn restore_restarts_clients_that_should_have_ended() {
    let rules = Rules { clients_outlive_controller: false, ..RULES };
    let mut bench = Bench::new(rules);
    bring_up(&mut bench, "a", 7);
    let (mut next, effects) = restored(&bench, rules, |_| ProcessStatus::Running(handle(7)));
    assert_eq!(effects, ["watch a#1", "terminate a#1 7"]);
    next.apply(ProcessEvent::Exited(launch_of("a", 1), Exit::Unknown));
    assert_eq!(next.wait(Duration::ZERO), ["probe a#2 5000"]);
    assert_eq!(next.get("a").history, RestartHistory::default(), "it did nothing wrong");
}

#[test]
fn restore_completes_an_interrupted_stop() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    bench.apply(stop(1, "a"));
    bench.apply(stop(2, "b"));
    let found = |client: &str| match client {
        "a" => ProcessStatus::Running(handle(7)),
        _ => ProcessStatus::Gone { rebooted: false },
    };
    let (mut next, effects) = restored(&bench, RULES, found);
    assert_eq!(effects, ["watch a#1", "terminate a#1 7"]);
    assert!(next.fleet.get(&name("b")).is_none());
    next.apply(ProcessEvent::Exited(launch_of("a", 1), Exit::Unknown));
    assert!(next.is_empty() && next.saved().is_empty());
}

#[test]
fn returning_client_takes_no_place_after_a_restart_of_the_controller() {
    let rules = Rules { max_clients: 1, restart_limit: 1, ..RULES };
    let mut bench = Bench::new(rules);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a, Exit::Code(1)));
    bring_up(&mut bench, "b", 8);
    let (booted, _) = restored(&bench, rules, |_| ProcessStatus::Gone { rebooted: true });
    // Before anything is started the controller is restarted, in the same boot.
    let (mut next, _) = restored(&booted, rules, |_| ProcessStatus::Gone { rebooted: false });
    assert_eq!(next.wait(Duration::ZERO), [""; 0], "b has the only place");
    assert!(next.get("a").history.held);
    assert_eq!(next.wait(Duration::from_secs(1)), ["probe b#3 5000"]);
}

#[test]
fn registration_differs_from_those_of_an_earlier_registry() {
    let registration = |run_id: &str| {
        let mut fleet = Fleet::new(RULES, Generation(0)).with_run_id(run_id.into());
        fleet.apply(Moment(0), start(1, "a"));
        fleet.get(&name("a")).unwrap().spec.params["registration"].text.clone()
    };
    assert_ne!(registration("x"), registration("y"), "both are of generation 1");
}

#[test]
fn held_client_that_an_operator_started_before_a_crash_keeps_its_place() {
    let rules = Rules { clients_outlive_controller: false, restart_limit: 1, max_clients: 1, ..RULES };
    let mut bench = Bench::new(rules);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a.clone(), Exit::Code(1)));
    assert!(bench.get("a").history.held);
    // The file still says that it is held.
    let (mut next, effects) = restored(&bench, rules, |_| ProcessStatus::Running(handle(8)));
    assert_eq!(effects, ["watch a#1", "terminate a#1 8"]);
    next.apply(ProcessEvent::Exited(a, Exit::Signal(15)));
    assert_eq!(words(next.apply(start(1, "b"))), ["1: too many"]);
    assert_eq!(next.wait(Duration::ZERO), ["probe a#2 5000"]);
}

#[test]
fn unit_that_clashes_with_another_port_is_never_taken_for_its_client() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(a.clone(), Exit::Stopped));
    bring_up(&mut bench, "b", 8);
    // Both had port 5000, and both units run.
    let found = |client: &str| ProcessStatus::Running(handle(if client == "a" { 9 } else { 8 }));
    let (booted, _) = restored(&bench, RULES, found);
    assert_eq!((booted.get("a").port, booted.get("b").port), (5000, 5001));
    let (next, _) = restored(&booted, RULES, |_| ProcessStatus::Gone { rebooted: true });
    assert_eq!(next.fleet.readoption(&launch_of("b", 2)), Readoption::Replace, "it listens at 5000");
    assert_eq!(next.fleet.readoption(&a), Readoption::Adopt);
}
