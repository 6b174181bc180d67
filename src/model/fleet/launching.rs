//! From the request for a start to a process that is up, for the first time or again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::ClientEntry;
use super::message::{Effect, Launch, RequestId, RequestOutcome};
use super::{CLOSING, Fleet, is_wanted};
use crate::model::client::{
    ClientRecord, ClientSpec, Exit, Generation, Handle, Moment, ParamValue, Phase, RestartHistory,
};
use crate::model::name::ClientName;

/// The reason where no port is free.
pub(super) const NO_PORT: &str = "no port is free";

/// The reason where `max_clients` leaves no place.
pub(super) const OTHERS: &str = "there are max_clients others";

/// How many clients there may be beyond `max_clients`: held clients take no place there, but memory and a line in the file.
const MOST_HELD: usize = 10_000;

/// The start parameter that identifies a registration, from `start_client` to `stop_client`. Only the fleet sets it. The
/// client keeps the QQ account that it is bound to for as long as this parameter stays the same.
pub const REGISTRATION: &str = "registration";

/// Sets the registration in `spec`.
fn registered(mut spec: Arc<ClientSpec>, registration: Option<ParamValue>) -> Arc<ClientSpec> {
    if spec.params.get(REGISTRATION) != registration.as_ref() {
        let params = &mut Arc::make_mut(&mut spec).params;
        params.remove(REGISTRATION);
        params.extend(registration.map(|registration| (REGISTRATION.to_owned(), registration)));
    }
    spec
}

/// What the parameters of a start mean for a client that is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Params {
    /// None repeat those of the last start, and one that runs keeps its own.
    OrAsBefore,
    /// The client is to have these, and is started anew for others than it has.
    Exactly,
}

impl Fleet {
    pub(super) fn start(
        &mut self,
        request: RequestId,
        spec: Arc<ClientSpec>,
        params: Params,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(refusal) = self.may_register(&spec) {
            return effects.push(Effect::Answer(request, refusal));
        }
        let is_full = self.is_full();
        let Some(entry) = self.entries.get_mut(&spec.name) else {
            if is_full {
                return effects.push(Effect::Answer(request, RequestOutcome::TooMany(spec)));
            }
            self.reserve(spec, vec![request], RestartHistory::default(), None, effects);
            return;
        };
        let is_other = params == Params::Exactly && !entry.has_params_of(&spec);
        let as_before = params == Params::OrAsBefore && is_wanted(entry.desired);
        match entry.record.phase {
            Phase::Reserved | Phase::Starting if is_other => {
                let why = "another call starts it with other parameters just now".to_owned();
                effects.push(Effect::Answer(request, RequestOutcome::Failed(spec, why)));
            }
            Phase::Reserved | Phase::Starting => entry.starters.push(request),
            Phase::Up if is_wanted(entry.desired) && !is_other => {
                let outcome = RequestOutcome::AlreadyExists(entry.info());
                effects.push(Effect::Answer(request, outcome));
            }
            // It is to have other parameters, or accepted a stop through its own API, which is not waited for.
            Phase::Up => {
                entry.record.phase = Phase::Stopping;
                let launch = Launch { name: spec.name.clone(), generation: entry.record.generation };
                effects.extend(entry.record.handle.clone().map(|handle| Effect::Terminate(launch, handle)));
                entry.queue_start(request, spec.clone());
                self.changed.insert(spec.name.clone());
            }
            Phase::Stopping => {
                // A caller's stop ends the registration, and with it the parameters that a later start could repeat.
                let spec = if as_before { entry.or_as_before(spec) } else { spec };
                entry.queue_start(request, spec);
            }
            // A held or returning client has no place, so it needs a free one.
            Phase::Gone(_) if is_full && !entry.takes_place() => {
                effects.push(Effect::Answer(request, RequestOutcome::TooMany(spec)));
            }
            // It waits for its next start, or is held. This call starts it at once.
            Phase::Gone(_) => {
                let spec = if params == Params::OrAsBefore { entry.or_as_before(spec) } else { spec };
                let port = entry.record.port;
                self.reserve(spec, vec![request], RestartHistory::default(), Some(port), effects);
            }
        }
    }

    /// Whether a client can be started or registered, as far as that does not depend on its process.
    pub(super) fn may_register(&self, spec: &Arc<ClientSpec>) -> Result<(), RequestOutcome> {
        if self.closing.is_some() {
            return Err(RequestOutcome::Failed(spec.clone(), CLOSING.to_owned()));
        }
        if self.entries.contains_key(&spec.name) {
            return Ok(());
        }
        if self.entries.len() >= self.rules.max_clients.saturating_add(MOST_HELD) {
            return Err(RequestOutcome::TooMany(spec.clone()));
        }
        // Different names have the same ID only if someone searched for a hash collision.
        let mut others = self.entries.values().map(|entry| &entry.record.spec);
        match others.find(|other| other.id == spec.id) {
            Some(other) => {
                let why =
                    format!("its ID {} is that of {}; give one of them another name", spec.id, other.name);
                Err(RequestOutcome::Failed(spec.clone(), why))
            }
            None => Ok(()),
        }
    }

    /// Whether all places of `max_clients` are taken.
    pub(super) fn is_full(&self) -> bool {
        self.entries.values().filter(|entry| entry.takes_place()).count() >= self.rules.max_clients
    }

    /// Admits a client with a port of its own, and replaces an earlier entry of its name. The registry file keeps the earlier
    /// entry until the new one is written. Returns whether a port was free; without one nothing changes.
    pub(super) fn reserve(
        &mut self,
        spec: Arc<ClientSpec>,
        starters: Vec<RequestId>,
        history: RestartHistory,
        preferred: Option<u16>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let name = spec.name.clone();
        let port = preferred
            .filter(|port| self.ports.is_free_for(*port, &name))
            .or_else(|| self.free_port(&BTreeSet::new()));
        let Some(port) = port else {
            let answer = |request| Effect::Answer(request, RequestOutcome::NoPort(spec.clone()));
            effects.extend(starters.into_iter().map(answer));
            return false;
        };
        let (spec, generation) = self.next_launch(spec);
        let before = self.take_entry(&name);
        let was_held = before.as_ref().is_some_and(|entry| entry.record.history.held);
        let phase = Phase::Reserved;
        let mut entry = ClientEntry::new(ClientRecord::new(spec, port, generation, phase, history));
        entry.starters = starters;
        entry.was_held = was_held;
        entry.durable = before.as_ref().is_some_and(|entry| entry.durable);
        // After a caller's stop this is a new registration: a start of it that fails leaves nothing behind.
        entry.acknowledged = before.is_some_and(|entry| entry.acknowledged && is_wanted(entry.desired));
        self.ports.reserve(port, &name);
        self.changed.insert(name.clone());
        effects.push(Effect::Probe(Launch { name: name.clone(), generation }, port));
        self.entries.insert(name, entry);
        true
    }

    /// A generation for the next launch, and the parameters with the registration of an account that is in the list, or a new one.
    pub(super) fn next_launch(&mut self, spec: Arc<ClientSpec>) -> (Arc<ClientSpec>, Generation) {
        self.last_generation.0 += 1;
        let generation = self.last_generation;
        let registration = match self.entries.get(&spec.name).filter(|entry| is_wanted(entry.desired)) {
            Some(entry) => entry.record.spec.params.get(REGISTRATION).cloned(),
            // Secret: replies and logs need not show it. An account from another machine brings its own.
            None => Some(spec.params.get(REGISTRATION).cloned().unwrap_or_else(|| {
                let text = format!("{generation}-{}", self.run_id);
                ParamValue { text, secret: true, path: None }
            })),
        };
        (registered(spec, registration), generation)
    }

    pub(super) fn free_port(&self, tried: &BTreeSet<u16>) -> Option<u16> {
        self.ports.next(self.rules.first_port, self.rules.ports_each, tried)
    }

    /// Other programs have the reserved port and those after it up to `last`: reserves the next one.
    pub(super) fn next_port(&mut self, now: Moment, launch: &Launch, last: u16, effects: &mut Vec<Effect>) {
        let reserved =
            |entry: &&mut ClientEntry| entry.record.phase == Phase::Reserved && entry.saving.is_none();
        let keeps_port = self.rules.keeps_port;
        let Some(entry) = self.current(launch).filter(reserved) else { return };
        let taken = entry.record.port;
        // Its client has been started with this port. It is tried again there after a pause.
        if entry.acknowledged && keeps_port {
            let why = format!("another program listens on its port {taken}");
            return self.not_launched(now, &launch.name, &why, effects);
        }
        entry.tried.extend(taken..=last.max(taken));
        // Taken out for the search, which borrows the whole fleet.
        let tried = std::mem::take(&mut entry.tried);
        self.ports.release(taken, &launch.name);
        let port = self.free_port(&tried);
        if let Some(entry) = self.current(launch) {
            entry.tried = tried;
        }
        let Some(port) = port else {
            let why = (Exit::NotLaunched, Some(NO_PORT));
            return self.on_exit(now, &launch.name, why, RequestOutcome::NoPort, effects);
        };
        self.ports.reserve(port, &launch.name);
        if let Some(entry) = self.current(launch) {
            entry.record.port = port;
        }
        self.changed.insert(launch.name.clone());
        effects.push(Effect::Probe(launch.clone(), port));
    }

    /// The port is free. The launch waits until the registry file has the client and its port.
    pub(super) fn port_is_free(&mut self, launch: &Launch) {
        let reserved =
            |entry: &&mut ClientEntry| entry.record.phase == Phase::Reserved && entry.saving.is_none();
        // A stop may have come during the probe.
        if self.current(launch).filter(reserved).is_none() {
            return;
        }
        let revision = self.bump_revision();
        if let Some(entry) = self.current(launch) {
            entry.durable = true;
            entry.saving = Some(revision);
        }
    }

    pub(super) fn launched(
        &mut self,
        now: Moment,
        launch: &Launch,
        handle: Handle,
        effects: &mut Vec<Effect>,
    ) {
        let starting =
            |entry: &&mut ClientEntry| matches!(entry.record.phase, Phase::Starting | Phase::Stopping);
        let Some(entry) = self.current(launch).filter(starting).filter(|entry| entry.record.handle.is_none())
        else {
            return;
        };
        entry.launching = false;
        // The next controller finds a unit by its launch file. A child process it finds only by the handle in the registry file.
        let is_found_again = matches!(handle, Handle::Unit { .. });
        entry.record.handle = Some(handle);
        entry.up_since = Some(now);
        self.changed.insert(launch.name.clone());
        let revision = self.bump_revision();
        let Some(entry) = self.current(launch) else { return };
        if entry.record.phase == Phase::Stopping {
            // A stop came during the launch. The process is stopped when the stop is on disk.
            if let (None, Some(handle)) = (entry.saving, &entry.record.handle) {
                effects.push(Effect::Terminate(launch.clone(), handle.clone()));
            }
            return;
        }
        entry.record.phase = Phase::Up;
        entry.acknowledged = true;
        let told = entry.info();
        let starters = std::mem::take(&mut entry.starters);
        for (index, request) in starters.into_iter().enumerate() {
            // The first request started it, for the others it existed already. A child process is acknowledged when the file has
            // its handle, as the next controller could not find it otherwise.
            let outcome = match index {
                0 => RequestOutcome::Started(told.clone()),
                _ => RequestOutcome::AlreadyExists(told.clone()),
            };
            match is_found_again {
                true => effects.push(Effect::Answer(request, outcome)),
                false => self.answer_when(revision, request, outcome, None, effects),
            }
        }
    }

    /// Starts a client again with the parameters of its last start.
    pub(super) fn start_again(&mut self, now: Moment, name: &ClientName, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get(name) else { return };
        if entry.record.history.returning && self.is_full() {
            return self.hold_back(name);
        }
        let (spec, port) = (entry.record.spec.clone(), entry.record.port);
        let history = RestartHistory {
            next_start: None,
            held: false,
            stopped: false,
            returning: false,
            ..entry.record.history.clone()
        };
        if !self.ports.is_free_for(port, name) && self.free_port(&BTreeSet::new()).is_none() {
            // It waits for a port like a client that failed, with a pause that grows.
            let why = (Exit::NotLaunched, Some(NO_PORT));
            return self.on_exit(now, name, why, RequestOutcome::NoPort, effects);
        }
        self.reserve(spec, Vec::new(), history, Some(port), effects);
    }

    /// Holds a client that returns after a boot, since others have all places.
    fn hold_back(&mut self, name: &ClientName) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let history = &mut entry.record.history;
        (history.held, history.returning, history.next_start) = (true, false, None);
        history.reason = Some(OTHERS.into());
        self.changed.insert(name.clone());
        self.bump_revision();
    }
}
