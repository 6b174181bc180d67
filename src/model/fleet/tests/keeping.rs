//! Accounts that stay in the list without running.

use super::*;
use crate::model::client::{Exit, ParamValue};

fn keep(request: u64, client: &str) -> Input {
    Input::StopAndKeep(RequestId(request), name(client))
}

fn is_kept(bench: &Bench, client: &str) -> bool {
    let record = bench.get(client);
    record.is_kept_stopped() && record.history.held && record.handle.is_none()
}

#[test]
fn stopped_account_stays_in_the_list_until_it_is_started() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    assert_eq!(words(bench.apply(keep(1, "a"))), ["terminate a#1 7"]);
    assert_eq!(words(bench.apply(ProcessEvent::Exited(a, Exit::Code(0)))), ["1: stopped 5000 7"]);
    assert!(is_kept(&bench, "a"));
    assert_eq!(bench.get("a").history.exits, 0);
    assert!(bench.wait(Duration::from_secs(3600)).is_empty());
    assert_eq!(words(bench.apply(keep(2, "a"))), ["2: stopped 5000 0"], "again");
    // It takes no place, and a start needs none of its parameters.
    for client in ["b", "c"] {
        bring_up(&mut bench, client, 8);
    }
    assert_eq!(words(bench.apply(start(3, "a"))), ["probe a#4 5002"]);
    assert!(!bench.get("a").history.stopped && !bench.get("a").history.held);
}

#[test]
fn stop_waits_for_the_disk() {
    let mut fleet = Fleet::new(RULES, Generation(0));
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    std::mem::swap(&mut fleet, &mut bench.fleet);
    let effects = fleet.apply(Moment(0), keep(1, "a"));
    let [Effect::Save(revision)] = effects[..] else { panic!("{effects:?}") };
    let failed = fleet.apply(Moment(0), Input::SaveFailed(revision, "full".into()));
    assert_eq!(words(failed), ["1: failed: full"]);
    let record = fleet.get(&name("a")).unwrap();
    assert_eq!((record.phase, record.history.held, record.history.stopped), (Phase::Up, false, false));
}

#[test]
fn start_that_is_under_way_is_overtaken() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    assert_eq!(
        words(bench.apply(keep(2, "a"))),
        ["1: failed: it was stopped before it was up", "2: stopped 5000 0"]
    );
    assert!(is_kept(&bench, "a"));
    assert!(bench.apply(Input::Probed(launch_of("a", 1), PortState::Free)).is_empty());
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)]);
}

#[test]
fn account_stays_stopped_in_the_next_controller() {
    for (found, terminated) in [
        (ProcessStatus::Gone { rebooted: true }, false),
        (ProcessStatus::Gone { rebooted: false }, false),
        (ProcessStatus::Ended(Exit::Signal(15)), false),
        // The controller was killed before the process was.
        (ProcessStatus::Running(handle(7)), true),
    ] {
        let mut bench = Bench::new(RULES);
        bring_up(&mut bench, "a", 7);
        bench.apply(keep(1, "a"));
        let saved = bench.fleet.image().1.clients.remove(0);
        let mut next = Bench::new(RULES);
        let effects = words(next.apply(Input::Restored(Box::new(saved), found.clone())));
        assert_eq!(effects.contains(&"terminate a#1 7".to_owned()), terminated, "{found:?}: {effects:?}");
        if terminated {
            next.apply(ProcessEvent::Exited(launch_of("a", 1), Exit::Signal(15)));
        }
        assert!(is_kept(&next, "a"), "{found:?}");
        assert!(next.wait(Duration::from_secs(3600)).is_empty());
    }
}

#[test]
fn operator_who_started_it_meanwhile_has_the_last_word() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    bench.apply(keep(1, "a"));
    let saved = bench.fleet.image().1.clients.remove(0);
    let mut next = Bench::new(RULES);
    next.apply(Input::Restored(Box::new(saved), ProcessStatus::Running(handle(8))));
    let record = next.get("a");
    assert_eq!((record.phase, record.history.held, record.history.stopped), (Phase::Up, false, false));
}

#[test]
fn account_is_registered_without_a_start() {
    let mut bench = Bench::new(Rules { max_clients: 1, ..RULES });
    let register = |request: u64, client: &str| Input::Register(RequestId(request), spec(client));
    assert_eq!(words(bench.apply(register(1, "a"))), ["1: stopped 5000 0"]);
    assert!(is_kept(&bench, "a"));
    let registration = bench.get("a").spec.params.clone();
    assert_eq!(words(bench.apply(register(2, "a"))), ["2: stopped 5000 0"]);
    assert_eq!(bench.get("a").spec.params, registration, "it is the same account");
    assert_eq!(words(bench.apply(register(3, "b"))), ["3: stopped 5000 0"], "it takes no place");
    bring_up(&mut bench, "b", 7);
    assert_eq!(words(bench.apply(register(4, "b"))), ["4: exists 5000 7"], "it runs");
    assert_eq!(words(bench.apply(start(5, "a"))), ["5: too many"]);
}

fn start_with(request: u64, client: &str, text: &str) -> Input {
    let mut spec = (*spec(client)).clone();
    spec.params.insert("x".into(), ParamValue { text: text.into(), secret: false, path: None });
    Input::StartWith(RequestId(request), Arc::new(spec))
}

#[test]
fn client_is_started_anew_for_other_parameters() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    let registration = bench.get("a").spec.params["registration"].clone();
    assert_eq!(words(bench.apply(start_with(1, "a", "1"))), ["terminate a#1 7"]);
    assert_eq!(words(bench.apply(ProcessEvent::Exited(a, Exit::Signal(15)))), ["probe a#2 5000"]);
    let refused = words(bench.apply(start_with(2, "a", "2")));
    assert_eq!(refused, ["2: failed: another call starts it with other parameters just now"]);
    assert!(bench.apply(start_with(3, "a", "1")).is_empty(), "the same");
    bench.apply(Input::Probed(launch_of("a", 2), PortState::Free));
    let launched = words(bench.apply(Input::Launched(launch_of("a", 2), handle(8))));
    assert_eq!(launched, ["1: started 5000 8", "3: exists 5000 8"]);
    assert_eq!(words(bench.apply(start_with(4, "a", "1"))), ["4: exists 5000 8"]);
    assert_eq!(bench.get("a").spec.params["registration"], registration);
    // Without parameters is other than with some, where exactly these are asked for.
    assert_eq!(words(bench.apply(Input::StartWith(RequestId(5), spec("a")))), ["terminate a#2 8"]);
}
