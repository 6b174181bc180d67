//! [`Fleet`]: every client, and the rules by which they live: ports, limits, duplicates, what happens when a start and a
//! stop of one account meet, when one is started again, and what must be on disk before anything is done.
//!
//! Pure: it is told what happened ([`Input`]) and when, and says what to do ([`Effect`]). It never waits and never
//! fails; that is the business of the registry, which carries its effects out.

mod entry;
#[cfg(test)]
mod histories;
mod launching;
mod message;
mod restore;
mod stopping;
#[cfg(test)]
mod tests;

pub use message::{
    AtOnce, Effect, Input, Launch, Outcome, PortState, Rules, Shutdown, Ticket, Told, Version,
};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::client::{ClientRecord, ClientSpec, Generation, Moment, Phase};
use super::name::ClientName;
use super::saved::{self, Desired, Saved, SavedClient};
use entry::Entry;

/// How long a client that ended with status 0 stays in the registry file: while a machine goes down all its processes
/// end, and that is no wish of anybody's to stop this one. By then we will have been asked to end, too.
const GRACE_OF_A_CLEAN_END: Duration = Duration::from_secs(5);

/// How long after a failure the registry file is written again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// An answer that waits until a version is saved.
#[derive(Debug)]
struct Deferred {
    version: Version,
    ticket: Ticket,
    outcome: Outcome,
    /// Whose stop it is: where that cannot be written down it has failed. Any other answer is right all the same.
    stop_of: Option<Arc<ClientSpec>>,
}

/// Every client there is.
#[derive(Debug)]
pub struct Fleet {
    rules: Rules,
    entries: BTreeMap<ClientName, Entry>,
    /// Whose port is whose: that of every entry that has or gets a process, and nobody else's.
    ports: BTreeMap<u16, ClientName>,
    last_generation: Generation,
    closing: Option<Shutdown>,
    /// Counts the changes that the registry file must have.
    version: Version,
    /// The version that was last asked to be saved.
    asked: Version,
    /// The version that was last saved, or could not be.
    tried: Version,
    /// The version that was last saved.
    on_disk: Version,
    save_again: Option<Moment>,
    /// Answers that wait until a version is saved.
    deferred: Vec<Deferred>,
    /// How many were planned to be started again after a restart of the controller.
    restored: u32,
    /// Whose records changed since [`Fleet::take_changes`].
    changed: BTreeSet<ClientName>,
}

impl Fleet {
    /// A fleet without clients. `last_generation` is the last one that an earlier controller gave.
    pub fn new(rules: Rules, last_generation: Generation) -> Self {
        Self {
            rules,
            entries: BTreeMap::new(),
            ports: BTreeMap::new(),
            last_generation,
            closing: None,
            version: Version(0),
            asked: Version(0),
            tried: Version(0),
            on_disk: Version(0),
            restored: 0,
            save_again: None,
            deferred: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// What is known about `name`, if it is to be seen.
    pub fn get(&self, name: &ClientName) -> Option<&ClientRecord> {
        self.entries.get(name).filter(|entry| !entry.is_leaving()).map(|entry| &entry.record)
    }

    /// Every record that is to be seen, by name.
    pub fn records(&self) -> impl Iterator<Item = &ClientRecord> {
        self.entries.values().filter(|entry| !entry.is_leaving()).map(|entry| &entry.record)
    }

    /// Whether a shutdown is done: nothing is under way any more.
    pub fn is_settled(&self) -> bool {
        let Some(shutdown) = self.closing else { return false };
        let at_rest = |entry: &Entry| match entry.record.phase {
            Phase::Gone(_) => true,
            Phase::Up => shutdown == Shutdown::KeepClients,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        self.entries.values().all(at_rest) && self.tried == self.asked
    }

    /// The names whose records came, went or changed since the last call.
    pub fn take_changes(&mut self) -> BTreeSet<ClientName> {
        std::mem::take(&mut self.changed)
    }

    /// What the registry file must hold now, as this version.
    pub fn image(&self) -> (Version, Saved) {
        let client = |entry: &Entry| SavedClient {
            spec: entry.record.spec.clone(),
            port: entry.record.port,
            generation: entry.record.generation,
            desired: entry.desired,
            handle: entry.record.handle.clone().filter(|_| !matches!(entry.record.phase, Phase::Gone(_))),
            history: entry.record.history,
        };
        let wanted = self.entries.values().filter(|entry| entry.durable);
        let clients = wanted.map(client).collect();
        let (version, last_generation) = (saved::VERSION, self.last_generation);
        (self.version, Saved { version, last_generation, boot_id: None, manager: None, clients })
    }

    /// When [`Input::Tick`] has something to do, at the earliest.
    pub fn next_tick(&self) -> Option<Moment> {
        let of_entries = self.entries.values().flat_map(|entry| [entry.next_start(), entry.forget_at]);
        of_entries.chain([self.save_again]).flatten().min()
    }

    /// The one way in: what happened, and what is to be done about it.
    pub fn apply(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Restored(saved, found) => self.restore(now, *saved, found, &mut effects),
            Input::Start(ticket, spec) => self.start(ticket, spec, &mut effects),
            Input::Stop(ticket, name, at_once) => self.stop(ticket, &name, at_once, &mut effects),
            Input::Probed(launch, PortState::Free) => self.port_is_free(&launch),
            Input::Probed(launch, PortState::Taken) => self.next_port(now, &launch, &mut effects),
            Input::Launched(launch, handle) => self.launched(now, &launch, handle, &mut effects),
            Input::LaunchFailed(launch, why) => self.launch_failed(now, &launch, &why, &mut effects),
            Input::Exited(launch, exit) => self.exited(now, &launch, exit, &mut effects),
            Input::Replaced(launch, handle) => self.replaced(now, &launch, handle, &mut effects),
            Input::Frozen(launch, frozen) => {
                if let Some(entry) = self.current(&launch) {
                    entry.record.frozen = frozen;
                    self.changed.insert(launch.name);
                }
            }
            Input::StopFailed(launch, why) => self.stop_failed(&launch, &why, &mut effects),
            Input::StopAnnounced(launch) => self.stop_announced(&launch),
            Input::Report(launch, report) => {
                if let Some(entry) = self.current(&launch) {
                    entry.record.report = Some(report);
                    self.changed.insert(launch.name);
                }
            }
            Input::Saved(version) => self.saved(now, version, &mut effects),
            Input::SaveFailed(version, why) => self.save_failed(now, version, &why, &mut effects),
            Input::Rules(rules) => self.rules = rules,
            Input::Tick => self.tick(now, &mut effects),
            Input::Shutdown(shutdown) => self.shutdown(shutdown, &mut effects),
        }
        if self.version > self.asked {
            self.asked = self.version;
            effects.push(Effect::Save(self.version));
        }
        effects
    }

    /// The entry that an event is about, unless the event is about an earlier process.
    fn current(&mut self, launch: &Launch) -> Option<&mut Entry> {
        self.entries.get_mut(&launch.name).filter(|entry| entry.record.generation == launch.generation)
    }

    /// The registry file must be written again; the version that it then is.
    fn dirty(&mut self) -> Version {
        self.version.0 += 1;
        self.version
    }

    /// The version by which all that was done is on disk. Where the last one could not be written that takes another one.
    fn version_of_all(&mut self) -> Version {
        if self.tried == self.version && self.on_disk != self.version { self.dirty() } else { self.version }
    }

    /// Takes an entry out, and frees its port if it has one.
    fn remove(&mut self, name: &ClientName) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        self.free_port_of(name, entry.record.port);
        self.changed.insert(name.clone());
        Some(entry)
    }

    fn free_port_of(&mut self, name: &ClientName, port: u16) {
        if self.ports.get(&port) == Some(name) {
            self.ports.remove(&port);
        }
    }

    /// A version is on disk: what waited for it is done.
    fn saved(&mut self, now: Moment, version: Version, effects: &mut Vec<Effect>) {
        self.save_again = None;
        self.tried = version;
        self.on_disk = version;
        let mut done = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.saving.is_none_or(|waited| waited > version) {
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
                // It is ended when it is there.
                _ => {}
            }
        }
        for name in done {
            self.not_launched(now, &name, "it was stopped before it was up", effects);
        }
        self.answer_deferred(version, effects);
    }

    /// A version could not be written. What was to be done only then is not done; what is done already stays so, and is
    /// written later.
    fn save_failed(&mut self, now: Moment, version: Version, why: &str, effects: &mut Vec<Effect>) {
        self.save_again = Some(now.after(SAVE_AGAIN));
        self.tried = version;
        let waits = |entry: &Entry| entry.saving.is_some_and(|waited| waited <= version);
        let names: Vec<ClientName> =
            self.entries.iter().filter(|(_, entry)| waits(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.saving = None;
            match entry.record.phase {
                Phase::Reserved => self.not_launched(now, &name, why, effects),
                // Not by a caller's wish, so nothing had to be written.
                Phase::Stopping if is_wanted(entry.desired) => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    effects
                        .extend(entry.record.handle.clone().map(|handle| Effect::Terminate(launch, handle)));
                }
                Phase::Stopping => {
                    entry.take_stop_back(why, effects);
                    if self.closing == Some(Shutdown::EndClients) {
                        let handle = entry.end_with_controller();
                        let launch = Launch { name: name.clone(), generation: entry.record.generation };
                        effects.extend(handle.map(|handle| Effect::Terminate(launch, handle)));
                    }
                }
                Phase::Starting | Phase::Up | Phase::Gone(_) => {}
            }
            self.changed.insert(name);
        }
        for deferred in &mut self.deferred {
            if deferred.version <= version
                && let Some(spec) = deferred.stop_of.take()
            {
                deferred.outcome = Outcome::Failed(spec, why.to_owned());
            }
        }
        self.answer_deferred(version, effects);
    }

    /// Tells a caller as soon as this version is on disk.
    fn answer_when(
        &mut self,
        version: Version,
        ticket: Ticket,
        outcome: Outcome,
        stop_of: Option<Arc<ClientSpec>>,
        effects: &mut Vec<Effect>,
    ) {
        if version <= self.tried {
            effects.push(Effect::Answer(ticket, outcome));
        } else {
            self.deferred.push(Deferred { version, ticket, outcome, stop_of });
        }
    }

    fn answer_deferred(&mut self, version: Version, effects: &mut Vec<Effect>) {
        self.deferred.retain(|deferred| {
            let wait = deferred.version > version;
            if !wait {
                effects.push(Effect::Answer(deferred.ticket, deferred.outcome.clone()));
            }
            wait
        });
    }

    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.save_again.is_some_and(|at| at <= now) {
            self.save_again = None;
            self.dirty();
        }
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let names: Vec<ClientName> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get(&name) else { continue };
            if due(entry.forget_at) {
                self.remove(&name);
                self.dirty();
            } else if due(entry.next_start()) && self.closing.is_none() {
                self.start_again(now, &name, effects);
            }
        }
    }
}

/// Whether the registry file is to show a client that is wanted in this way.
fn is_wanted(desired: Desired) -> bool {
    desired == Desired::Running
}
