//! From the request for a stop to the exit, and the shutdown of the controller.

use std::time::Duration;

use super::entry::ClientEntry;
use super::message::{Effect, Launch, RequestId, RequestOutcome, Shutdown, StopMode};
use super::{CLOSING, Fleet};
use crate::model::client::{Exit, Moment, Phase};
use crate::model::name::ClientName;
use crate::model::persisted::Desired;

/// The pause before a failed stop is tried again, where the process must not go on.
const STOP_AGAIN: Duration = Duration::from_secs(5);

/// The reason for a start that a stop overtook.
pub(super) const OVERTAKEN: &str = "it was stopped before it was up";

impl Fleet {
    pub(super) fn stop(
        &mut self,
        request: RequestId,
        name: &ClientName,
        mode: StopMode,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else {
            // The file may still have a client that has just left the list.
            let revision = self.revision_of_all();
            return self.answer_when(revision, request, RequestOutcome::NotExists, None, effects);
        };
        for loser in entry.take_starters() {
            let outcome = RequestOutcome::Failed(entry.record.spec.clone(), OVERTAKEN.to_owned());
            effects.push(Effect::Answer(loser, outcome));
        }
        let told = entry.info();
        match entry.record.phase {
            // The file does not have it yet.
            Phase::Reserved if !entry.durable => {
                self.take_entry(name);
                let (spec, revision) = (Some(told.spec.clone()), self.revision_of_all());
                return self.answer_when(revision, request, RequestOutcome::Stopped(told), spec, effects);
            }
            // The stop must be on disk before anything is done, even without a process.
            Phase::Reserved | Phase::Gone(_) | Phase::Starting | Phase::Up => {
                entry.record.phase = Phase::Stopping;
                entry.desired_before = std::mem::replace(&mut entry.desired, Desired::Stopped);
                let revision = self.bump_revision();
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.saving = Some(revision);
                    entry.stop_revision = Some(revision);
                }
                self.changed.insert(name.clone());
            }
            // It is being stopped already. The file may not say so: the controller stops it to start it again or at shutdown, or
            // an earlier stop could not be written.
            Phase::Stopping => {
                let was_wanted = std::mem::replace(&mut entry.desired, Desired::Stopped) == Desired::Running;
                let revision = if was_wanted { self.bump_revision() } else { self.revision_of_all() };
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.stop_revision = Some(revision);
                }
            }
        }
        match (mode, self.entries.get_mut(name)) {
            (StopMode::Wait, Some(entry)) => entry.stoppers.push(request),
            _ => {
                let spec = Some(told.spec.clone());
                self.answer_when(self.revision, request, RequestOutcome::Stopped(told), spec, effects);
            }
        }
    }

    /// The process outlived even SIGKILL, or the supervisor could not be asked. The record says that it is still there, and
    /// a stop can be tried again.
    pub(super) fn stop_failed(&mut self, now: Moment, launch: &Launch, why: &str, effects: &mut Vec<Effect>) {
        let closing = self.closing.is_some();
        // Without a process this is an earlier attempt, whose process has exited meanwhile.
        let stopping =
            |entry: &&mut ClientEntry| entry.record.phase == Phase::Stopping && entry.record.handle.is_some();
        let Some(entry) = self.current(launch).filter(stopping) else { return };
        let (desired, next_start) = (entry.desired, entry.record.history.next_start);
        let (was_held, was_kept) = (entry.record.history.held, entry.record.history.stopped);
        entry.cancel_stop(why, effects);
        // Callers still want it stopped: the next controller tries again.
        entry.desired = desired;
        if closing {
            // Nothing more can be done, and the shutdown must not wait for ever.
            entry.record.phase = Phase::Gone(Exit::Unknown);
            entry.record.handle = None;
        } else if entry.moved {
            // The process does not listen at the port of the record, so the client is not up. The stop is retried until the
            // process is gone; then the client is started on its port.
            entry.record.phase = Phase::Stopping;
            entry.record.history.next_start = next_start;
            if was_kept {
                entry.record.history.stop();
            }
            entry.stop_again = Some(now.after(STOP_AGAIN));
        }
        for deferred in &mut self.deferred {
            if let Some(spec) = deferred.stop_of.take_if(|spec| spec.name == launch.name) {
                deferred.outcome = RequestOutcome::Failed(spec, why.to_owned());
            }
        }
        if was_held {
            // It was to be ended and held, and the file says so.
            self.bump_revision();
        }
        self.changed.insert(launch.name.clone());
    }

    /// The client accepted a stop request. Its exit is expected, whatever its status.
    pub(super) fn stop_accepted(&mut self, launch: &Launch) {
        let Some(entry) = self.current(launch) else { return };
        match entry.record.phase {
            Phase::Up => {}
            // Its exit was reported before its answer was.
            Phase::Gone(_) => return self.remove(&launch.name),
            Phase::Reserved | Phase::Starting | Phase::Stopping => return,
        }
        if entry.desired == Desired::Running {
            entry.desired = Desired::Stopped;
            self.bump_revision();
        }
    }

    pub(super) fn shutdown(&mut self, shutdown: Shutdown, effects: &mut Vec<Effect>) {
        self.closing = Some(shutdown);
        let why = CLOSING;
        let names: Vec<ClientName> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            // A launch that is under way ends soon where clients are kept, and then its callers get the true answer.
            let starting = entry.record.phase == Phase::Starting && shutdown == Shutdown::KeepClients;
            let losers = if starting { Vec::new() } else { entry.take_starters() };
            for request in losers {
                effects.push(Effect::Answer(
                    request,
                    RequestOutcome::Failed(entry.record.spec.clone(), why.to_owned()),
                ));
            }
            match entry.record.phase {
                Phase::Reserved if entry.acknowledged => {
                    entry.saving = None;
                    entry.record.phase = Phase::Gone(Exit::NotLaunched);
                }
                // No caller was told that it runs, so the next controller need not start it.
                Phase::Reserved => self.remove(&name),
                Phase::Starting | Phase::Up if shutdown == Shutdown::EndClients => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    let handle = entry.end_with_controller();
                    effects.extend(handle.map(|handle| Effect::Terminate(launch, handle)));
                    self.changed.insert(name);
                }
                // Its last stop failed. The shutdown does not wait for the pause before the next one.
                Phase::Stopping if entry.stop_again.take().is_some() => {
                    let launch = Launch { name: name.clone(), generation: entry.record.generation };
                    effects
                        .extend(entry.record.handle.clone().map(|handle| Effect::Terminate(launch, handle)));
                }
                Phase::Starting | Phase::Up | Phase::Stopping | Phase::Gone(_) => {}
            }
        }
    }
}
