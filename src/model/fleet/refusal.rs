//! Launches that end before there is a process: refused, since with these parameters none can succeed, or postponed, since the
//! obstacle has nothing to do with the client and passes.

use std::sync::Arc;

use super::message::{Effect, Launch, RequestOutcome};
use super::reason::shown;
use super::{Fleet, LAUNCH_AGAIN};
use crate::model::client::{ClientSpec, Exit, Moment, Phase, RestartHistory};

impl Fleet {
    /// A launch failed, but not because of the client. It does not count as a failure: a long outage of the bus would otherwise
    /// hold every client. Callers that wait are answered that the start failed.
    pub(super) fn launch_postponed(
        &mut self,
        now: Moment,
        launch: &Launch,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.current(launch) else { return };
        let (before, was_held) = (entry.record.history.clone(), entry.was_held);
        self.not_launched(now, &launch.name, why, effects);
        if let Some(entry) = self.current(launch)
            // It was not counted while the controller ends.
            && entry.record.history.failures > before.failures
        {
            let reason = Some(shown(why, &entry.record.spec));
            // The caller's start of a held client failed, so the client stays held.
            let next_start = (!was_held).then(|| now.after(LAUNCH_AGAIN));
            entry.record.history = RestartHistory { next_start, reason, held: was_held, ..before };
        }
    }

    /// A launch was refused. A client that ran before is held and not removed: an upgrade or a new configuration may have made
    /// its parameters wrong.
    pub(super) fn launch_refused(
        &mut self,
        now: Moment,
        launch: &Launch,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        if self.current(launch).is_none() {
            return;
        }
        let invalid = |spec: Arc<ClientSpec>| {
            let why = shown(why, &spec).to_string();
            RequestOutcome::Invalid(spec, why)
        };
        self.on_exit(now, &launch.name, (Exit::NotLaunched, Some(why)), invalid, effects);
        // It has left the list, or a queued start has taken its place.
        let Some(entry) = self.current(launch) else { return };
        if let Phase::Gone(_) = entry.record.phase {
            entry.record.history.held = true;
            entry.record.history.next_start = None;
            self.bump_revision();
        }
    }
}
