//! [`Fleet`]: all clients and the rules of their lives. Pure: an [`Input`] and the time go in, [`Effect`]s come out, which the
//! registry carries out. It never waits and never fails.
//!
//! - `launching`: from a start to a process, for the first time or again
//! - `stopping`: from a stop to the exit, and the shutdown
//! - `keeping`: accounts that stay in the list without running
//! - `exit`, `exit_rules`: what follows when a process is gone
//! - `refusal`: launches that are refused or postponed
//! - `restore`: what an earlier controller left
//! - `operator`: what an operator does with units
//! - `relaunch`: new starts and holds that follow from a login
//! - `ports`: which port is whose
//! - `entry`, `message`, `reason`: state, messages, texts

mod entry;
mod exit;
mod exit_rules;
mod keeping;
mod launching;
mod message;
mod operator;
mod ports;
mod reason;
mod refusal;
mod relaunch;
mod restore;
mod stopping;
#[cfg(test)]
mod tests;

pub use launching::REGISTRATION;
pub use message::{
    ClientInfo, Effect, Input, Launch, PortState, ProcessEvent, RequestId, RequestOutcome, Revision, Rules,
    Shutdown, StopMode,
};
pub use operator::Readoption;
pub use reason::shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::client::{ClientRecord, ClientSpec, Generation, Moment, Phase};
use super::name::ClientName;
use super::persisted::{self, Desired, PersistedClient, PersistedState};
use entry::ClientEntry;
use launching::Params;
use ports::Ports;

/// The pause before a postponed launch is tried again.
const LAUNCH_AGAIN: Duration = Duration::from_secs(5);

/// The reason for what is refused while the controller ends.
const CLOSING: &str = "the controller is shutting down";

/// The pause before the registry file is written again after a failure.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// An answer that waits until a revision is on disk.
#[derive(Debug)]
struct Deferred {
    revision: Revision,
    request: RequestId,
    outcome: RequestOutcome,
    /// The client whose stop is answered. A stop fails if the revision cannot be written; other answers remain valid.
    stop_of: Option<Arc<ClientSpec>>,
}

/// Every client there is.
#[derive(Debug)]
pub struct Fleet {
    rules: Rules,
    entries: BTreeMap<ClientName, ClientEntry>,
    /// The ports of all entries that have a process or are about to.
    ports: Ports,
    last_generation: Generation,
    /// Identifies this run of the controller. Registrations of two runs never have the same value.
    run_id: Arc<str>,
    closing: Option<Shutdown>,
    /// Whether the controller was asked to shut down.
    shutdown_requested: bool,
    /// Counts the changes that the registry file must have.
    revision: Revision,
    /// The last revision that was requested to be saved.
    requested: Revision,
    /// The last revision that was saved or failed to be.
    attempted: Revision,
    /// The last revision that was saved.
    on_disk: Revision,
    save_again: Option<Moment>,
    /// Answers that wait for a revision.
    deferred: Vec<Deferred>,
    /// How many starts were planned for restored clients.
    restored: u32,
    /// The clients whose records changed since [`Fleet::take_changes`].
    changed: BTreeSet<ClientName>,
}

impl Fleet {
    /// A fleet without clients. `last_generation` is the last one of an earlier controller.
    pub fn new(rules: Rules, last_generation: Generation) -> Self {
        Self {
            rules,
            entries: BTreeMap::new(),
            ports: Ports::default(),
            last_generation,
            run_id: "".into(),
            closing: None,
            shutdown_requested: false,
            revision: Revision(0),
            requested: Revision(0),
            attempted: Revision(0),
            on_disk: Revision(0),
            restored: 0,
            save_again: None,
            deferred: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Sets the ID of this run, which is part of each registration. Generations alone would repeat when the registry file is
    /// removed, while clients keep the registrations of the earlier file.
    pub fn with_run_id(self, run_id: Arc<str>) -> Self {
        Self { run_id, ..self }
    }

    /// What is known about `name`.
    pub fn get(&self, name: &ClientName) -> Option<&ClientRecord> {
        self.entries.get(name).map(|entry| &entry.record)
    }

    /// Whether `name` should run, by the last word of a caller.
    pub fn is_wanted(&self, name: &ClientName) -> bool {
        self.entries.get(name).is_some_and(|entry| is_wanted(entry.desired))
    }

    /// What the operator allows and wants.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Every record, by name.
    pub fn records(&self) -> impl Iterator<Item = &ClientRecord> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// Whether a shutdown is complete: nothing is under way.
    pub fn is_settled(&self) -> bool {
        let Some(shutdown) = self.closing else { return false };
        let at_rest = |entry: &ClientEntry| match entry.record.phase {
            Phase::Gone(_) => true,
            Phase::Up => shutdown == Shutdown::KeepClients,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        // Attempted and not saved, since the end must not wait for a disk that stays full.
        self.entries.values().all(at_rest) && self.attempted == self.requested
    }

    /// The clients whose records were added, removed or changed since the last call.
    pub fn take_changes(&mut self) -> BTreeSet<ClientName> {
        std::mem::take(&mut self.changed)
    }

    /// The content that the registry file should have now, with its revision.
    pub fn image(&self) -> (Revision, PersistedState) {
        let client = |entry: &ClientEntry| {
            let is_there = !entry.moved && !matches!(entry.record.phase, Phase::Gone(_));
            PersistedClient {
                spec: entry.record.spec.clone(),
                port: entry.record.port,
                // No launch had this port, so no unit of an earlier launch may be taken for this client.
                generation: if entry.moved { Generation(0) } else { entry.record.generation },
                desired: entry.desired,
                handle: entry.record.handle.clone().filter(|_| is_there),
                history: entry.record.history.clone(),
            }
        };
        // The ports of the others are still being probed, and no caller has an answer yet.
        let wanted = self.entries.values().filter(|entry| entry.durable);
        let clients = wanted.map(client).collect();
        let (version, last_generation) = (persisted::VERSION, self.last_generation);
        (
            self.revision,
            PersistedState { version, last_generation, boot_id: None, started: None, manager: None, clients },
        )
    }

    /// When the next [`Input::Tick`] is due.
    pub fn next_tick(&self) -> Option<Moment> {
        // A shutdown starts nothing. A start that is due would be due again after each tick.
        let starts = self.closing.is_none();
        let next = |entry: &ClientEntry| entry.next_start().filter(|_| starts).or(entry.stop_again);
        self.entries.values().map(next).chain([self.save_again]).flatten().min()
    }

    /// Applies an input; returns what to do.
    pub fn apply(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Restored(saved, found) => self.restore(now, *saved, found, &mut effects),
            Input::Start(request, spec) => self.start(request, spec, Params::OrAsBefore, &mut effects),
            Input::StartWith(request, spec) => self.start(request, spec, Params::Exactly, &mut effects),
            Input::Stop(request, name, mode) => self.stop(request, &name, mode, &mut effects),
            Input::StopAndKeep(request, name) => self.stop_and_keep(request, &name, &mut effects),
            Input::Register(request, spec) => self.register(request, spec, &mut effects),
            Input::Probed(launch, PortState::Free) => self.port_is_free(&launch),
            Input::Probed(launch, PortState::TakenUpTo(last)) => {
                self.next_port(now, &launch, last, &mut effects)
            }
            Input::Launched(launch, handle) => self.launched(now, &launch, handle, &mut effects),
            Input::LaunchFailed(launch, why) => self.launch_failed(now, &launch, &why, &mut effects),
            Input::LaunchPostponed(launch, why) => self.launch_postponed(now, &launch, &why, &mut effects),
            Input::LaunchRefused(launch, why) => self.launch_refused(now, &launch, &why, &mut effects),
            Input::Process(event) => self.process_event(now, event, &mut effects),
            Input::StopFailed(launch, why) => self.stop_failed(now, &launch, &why, &mut effects),
            Input::StopAccepted(launch) => self.stop_accepted(&launch),
            Input::Relaunch(name) => self.relaunch(now, &name, &mut effects),
            Input::Hold(name, why) => self.hold_for(&name, why, &mut effects),
            Input::Report(launch, report) => {
                if let Some(entry) = self.current(&launch) {
                    entry.record.report = Some(report);
                    self.changed.insert(launch.name);
                }
            }
            Input::Saved(revision) => self.saved(now, revision, &mut effects),
            Input::SaveFailed(revision, why) => self.save_failed(now, revision, &why, &mut effects),
            Input::Rules(rules) => self.rules = rules,
            Input::Tick => self.tick(now, &mut effects),
            Input::ShutdownRequested => self.shutdown_requested = true,
            Input::Shutdown(shutdown) => self.shutdown(shutdown, &mut effects),
        }
        // Once for all changes of this input, as the file is written as a whole.
        if self.revision > self.requested {
            self.requested = self.revision;
            effects.push(Effect::Save(self.revision));
        }
        effects
    }

    fn process_event(&mut self, now: Moment, event: ProcessEvent, effects: &mut Vec<Effect>) {
        match event {
            ProcessEvent::LastWords(launch, words) => self.last_words(&launch, &words),
            ProcessEvent::Exited(launch, exit) => self.exited(now, &launch, exit, effects),
            ProcessEvent::Replaced(launch, handle) => self.replaced(now, &launch, handle, effects),
            ProcessEvent::Frozen(launch, frozen) => {
                if let Some(entry) = self.current(&launch) {
                    entry.record.frozen = frozen;
                    self.changed.insert(launch.name);
                }
            }
        }
    }

    /// The entry of a launch; none if it is not the current launch of the client.
    fn current(&mut self, launch: &Launch) -> Option<&mut ClientEntry> {
        self.entries.get_mut(&launch.name).filter(|entry| entry.record.generation == launch.generation)
    }

    /// Requests that the registry file be written; returns its new revision.
    fn bump_revision(&mut self) -> Revision {
        self.revision.0 += 1;
        self.revision
    }

    /// The revision that has all changes so far. A new one, if the last could not be written.
    fn revision_of_all(&mut self) -> Revision {
        if self.attempted == self.revision && self.on_disk != self.revision {
            self.bump_revision()
        } else {
            self.revision
        }
    }

    /// Takes an entry out of the list and releases its port.
    fn take_entry(&mut self, name: &ClientName) -> Option<ClientEntry> {
        let entry = self.entries.remove(name)?;
        self.ports.release(entry.record.port, name);
        self.changed.insert(name.clone());
        Some(entry)
    }

    /// A revision is on disk. Does what waited for it.
    fn saved(&mut self, now: Moment, revision: Revision, effects: &mut Vec<Effect>) {
        self.save_again = None;
        self.attempted = revision;
        self.on_disk = revision;
        let mut done = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.saving.is_none_or(|waited| waited > revision) {
                continue;
            }
            entry.saving = None;
            let launch = Launch { name: name.clone(), generation: entry.record.generation };
            match (entry.record.phase, &entry.record.handle) {
                (Phase::Reserved, _) => {
                    entry.record.phase = Phase::Starting;
                    entry.launching = true;
                    effects.push(Effect::Launch(launch, entry.record.port, entry.record.spec.clone()));
                    self.changed.insert(name.clone());
                }
                (Phase::Stopping, Some(handle)) => effects.push(Effect::Terminate(launch, handle.clone())),
                (Phase::Stopping, None) if !entry.launching => done.push(name.clone()),
                // Stopping a launch that is under way: the process is stopped once it is there.
                _ => {}
            }
        }
        for name in done {
            self.not_launched(now, &name, "it was stopped before it was up", effects);
        }
        self.answer_deferred(revision, effects);
    }

    /// A revision could not be written. What waited for it fails. What is done already stays, and is written later.
    fn save_failed(&mut self, now: Moment, revision: Revision, why: &str, effects: &mut Vec<Effect>) {
        // Even if nothing waits for it: what is done already must still reach the disk.
        self.save_again = Some(now.after(SAVE_AGAIN));
        self.attempted = revision;
        let waits = |entry: &ClientEntry| entry.saving.is_some_and(|waited| waited <= revision);
        let names: Vec<ClientName> =
            self.entries.iter().filter(|(_, entry)| waits(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.saving = None;
            match entry.record.phase {
                // That is no failure of the client.
                Phase::Reserved => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    self.launch_postponed(now, &launch, why, effects);
                }
                // Stopped by the controller and not by a caller, so the file need not record it.
                Phase::Stopping if is_wanted(entry.desired) && !entry.record.history.stopped => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    effects
                        .extend(entry.record.handle.clone().map(|handle| Effect::Terminate(launch, handle)));
                }
                Phase::Stopping => {
                    entry.cancel_stop(why, effects);
                    if self.closing == Some(Shutdown::EndClients) {
                        let handle = entry.end_with_controller();
                        let launch = Launch { name: name.clone(), generation: entry.record.generation };
                        effects.extend(handle.map(|handle| Effect::Terminate(launch, handle)));
                    }
                }
                // Nothing waits in these phases. The next image has them as they are.
                Phase::Starting | Phase::Up | Phase::Gone(_) => {}
            }
            self.changed.insert(name);
        }
        for deferred in &mut self.deferred {
            if deferred.revision <= revision
                && let Some(spec) = deferred.stop_of.take()
            {
                deferred.outcome = RequestOutcome::Failed(spec, why.to_owned());
            }
        }
        self.answer_deferred(revision, effects);
    }

    /// Answers a request as soon as this revision is on disk.
    fn answer_when(
        &mut self,
        revision: Revision,
        request: RequestId,
        outcome: RequestOutcome,
        stop_of: Option<Arc<ClientSpec>>,
        effects: &mut Vec<Effect>,
    ) {
        // Attempted and not saved: what needs the disk asks for `revision_of_all`, which is never one that has failed.
        if revision <= self.attempted {
            effects.push(Effect::Answer(request, outcome));
        } else {
            self.deferred.push(Deferred { revision, request, outcome, stop_of });
        }
    }

    fn answer_deferred(&mut self, revision: Revision, effects: &mut Vec<Effect>) {
        self.deferred.retain(|deferred| {
            let wait = deferred.revision > revision;
            if !wait {
                effects.push(Effect::Answer(deferred.request, deferred.outcome.clone()));
            }
            wait
        });
    }

    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.save_again.is_some_and(|at| at <= now) {
            self.save_again = None;
            self.bump_revision();
        }
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        // Collected first, as a start takes entries out and puts them back.
        let names: Vec<ClientName> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if entry.stop_again.take_if(|at| *at <= now).is_some()
                && entry.record.phase == Phase::Stopping
                && let Some(handle) = entry.record.handle.clone()
            {
                let launch = Launch { name: name.clone(), generation: entry.record.generation };
                effects.push(Effect::Terminate(launch, handle));
            }
            // Stops go on until the end, starts do not.
            if due(entry.next_start()) && self.closing.is_none() {
                self.start_again(now, &name, effects);
            }
        }
    }
}

fn is_wanted(desired: Desired) -> bool {
    desired == Desired::Running
}
