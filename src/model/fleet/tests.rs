//! Tests of the fleet's rules: by example, and over random histories in a scripted world.

mod lasting;
mod operator;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::client::{ClientFiles, ClientSpec, Exit, Handle, History};
use crate::model::restart::RestartPolicy;
use crate::model::saved::{Desired, Found};
use crate::model::state::StateReport;

pub(super) const RULES: Rules = Rules {
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

    fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.fleet.apply(self.now, input);
        while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Save(_))) {
            let Effect::Save(version) = effects.remove(at) else { unreachable!() };
            effects.extend(self.fleet.apply(self.now, Input::Saved(version)));
        }
        effects
    }

    /// Lets time pass, and whatever is due.
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
    let name = ClientName::new(name).unwrap();
    let files = ClientFiles::in_folder(PathBuf::from("/tmp"), &name);
    Arc::new(ClientSpec { name, params: BTreeMap::new(), files })
}

fn name(name: &str) -> ClientName {
    ClientName::new(name).unwrap()
}

fn handle(pid: u32) -> Handle {
    Handle::Direct { pid, start_ticks: u64::from(pid), boot_id: "boot".into() }
}

fn start(ticket: u64, client: &str) -> Input {
    Input::Start(Ticket(ticket), spec(client))
}

fn stop(ticket: u64, client: &str) -> Input {
    Input::Stop(Ticket(ticket), name(client), AtOnce::No)
}

/// Shows effects in a few words, so that a test reads like a story.
fn words(effects: Vec<Effect>) -> Vec<String> {
    let outcome = |outcome| match outcome {
        Outcome::Started(told) => format!("started {} {}", told.port, told.pid.unwrap_or(0)),
        Outcome::AlreadyExists(told) => format!("exists {} {}", told.port, told.pid.unwrap_or(0)),
        Outcome::Stopped(told) => format!("stopped {} {}", told.port, told.pid.unwrap_or(0)),
        Outcome::NotExists => "not exists".to_owned(),
        Outcome::NoPort(_) => "no port".to_owned(),
        Outcome::Failed(_, why) => format!("failed: {why}"),
        Outcome::NoPid(_, exit) => format!("no pid: {exit}"),
        Outcome::TooMany(_) => "too many".to_owned(),
    };
    let word = |effect| match effect {
        Effect::Probe(launch, port) => format!("probe {}#{} {port}", launch.name, launch.generation),
        Effect::Launch(launch, port, _) => format!("launch {}#{} {port}", launch.name, launch.generation),
        Effect::Watch(launch, _) => format!("watch {}#{}", launch.name, launch.generation),
        Effect::Save(version) => format!("save {}", version.0),
        Effect::Terminate(launch, handle) => {
            format!("terminate {}#{} {}", launch.name, launch.generation, handle.pid())
        }
        Effect::Answer(ticket, what) => format!("{}: {}", ticket.0, outcome(what)),
    };
    effects.into_iter().map(word).collect()
}

fn launch_of(client: &str, generation: u64) -> Launch {
    Launch { name: name(client), generation: Generation(generation) }
}

/// Starts `client` all the way; its generation.
fn bring_up(bench: &mut Bench, client: &str, pid: u32) -> Launch {
    bench.apply(start(0, client));
    let launch = Launch { name: name(client), generation: bench.get(client).generation };
    bench.apply(Input::Probed(launch.clone(), PortState::Free));
    bench.apply(Input::Launched(launch.clone(), handle(pid)));
    launch
}

#[test]
fn a_start_and_a_stop() {
    let mut bench = Bench::new(RULES);
    let a = launch_of("a", 1);
    assert_eq!(words(bench.apply(start(1, "a"))), ["probe a#1 5000"]);
    assert_eq!(words(bench.apply(Input::Probed(a.clone(), PortState::Free))), ["launch a#1 5000"]);
    assert_eq!(words(bench.apply(Input::Launched(a.clone(), handle(77)))), ["1: started 5000 77"]);
    assert_eq!(words(bench.apply(start(2, "a"))), ["2: exists 5000 77"]);
    assert_eq!(words(bench.apply(stop(3, "a"))), ["terminate a#1 77"]);
    assert_eq!(words(bench.apply(stop(4, "a"))), [""; 0], "the second stop joins the first");
    assert_eq!(
        words(bench.apply(Input::Exited(a, Exit::Signal(15)))),
        ["3: stopped 5000 77", "4: stopped 5000 77"]
    );
    assert!(bench.is_empty());
    assert_eq!(words(bench.apply(stop(5, "a"))), ["5: not exists"]);
}

#[test]
fn a_taken_port_is_skipped_and_a_reserved_one_never_given() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    assert_eq!(words(bench.apply(start(2, "b"))), ["probe b#2 5001"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::Taken);
    assert_eq!(words(bench.apply(taken)), ["probe a#1 5002"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::Taken);
    assert_eq!(words(bench.apply(taken)), ["probe a#1 5003"], "5000 was tried, 5001 is b's");
    assert_eq!(words(bench.apply(start(3, "c"))), ["probe c#3 5000"], "another may find 5000 free by now");
}

#[test]
fn no_port_is_left() {
    let mut bench = Bench::new(Rules { max_clients: 9, first_port: u16::MAX, ..RULES });
    bench.apply(start(1, "a"));
    assert_eq!(words(bench.apply(start(2, "b"))), ["2: no port"]);
    let taken = Input::Probed(launch_of("a", 1), PortState::Taken);
    assert_eq!(words(bench.apply(taken)), ["1: no port"]);
    assert!(bench.is_empty());
}

#[test]
fn the_limit_admits_exactly_as_many() {
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
fn a_stop_wins_over_a_start_under_way() {
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
    assert_eq!(words(bench.apply(Input::Exited(a, Exit::Code(0)))), ["4: stopped 5000 7"]);
}

#[test]
fn a_start_waits_for_a_stop_under_way() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(stop(1, "a"));
    assert_eq!(words(bench.apply(start(2, "a"))), [""; 0]);
    assert_eq!(words(bench.apply(start(3, "a"))), [""; 0]);
    assert_eq!(words(bench.apply(Input::Exited(a, Exit::Code(0)))), ["probe a#2 5000", "1: stopped 5000 7"]);
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
fn a_process_that_is_gone_before_it_was_seen() {
    let mut bench = Bench::new(RULES);
    bench.apply(start(1, "a"));
    let a = launch_of("a", 1);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    assert_eq!(
        words(bench.apply(Input::Exited(a.clone(), Exit::Code(7)))),
        ["1: no pid: exited with status 7"]
    );
    assert_eq!(words(bench.apply(Input::Launched(a, handle(7)))), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn events_of_an_earlier_process_are_dropped() {
    let mut bench = Bench::new(RULES);
    let old = bring_up(&mut bench, "a", 7);
    bench.apply(Input::Exited(old.clone(), Exit::Code(0)));
    bring_up(&mut bench, "a", 8);
    let report = Arc::new(StateReport::parse(br#"{"state":"stop"}"#).unwrap());
    for stale in [
        Input::Exited(old.clone(), Exit::Code(1)),
        Input::Report(old.clone(), report),
        Input::LaunchFailed(old.clone(), String::new()),
        Input::StopFailed(old.clone(), String::new()),
        Input::Launched(old.clone(), handle(7)),
        Input::Probed(old, PortState::Taken),
    ] {
        assert_eq!(words(bench.apply(stale)), [""; 0]);
    }
    let record = bench.get("a");
    assert_eq!((record.phase, record.pid(), record.state().as_str()), (Phase::Up, Some(8), "init"));
}

#[test]
fn a_process_that_cannot_be_ended_is_still_there() {
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
fn a_shutdown_ends_all_and_lets_nobody_in() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    bench.apply(start(1, "b"));
    let why = "the controller is shutting down";
    let effects = bench.apply(Input::Shutdown(Shutdown::EndClients));
    assert_eq!(words(effects), ["terminate a#1 7", &format!("1: failed: {why}")]);
    assert_eq!(words(bench.apply(start(2, "c"))), [format!("2: failed: {why}")]);
    assert_eq!(words(bench.apply(start(3, "a"))), [format!("3: failed: {why}")]);
    assert!(!bench.fleet.is_settled());
    bench.apply(Input::Exited(a, Exit::Code(0)));
    assert!(bench.fleet.is_settled());
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)], "the next controller starts it again");
}

#[test]
fn a_shutdown_that_clients_outlive_ends_none() {
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
