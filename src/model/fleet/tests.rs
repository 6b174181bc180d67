//! Tests of the fleet's rules: by example, and over random runs of a simulated machine.

mod exits;
mod keeping;
mod operator;
mod random_runs;
mod relaunch;
mod restarts;
mod restore;

use std::sync::Arc;

use super::*;
use crate::model::client::{ClientSpec, Exit, Handle, RestartHistory};
use crate::model::persisted::{Desired, ProcessStatus};
use crate::model::restart::RestartPolicy;
use crate::model::state::StateReport;

pub(super) const RULES: Rules = Rules {
    ports_each: 1,
    keeps_port: false,
    max_clients: 3,
    first_port: 5000,
    restart: RestartPolicy::OnFailure,
    restart_limit: 3,
    start_interval: Duration::from_secs(1),
    restore: true,
    clients_outlive_controller: true,
};

/// A fleet whose registry file is always written at once.
struct Bench {
    fleet: Fleet,
    now: Moment,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { fleet: Fleet::new(rules, Generation(0)), now: Moment(0) }
    }

    fn apply(&mut self, input: impl Into<Input>) -> Vec<Effect> {
        let mut effects = self.fleet.apply(self.now, input.into());
        while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Save(_))) {
            let Effect::Save(revision) = effects.remove(at) else { unreachable!() };
            effects.extend(self.fleet.apply(self.now, Input::Saved(revision)));
        }
        effects
    }

    /// Lets time pass, with the ticks that are due.
    fn wait(&mut self, time: Duration) -> Vec<String> {
        let until = self.now.after(time);
        let mut effects = Vec::new();
        while let Some(at) = self.fleet.next_tick().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            effects.extend(self.apply(Input::Tick));
        }
        self.now = until;
        words(effects)
    }

    fn get(&self, client: &str) -> &ClientRecord {
        self.fleet.get(&name(client)).unwrap()
    }

    fn is_empty(&self) -> bool {
        self.fleet.records().next().is_none()
    }

    fn saved(&self) -> Vec<(String, Desired)> {
        let saved = self.fleet.image().1.clients;
        saved.iter().map(|client| (client.spec.name.to_string(), client.desired)).collect()
    }
}

fn spec(name: &str) -> Arc<ClientSpec> {
    ClientSpec::example(name, "/tmp")
}

fn name(name: &str) -> ClientName {
    ClientName::new(name).unwrap()
}

fn handle(pid: u32) -> Handle {
    Handle::Direct { pid, start_ticks: u64::from(pid), boot_id: "boot".into() }
}

fn start(request: u64, client: &str) -> Input {
    Input::Start(RequestId(request), spec(client))
}

fn stop(request: u64, client: &str) -> Input {
    Input::Stop(RequestId(request), name(client), StopMode::Wait)
}

/// Effects as short texts.
fn words(effects: Vec<Effect>) -> Vec<String> {
    let outcome = |outcome| match outcome {
        RequestOutcome::Started(told) => format!("started {} {}", told.port, told.pid.unwrap_or(0)),
        RequestOutcome::AlreadyExists(told) => format!("exists {} {}", told.port, told.pid.unwrap_or(0)),
        RequestOutcome::Stopped(told) => format!("stopped {} {}", told.port, told.pid.unwrap_or(0)),
        RequestOutcome::NotExists => "not exists".to_owned(),
        RequestOutcome::NoPort(_) => "no port".to_owned(),
        RequestOutcome::Failed(_, why) => format!("failed: {why}"),
        RequestOutcome::Invalid(_, why) => format!("invalid: {why}"),
        RequestOutcome::NoPid(_, exit) => format!("no pid: {exit}"),
        RequestOutcome::TooMany(_) => "too many".to_owned(),
    };
    let word = |effect| match effect {
        Effect::Probe(launch, port) => format!("probe {}#{} {port}", launch.name, launch.generation),
        Effect::Launch(launch, port, _) => format!("launch {}#{} {port}", launch.name, launch.generation),
        Effect::Watch(launch, _) => format!("watch {}#{}", launch.name, launch.generation),
        Effect::Save(revision) => format!("save {}", revision.0),
        Effect::Terminate(launch, handle) => {
            format!("terminate {}#{} {}", launch.name, launch.generation, handle.pid())
        }
        Effect::Answer(request, what) => format!("{}: {}", request.0, outcome(what)),
    };
    effects.into_iter().map(word).collect()
}

fn launch_of(client: &str, generation: u64) -> Launch {
    Launch { name: name(client), generation: Generation(generation) }
}

/// Starts `client` until it is up; its launch.
fn bring_up(bench: &mut Bench, client: &str, pid: u32) -> Launch {
    bench.apply(start(0, client));
    let launch = Launch { name: name(client), generation: bench.get(client).generation };
    bench.apply(Input::Probed(launch.clone(), PortState::Free));
    bench.apply(Input::Launched(launch.clone(), handle(pid)));
    launch
}

#[test]
fn start_then_stop() {
    let mut bench = Bench::new(RULES);
    let a = launch_of("a", 1);
    assert_eq!(words(bench.apply(start(1, "a"))), ["probe a#1 5000"]);
    assert_eq!(words(bench.apply(Input::Probed(a.clone(), PortState::Free))), ["launch a#1 5000"]);
    assert_eq!(words(bench.apply(Input::Launched(a.clone(), handle(77)))), ["1: started 5000 77"]);
    assert_eq!(words(bench.apply(start(2, "a"))), ["2: exists 5000 77"]);
    assert_eq!(words(bench.apply(stop(3, "a"))), ["terminate a#1 77"]);
    assert_eq!(words(bench.apply(stop(4, "a"))), [""; 0], "the second stop joins the first");
    assert_eq!(
        words(bench.apply(ProcessEvent::Exited(a, Exit::Signal(15)))),
        ["3: stopped 5000 77", "4: stopped 5000 77"]
    );
    assert!(bench.is_empty());
    assert_eq!(words(bench.apply(stop(5, "a"))), ["5: not exists"]);
}

#[test]
fn taken_and_reserved_ports_are_skipped() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    assert_eq!(words(bench.apply(start(2, "b"))), ["probe b#2 5001"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::TakenUpTo(0));
    assert_eq!(words(bench.apply(taken)), ["probe a#1 5002"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::TakenUpTo(0));
    assert_eq!(words(bench.apply(taken)), ["probe a#1 5003"], "5000 was tried, 5001 is b's");
    assert_eq!(words(bench.apply(start(3, "c"))), ["probe c#3 5000"], "another may find 5000 free by now");
    let taken = Input::Probed(launch_of("a", 1), PortState::TakenUpTo(5999));
    assert_eq!(words(bench.apply(taken)), ["probe a#1 6000"], "a thousand at once");
    let taken = Input::Probed(launch_of("a", 1), PortState::TakenUpTo(u16::MAX));
    assert_eq!(words(bench.apply(taken)), ["1: no port"]);
}

#[test]
fn start_fails_without_a_free_port() {
    let mut bench = Bench::new(Rules { max_clients: 9, first_port: u16::MAX, ..RULES });
    bench.apply(start(1, "a"));
    assert_eq!(words(bench.apply(start(2, "b"))), ["2: no port"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::TakenUpTo(0));
    assert_eq!(words(bench.apply(taken)), ["1: no port"]);
    assert!(bench.is_empty());
}

#[test]
fn acknowledged_client_without_a_free_port_is_held() {
    for exit in [Exit::Stopped, Exit::Signal(9)] {
        let mut bench = Bench::new(Rules { max_clients: 9, first_port: u16::MAX, ..RULES });
        let a = bring_up(&mut bench, "a", 7);
        bench.apply(ProcessEvent::Exited(a, exit));
        bring_up(&mut bench, "b", 8);
        let before = bench.get("a").history.clone();
        assert_eq!(words(bench.apply(start(1, "a"))), ["1: no port"]);
        assert_eq!(bench.get("a").history, before);
        assert_eq!(bench.saved().len(), 2);
    }
}

#[test]
fn queued_start_of_a_held_client_needs_a_place() {
    let saved = {
        let mut bench = Bench::new(RULES);
        bring_up(&mut bench, "a", 7);
        bench.fleet.image().1.clients.remove(0)
    };
    // It should have ended with its controller and is not to be started again, so it is held as soon as it has ended.
    let rules = Rules { max_clients: 1, restore: false, clients_outlive_controller: false, ..RULES };
    let mut bench = Bench::new(rules);
    bench.fleet.last_generation = saved.generation;
    bench.apply(Input::Restored(Box::new(saved), ProcessStatus::Running(handle(7))));
    bench.apply(start(1, "a"));
    // The limit is lowered meanwhile, which takes no client's place away.
    bench.apply(Input::Rules(Rules { max_clients: 0, ..rules }));
    let ended = words(bench.apply(ProcessEvent::Exited(launch_of("a", 1), Exit::Signal(15))));
    assert_eq!(ended, ["probe a#2 5000"]);
}

#[test]
fn max_clients_admits_exactly_that_many() {
    let mut bench = Bench::new(RULES);
    for (pid, client) in ["a", "b", "c"].into_iter().enumerate() {
        bring_up(&mut bench, client, pid as u32);
    }
    assert_eq!(words(bench.apply(start(1, "d"))), ["1: too many"]);
    assert_eq!(words(bench.apply(start(2, "a"))), ["2: exists 5000 0"], "a duplicate is no new client");
    bench.apply(Input::Rules(Rules { max_clients: 4, ..RULES }));
    assert_eq!(words(bench.apply(start(3, "d"))), ["probe d#4 5003"]);
}

#[test]
fn stop_wins_over_start_under_way() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    assert_eq!(
        words(bench.apply(stop(2, "a"))),
        ["1: failed: it was stopped before it was up", "2: stopped 5000 0"]
    );
    assert!(bench.is_empty(), "nothing was launched, so nothing has to end");

    bench.apply(start(3, "a"));
    let a = launch_of("a", 2);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    assert_eq!(words(bench.apply(stop(4, "a"))), ["3: failed: it was stopped before it was up"]);
    assert_eq!(words(bench.apply(Input::Launched(a.clone(), handle(7)))), ["terminate a#2 7"]);
    assert_eq!(words(bench.apply(ProcessEvent::Exited(a, Exit::Code(0)))), ["4: stopped 5000 7"]);
}

#[test]
fn start_waits_for_stop_under_way() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(stop(1, "a"));
    assert_eq!(words(bench.apply(start(2, "a"))), [""; 0]);
    assert_eq!(words(bench.apply(start(3, "a"))), [""; 0]);
    assert_eq!(
        words(bench.apply(ProcessEvent::Exited(a, Exit::Code(0)))),
        ["probe a#2 5000", "1: stopped 5000 7"]
    );
    bench.apply(Input::Probed(launch_of("a", 2), PortState::Free));
    assert_eq!(
        words(bench.apply(Input::Launched(launch_of("a", 2), handle(8)))),
        ["2: started 5000 8", "3: exists 5000 8"]
    );

    bench.apply(stop(4, "a"));
    bench.apply(start(5, "a"));
    assert_eq!(words(bench.apply(stop(6, "a"))), ["5: failed: it was stopped before it was up"]);
}

#[test]
fn process_that_exits_before_launch_is_reported() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    let a = launch_of("a", 1);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    assert_eq!(
        words(bench.apply(ProcessEvent::Exited(a.clone(), Exit::Code(7)))),
        ["1: no pid: exited with status 7"]
    );
    assert_eq!(words(bench.apply(Input::Launched(a, handle(7)))), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn events_of_an_earlier_launch_are_dropped() {
    let mut bench = Bench::new(RULES);
    let old = bring_up(&mut bench, "a", 7);
    bench.apply(ProcessEvent::Exited(old.clone(), Exit::Code(0)));
    bring_up(&mut bench, "a", 8);
    let report = Arc::new(StateReport::parse(br#"{"state":"stop"}"#).unwrap());
    for stale in [
        ProcessEvent::Exited(old.clone(), Exit::Code(1)).into(),
        Input::Report(old.clone(), report),
        Input::LaunchFailed(old.clone(), String::new()),
        Input::LaunchPostponed(old.clone(), String::new()),
        Input::StopFailed(old.clone(), String::new()),
        Input::Launched(old.clone(), handle(7)),
        Input::Probed(old, PortState::TakenUpTo(0)),
    ] {
        assert_eq!(words(bench.apply(stale)), [""; 0]);
    }
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.state().as_str()), (Phase::Up, Some(8), "init"));
}

#[test]
fn client_stays_up_when_its_stop_fails() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(stop(1, "a"));
    bench.apply(start(2, "a"));
    assert_eq!(
        words(bench.apply(Input::StopFailed(a, "it hangs".into()))),
        ["1: failed: it hangs", "2: failed: it hangs"]
    );
    assert_eq!(words(bench.apply(stop(3, "a"))), ["terminate a#1 7"], "it can be tried again");
}

#[test]
fn shutdown_stops_all_clients_and_refuses_starts() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(start(1, "b"));
    let why = "the controller is shutting down";
    let effects = bench.apply(Input::Shutdown(Shutdown::EndClients));
    assert_eq!(words(effects), ["terminate a#1 7", &format!("1: failed: {why}")]);
    assert_eq!(words(bench.apply(start(2, "c"))), [format!("2: failed: {why}")]);
    assert_eq!(words(bench.apply(start(3, "a"))), [format!("3: failed: {why}")]);
    assert!(!bench.fleet.is_settled());
    bench.apply(ProcessEvent::Exited(a, Exit::Code(0)));
    assert!(bench.fleet.is_settled());
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)], "the next controller starts it again");
}

#[test]
fn shutdown_keeps_clients_that_outlive_the_controller() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    bench.apply(start(1, "b"));
    let b = launch_of("b", 2);
    bench.apply(Input::Probed(b.clone(), PortState::Free));
    assert_eq!(words(bench.apply(Input::Shutdown(Shutdown::KeepClients))), [""; 0]);
    assert!(!bench.fleet.is_settled(), "one is on its way");
    assert_eq!(words(bench.apply(Input::Launched(b, handle(8)))), ["1: started 5001 8"]);
    assert!(bench.fleet.is_settled());
    assert_eq!(bench.saved().len(), 2);
}

#[test]
fn second_account_with_the_same_id_is_refused() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 1);
    let mut other = (*spec("b")).clone();
    other.id = spec("a").id.clone();
    let said = words(bench.apply(Input::Start(RequestId(1), Arc::new(other))));
    assert_eq!(said, ["1: failed: its ID a is that of a; give one of them another name"]);
}
