//! From the wish that a client ends to its end.

use super::Fleet;
use super::message::{AtOnce, Effect, Launch, Outcome, Shutdown, Ticket};
use crate::model::client::{Exit, Phase};
use crate::model::name::ClientName;
use crate::model::saved::Desired;

/// What a start is told that a stop overtook.
const OVERTAKEN: &str = "it was stopped before it was up";

impl Fleet {
    pub(super) fn stop(
        &mut self,
        ticket: Ticket,
        name: &ClientName,
        at_once: AtOnce,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else {
            // The file may still speak of one that has just left.
            let version = self.version_of_all();
            return self.answer_when(version, ticket, Outcome::NotExists, None, effects);
        };
        if entry.is_leaving() {
            // It is gone, and now nobody needs to doubt any more that it should be.
            let spec = Some(entry.record.spec.clone());
            self.forget(name);
            return self.answer_when(self.version, ticket, Outcome::NotExists, spec, effects);
        }
        for loser in entry.take_starters() {
            let outcome = Outcome::Failed(entry.record.spec.clone(), OVERTAKEN.to_owned());
            effects.push(Effect::Answer(loser, outcome));
        }
        let told = entry.told();
        match entry.record.phase {
            // The file knows nothing of it.
            Phase::Reserved if !entry.durable => {
                self.remove(name);
                let (spec, version) = (Some(told.spec.clone()), self.version_of_all());
                return self.answer_when(version, ticket, Outcome::Stopped(told), spec, effects);
            }
            // Where there is no process the wish is all there is to it, but it must be on disk as well.
            Phase::Reserved | Phase::Gone(_) | Phase::Starting | Phase::Up => {
                entry.record.phase = Phase::Stopping;
                entry.desired_before = std::mem::replace(&mut entry.desired, Desired::Stopped);
                let version = self.dirty();
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.saving = Some(version);
                    entry.stop_version = Some(version);
                }
                self.changed.insert(name.clone());
            }
            // It ends already. The file may not say that it should: it ends for a restart or with the controller, or the
            // wish could not be written.
            Phase::Stopping => {
                let was_wanted = std::mem::replace(&mut entry.desired, Desired::Stopped) == Desired::Running;
                let version = if was_wanted { self.dirty() } else { self.version_of_all() };
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.stop_version = Some(version);
                }
            }
        }
        match (at_once, self.entries.get_mut(name)) {
            (AtOnce::No, Some(entry)) => entry.stoppers.push(ticket),
            _ => {
                let spec = Some(told.spec.clone());
                self.answer_when(self.version, ticket, Outcome::Stopped(told), spec, effects);
            }
        }
    }

    /// The process outlived even SIGKILL: it is still there, so the record says so, and a stop can be tried again.
    pub(super) fn stop_failed(&mut self, launch: &Launch, why: &str, effects: &mut Vec<Effect>) {
        let closing = self.closing.is_some();
        let Some(entry) = self.current(launch).filter(|entry| entry.record.phase == Phase::Stopping) else {
            return;
        };
        let desired = entry.desired;
        entry.take_stop_back(why, effects);
        // The wish stays: the next controller tries again.
        entry.desired = desired;
        if closing {
            // We can do no more, and must not wait for ever.
            entry.record.phase = Phase::Gone(Exit::Unknown);
            entry.record.handle = None;
        }
        for deferred in &mut self.deferred {
            if let Some(spec) = deferred.stop_of.take_if(|spec| spec.name == launch.name) {
                deferred.outcome = Outcome::Failed(spec, why.to_owned());
            }
        }
        self.changed.insert(launch.name.clone());
    }

    /// The client itself was told to stop: its end is wished for, whatever it looks like.
    pub(super) fn stop_announced(&mut self, launch: &Launch) {
        let Some(entry) = self.current(launch).filter(|entry| entry.record.phase == Phase::Up) else {
            return;
        };
        if entry.desired == Desired::Running {
            entry.desired = Desired::Stopped;
            self.dirty();
        }
    }

    pub(super) fn shutdown(&mut self, shutdown: Shutdown, effects: &mut Vec<Effect>) {
        self.closing = Some(shutdown);
        let why = "the controller is shutting down";
        let names: Vec<ClientName> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let starting = entry.record.phase == Phase::Starting && shutdown == Shutdown::KeepClients;
            let losers = if starting { Vec::new() } else { entry.take_starters() };
            for ticket in losers {
                effects
                    .push(Effect::Answer(ticket, Outcome::Failed(entry.record.spec.clone(), why.to_owned())));
            }
            match entry.record.phase {
                Phase::Reserved if entry.acknowledged => {
                    entry.saving = None;
                    entry.record.phase = Phase::Gone(Exit::NotLaunched);
                }
                // Nobody was told of it, so it is not left for the next controller.
                Phase::Reserved => self.forget(&name),
                Phase::Starting | Phase::Up if shutdown == Shutdown::EndClients => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    let handle = entry.end_with_controller();
                    effects.extend(handle.map(|handle| Effect::Terminate(launch, handle)));
                    self.changed.insert(name);
                }
                Phase::Starting | Phase::Up | Phase::Stopping | Phase::Gone(_) => {}
            }
        }
    }
}
