//! [`Entry`]: a record, and who waits for what becomes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::message::{Effect, Outcome, Ticket, Told, Version};
use crate::model::client::{ClientRecord, ClientSpec, Exit, Handle, Moment, Phase};
use crate::model::saved::Desired;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: ClientRecord,
    /// What it should do, as the registry file says.
    pub(super) desired: Desired,
    /// What it should do if the stop that is being written can't be: what the file says.
    pub(super) desired_before: Desired,
    /// Whether it is in the registry file, or shall be: from the moment that its port is known.
    pub(super) durable: bool,
    /// Whether somebody was told that it runs. Only such a one is started again.
    pub(super) acknowledged: bool,
    /// The version that must be on disk before it is launched or ended.
    pub(super) saving: Option<Version>,
    /// The version by which the file says that it should be gone, since somebody waits for that.
    pub(super) stop_version: Option<Version>,
    /// Whether a process may come up that is not there yet.
    pub(super) launching: bool,
    /// Ports that other programs were found on in this attempt.
    pub(super) tried: BTreeSet<u16>,
    /// When its process came up.
    pub(super) up_since: Option<Moment>,
    /// It ended as it should and is no longer to be seen; at this moment it is forgotten.
    pub(super) forget_at: Option<Moment>,
    /// Waits for the launch; the first one asked for it.
    pub(super) starters: Vec<Ticket>,
    /// Waits for the end.
    pub(super) stoppers: Vec<Ticket>,
    /// To be launched when this one is gone: a start that came while it was being stopped.
    pub(super) next: Option<(Arc<ClientSpec>, Vec<Ticket>)>,
}

impl Entry {
    pub(super) fn new(record: ClientRecord) -> Self {
        Self {
            record,
            desired: Desired::Running,
            desired_before: Desired::Running,
            durable: false,
            acknowledged: false,
            saving: None,
            launching: false,
            stop_version: None,
            tried: BTreeSet::new(),
            up_since: None,
            forget_at: None,
            starters: Vec::new(),
            stoppers: Vec::new(),
            next: None,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.forget_at.is_some()
    }

    /// When it is to be started again, if that is the next thing to happen to it.
    pub(super) fn next_start(&self) -> Option<Moment> {
        let waits = matches!(self.record.phase, Phase::Gone(_)) && !self.is_leaving();
        self.record.history.next_start.filter(|_| waits)
    }

    pub(super) fn told(&self) -> Told {
        Told { spec: self.record.spec.clone(), port: self.record.port, pid: self.record.pid() }
    }

    /// Everybody who waits for a start of this client, now or when it is gone.
    pub(super) fn take_starters(&mut self) -> Vec<Ticket> {
        let mut all = std::mem::take(&mut self.starters);
        all.extend(self.next.take().into_iter().flat_map(|(_, tickets)| tickets));
        all
    }

    /// A start that comes while the process is to end: it waits for that, then is a start like any other. Of several, the
    /// last one's parameters count, and all get its answer.
    pub(super) fn queue_start(&mut self, ticket: Ticket, spec: Arc<ClientSpec>) {
        let (next, tickets) = self.next.get_or_insert_with(|| (spec.clone(), Vec::new()));
        *next = spec;
        tickets.push(ticket);
    }

    /// It ends because the controller does: what it should do stays as it is. Its process, if that is to be ended now.
    pub(super) fn end_with_controller(&mut self) -> Option<Handle> {
        let was = self.record.phase;
        if !matches!(was, Phase::Starting | Phase::Up) {
            return None;
        }
        self.record.phase = Phase::Stopping;
        self.record.handle.clone()
    }

    /// The stop could not be written down or carried out: all is as before, and so says the record.
    pub(super) fn take_stop_back(&mut self, why: &str, effects: &mut Vec<Effect>) {
        self.desired = self.desired_before;
        self.stop_version = None;
        self.record.phase = match (&self.record.handle, self.launching) {
            (Some(_), _) => {
                self.acknowledged = true;
                self.record.history.next_start = None;
                Phase::Up
            }
            (None, true) => Phase::Starting,
            (None, false) => {
                // It waited for its launch, or to be launched again. The file may speak of it, so it is not gone.
                self.acknowledged = true;
                self.record.history.held = true;
                self.record.history.next_start = None;
                Phase::Gone(self.record.history.last_exit.unwrap_or(Exit::NotLaunched))
            }
        };
        let mut waiting = std::mem::take(&mut self.stoppers);
        waiting.append(&mut self.take_starters());
        for ticket in waiting {
            effects.push(Effect::Answer(ticket, Outcome::Failed(self.record.spec.clone(), why.to_owned())));
        }
    }
}
