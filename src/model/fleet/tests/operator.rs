//! What an operator does through systemd.

use super::*;
use crate::model::client::Exit;

/// Starts clients and has them stopped by an operator.
fn stopped(bench: &mut Bench, client: &str, pid: u32) -> Launch {
    let launch = bring_up(bench, client, pid);
    assert!(
        words(bench.apply(ProcessEvent::Exited(launch.clone(), Exit::Stopped)))
            .iter()
            .all(|w| w.starts_with("save"))
    );
    launch
}

#[test]
fn operator_stop_holds_the_client() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    let record = bench.get("a");
    assert_eq!((record.phase, record.history.held), (Phase::Gone(Exit::Stopped), true));
    assert_eq!((record.history.exits, record.history.next_start), (0, None));
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)]);
    assert!(bench.wait(Duration::from_secs(3600)).iter().all(|word| !word.starts_with("probe")));
    // A call of start_client has the last word.
    assert_eq!(words(bench.apply(start(1, "a")))[0], "probe a#2 5000");
    assert!(bench.apply(ProcessEvent::Replaced(launch, handle(8))).is_empty(), "it is another launch by now");
}

#[test]
fn operator_start_readopts_a_stopped_client() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    let effects = words(bench.apply(ProcessEvent::Replaced(launch.clone(), handle(8))));
    assert!(effects.contains(&"watch a#1".to_owned()), "{effects:?}");
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.port), (Phase::Up, Some(8), 5000));
    assert!(!record.history.held);
    // Its port is its own again.
    assert_eq!(bring_up(&mut bench, "b", 9), launch_of("b", 2));
    assert_eq!(bench.get("b").port, 5001);
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert_eq!(bench.get("a").history.exits, 1, "an end is an end like any other");
}

#[test]
fn operator_start_with_a_reassigned_port_is_replaced() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    assert_eq!(bench.get("b").port, 5000);
    assert_eq!(bench.fleet.readoption(&launch), Readoption::Replace);
    assert_eq!(words(bench.apply(ProcessEvent::Replaced(launch.clone(), handle(9)))), ["terminate a#1 9"]);
    let a = bench.get("a");
    assert_eq!((a.phase, a.pid(), a.port), (Phase::Stopping, Some(9), 5001), "its calls do not go to b");
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(15)));
    assert_eq!(bench.wait(Duration::ZERO), ["probe a#3 5001"]);
    assert_eq!((bench.get("a").history.exits, bench.get("a").history.held), (0, false));
}

#[test]
fn stop_of_a_moved_process_is_retried_until_it_is_gone() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    bench.apply(ProcessEvent::Replaced(launch.clone(), handle(9)));
    // A caller's stop fails with it; the wish stays.
    for stop_it in [false, true] {
        if stop_it {
            bench.apply(stop(1, "a"));
        }
        let answers = words(bench.apply(Input::StopFailed(launch.clone(), "it hangs".into())));
        assert_eq!(answers.contains(&"1: failed: it hangs".to_owned()), stop_it, "{answers:?}");
        let a = bench.get("a");
        assert_eq!((a.phase, a.port), (Phase::Stopping, 5001), "nothing listens at 5001");
        assert_eq!(bench.wait(Duration::from_secs(5)), ["terminate a#1 9"]);
    }
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert!(bench.fleet.get(&name("a")).is_none(), "it was stopped");
}

#[test]
fn moved_client_starts_after_a_retried_stop() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    bench.apply(ProcessEvent::Replaced(launch.clone(), handle(9)));
    bench.apply(Input::StopFailed(launch.clone(), "it hangs".into()));
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert_eq!(bench.wait(Duration::ZERO), ["probe a#3 5001"]);
    assert!(bench.wait(Duration::from_secs(60)).iter().all(|word| !word.starts_with("terminate")));
}

#[test]
fn shutdown_retries_a_failed_stop_at_once_and_plans_no_start() {
    let mut bench = Bench::new(Rules { clients_outlive_controller: false, ..RULES });
    let launch = stopped(&mut bench, "a", 7);
    let b = bring_up(&mut bench, "b", 8);
    bench.apply(ProcessEvent::Replaced(launch.clone(), handle(9)));
    bench.apply(Input::StopFailed(launch.clone(), "it hangs".into()));
    bench.apply(ProcessEvent::Exited(b, Exit::Signal(9)));
    assert!(bench.get("b").history.next_start.is_some());
    assert_eq!(words(bench.apply(Input::Shutdown(Shutdown::EndClients))), ["terminate a#1 9"]);
    assert_eq!(bench.fleet.next_tick(), None, "a start that is due would be due again after each tick");
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert!(bench.fleet.is_settled());
}

#[test]
fn failure_to_stop_an_exited_process_is_ignored() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    bench.apply(ProcessEvent::Replaced(launch.clone(), handle(9)));
    bench.apply(ProcessEvent::Exited(launch.clone(), Exit::Signal(9)));
    // A stop that is not on disk yet when the failure arrives.
    let effects = bench.fleet.apply(bench.now, stop(1, "a"));
    assert_eq!(words(effects), ["save 7"]);
    assert!(bench.apply(Input::StopFailed(launch, "it hangs".into())).is_empty());
    assert_eq!(words(bench.apply(Input::Saved(Revision(7)))), ["1: stopped 5001 0"]);
}

#[test]
fn operator_start_during_the_restart_pause_is_readopted() {
    let mut bench = Bench::new(RULES);
    let launch = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(launch.clone(), Exit::Signal(9)));
    assert!(bench.get("a").history.next_start.is_some());
    assert_eq!(words(bench.apply(ProcessEvent::Replaced(launch.clone(), handle(8)))), ["watch a#1"]);
    let a = bench.get("a");
    assert_eq!((a.phase, a.pid(), a.history.next_start), (Phase::Up, Some(8), None));
    assert!(bench.wait(Duration::from_secs(3600)).is_empty(), "it is not started a second time");
    assert_eq!(words(bench.apply(start(1, "a"))), ["1: exists 5000 8"]);
    bench.apply(ProcessEvent::Exited(launch, Exit::Signal(9)));
    assert_eq!(bench.get("a").history.exits, 2);
}

#[test]
fn unit_with_an_outdated_environment_is_replaced() {
    let mut bench = Bench::new(RULES);
    let first = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(first.clone(), Exit::Signal(9)));
    bench.wait(Duration::from_secs(2));
    // The launch is under way: the worker that carries it out finds the unit.
    assert!(bench.apply(ProcessEvent::Replaced(first.clone(), handle(8))).is_empty());
    bench.apply(Input::Probed(launch_of("a", 2), PortState::Free));
    bench.apply(Input::LaunchFailed(launch_of("a", 2), "no token".into()));
    assert_eq!(words(bench.apply(ProcessEvent::Replaced(first.clone(), handle(9)))), ["terminate a#1 9"]);
    bench.apply(ProcessEvent::Exited(first, Exit::Signal(15)));
    assert_eq!(bench.wait(Duration::ZERO).len(), 1, "it is started anew");
    assert_eq!(bench.get("a").generation, Generation(3));
}

#[test]
fn a_restart_is_the_same_launch_with_another_process() {
    let mut bench = Bench::new(RULES);
    let launch = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Frozen(launch.clone(), true));
    assert!(bench.get("a").frozen);
    let effects = words(bench.apply(ProcessEvent::Replaced(launch.clone(), handle(8))));
    assert!(effects.contains(&"watch a#1".to_owned()), "{effects:?}");
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.port, record.frozen), (Phase::Up, Some(8), 5000, false));
    // A stop that is under way is meant for the new process, too.
    bench.apply(stop(1, "a"));
    let effects = words(bench.apply(ProcessEvent::Replaced(launch, handle(9))));
    assert!(effects.contains(&"terminate a#1 9".to_owned()), "{effects:?}");
}

/// What the next controller makes of the only client of `bench`, whose process was found like this.
fn next_controller(bench: &Bench, found: ProcessStatus) -> Bench {
    let mut next = Bench::new(RULES);
    next.apply(Input::Restored(Box::new(bench.fleet.image().1.clients.remove(0)), found));
    next
}

#[test]
fn exit_after_an_operator_start_is_counted_by_the_next_controller() {
    for (before, after) in [(Exit::Stopped, Exit::Clean), (Exit::Code(77), Exit::Code(77))] {
        let mut bench = Bench::new(RULES);
        let launch = bring_up(&mut bench, "a", 7);
        bench.apply(ProcessEvent::Exited(launch.clone(), before));
        assert!(bench.get("a").history.held);
        // ProcessStatus by the controller that saw the first end, and by one that comes later.
        let found_later = next_controller(&bench, ProcessStatus::Running(handle(8)));
        bench.apply(ProcessEvent::Replaced(launch, handle(8)));
        for bench in [bench, found_later] {
            assert!(!bench.get("a").history.held);
            let next = next_controller(&bench, ProcessStatus::Ended(after));
            let history = &next.get("a").history;
            assert_eq!((history.held, history.next_start), (true, None), "{before}");
            assert_eq!(history.last_exit, Some(after));
        }
    }
}
