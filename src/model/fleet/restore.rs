//! Takes over what an earlier controller left.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Fleet;
use super::entry::ClientEntry;
use super::message::{Effect, Launch};
use crate::model::client::{ClientRecord, Exit, Moment, Phase, RestartHistory};
use crate::model::persisted::{Desired, PersistedClient, ProcessStatus};

impl Fleet {
    /// Takes over one client of the registry file.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        saved: PersistedClient,
        found: ProcessStatus,
        effects: &mut Vec<Effect>,
    ) {
        let PersistedClient { spec, port, generation, desired, handle, history } = saved;
        // A generation that a process may still have must not be given again.
        self.last_generation = self.last_generation.max(generation);
        let name = spec.name.clone();
        let launch = Launch { name: name.clone(), generation };
        let (handle_was_known, saved_handle) = (handle.is_some(), handle);
        let phase = Phase::Gone(history.last_exit.unwrap_or(Exit::Unknown));
        let mut entry = ClientEntry::new(ClientRecord::new(spec, port, generation, phase, history));
        entry.desired = desired;
        entry.durable = true;
        entry.acknowledged = true;
        match (desired, found) {
            // It was stopped, but the earlier controller did not get to writing that.
            (Desired::Stopped, ProcessStatus::Gone { .. } | ProcessStatus::Ended(_)) => {
                self.bump_revision();
                return;
            }
            (Desired::Running, ProcessStatus::Ended(exit))
                if exit.is_stop_asked() && !entry.record.history.stopped =>
            {
                self.bump_revision();
                return;
            }
            (_, ProcessStatus::Running(handle)) => {
                // An earlier controller was stopping it, unless an operator has started it again since.
                let was_being_stopped =
                    entry.record.history.stopped && saved_handle.as_ref() == Some(&handle);
                let wanted = desired == Desired::Running
                    && self.rules.clients_outlive_controller
                    && !was_being_stopped;
                // An operator may have started it after another client got its port.
                let clashes = !self.ports.is_free_for(port, &name);
                let stays = wanted && !clashes;
                if clashes {
                    // The unit keeps the port of its launch, so it must not be taken for the client again later.
                    entry.moved = true;
                    entry.record.port = self.free_port(&BTreeSet::new()).unwrap_or(port);
                }
                let port = entry.record.port;
                entry.record.phase = if stays { Phase::Up } else { Phase::Stopping };
                entry.record.handle = Some(handle.clone());
                entry.up_since = Some(now);
                let was_held = entry.record.history.held;
                // The exit of its launch was counted, and an operator has started it again since.
                let was_counted =
                    entry.record.history.counted.take_if(|counted| *counted == generation).is_some();
                // Fails where no port is free. It needs none, as it is stopped at once.
                self.ports.reserve(port, &name);
                effects.push(Effect::Watch(launch.clone(), entry.record.spec.clone()));
                if stays {
                    // An operator may have stopped it and started it again.
                    entry.record.history.release();
                    (entry.record.history.next_start, entry.record.history.returning) = (None, false);
                } else if was_being_stopped {
                    effects.push(Effect::Terminate(launch, handle));
                } else {
                    // It should have ended with the earlier controller, or has another client's port: it is stopped, and started
                    // again by this controller. It is not held any more, as an operator may have started it since that was written.
                    let begins = self.rules.restore || clashes;
                    entry.record.history.release();
                    (entry.record.history.held, entry.record.history.returning) = (!begins, false);
                    entry.record.history.next_start = begins.then(|| self.next_slot(now));
                    effects.push(Effect::Terminate(launch, handle));
                }
                if saved_handle != entry.record.handle || was_counted || was_held != entry.record.history.held
                {
                    self.bump_revision();
                }
            }
            (Desired::Running, ProcessStatus::Ended(exit)) => {
                let (history, rules) = (&mut entry.record.history, &self.rules);
                let was_held = history.held;
                // An earlier controller counted this exit. A held client without a handle had no process when it was written.
                // The end of one that was stopped is no news either.
                let is_known =
                    history.counted == Some(generation) || was_held && !handle_was_known || history.stopped;
                if is_known {
                    history.held |= !rules.restore;
                } else if exit.is_stopped_by_operator() {
                    history.exits = history.exits.saturating_add(1);
                    (history.last_exit, history.held) = (Some(exit), true);
                } else {
                    // Its uptime is unknown. The pause before the next start has passed already.
                    history.record_exit(
                        exit,
                        Duration::ZERO,
                        rules.restart,
                        rules.restart_limit,
                        now,
                        name.as_str(),
                    );
                    history.held |= was_held || !rules.restore;
                }
                if !is_known {
                    (history.reason, history.counted) = (None, Some(generation));
                    entry.record.phase = Phase::Gone(exit);
                }
                let is_held = history.held;
                entry.record.history.next_start = (!is_held).then(|| self.next_slot(now));
                self.bump_revision();
            }
            (Desired::Running, ProcessStatus::Gone { rebooted }) => {
                if entry.record.history.stopped {
                    // It stays so.
                } else if rebooted {
                    // A held client runs again after a boot, if others have not taken its place.
                    let returning = entry.record.history.held || entry.record.history.returning;
                    entry.record.history = RestartHistory { returning, ..RestartHistory::default() };
                } else if self.rules.clients_outlive_controller && handle_was_known {
                    entry.record.history.exits = entry.record.history.exits.saturating_add(1);
                    entry.record.history.last_exit = Some(Exit::Unknown);
                }
                // Held and not removed: a call or an operator can still start it with its parameters.
                entry.record.history.held |= !self.rules.restore;
                if !entry.record.history.held {
                    entry.record.history.next_start = Some(self.next_slot(now));
                } else if handle_was_known {
                    // The file is to name no process that is gone. A start would write it anyway.
                    self.bump_revision();
                }
            }
        }
        self.changed.insert(name.clone());
        // Also without a process, so that no other start takes it in the meantime.
        if self.rules.keeps_port {
            self.ports.reserve(entry.record.port, &name);
        }
        self.entries.insert(name, entry);
    }

    /// The time of the next start of a restored client. They are spread out so as not to overload the machine.
    fn next_slot(&mut self, now: Moment) -> Moment {
        let slot = now.after(self.rules.start_interval * self.restored);
        self.restored = self.restored.saturating_add(1);
        slot
    }
}
