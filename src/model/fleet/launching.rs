//! From a start to a process that is up, for the first time or again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::Entry;
use super::message::{Effect, Launch, Outcome, Ticket};
use super::{Fleet, GRACE_OF_A_CLEAN_END, is_wanted};
use crate::model::client::{ClientRecord, ClientSpec, Exit, Handle, History, Moment, Phase};
use crate::model::name::ClientName;

impl Fleet {
    pub(super) fn start(&mut self, ticket: Ticket, spec: Arc<ClientSpec>, effects: &mut Vec<Effect>) {
        if self.closing.is_some() {
            let why = "the controller is shutting down".to_owned();
            return effects.push(Effect::Answer(ticket, Outcome::Failed(spec, why)));
        }
        let Some(entry) = self.entries.get_mut(&spec.name).filter(|entry| !entry.is_leaving()) else {
            let there = self.entries.values().filter(|entry| !entry.is_leaving()).count();
            if there >= self.rules.max_clients {
                return effects.push(Effect::Answer(ticket, Outcome::TooMany(spec)));
            }
            return self.reserve(spec, vec![ticket], History::default(), None, effects);
        };
        match entry.record.phase {
            Phase::Reserved | Phase::Starting => entry.starters.push(ticket),
            Phase::Up if is_wanted(entry.desired) => {
                let outcome = Outcome::AlreadyExists(entry.told());
                effects.push(Effect::Answer(ticket, outcome));
            }
            // It was told to stop itself, and agreed. Whether it does is not waited for.
            Phase::Up => {
                entry.record.phase = Phase::Stopping;
                let launch = Launch { name: spec.name.clone(), generation: entry.record.generation };
                effects.extend(entry.record.handle.clone().map(|handle| Effect::Terminate(launch, handle)));
                entry.queue_start(ticket, spec.clone());
                self.changed.insert(spec.name.clone());
            }
            Phase::Stopping => entry.queue_start(ticket, spec),
            // It waits to be started again, or does so no longer: whoever calls now wants it now, and anew.
            Phase::Gone(_) => {
                let port = entry.record.port;
                self.reserve(spec, vec![ticket], History::default(), Some(port), effects);
            }
        }
    }

    /// Admits a client, in the place of an earlier entry of its name: from here on it has a port that nobody else gets.
    /// An entry that was in the registry file stays there until this one is.
    pub(super) fn reserve(
        &mut self,
        spec: Arc<ClientSpec>,
        starters: Vec<Ticket>,
        history: History,
        preferred: Option<u16>,
        effects: &mut Vec<Effect>,
    ) {
        let name = spec.name.clone();
        let before = self.remove(&name);
        let port = preferred
            .filter(|port| !self.ports.contains_key(port))
            .or_else(|| self.free_port(&BTreeSet::new()));
        let Some(port) = port else {
            if before.is_some_and(|entry| entry.durable) {
                self.dirty();
            }
            let answer = |ticket| Effect::Answer(ticket, Outcome::NoPort(spec.clone()));
            return effects.extend(starters.into_iter().map(answer));
        };
        self.last_generation.0 += 1;
        let generation = self.last_generation;
        let phase = Phase::Reserved;
        let mut entry = Entry::new(ClientRecord {
            spec,
            port,
            generation,
            phase,
            handle: None,
            report: None,
            frozen: false,
            history,
        });
        entry.starters = starters;
        entry.durable = before.as_ref().is_some_and(|entry| entry.durable);
        entry.acknowledged = before.is_some_and(|entry| entry.acknowledged && is_wanted(entry.desired));
        self.ports.insert(port, name.clone());
        self.changed.insert(name.clone());
        effects.push(Effect::Probe(Launch { name: name.clone(), generation }, port));
        self.entries.insert(name, entry);
    }

    fn free_port(&self, tried: &BTreeSet<u16>) -> Option<u16> {
        (self.rules.first_port..=u16::MAX)
            .find(|port| !self.ports.contains_key(port) && !tried.contains(port))
    }

    /// Another program has the port that was reserved: takes the next one.
    pub(super) fn next_port(&mut self, now: Moment, launch: &Launch, effects: &mut Vec<Effect>) {
        let reserved = |entry: &&mut Entry| entry.record.phase == Phase::Reserved && entry.saving.is_none();
        let Some(entry) = self.current(launch).filter(reserved) else { return };
        let taken = entry.record.port;
        entry.tried.insert(taken);
        let tried = entry.tried.clone();
        self.ports.remove(&taken);
        let Some(port) = self.free_port(&tried) else {
            return self.fail(now, &launch.name, Exit::NotLaunched, Outcome::NoPort, effects);
        };
        self.ports.insert(port, launch.name.clone());
        if let Some(entry) = self.current(launch) {
            entry.record.port = port;
        }
        self.changed.insert(launch.name.clone());
        effects.push(Effect::Probe(launch.clone(), port));
    }

    /// All is known that the registry file must have before the launch.
    pub(super) fn port_is_free(&mut self, launch: &Launch) {
        let reserved = |entry: &&mut Entry| entry.record.phase == Phase::Reserved && entry.saving.is_none();
        if self.current(launch).filter(reserved).is_none() {
            return;
        }
        let version = self.dirty();
        if let Some(entry) = self.current(launch) {
            entry.durable = true;
            entry.saving = Some(version);
        }
    }

    pub(super) fn launched(
        &mut self,
        now: Moment,
        launch: &Launch,
        handle: Handle,
        effects: &mut Vec<Effect>,
    ) {
        let starting = |entry: &&mut Entry| matches!(entry.record.phase, Phase::Starting | Phase::Stopping);
        let Some(entry) = self.current(launch).filter(starting).filter(|entry| entry.record.handle.is_none())
        else {
            return;
        };
        entry.launching = false;
        // A unit is found again by its launch, which the file has: only of a child process it must say which one it is.
        let is_found_again = matches!(handle, Handle::Unit { .. });
        entry.record.handle = Some(handle);
        entry.up_since = Some(now);
        self.changed.insert(launch.name.clone());
        let version = self.dirty();
        let Some(entry) = self.current(launch) else { return };
        if entry.record.phase == Phase::Stopping {
            // A stop came while it was being launched. It is ended as soon as that is on disk.
            if let (None, Some(handle)) = (entry.saving, &entry.record.handle) {
                effects.push(Effect::Terminate(launch.clone(), handle.clone()));
            }
            return;
        }
        entry.record.phase = Phase::Up;
        entry.acknowledged = true;
        let told = entry.told();
        let starters = std::mem::take(&mut entry.starters);
        for (index, ticket) in starters.into_iter().enumerate() {
            // Who asked first started it; for the others it was there already. That it runs is told when it can't be lost
            // any more.
            let outcome = match index {
                0 => Outcome::Started(told.clone()),
                _ => Outcome::AlreadyExists(told.clone()),
            };
            match is_found_again {
                true => effects.push(Effect::Answer(ticket, outcome)),
                false => self.answer_when(version, ticket, outcome, None, effects),
            }
        }
    }

    pub(super) fn launch_failed(
        &mut self,
        now: Moment,
        launch: &Launch,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        if self.current(launch).is_some() {
            self.not_launched(now, &launch.name, why, effects);
        }
    }

    /// There will be no process of this launch.
    pub(super) fn not_launched(
        &mut self,
        now: Moment,
        name: &ClientName,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        let failed = |spec| Outcome::Failed(spec, why.to_owned());
        self.fail(now, name, Exit::NotLaunched, failed, effects);
    }

    pub(super) fn exited(&mut self, now: Moment, launch: &Launch, exit: Exit, effects: &mut Vec<Effect>) {
        if self.current(launch).is_some() {
            self.fail(now, &launch.name, exit, |spec| Outcome::NoPid(spec, exit), effects);
        }
    }

    /// Whether what an operator started can be this client again: nobody else has its port.
    pub fn may_rejoin(&self, launch: &Launch) -> bool {
        let Some(entry) = self.entries.get(&launch.name) else { return false };
        self.ports.get(&entry.record.port).is_none_or(|owner| *owner == launch.name)
    }

    /// An operator started the process anew, or one that was stopped. It is the same launch: the environment is the same, and
    /// so is the port.
    pub(super) fn replaced(
        &mut self,
        now: Moment,
        launch: &Launch,
        handle: Handle,
        effects: &mut Vec<Effect>,
    ) {
        let free = self.may_rejoin(launch);
        let can = |entry: &&mut Entry| match entry.record.phase {
            Phase::Up | Phase::Stopping => true,
            Phase::Gone(_) => free && !entry.is_leaving(),
            Phase::Reserved | Phase::Starting => false,
        };
        let Some(entry) = self.current(launch).filter(can) else { return };
        if let Phase::Gone(_) = entry.record.phase {
            let port = entry.record.port;
            entry.record.phase = Phase::Up;
            entry.record.history = History { held: false, next_start: None, ..entry.record.history };
            self.ports.insert(port, launch.name.clone());
        }
        let Some(entry) = self.current(launch) else { return };
        entry.record.handle = Some(handle.clone());
        entry.record.report = None;
        entry.record.frozen = false;
        entry.up_since = Some(now);
        match entry.record.phase {
            // It was being ended, and whoever wanted that still does.
            Phase::Stopping if entry.saving.is_none() => {
                effects.push(Effect::Terminate(launch.clone(), handle))
            }
            Phase::Stopping => {}
            _ => effects.push(Effect::Watch(launch.clone(), entry.record.spec.clone())),
        }
        self.changed.insert(launch.name.clone());
        self.dirty();
    }

    /// There is no process of this client any more, or never was one: frees its port, answers everybody who waits for
    /// it, and decides what follows.
    fn fail(
        &mut self,
        now: Moment,
        name: &ClientName,
        exit: Exit,
        failed: impl Fn(Arc<ClientSpec>) -> Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let port = entry.record.port;
        let told = entry.told();
        let starters = std::mem::take(&mut entry.starters);
        let stoppers = std::mem::take(&mut entry.stoppers);
        let next = entry.next.take();
        let was_up = entry.up_since.take();
        let (desired, acknowledged) = (entry.desired, entry.acknowledged);
        let doomed = entry.record.phase == Phase::Stopping;
        entry.saving = None;
        let stop_version = entry.stop_version.take().unwrap_or(self.on_disk);
        entry.launching = false;
        entry.record.handle = None;
        entry.record.frozen = false;
        entry.record.phase = Phase::Gone(exit);
        let spec = entry.record.spec.clone();

        self.free_port_of(name, port);
        self.changed.insert(name.clone());

        if let Some((spec, starters)) = next {
            self.reserve(spec, starters, History::default(), Some(port), effects);
        } else if !acknowledged || !is_wanted(desired) {
            self.forget(name);
        } else if self.closing.is_some() || doomed {
            // It ended because a controller did, which is no fault of its own. The next one starts it again, or we do.
        } else if exit.is_imposed() {
            // Who stopped it has the last word, until somebody starts it or the machine boots again.
            if let Some(entry) = self.entries.get_mut(name) {
                let history = entry.record.history;
                entry.record.history =
                    History { last_exit: Some(exit), held: true, next_start: None, ..history };
                self.dirty();
            }
        } else if was_up.is_some() && self.rules.restart.accepts(exit) {
            self.leave(now, name);
        } else if let Some(entry) = self.entries.get_mut(name) {
            let life = was_up.map_or_else(Default::default, |since| now.since(since));
            let salt = name.as_str().bytes().fold(0, |salt: u64, byte| salt.rotate_left(9) ^ u64::from(byte));
            let rules = &self.rules;
            entry.record.history.take(exit, life, rules.restart, rules.restart_limit, now, salt);
            self.dirty();
        }

        // That it is gone is told when the file says that it should be. Where that could not be written it is by now a
        // change like any other.
        let failed_to_say = stop_version > self.on_disk && stop_version <= self.tried;
        let told_when = if failed_to_say { self.version_of_all() } else { stop_version };
        for ticket in stoppers {
            self.answer_when(told_when, ticket, Outcome::Stopped(told.clone()), Some(spec.clone()), effects);
        }
        // That a start failed is told when the file does not speak of it any more.
        for ticket in starters {
            self.answer_when(self.version, ticket, failed(spec.clone()), None, effects);
        }
    }

    /// Takes it out of the list and out of the file.
    pub(super) fn forget(&mut self, name: &ClientName) {
        if self.remove(name).is_some_and(|entry| entry.durable) {
            self.dirty();
        }
    }

    /// Takes it out of the list, and a little later out of the file.
    fn leave(&mut self, now: Moment, name: &ClientName) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.forget_at = Some(now.after(GRACE_OF_A_CLEAN_END));
        self.changed.insert(name.clone());
    }

    /// Starts a client that should run and does not, with what it was started with.
    pub(super) fn start_again(&mut self, now: Moment, name: &ClientName, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get(name) else { return };
        let (spec, port) = (entry.record.spec.clone(), entry.record.port);
        let history = History { next_start: None, held: false, ..entry.record.history };
        if self.ports.contains_key(&port) && self.free_port(&BTreeSet::new()).is_none() {
            // Not an end of the client: it waits for a port.
            return self.fail(now, name, Exit::NotLaunched, Outcome::NoPort, effects);
        }
        self.reserve(spec, Vec::new(), history, Some(port), effects);
    }
}
