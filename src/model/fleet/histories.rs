//! The fleet's rules over random histories, in a scripted world: callers, processes, a disk, and controllers that are
//! killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;

use super::tests::RULES;
use super::*;
use crate::model::client::{ClientFiles, ClientSpec, Exit, Handle};
use crate::model::saved::Found;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Stop(usize, bool),
    /// Something that was asked for is done; how it goes.
    Work(usize, bool),
    /// A process ends; whether content.
    Exit(usize, bool),
    Wait(u64),
    Announce(usize),
    /// The controller is killed and another one started; whether the machine went down with it.
    Crash(bool),
    Shutdown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5usize).prop_map(Step::Start),
        5 => (0..5usize, any::<bool>()).prop_map(|(who, wait)| Step::Stop(who, wait)),
        24 => (0..9usize, prop::bool::weighted(0.85)).prop_map(|(at, lucky)| Step::Work(at, lucky)),
        4 => (0..5usize, any::<bool>()).prop_map(|(at, good)| Step::Exit(at, good)),
        4 => (0..9_000u64).prop_map(Step::Wait),
        1 => (0..5usize).prop_map(Step::Announce),
        2 => any::<bool>().prop_map(Step::Crash),
        1 => Just(Step::Shutdown),
    ];
    prop::collection::vec(step, 0..150)
}

/// A process, by what the controller told it.
#[derive(Clone, Debug)]
struct Process {
    launch: Launch,
    port: u16,
    dying: bool,
}

/// What the last answer to a caller promised about an account.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Promise {
    Runs,
    IsGone,
}

struct World {
    rules: Rules,
    fleet: Fleet,
    now: Moment,
    /// What the fleet asked for and is not done yet.
    to_do: Vec<Effect>,
    /// What a controller would find in its registry file.
    disk: Saved,
    processes: BTreeMap<u32, Process>,
    last_pid: u32,
    /// Who asked about which account, and has no answer yet.
    waiting: BTreeMap<u64, ClientName>,
    last_call: BTreeMap<ClientName, u64>,
    last_ticket: u64,
    promises: BTreeMap<ClientName, Promise>,
    closing: bool,
    limit: usize,
}

type Checked = Result<(), TestCaseError>;

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            fleet: Fleet::new(rules, Generation(0)),
            now: Moment(0),
            to_do: Vec::new(),
            disk: Saved::default(),
            processes: BTreeMap::new(),
            last_pid: 0,
            waiting: BTreeMap::new(),
            last_call: BTreeMap::new(),
            last_ticket: 0,
            promises: BTreeMap::new(),
            closing: false,
            limit: rules.max_clients,
        }
    }

    fn tell(&mut self, input: Input) -> Checked {
        for effect in self.fleet.apply(self.now, input) {
            match effect {
                Effect::Answer(ticket, outcome) => self.answered(ticket, &outcome)?,
                other => self.to_do.push(other),
            }
        }
        self.check()
    }

    fn answered(&mut self, ticket: Ticket, outcome: &Outcome) -> Checked {
        let name = self.waiting.remove(&ticket.0);
        prop_assert!(name.is_some(), "an answer that nobody waits for");
        let name = name.unwrap_or_else(|| unreachable!());
        if self.last_call.get(&name) != Some(&ticket.0) {
            // Somebody asked something else since.
            self.promises.remove(&name);
            return Ok(());
        }
        match outcome {
            // It may have ended, content, before the answer came.
            Outcome::Started(told) | Outcome::AlreadyExists(told)
                if told.pid.is_some_and(|pid| self.processes.contains_key(&pid)) =>
            {
                self.promises.insert(name, Promise::Runs)
            }
            Outcome::Stopped(_) => self.promises.insert(name, Promise::IsGone),
            // Whoever left by itself may still be in a file that could not be written.
            Outcome::NotExists if self.disk.clients.iter().all(|client| client.spec.name != name) => {
                self.promises.insert(name, Promise::IsGone)
            }
            // Nothing is promised about what failed.
            _ => self.promises.remove(&name),
        };
        Ok(())
    }

    fn call(&mut self, who: usize, input: impl FnOnce(Ticket, ClientName) -> Input) -> Checked {
        let name = ClientName::new(NAMES[who]).unwrap();
        self.last_ticket += 1;
        self.waiting.insert(self.last_ticket, name.clone());
        self.last_call.insert(name.clone(), self.last_ticket);
        // Until it is answered, anything may be true.
        self.promises.remove(&name);
        self.tell(input(Ticket(self.last_ticket), name))
    }

    fn check(&self) -> Checked {
        let ports: BTreeSet<u16> = self.fleet.ports.keys().copied().collect();
        for process in self.processes.values() {
            prop_assert!(ports.contains(&process.port), "a port that could be given twice");
            let known = self.fleet.entries.get(&process.launch.name);
            let known = known.is_some_and(|entry| entry.record.generation == process.launch.generation);
            prop_assert!(known, "a process that nobody knows: {process:?}");
        }
        let names: BTreeSet<&ClientName> =
            self.processes.values().map(|process| &process.launch.name).collect();
        prop_assert_eq!(names.len(), self.processes.len(), "a client twice");
        let used: BTreeSet<u16> = self.processes.values().map(|process| process.port).collect();
        prop_assert_eq!(used.len(), self.processes.len(), "two processes on a port");
        prop_assert!(self.fleet.records().count() <= self.limit, "too many");
        for record in self.fleet.records() {
            prop_assert!(record.phase != Phase::Up || record.handle.is_some());
            let owner = self.fleet.ports.get(&record.port);
            prop_assert!(
                !record.has_process() || owner == Some(&record.spec.name),
                "another one's port: {record:?}"
            );
        }
        for (name, promise) in &self.promises {
            if self.waiting.values().any(|waiting| waiting == name) {
                continue;
            }
            let there = self.fleet.get(name).is_some();
            match promise {
                Promise::Runs => prop_assert!(there, "{name} was lost"),
                Promise::IsGone => prop_assert!(!there || self.is_stopping(name), "{name} is back"),
            }
        }
        Ok(())
    }

    /// A stop may be promised at once, and done after.
    fn is_stopping(&self, name: &ClientName) -> bool {
        self.fleet.get(name).is_some_and(|record| record.phase == Phase::Stopping)
    }

    /// Does the `at`-th thing that was asked for; `lucky` says how it goes.
    fn work(&mut self, at: usize, lucky: bool) -> Checked {
        if self.to_do.is_empty() {
            return Ok(());
        }
        match self.to_do.remove(at % self.to_do.len()) {
            Effect::Probe(launch, _) => {
                let found = if lucky { PortState::Free } else { PortState::Taken };
                self.tell(Input::Probed(launch, found))
            }
            Effect::Save(_) if lucky => {
                let (version, image) = self.fleet.image();
                self.disk = image;
                self.tell(Input::Saved(version))
            }
            Effect::Save(_) => self.tell(Input::SaveFailed(self.fleet.image().0, "bad luck".into())),
            Effect::Launch(launch, port, _) if lucky => {
                let on_disk = self.disk.clients.iter().any(|client| {
                    (&client.spec.name, client.generation, client.port)
                        == (&launch.name, launch.generation, port)
                });
                prop_assert!(on_disk, "launched before it was on disk");
                self.last_pid += 1;
                self.processes.insert(self.last_pid, Process { launch: launch.clone(), port, dying: false });
                self.tell(Input::Launched(launch, handle(self.last_pid)))
            }
            Effect::Launch(launch, ..) => self.tell(Input::LaunchFailed(launch, "bad luck".into())),
            Effect::Terminate(_, handle) if lucky => {
                if let Some(process) = self.processes.get_mut(&handle.pid()) {
                    process.dying = true;
                }
                Ok(())
            }
            Effect::Terminate(launch, handle) => {
                // It was promised that it would be gone, but it can't be ended.
                self.promises.remove(&launch.name);
                if self.closing {
                    // A controller that ends gives up what it could not end.
                    self.processes.remove(&handle.pid());
                }
                self.tell(Input::StopFailed(launch, "bad luck".into()))
            }
            Effect::Watch(..) | Effect::Answer(..) => Ok(()),
        }
    }

    fn exit(&mut self, at: usize, exit: Exit) -> Checked {
        let Some((&pid, _)) = self.processes.iter().nth(at % self.processes.len().max(1)) else {
            return Ok(());
        };
        self.end(pid, exit)
    }

    fn end(&mut self, pid: u32, exit: Exit) -> Checked {
        let Some(process) = self.processes.remove(&pid) else { return Ok(()) };
        if exit.is_success() && self.promises.get(&process.launch.name) == Some(&Promise::Runs) {
            // It leaves by itself, at some time.
            self.promises.remove(&process.launch.name);
        }
        self.tell(Input::Exited(process.launch, exit))
    }

    /// Lets everything that is to die do so.
    fn bury(&mut self) -> Checked {
        let dying = self.processes.iter().filter(|(_, process)| process.dying);
        for pid in dying.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            self.end(pid, Exit::Signal(15))?;
        }
        Ok(())
    }

    /// Kills the controller and starts another one with what is on disk.
    fn crash(&mut self, reboot: bool) -> Checked {
        self.to_do.clear();
        // Whoever waited knows nothing about what became of it.
        for name in std::mem::take(&mut self.waiting).into_values() {
            self.promises.remove(&name);
        }
        if reboot {
            self.processes.clear();
        }
        self.closing = false;
        self.fleet = Fleet::new(self.rules, self.disk.last_generation);
        for client in self.disk.clients.clone() {
            let is_it = |process: &Process| {
                (&process.launch.name, process.launch.generation) == (&client.spec.name, client.generation)
            };
            let found = match self.processes.iter().find(|(_, process)| is_it(process)) {
                Some((&pid, _)) => Found::Running(handle(pid)),
                None => Found::Gone { rebooted: reboot },
            };
            for effect in self.fleet.apply(self.now, Input::Restored(Box::new(client), found)) {
                self.to_do.push(effect);
            }
        }
        // Who had just ended by itself may be there again, whoever took its place.
        self.limit = self.limit.max(self.fleet.records().count());
        self.check()
    }

    /// From here on all goes well: everybody gets an answer, and what was to die dies.
    fn settle(&mut self) -> Checked {
        for _ in 0..10_000 {
            while !self.to_do.is_empty() {
                self.work(0, true)?;
            }
            self.bury()?;
            match self.fleet.next_tick() {
                Some(at) if !self.closing => {
                    self.now = self.now.max(at);
                    self.tell(Input::Tick)?;
                }
                _ if self.to_do.is_empty() => return Ok(()),
                _ => {}
            }
        }
        prop_assert!(false, "it never comes to rest");
        Ok(())
    }
}

fn handle(pid: u32) -> Handle {
    Handle::Direct { pid, start_ticks: u64::from(pid), boot_id: "boot".into() }
}

fn spec(name: ClientName) -> std::sync::Arc<ClientSpec> {
    let files = ClientFiles::in_folder(PathBuf::from("/tmp"), &name);
    std::sync::Arc::new(ClientSpec { name, params: BTreeMap::new(), files })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        steps in steps(),
        closes in prop::bool::weighted(0.1),
        outlive in any::<bool>(),
    ) {
        run(steps, closes, outlive)?;
    }
}

fn run(steps: Vec<Step>, closes: bool, outlive: bool) -> Checked {
    let mut world = World::new(Rules { clients_outlive_controller: outlive, ..RULES });
    for step in steps {
        match step {
            Step::Start(who) => world.call(who, |ticket, name| Input::Start(ticket, spec(name)))?,
            Step::Stop(who, wait) => {
                let at_once = if wait { AtOnce::No } else { AtOnce::Yes };
                world.call(who, |ticket, name| Input::Stop(ticket, name, at_once))?;
            }
            Step::Work(at, lucky) => world.work(at, lucky)?,
            Step::Exit(at, good) => {
                world.exit(at, if good { Exit::Code(0) } else { Exit::Signal(9) })?;
                world.bury()?;
            }
            Step::Wait(time) => {
                world.now = world.now.after(Duration::from_millis(time));
                world.tell(Input::Tick)?;
            }
            Step::Announce(who) => {
                let name = ClientName::new(NAMES[who]).unwrap();
                let generation = world.fleet.get(&name).map(|record| record.generation);
                let settled = world.waiting.values().all(|waiting| *waiting != name);
                if let Some(generation) = generation.filter(|_| settled) {
                    world.promises.remove(&name);
                    world.tell(Input::StopAnnounced(Launch { name, generation }))?;
                }
            }
            Step::Crash(reboot) => world.crash(reboot)?,
            Step::Shutdown if closes && !world.closing => {
                world.closing = true;
                let shutdown = if outlive { Shutdown::KeepClients } else { Shutdown::EndClients };
                world.tell(Input::Shutdown(shutdown))?;
            }
            Step::Shutdown => {}
        }
    }
    world.settle()?;
    prop_assert!(world.waiting.is_empty(), "somebody still waits");
    if world.closing {
        prop_assert!(world.fleet.is_settled(), "a shutdown never ends: {:?}", world.fleet);
        // The next controller has everything that was promised.
        world.crash(false)?;
        world.settle()?;
    }
    for record in world.fleet.records() {
        let understood = match record.phase {
            Phase::Up => world.processes.contains_key(&record.pid().unwrap_or(0)),
            Phase::Gone(_) => record.history.held,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        prop_assert!(understood, "stuck: {record:?}");
    }
    let (_, mut image) = world.fleet.image();
    // Not written: when the next controller starts clients is its own plan.
    image
        .clients
        .iter_mut()
        .chain(&mut world.disk.clients)
        .for_each(|client| client.history.next_start = None);
    prop_assert_eq!(&world.disk.clients, &image.clients, "the disk has something else");
    prop_assert_eq!(image.clients.len(), world.fleet.records().count());
    Ok(())
}
