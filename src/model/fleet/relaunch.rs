//! New starts and holds that follow from something else than an exit: the login of an account, or a call of `relogin_client`.

use std::sync::Arc;

use super::Fleet;
use super::entry::ClientEntry;
use super::message::{Effect, Launch};
use crate::model::client::{Moment, Phase};
use crate::model::name::ClientName;

impl Fleet {
    /// Starts a process anew: stops it and starts it again, or starts it at once where there is none. That counts as no exit.
    /// Nothing happens while it is being started or stopped anyway.
    pub(super) fn relaunch(&mut self, now: Moment, name: &ClientName, effects: &mut Vec<Effect>) {
        let Some(entry) = self.wanted(name) else { return };
        match entry.record.phase {
            Phase::Up => {
                effects.extend(entry.terminate(name));
                entry.record.history.next_start = Some(now);
            }
            Phase::Gone(_) => {
                let history = &mut entry.record.history;
                // A held process has no place of its own. Where others have all of them it is held again, with that reason.
                history.returning |= history.held;
                history.release();
                (history.failures, history.next_start) = (0, Some(now));
                self.bump_revision();
            }
            Phase::Reserved | Phase::Starting | Phase::Stopping => return,
        }
        self.changed.insert(name.clone());
    }

    /// Ends a process, if there is one, and holds it until it is started by a call or by an operator.
    pub(super) fn hold_for(&mut self, name: &ClientName, why: Arc<str>, effects: &mut Vec<Effect>) {
        let Some(entry) = self.wanted(name) else { return };
        match entry.record.phase {
            Phase::Up => {
                effects.extend(entry.terminate(name));
            }
            Phase::Gone(_) => {}
            // It is decided again when that is over.
            Phase::Reserved | Phase::Starting | Phase::Stopping => return,
        }
        let history = &mut entry.record.history;
        (history.held, history.next_start, history.reason) = (true, None, Some(why));
        self.changed.insert(name.clone());
        self.bump_revision();
    }

    /// The entry of a client that should run. None while the controller ends, as nothing is started or held then.
    fn wanted(&mut self, name: &ClientName) -> Option<&mut ClientEntry> {
        let closing = self.closing.is_some();
        self.entries.get_mut(name).filter(|entry| super::is_wanted(entry.desired) && !closing)
    }
}

impl ClientEntry {
    /// Begins to end the process.
    fn terminate(&mut self, name: &ClientName) -> Option<Effect> {
        self.record.phase = Phase::Stopping;
        let launch = Launch { name: name.clone(), generation: self.record.generation };
        self.record.handle.clone().map(|handle| Effect::Terminate(launch, handle))
    }
}
