//! The exit of a process, or the failure of a launch, and what follows from it. `exit_rules` decides, this carries it out.

use std::sync::Arc;
use std::time::Duration;

use super::entry::ClientEntry;
use super::exit_rules::{AfterExit, ExitContext, after_exit};
use super::launching::{NO_PORT, OTHERS};
use super::message::{Effect, Launch, RequestId, RequestOutcome};
use super::reason::shown;
use super::{Fleet, is_wanted};
use crate::model::client::{ClientSpec, Exit, Moment, Phase, RestartHistory};
use crate::model::name::ClientName;
use crate::model::state::ClientState;

impl Fleet {
    pub(super) fn launch_failed(
        &mut self,
        now: Moment,
        launch: &Launch,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        if self.current(launch).is_some() {
            self.not_launched(now, &launch.name, why, effects);
        }
    }

    /// The last line of a process. Its exit follows, or was reported already.
    pub(super) fn last_words(&mut self, launch: &Launch, words: &Arc<str>) {
        let Some(entry) = self.current(launch) else { return };
        // After the exit they complete what was recorded. Before it they wait for it.
        let Phase::Gone(exit) = entry.record.phase else {
            entry.last_words = Some(words.clone());
            return;
        };
        if exit.has_last_words() && entry.record.history.reason.is_none() {
            entry.record.history.reason = Some(shown(words, &entry.record.spec));
            self.changed.insert(launch.name.clone());
            self.bump_revision();
        }
    }

    /// This launch failed: no process comes of it.
    pub(super) fn not_launched(
        &mut self,
        now: Moment,
        name: &ClientName,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        let failed = |spec: Arc<ClientSpec>| {
            let why = shown(why, &spec).to_string();
            RequestOutcome::Failed(spec, why)
        };
        self.on_exit(now, name, (Exit::NotLaunched, Some(why)), failed, effects);
    }

    pub(super) fn exited(&mut self, now: Moment, launch: &Launch, exit: Exit, effects: &mut Vec<Effect>) {
        if self.current(launch).is_some() {
            self.on_exit(now, &launch.name, (exit, None), |spec| RequestOutcome::NoPid(spec, exit), effects);
        }
    }

    /// The process of a client is gone, or its launch failed: releases its port, does what follows by the rules of
    /// [`after_exit`], and answers the callers that wait. `why` is known where there was no process.
    pub(super) fn on_exit(
        &mut self,
        now: Moment,
        name: &ClientName,
        (exit, why): (Exit, Option<&str>),
        failed: impl Fn(Arc<ClientSpec>) -> RequestOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let context = ExitContext {
            start_queued: entry.next.is_some(),
            acknowledged: entry.acknowledged,
            wanted: is_wanted(entry.desired),
            kept: entry.record.history.stopped,
            stopped_by_controller: entry.record.phase == Phase::Stopping,
            shutdown_requested: self.shutdown_requested,
            shutting_down: self.closing.is_some(),
        };
        // All that callers need is taken first, since `remove` and `reserve` take the entry itself away.
        let info = entry.info();
        let starters = std::mem::take(&mut entry.starters);
        let stoppers = std::mem::take(&mut entry.stoppers);
        let queued = entry.next.take();
        let had_place = entry.takes_place();
        let uptime = entry.up_since.take().map_or(Duration::ZERO, |since| now.since(since));
        // Without a stop by a caller there is nothing that the file would have to say first.
        let stop_revision = entry.stop_revision.take().unwrap_or(self.on_disk);
        let reason = entry.reason(exit, why);
        entry.clear_process(exit);
        // A kept port is in the environment of the account's client, and is used again by the next start.
        if !self.rules.keeps_port {
            self.ports.release(info.port, name);
        }
        self.changed.insert(name.clone());

        match after_exit(exit, &context) {
            AfterExit::StartQueued => {
                let keeps_entry = context.acknowledged && context.wanted;
                self.start_queued(name, queued, (had_place, keeps_entry), effects);
            }
            AfterExit::Remove => self.remove(name),
            // A held client without a process is written down: it would be taken for one that ended by itself.
            AfterExit::Keep if self.entries.get(name).is_some_and(|entry| entry.record.history.held) => {
                self.bump_revision();
            }
            AfterExit::Keep => {}
            AfterExit::Hold => self.hold(name, exit),
            AfterExit::Restart => self.plan_restart(now, name, (exit, uptime), reason),
        }

        // A stop is answered when the file says that the client should be gone. Where that could not be written, the answer
        // waits for the next revision.
        let was_not_written = stop_revision > self.on_disk && stop_revision <= self.attempted;
        let stopped_revision = if was_not_written { self.revision_of_all() } else { stop_revision };
        for request in stoppers {
            let (outcome, stop_of) = (RequestOutcome::Stopped(info.clone()), Some(info.spec.clone()));
            self.answer_when(stopped_revision, request, outcome, stop_of, effects);
        }
        // A failed start is answered when the file does not name the client any more.
        for request in starters {
            self.answer_when(self.revision, request, failed(info.spec.clone()), None, effects);
        }
    }

    /// Carries out a start that came while the process was being stopped. Where there is no port or place for it, the client is
    /// held, or removed unless `keeps_entry`.
    fn start_queued(
        &mut self,
        name: &ClientName,
        queued: Option<(Arc<ClientSpec>, Vec<RequestId>)>,
        (had_place, keeps_entry): (bool, bool),
        effects: &mut Vec<Effect>,
    ) {
        let Some((spec, starters)) = queued else { return };
        let port = self.entries.get(name).map(|entry| entry.record.port);
        // The place that its own process has just left is not another client's to take.
        let is_full = !had_place && self.is_full();
        let is_reserved = if is_full {
            let too_many = |request| Effect::Answer(request, RequestOutcome::TooMany(spec.clone()));
            effects.extend(starters.into_iter().map(too_many));
            false
        } else {
            self.reserve(spec, starters, RestartHistory::default(), port, effects)
        };
        if is_reserved {
            return;
        }
        if !keeps_entry {
            return self.remove(name);
        }
        if let Some(entry) = self.entries.get_mut(name) {
            let history = &mut entry.record.history;
            (history.held, history.next_start) = (true, None);
            history.reason = Some(if is_full { OTHERS } else { NO_PORT }.into());
            self.bump_revision();
        }
    }

    /// An operator stopped the client. It is held until it is started by a call or by an operator, or the machine boots.
    fn hold(&mut self, name: &ClientName, exit: Exit) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let history = &mut entry.record.history;
        (history.last_exit, history.reason) = (Some(exit), None);
        (history.held, history.next_start) = (true, None);
        history.counted = Some(entry.record.generation);
        self.bump_revision();
    }

    /// Counts the exit, and has the restart policy plan the next start, or hold the client.
    fn plan_restart(
        &mut self,
        now: Moment,
        name: &ClientName,
        (exit, uptime): (Exit, Duration),
        reason: Option<Arc<str>>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let (rules, history) = (&self.rules, &mut entry.record.history);
        history.record_exit(exit, uptime, rules.restart, rules.restart_limit, now, name.as_str());
        (history.reason, history.counted) = (reason, Some(entry.record.generation));
        self.bump_revision();
    }

    /// Removes it from the list and from the registry file.
    pub(super) fn remove(&mut self, name: &ClientName) {
        // The file never had the others, so that nothing has to be written.
        if self.take_entry(name).is_some_and(|entry| entry.durable) {
            self.bump_revision();
        }
    }
}

impl ClientEntry {
    /// There is no process any more, and none on its way.
    fn clear_process(&mut self, exit: Exit) {
        self.saving = None;
        self.launching = false;
        (self.record.handle, self.stop_again) = (None, None);
        self.record.frozen = false;
        self.record.phase = Phase::Gone(exit);
    }

    /// Why there is no process. The controller's own reason comes first, then the state file's, then the last line.
    fn reason(&mut self, exit: Exit, why: Option<&str>) -> Option<Arc<str>> {
        let words = self.last_words.take().filter(|_| exit.has_last_words());
        // A reason in the state file is that of the exit only in state `stop`. In another state it is an earlier trouble, and
        // used only where nothing better is known.
        let report = self.record.report.as_ref();
        let ends_for = report.filter(|report| report.state == ClientState::Stop);
        let reason = why.map(Into::into).or_else(|| ends_for?.reason()).or(words);
        let reason = reason.or_else(|| report?.reason())?;
        Some(shown(&reason, &self.record.spec))
    }
}
