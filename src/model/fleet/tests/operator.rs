//! What an operator does through systemd.

use super::*;
use crate::model::client::Exit;

/// Starts clients and has them stopped by an operator.
fn stopped(bench: &mut Bench, client: &str, pid: u32) -> Launch {
    let launch = bring_up(bench, client, pid);
    assert!(
        words(bench.apply(Input::Exited(launch.clone(), Exit::Stopped)))
            .iter()
            .all(|w| w.starts_with("save"))
    );
    launch
}

#[test]
fn a_stop_holds_the_client_and_is_no_wish_that_it_be_forgotten() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    let record = bench.get("a");
    assert_eq!((record.phase, record.history.held), (Phase::Gone(Exit::Stopped), true));
    assert_eq!((record.history.exits, record.history.next_start), (0, None));
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)]);
    assert!(bench.wait(Duration::from_secs(3600)).iter().all(|word| !word.starts_with("probe")));
    // Whoever calls start_client has the last word.
    assert_eq!(words(bench.apply(start(1, "a")))[0], "probe a#2 5000");
    assert!(bench.apply(Input::Replaced(launch, handle(8))).is_empty(), "it is another launch by now");
}

#[test]
fn a_start_makes_of_a_client_that_was_stopped_what_it_was() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    let effects = words(bench.apply(Input::Replaced(launch.clone(), handle(8))));
    assert!(effects.contains(&"watch a#1".to_owned()), "{effects:?}");
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.port), (Phase::Up, Some(8), 5000));
    assert!(!record.history.held);
    // Its port is its own again.
    assert_eq!(bring_up(&mut bench, "b", 9), launch_of("b", 2));
    assert_eq!(bench.get("b").port, 5001);
    bench.apply(Input::Exited(launch, Exit::Signal(9)));
    assert_eq!(bench.get("a").history.exits, 1, "an end is an end like any other");
}

#[test]
fn a_start_with_a_port_that_is_another_ones_by_now_changes_nothing() {
    let mut bench = Bench::new(RULES);
    let launch = stopped(&mut bench, "a", 7);
    bring_up(&mut bench, "b", 8);
    assert_eq!(bench.get("b").port, 5000);
    assert!(!bench.fleet.may_rejoin(&launch));
    assert!(bench.apply(Input::Replaced(launch, handle(9))).is_empty());
    assert_eq!((bench.get("a").phase, bench.get("a").history.held), (Phase::Gone(Exit::Stopped), true));
}

#[test]
fn a_restart_is_the_same_launch_with_another_process() {
    let mut bench = Bench::new(RULES);
    let launch = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Frozen(launch.clone(), true));
    assert!(bench.get("a").frozen);
    let effects = words(bench.apply(Input::Replaced(launch.clone(), handle(8))));
    assert!(effects.contains(&"watch a#1".to_owned()), "{effects:?}");
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.port, record.frozen), (Phase::Up, Some(8), 5000, false));
    // Where it is being stopped, whoever wants that wants it of the new process, too.
    bench.apply(stop(1, "a"));
    let effects = words(bench.apply(Input::Replaced(launch, handle(9))));
    assert!(effects.contains(&"terminate a#1 9".to_owned()), "{effects:?}");
}
