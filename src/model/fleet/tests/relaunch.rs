//! New starts and holds that follow from a login.

use super::*;
use crate::model::client::Exit;

fn relaunch(client: &str) -> Input {
    Input::Relaunch(name(client))
}

fn hold(client: &str) -> Input {
    Input::Hold(name(client), "no login code was scanned".into())
}

#[test]
fn new_start_is_no_exit() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    assert_eq!(words(bench.apply(relaunch("a"))), ["terminate a#1 7"]);
    assert!(bench.apply(relaunch("a")).is_empty(), "it is under way");
    bench.apply(ProcessEvent::Exited(a, Exit::Signal(2)));
    assert_eq!(bench.wait(Duration::ZERO), ["probe a#2 5000"]);
    assert_eq!(bench.get("a").history, RestartHistory::default());
}

#[test]
fn held_process_stays_ended_until_it_is_started() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    assert_eq!(words(bench.apply(hold("a"))), ["terminate a#1 7"]);
    bench.apply(ProcessEvent::Exited(a, Exit::Signal(2)));
    let history = bench.get("a").history.clone();
    assert_eq!(
        (history.held, history.exits, history.reason.as_deref()),
        (true, 0, Some("no login code was scanned"))
    );
    assert!(bench.wait(Duration::from_secs(3600)).is_empty());
    // Its place is another's by now.
    for client in ["b", "c", "d"] {
        bring_up(&mut bench, client, 8);
    }
    bench.apply(relaunch("a"));
    bench.wait(Duration::ZERO);
    let history = bench.get("a").history.clone();
    assert_eq!((history.held, history.reason.as_deref()), (true, Some("there are max_clients others")));
    bench.apply(stop(1, "b"));
    bench.apply(ProcessEvent::Exited(launch_of("b", 2), Exit::Signal(15)));
    bench.apply(relaunch("a"));
    assert_eq!(bench.wait(Duration::ZERO), ["probe a#5 5000"]);
}

#[test]
fn process_that_can_not_be_ended_is_not_held() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    for input in [hold("a"), relaunch("a")] {
        bench.apply(input);
        bench.apply(Input::StopFailed(a.clone(), "it hangs".into()));
        let record = bench.get("a");
        assert_eq!((record.phase, record.history.held, record.history.next_start), (Phase::Up, false, None));
        let saved = &bench.fleet.image().1.clients[0];
        assert!(!saved.history.held && saved.handle.is_some());
    }
}

#[test]
fn nothing_is_started_for_a_login_while_the_controller_ends() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    bench.apply(Input::Shutdown(Shutdown::KeepClients));
    assert!(bench.apply(relaunch("a")).is_empty() && bench.apply(hold("a")).is_empty());
    assert_eq!(bench.get("a").phase, Phase::Up);
}
