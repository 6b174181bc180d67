//! [`FleetWorld`]: a simulated machine around a fleet, which checks after every step what has to hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::NAMES;
use crate::model::client::{Exit, Handle};
use crate::model::persisted::ProcessStatus;

/// A process, by what the controller told it.
#[derive(Clone, Debug)]
pub(super) struct Process {
    launch: Launch,
    /// None where another one had it, so that this one does not listen.
    port: Option<u16>,
    dying: bool,
}

/// What the last answer to a caller promised about an account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Promise {
    Runs,
    IsGone,
    /// It is in the list, and does not run.
    IsKept,
}

pub(super) struct FleetWorld {
    rules: Rules,
    pub(super) fleet: Fleet,
    pub(super) now: Moment,
    /// What the fleet asked for and is not done yet.
    to_do: Vec<Effect>,
    /// What a controller would find in its registry file.
    pub(super) disk: PersistedState,
    pub(super) processes: BTreeMap<u32, Process>,
    last_pid: u32,
    /// The last launch of each client and its port, which its unit's environment has.
    launched: BTreeMap<ClientName, (Launch, u16)>,
    /// Who asked about which account, and has no answer yet.
    pub(super) waiting: BTreeMap<u64, ClientName>,
    last_call: BTreeMap<ClientName, u64>,
    /// The calls after which an account should be in the list without running.
    keeping: BTreeSet<u64>,
    last_request: u64,
    pub(super) promises: BTreeMap<ClientName, Promise>,
    pub(super) closing: bool,
    limit: usize,
}

pub(super) type Checked = Result<(), TestCaseError>;

impl FleetWorld {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            fleet: Fleet::new(rules, Generation(0)),
            now: Moment(0),
            to_do: Vec::new(),
            disk: PersistedState::default(),
            processes: BTreeMap::new(),
            last_pid: 0,
            launched: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_call: BTreeMap::new(),
            keeping: BTreeSet::new(),
            last_request: 0,
            promises: BTreeMap::new(),
            closing: false,
            limit: rules.max_clients,
        }
    }

    pub(super) fn tell(&mut self, input: impl Into<Input>) -> Checked {
        for effect in self.fleet.apply(self.now, input.into()) {
            match effect {
                Effect::Answer(request, outcome) => self.answered(request, &outcome)?,
                other => self.to_do.push(other),
            }
        }
        self.check()
    }

    fn answered(&mut self, request: RequestId, outcome: &RequestOutcome) -> Checked {
        let name = self.waiting.remove(&request.0);
        prop_assert!(name.is_some(), "an answer to an unknown request");
        let name = name.unwrap_or_else(|| unreachable!());
        if self.last_call.get(&name) != Some(&request.0) {
            // Another call came since.
            self.promises.remove(&name);
            return Ok(());
        }
        match outcome {
            // Its own API may have been asked to stop it before the answer came.
            RequestOutcome::Started(told) | RequestOutcome::AlreadyExists(told)
                if told.pid.is_some_and(|pid| self.processes.contains_key(&pid))
                    && !self.keeping.contains(&request.0) =>
            {
                self.promises.insert(name, Promise::Runs)
            }
            RequestOutcome::Stopped(_) if self.keeping.contains(&request.0) => {
                self.promises.insert(name, Promise::IsKept)
            }
            RequestOutcome::Stopped(_) => self.promises.insert(name, Promise::IsGone),
            // A client that ended by itself may still be in a file that could not be written.
            RequestOutcome::NotExists if self.disk.clients.iter().all(|client| client.spec.name != name) => {
                self.promises.insert(name, Promise::IsGone)
            }
            // Nothing is promised about what failed.
            _ => self.promises.remove(&name),
        };
        Ok(())
    }

    /// The next call asks for an account that is in the list without running.
    pub(super) fn keeps_next(&mut self) {
        self.keeping.insert(self.last_request + 1);
    }

    /// The answers to calls about an account that are under way promise nothing any more.
    pub(super) fn forget_calls(&mut self, name: &ClientName) {
        self.promises.remove(name);
        self.last_call.remove(name);
    }

    pub(super) fn call(&mut self, who: usize, input: impl FnOnce(RequestId, ClientName) -> Input) -> Checked {
        let name = ClientName::new(NAMES[who]).unwrap();
        self.last_request += 1;
        self.waiting.insert(self.last_request, name.clone());
        self.last_call.insert(name.clone(), self.last_request);
        // Until it is answered, anything may be true.
        self.promises.remove(&name);
        self.tell(input(RequestId(self.last_request), name))
    }

    fn check(&self) -> Checked {
        for process in self.processes.values() {
            let is_kept = process.port.is_none_or(|port| self.fleet.ports.owner(port).is_some());
            prop_assert!(is_kept, "a port that could be given twice");
            let known = self.fleet.entries.get(&process.launch.name);
            let known = known.is_some_and(|entry| entry.record.generation == process.launch.generation);
            prop_assert!(known, "an unknown process: {process:?}");
        }
        let names: BTreeSet<&ClientName> =
            self.processes.values().map(|process| &process.launch.name).collect();
        prop_assert_eq!(names.len(), self.processes.len(), "a client twice");
        let used: Vec<u16> = self.processes.values().filter_map(|process| process.port).collect();
        prop_assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len(), "two processes on a port");
        let places = self.places();
        prop_assert!(places <= self.limit, "too many");
        for record in self.fleet.records() {
            prop_assert!(record.phase != Phase::Up || record.handle.is_some());
            let planned = record.history.next_start.is_some();
            prop_assert!(!(record.history.held && planned), "held, and to be started: {record:?}");
            let owner = self.fleet.ports.owner(record.port);
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
                Promise::IsKept => {
                    let is_kept = self.fleet.get(name).is_some_and(|record| record.history.stopped);
                    prop_assert!(is_kept && !self.is_there(name), "{name} is not kept stopped");
                }
                Promise::IsGone => prop_assert!(!there || self.is_stopping(name), "{name} is back"),
            }
        }
        Ok(())
    }

    fn places(&self) -> usize {
        self.fleet.entries.values().filter(|entry| entry.takes_place()).count()
    }

    /// Whether it has a process.
    fn is_there(&self, name: &ClientName) -> bool {
        self.processes.values().any(|process| process.launch.name == *name)
    }

    /// A stop may be promised at once, and done after.
    fn is_stopping(&self, name: &ClientName) -> bool {
        self.fleet.get(name).is_some_and(|record| record.phase == Phase::Stopping)
    }

    /// Does the `at`-th thing that was asked for; `lucky` says how it goes.
    pub(super) fn work(&mut self, at: usize, lucky: bool) -> Checked {
        if self.to_do.is_empty() {
            return Ok(());
        }
        match self.to_do.remove(at % self.to_do.len()) {
            Effect::Probe(launch, _) => {
                let found = if lucky { PortState::Free } else { PortState::TakenUpTo(0) };
                self.tell(Input::Probed(launch, found))
            }
            Effect::Save(_) if lucky => {
                let (revision, image) = self.fleet.image();
                self.disk = image;
                self.tell(Input::Saved(revision))
            }
            Effect::Save(_) => self.tell(Input::SaveFailed(self.fleet.image().0, "bad luck".into())),
            Effect::Launch(launch, port, _) if lucky => {
                let on_disk = self.disk.clients.iter().any(|client| {
                    (&client.spec.name, client.generation, client.port)
                        == (&launch.name, launch.generation, port)
                });
                prop_assert!(on_disk, "launched before it was on disk");
                self.last_pid += 1;
                let process = Process { launch: launch.clone(), port: Some(port), dying: false };
                self.processes.insert(self.last_pid, process);
                self.launched.insert(launch.name.clone(), (launch.clone(), port));
                self.tell(Input::Launched(launch, handle(self.last_pid)))
            }
            Effect::Launch(launch, port, _) if port % 2 == 0 => {
                self.tell(Input::LaunchPostponed(launch, "bad luck".into()))
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

    pub(super) fn exit(&mut self, at: usize, exit: Exit) -> Checked {
        let Some((&pid, _)) = self.processes.iter().nth(at % self.processes.len().max(1)) else {
            return Ok(());
        };
        self.end(pid, exit)
    }

    fn end(&mut self, pid: u32, exit: Exit) -> Checked {
        let Some(process) = self.processes.remove(&pid) else { return Ok(()) };
        if exit.is_stop_asked() {
            self.promises.remove(&process.launch.name);
        }
        self.tell(ProcessEvent::Exited(process.launch, exit))
    }

    /// An operator starts a unit, whose environment is that of the client's last launch.
    pub(super) fn readopt(&mut self, who: usize) -> Checked {
        let name = ClientName::new(NAMES[who]).unwrap();
        let Some((launch, port)) = self.launched.get(&name).cloned() else { return Ok(()) };
        let is_gone = self.fleet.get(&name).is_some_and(|record| matches!(record.phase, Phase::Gone(_)));
        let port = match self.fleet.readoption(&launch) {
            Readoption::Adopt if is_gone => {
                let record = self.fleet.get(&name).map(|record| record.port);
                prop_assert_eq!(record, Some(port), "the unit listens elsewhere");
                Some(port)
            }
            Readoption::Replace => None,
            _ => return Ok(()),
        };
        // The operator has the last word.
        self.forget_calls(&name);
        self.last_pid += 1;
        let pid = self.last_pid;
        // Operators are not bound by the limit.
        self.limit = self.limit.max(self.places() + 1);
        self.processes.insert(pid, Process { launch: launch.clone(), port, dying: false });
        self.tell(ProcessEvent::Replaced(launch, handle(pid)))
    }

    /// Lets everything that is to die do so.
    pub(super) fn bury(&mut self) -> Checked {
        let dying = self.processes.iter().filter(|(_, process)| process.dying);
        for pid in dying.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            self.end(pid, Exit::Signal(15))?;
        }
        Ok(())
    }

    /// Kills the controller and starts another one with what is on disk.
    pub(super) fn crash(&mut self, reboot: bool) -> Checked {
        self.to_do.clear();
        // A caller that waited does not learn the result.
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
                Some((&pid, _)) => ProcessStatus::Running(handle(pid)),
                None => ProcessStatus::Gone { rebooted: reboot },
            };
            for effect in self.fleet.apply(self.now, Input::Restored(Box::new(client), found)) {
                self.to_do.push(effect);
            }
        }
        // A client that had just ended by itself may be there again, though another one took its place.
        let places = self.places();
        self.limit = self.limit.max(places);
        // A process that an operator started may not be on disk yet. If it has no port of its own it ends by itself, else the
        // next launch of the client finds it.
        let fleet = &self.fleet;
        self.processes.retain(|_, process| {
            let record = fleet.get(&process.launch.name);
            let record = record.filter(|record| record.generation == process.launch.generation);
            process.port = process.port.filter(|port| record.is_some_and(|record| record.port == *port));
            process.port.is_some() || record.is_some()
        });
        self.check()
    }

    /// From here on all goes well: everybody gets an answer, and what was to die dies.
    pub(super) fn settle(&mut self) -> Checked {
        for _ in 0..10_000 {
            while !self.to_do.is_empty() {
                self.work(0, true)?;
            }
            self.bury()?;
            match self.fleet.next_tick() {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.tell(Input::Tick)?;
                    let again = self.fleet.next_tick().is_some_and(|next| next <= self.now);
                    prop_assert!(!again, "a tick is followed by the next one at once");
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
