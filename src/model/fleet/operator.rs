//! What an operator does to the units of clients through systemd.

use std::collections::BTreeSet;

use super::Fleet;
use super::message::{Effect, Launch, Shutdown};
use crate::model::client::{Handle, Moment, Phase, RestartHistory};

/// What becomes of a process that an operator started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readoption {
    /// It is the client again.
    Adopt,
    /// It is stopped and the client started again: its environment is outdated, for example because another client has its port.
    Replace,
    /// Nothing: the client is being launched anyway, or there is none.
    Ignore,
}

impl Fleet {
    /// What becomes of a process of `launch` that an operator started.
    pub fn readoption(&self, launch: &Launch) -> Readoption {
        let Some(entry) = self.entries.get(&launch.name) else { return Readoption::Ignore };
        let record = &entry.record;
        let same = record.generation == launch.generation;
        let free = self.ports.is_free_for(record.port, &launch.name);
        match record.phase {
            Phase::Up | Phase::Stopping if same => Readoption::Adopt,
            // The controller shuts down and stops its clients.
            Phase::Gone(_) if self.closing == Some(Shutdown::EndClients) => Readoption::Ignore,
            Phase::Gone(_) if same && free && !entry.moved => Readoption::Adopt,
            // A later launch failed, and the unit has the environment of an earlier one.
            Phase::Gone(_) if self.closing.is_none() => Readoption::Replace,
            // The launch that is under way finds the unit and replaces it.
            _ => Readoption::Ignore,
        }
    }

    /// An operator restarted the process, or started one that had exited. It counts as the same launch, since environment and
    /// port are the same.
    pub(super) fn replaced(
        &mut self,
        now: Moment,
        launch: &Launch,
        handle: Handle,
        effects: &mut Vec<Effect>,
    ) {
        match self.readoption(launch) {
            Readoption::Adopt => {}
            Readoption::Replace => return self.replace(now, launch, handle, effects),
            Readoption::Ignore => return,
        }
        let Some(entry) = self.current(launch) else { return };
        if let Phase::Gone(_) = entry.record.phase {
            let port = entry.record.port;
            entry.record.phase = Phase::Up;
            entry.record.history.release();
            (entry.record.history.next_start, entry.record.history.reason) = (None, None);
            self.ports.reserve(port, &launch.name);
        }
        let Some(entry) = self.current(launch) else { return };
        entry.record.handle = Some(handle.clone());
        entry.record.report = None;
        entry.record.frozen = false;
        // The exit of this launch may have been counted. The new process has its own.
        entry.record.history.counted = None;
        entry.record.history.returning = false;
        entry.up_since = Some(now);
        match entry.record.phase {
            // It was being stopped, and still is to be.
            Phase::Stopping if entry.saving.is_none() => {
                effects.push(Effect::Terminate(launch.clone(), handle))
            }
            Phase::Stopping => {}
            _ => effects.push(Effect::Watch(launch.clone(), entry.record.spec.clone())),
        }
        self.changed.insert(launch.name.clone());
        self.bump_revision();
    }

    /// Stops a process that an operator started, and starts the client again when it is gone.
    fn replace(&mut self, now: Moment, launch: &Launch, handle: Handle, effects: &mut Vec<Effect>) {
        // With the port of its launch the proxy would lead to the client that has this port by now.
        let Some(port) = self.free_port(&BTreeSet::new()) else { return };
        let Some(entry) = self.entries.get_mut(&launch.name) else { return };
        let record = &mut entry.record;
        // The generation of the process that is there, or its exit would be dropped as another launch's.
        (record.port, record.generation) = (port, launch.generation);
        (record.phase, record.handle) = (Phase::Stopping, Some(handle.clone()));
        (record.report, record.frozen) = (None, false);
        record.history = RestartHistory {
            held: false,
            stopped: false,
            returning: false,
            next_start: Some(now),
            counted: None,
            ..record.history.clone()
        };
        (entry.up_since, entry.moved) = (Some(now), true);
        self.ports.reserve(port, &launch.name);
        effects.push(Effect::Terminate(launch.clone(), handle));
        self.changed.insert(launch.name.clone());
        self.bump_revision();
    }
}
