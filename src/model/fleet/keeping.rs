//! Accounts that stay in the list without running: stops that keep the account, and registrations without a start.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::ClientEntry;
use super::message::{Effect, RequestId, RequestOutcome};
use super::stopping::OVERTAKEN;
use super::{CLOSING, Fleet};
use crate::model::client::{ClientRecord, ClientSpec, Exit, Phase, RestartHistory};
use crate::model::name::ClientName;
use crate::model::persisted::Desired;

/// The reason where a stop that removes the account is under way.
const LEAVING: &str = "it is being removed by another call";

impl Fleet {
    /// Stops a client and keeps it in the list, until it is started by a call or by an operator. A boot does not start it.
    pub(super) fn stop_and_keep(&mut self, request: RequestId, name: &ClientName, effects: &mut Vec<Effect>) {
        let closing = self.closing.is_some();
        let keeps_port = self.rules.keeps_port;
        let Some(entry) = self.entries.get_mut(name) else {
            // The file may still have a client that has just left the list.
            let revision = self.revision_of_all();
            return self.answer_when(revision, request, RequestOutcome::NotExists, None, effects);
        };
        let told = entry.info();
        let refusal = match entry.desired {
            _ if closing => Some(CLOSING),
            Desired::Stopped => Some(LEAVING),
            Desired::Running => None,
        };
        if let Some(why) = refusal {
            let outcome = RequestOutcome::Failed(told.spec, why.to_owned());
            return effects.push(Effect::Answer(request, outcome));
        }
        for loser in entry.take_starters() {
            let outcome = RequestOutcome::Failed(told.spec.clone(), OVERTAKEN.to_owned());
            effects.push(Effect::Answer(loser, outcome));
        }
        // It is kept even if no caller was told that it runs.
        (entry.durable, entry.acknowledged) = (true, true);
        entry.record.history.stop();
        let (is_waited_for, begins) = match entry.record.phase {
            Phase::Reserved => {
                entry.saving = None;
                entry.record.phase = Phase::Gone(Exit::NotLaunched);
                if !keeps_port {
                    self.ports.release(told.port, name);
                }
                (false, false)
            }
            Phase::Gone(_) => (false, false),
            // The process goes on until the stop is on disk.
            Phase::Starting | Phase::Up => {
                entry.record.phase = Phase::Stopping;
                entry.desired_before = entry.desired;
                (true, true)
            }
            // It is being stopped to be started again, or was stopped in this way before.
            Phase::Stopping => (true, entry.saving.is_some()),
        };
        self.changed.insert(name.clone());
        let revision = self.bump_revision();
        let Some(entry) = self.entries.get_mut(name) else { return };
        if !is_waited_for {
            let (outcome, spec) = (RequestOutcome::Stopped(told.clone()), Some(told.spec));
            return self.answer_when(revision, request, outcome, spec, effects);
        }
        entry.saving = begins.then_some(revision);
        entry.stop_revision = Some(revision);
        entry.stoppers.push(request);
    }

    /// Registers a client without a start, or gives one without a process other parameters. It is kept as by
    /// [`Fleet::stop_and_keep`].
    pub(super) fn register(&mut self, request: RequestId, spec: Arc<ClientSpec>, effects: &mut Vec<Effect>) {
        if let Err(refusal) = self.may_register(&spec) {
            return effects.push(Effect::Answer(request, refusal));
        }
        let name = spec.name.clone();
        let before = self.entries.get(&name);
        if let Some(entry) = before.filter(|entry| !matches!(entry.record.phase, Phase::Gone(_))) {
            let outcome = RequestOutcome::AlreadyExists(entry.info());
            return effects.push(Effect::Answer(request, outcome));
        }
        let known = before.map(|entry| (entry.record.port, entry.record.phase));
        let Some((port, phase)) =
            known.or_else(|| Some((self.free_port(&BTreeSet::new())?, Phase::Gone(Exit::NotLaunched))))
        else {
            return effects.push(Effect::Answer(request, RequestOutcome::NoPort(spec)));
        };
        let (spec, generation) = self.next_launch(spec);
        let mut record = ClientRecord::new(spec, port, generation, phase, RestartHistory::default());
        record.history.stop();
        let mut entry = ClientEntry::new(record);
        (entry.durable, entry.acknowledged) = (true, true);
        let told = entry.info();
        self.take_entry(&name);
        if self.rules.keeps_port {
            self.ports.reserve(port, &name);
        }
        self.entries.insert(name.clone(), entry);
        self.changed.insert(name);
        let revision = self.bump_revision();
        let (outcome, spec) = (RequestOutcome::Stopped(told.clone()), Some(told.spec));
        self.answer_when(revision, request, outcome, spec, effects);
    }
}
