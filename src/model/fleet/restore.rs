//! Taking up what an earlier controller left.

use std::time::Duration;

use super::Fleet;
use super::entry::Entry;
use super::message::{Effect, Launch};
use crate::model::client::{ClientRecord, Exit, History, Moment, Phase};
use crate::model::saved::{Desired, Found, SavedClient};

impl Fleet {
    /// Takes up one client of the registry file.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        saved: SavedClient,
        found: Found,
        effects: &mut Vec<Effect>,
    ) {
        let SavedClient { spec, port, generation, desired, handle, history } = saved;
        self.last_generation = self.last_generation.max(generation);
        let name = spec.name.clone();
        let launch = Launch { name: name.clone(), generation };
        let handle_was_known = handle.is_some();
        let phase = Phase::Gone(history.last_exit.unwrap_or(Exit::Unknown));
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
        entry.desired = desired;
        entry.durable = true;
        entry.acknowledged = true;
        match (desired, found) {
            // The stop was done, only not yet written.
            (Desired::Stopped, Found::Gone { .. } | Found::Ended(_)) => {
                self.dirty();
                return;
            }
            (_, Found::Running(handle)) => {
                let stays = desired == Desired::Running && self.rules.clients_outlive_controller;
                entry.record.phase = if stays { Phase::Up } else { Phase::Stopping };
                entry.record.handle = Some(handle.clone());
                entry.up_since = Some(now);
                self.ports.insert(port, name.clone());
                effects.push(Effect::Watch(launch.clone(), entry.record.spec.clone()));
                if stays {
                    // It may be one that an operator stopped and started.
                    entry.record.history.held = false;
                    entry.record.history.next_start = None;
                } else {
                    // It is to end with its controller, which is gone: it begins anew under this one.
                    entry.record.history.held |= !self.rules.restore;
                    entry.record.history.next_start = self.rules.restore.then(|| self.next_slot(now));
                    effects.push(Effect::Terminate(launch, handle));
                }
                if !handle_was_known {
                    self.dirty();
                }
            }
            (Desired::Running, Found::Ended(exit)) => {
                let (history, rules) = (&mut entry.record.history, &self.rules);
                let was_held = history.held;
                if exit.is_imposed() {
                    history.exits = history.exits.saturating_add(1);
                    (history.last_exit, history.held) = (Some(exit), true);
                } else {
                    // Nobody saw how long it lived. The pause is over: it was gone before we came.
                    history.take(exit, Duration::ZERO, rules.restart, rules.restart_limit, now, 0);
                    history.held |= was_held || !rules.restore;
                }
                entry.record.phase = Phase::Gone(exit);
                let is_held = history.held;
                entry.record.history.next_start = (!is_held).then(|| self.next_slot(now));
                self.dirty();
            }
            (Desired::Running, Found::Gone { rebooted }) => {
                if rebooted {
                    entry.record.history = History::default();
                } else if self.rules.clients_outlive_controller && handle_was_known {
                    entry.record.history.exits = entry.record.history.exits.saturating_add(1);
                    entry.record.history.last_exit = Some(Exit::Unknown);
                }
                entry.record.history.held |= !self.rules.restore;
                if !entry.record.history.held {
                    entry.record.history.next_start = Some(self.next_slot(now));
                }
            }
        }
        self.changed.insert(name.clone());
        self.entries.insert(name, entry);
    }

    /// Many starts at once would choke the machine.
    fn next_slot(&mut self, now: Moment) -> Moment {
        let slot = now.after(self.rules.start_interval * self.restored);
        self.restored = self.restored.saturating_add(1);
        slot
    }
}
