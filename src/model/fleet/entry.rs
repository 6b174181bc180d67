//! [`ClientEntry`]: what the fleet keeps about an account besides its record.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::launching::REGISTRATION;
use super::message::{ClientInfo, Effect, RequestId, RequestOutcome, Revision};
use crate::model::client::{ClientRecord, ClientSpec, Exit, Handle, Moment, Phase};
use crate::model::persisted::Desired;

#[derive(Debug)]
pub(super) struct ClientEntry {
    pub(super) record: ClientRecord,
    /// What callers want of it.
    pub(super) desired: Desired,
    /// What callers wanted before the stop that is being written. It applies again if the stop cannot be written.
    pub(super) desired_before: Desired,
    /// Whether the registry file has it, or will have it: true as soon as its port is known.
    pub(super) durable: bool,
    /// Whether a caller was told that it runs. Only then is it started again after an exit.
    pub(super) acknowledged: bool,
    /// The revision that must be on disk before it is launched or stopped.
    pub(super) saving: Option<Revision>,
    /// The revision that records the stop for which a caller waits.
    pub(super) stop_revision: Option<Revision>,
    /// Whether a launch is under way, from which a process may still come.
    pub(super) launching: bool,
    /// Ports that other programs have, found in this attempt.
    pub(super) tried: BTreeSet<u16>,
    /// When its process started.
    pub(super) up_since: Option<Moment>,
    /// The last line that it printed, while its exit is about to be reported.
    pub(super) last_words: Option<Arc<str>>,
    /// Whether its port differs from that of its last launch.
    pub(super) moved: bool,
    /// When the stop of its process is tried again.
    pub(super) stop_again: Option<Moment>,
    /// Whether it was held before the start that is under way.
    pub(super) was_held: bool,
    /// Requests that wait for the launch. The first one caused it.
    pub(super) starters: Vec<RequestId>,
    /// Requests that wait for the exit.
    pub(super) stoppers: Vec<RequestId>,
    /// A start that came during the stop, and follows the exit.
    pub(super) next: Option<(Arc<ClientSpec>, Vec<RequestId>)>,
}

impl ClientEntry {
    pub(super) fn new(record: ClientRecord) -> Self {
        Self {
            record,
            desired: Desired::Running,
            desired_before: Desired::Running,
            durable: false,
            acknowledged: false,
            saving: None,
            launching: false,
            stop_revision: None,
            tried: BTreeSet::new(),
            up_since: None,
            last_words: None,
            moved: false,
            stop_again: None,
            was_held: false,
            starters: Vec::new(),
            stoppers: Vec::new(),
            next: None,
        }
    }

    /// When it is started again, if a start is what it waits for.
    pub(super) fn next_start(&self) -> Option<Moment> {
        let waits = matches!(self.record.phase, Phase::Gone(_));
        self.record.history.next_start.filter(|_| waits)
    }

    /// Whether it takes one of the places that `max_clients` gives: also while a process of it may still come.
    pub(super) fn takes_place(&self) -> bool {
        self.record.takes_place() || self.launching
    }

    pub(super) fn info(&self) -> ClientInfo {
        ClientInfo { spec: self.record.spec.clone(), port: self.record.port, pid: self.record.pid() }
    }

    /// Takes all requests that wait for a start, now or after the exit.
    pub(super) fn take_starters(&mut self) -> Vec<RequestId> {
        let mut all = std::mem::take(&mut self.starters);
        all.extend(self.next.take().into_iter().flat_map(|(_, requests)| requests));
        all
    }

    /// The parameters of a start. A call without any repeats those of the last start.
    pub(super) fn or_as_before(&self, spec: Arc<ClientSpec>) -> Arc<ClientSpec> {
        if spec.params.is_empty() { self.record.spec.clone() } else { spec }
    }

    /// Whether its parameters are those of this start.
    pub(super) fn has_params_of(&self, spec: &ClientSpec) -> bool {
        let given = |spec: &ClientSpec| {
            let params = spec.params.iter().filter(|(name, _)| *name != REGISTRATION);
            params.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        given(&self.record.spec) == given(spec)
    }

    /// Queues a start until the process is gone. Of several starts the last one's parameters count, and all get its answer.
    pub(super) fn queue_start(&mut self, request: RequestId, spec: Arc<ClientSpec>) {
        let (next, requests) = self.next.get_or_insert_with(|| (spec.clone(), Vec::new()));
        *next = spec;
        requests.push(request);
    }

    /// Marks it as stopping because the controller ends. What callers want of it stays. Returns the process to stop, if there is
    /// one.
    pub(super) fn end_with_controller(&mut self) -> Option<Handle> {
        let was = self.record.phase;
        if !matches!(was, Phase::Starting | Phase::Up) {
            return None;
        }
        self.record.phase = Phase::Stopping;
        self.record.handle.clone()
    }

    /// Undoes a stop that could not be written or carried out.
    pub(super) fn cancel_stop(&mut self, why: &str, effects: &mut Vec<Effect>) {
        // Only a stop that keeps the account leaves it wanted. It is not kept, then.
        if self.desired == Desired::Running {
            self.record.history.release();
        }
        self.desired = self.desired_before;
        self.stop_revision = None;
        self.record.phase = match (&self.record.handle, self.launching) {
            (Some(_), _) => {
                // Callers were told that it could not be stopped, so it counts as running for them: it is started again after
                // an exit.
                self.acknowledged = true;
                // It runs, so it is neither held nor about to be started.
                self.record.history.release();
                self.record.history.next_start = None;
                Phase::Up
            }
            (None, true) => {
                self.record.history.release();
                Phase::Starting
            }
            (None, false) => {
                // It waited for a launch. The file may name it, so it stays in the list.
                self.acknowledged = true;
                self.record.history.held = true;
                self.record.history.next_start = None;
                Phase::Gone(self.record.history.last_exit.unwrap_or(Exit::NotLaunched))
            }
        };
        let mut waiting = std::mem::take(&mut self.stoppers);
        waiting.append(&mut self.take_starters());
        for request in waiting {
            effects.push(Effect::Answer(
                request,
                RequestOutcome::Failed(self.record.spec.clone(), why.to_owned()),
            ));
        }
    }
}
