//! [`Table`]: the units that are our clients, and what systemd said about each. It turns what systemd says into what the
//! registry is told, each end once. It asks nobody and waits for nothing.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::told::{OfService, OfUnit, Told};
use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::supervisor::Event;

/// How many jobs of one unit may end before somebody looks.
const JOBS: usize = 16;

/// Tells whoever starts a unit what becomes of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobNews {
    /// This job ended, with this result.
    Removed(String, String),
    /// Jobs may have ended unseen: the bus was lost, or systemd began anew.
    Missed,
}

/// The units that are our clients, by name.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<Arc<str>, Entry>);

#[derive(Debug)]
struct Entry {
    launch: Launch,
    /// The run that is our process; none while it is being started or looked for.
    invocation: Option<Arc<str>>,
    told: Told,
    /// Whether the end is our wish.
    stop_asked: bool,
    /// Whether somebody else has a job for it, which while it runs is one that stops it.
    others_job: bool,
    frozen: bool,
    jobs: Option<mpsc::Sender<JobNews>>,
    /// Says that the process is gone, and then whether the unit counts as failed.
    end: watch::Sender<Option<bool>>,
}

impl Table {
    /// Takes up a unit that is about to be started or looked for: from here on it is listened to. Returns what becomes of
    /// its jobs; none where the unit is there already.
    pub(super) fn prepare(&mut self, unit: &Arc<str>, launch: Launch) -> Option<mpsc::Receiver<JobNews>> {
        if self.0.contains_key(unit) {
            return None;
        }
        let (jobs, news) = mpsc::channel(JOBS);
        let entry = Entry {
            launch,
            invocation: None,
            told: Told::default(),
            stop_asked: false,
            others_job: false,
            frozen: false,
            jobs: Some(jobs),
            end: watch::Sender::new(None),
        };
        self.0.insert(unit.clone(), entry);
        Some(news)
    }

    /// There is no process after all.
    pub(super) fn forget(&mut self, unit: &str) {
        self.0.remove(unit);
    }

    /// What was last said about a unit.
    pub(super) fn told(&self, unit: &str) -> Told {
        self.0.get(unit).map(|entry| entry.told.clone()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn contains(&self, unit: &str) -> bool {
        self.0.contains_key(unit)
    }

    /// The process of a unit is known: this run of it.
    pub(super) fn confirm(&mut self, unit: &str, invocation: Arc<str>) -> Vec<Event> {
        if let Some(entry) = self.0.get_mut(unit) {
            entry.invocation = Some(invocation);
            entry.jobs = None;
        }
        self.evaluate(unit)
    }

    /// systemd said this about a unit, just now.
    pub(super) fn hear(
        &mut self,
        unit: &str,
        of_unit: Option<OfUnit>,
        of_service: Option<OfService>,
    ) -> Vec<Event> {
        let Some(entry) = self.0.get_mut(unit) else { return Vec::new() };
        if let Some(said) = of_unit {
            if entry.invocation.is_some() {
                // A job is gone when a unit that lives has none.
                entry.others_job = said.has_job || (entry.others_job && !said.alive);
            }
            entry.told.unit = Some(said);
        }
        if let Some(said) = of_service {
            entry.told.service = Some(said);
        }
        self.evaluate(unit)
    }

    /// systemd answered this when it was asked about a unit. What it said meanwhile without being asked is newer.
    pub(super) fn learn(
        &mut self,
        unit: &str,
        of_unit: Option<OfUnit>,
        of_service: Option<OfService>,
    ) -> Vec<Event> {
        if let Some(entry) = self.0.get_mut(unit) {
            entry.told.unit = entry.told.unit.take().or(of_unit);
            entry.told.service = entry.told.service.take().or(of_service);
        }
        self.evaluate(unit)
    }

    /// What was said may be out of date: everything has to be asked anew.
    pub(super) fn doubt(&mut self) {
        for entry in self.0.values_mut() {
            entry.told = Told::default();
            if let Some(jobs) = &entry.jobs {
                // Where it is full there is enough to look at.
                let _ = jobs.try_send(JobNews::Missed);
            }
        }
    }

    /// Somebody wants something of a unit.
    pub(super) fn job_new(&mut self, unit: &str) {
        if let Some(entry) = self.0.get_mut(unit).filter(|entry| entry.invocation.is_some()) {
            entry.others_job = true;
        }
    }

    pub(super) fn job_removed(&mut self, unit: &str, job: &str, result: &str) {
        if let Some(jobs) = self.0.get(unit).and_then(|entry| entry.jobs.as_ref()) {
            let _ = jobs.try_send(JobNews::Removed(job.to_owned(), result.to_owned()));
        }
    }

    /// systemd does not have a unit loaded any more. It says so of all units while it reads its files anew, so it has to be
    /// asked what that means; whether there is somebody to whom it matters.
    pub(super) fn removed(&mut self, unit: &str) -> bool {
        let entry = self.0.get_mut(unit).filter(|entry| entry.invocation.is_some());
        // How it ended is known from before, or by nobody.
        entry.map(|entry| entry.told.unit = None).is_some()
    }

    /// We want it to end. Returns what says that it has; none where this run of it has ended already.
    pub(super) fn ask_stop(&mut self, unit: &str, invocation: &str) -> Option<watch::Receiver<Option<bool>>> {
        let entry = self.0.get_mut(unit).filter(|entry| entry.invocation.as_deref() == Some(invocation))?;
        entry.stop_asked = true;
        Some(entry.end.subscribe())
    }

    /// It could not be ended, so an end that comes later is no wish of ours.
    pub(super) fn take_stop_back(&mut self, unit: &str) {
        if let Some(entry) = self.0.get_mut(unit) {
            entry.stop_asked = false;
        }
    }

    /// Compares what is known with what was said.
    fn evaluate(&mut self, unit: &str) -> Vec<Event> {
        let Some((name, entry)) = self.0.get_key_value(unit) else { return Vec::new() };
        let (name, Some(known)) = (name.clone(), entry.invocation.clone()) else { return Vec::new() };
        let said = entry.told.unit.clone();
        let gone = said.as_ref().is_some_and(|said| !said.alive && !said.has_job);
        if gone {
            let Some(entry) = self.0.remove(unit) else { return Vec::new() };
            let same_run = said
                .as_ref()
                .is_none_or(|said| said.invocation.is_none() || said.invocation.as_deref() == Some(&*known));
            let exit = entry.told.service.as_ref().map_or(Exit::Unknown, OfService::exit);
            // An operator's restart that failed is a failure; what he stopped ended as he wished.
            let exit = if entry.others_job && !entry.stop_asked && same_run { Exit::Stopped } else { exit };
            entry.end.send_replace(Some(said.is_some_and(|said| said.state == "failed")));
            return vec![Event::Ended(entry.launch, exit)];
        }
        let (Some(said), Some(entry)) = (said, self.0.get_mut(unit)) else { return Vec::new() };
        let mut events = Vec::new();
        if let Some(new) = said.invocation.filter(|new| *new != known)
            && said.state == "active"
        {
            let pid = entry.told.service.as_ref().map_or(0, |said| said.main_pid);
            // While the pid is not known there is more to come.
            if pid == 0 {
                return events;
            }
            entry.invocation = Some(new.clone());
            entry.others_job = false;
            entry.stop_asked = false;
            entry.frozen = false;
            // Who waits for the end of the earlier process need not wait any more.
            entry.end.send_replace(Some(false));
            entry.end = watch::Sender::new(None);
            let handle = Handle::Unit { name, invocation_id: new, pid };
            events.push(Event::Replaced(entry.launch.clone(), handle));
        }
        if let Some(frozen) = said.frozen.filter(|frozen| *frozen != entry.frozen) {
            entry.frozen = frozen;
            events.push(Event::Frozen(entry.launch.clone(), frozen));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::Generation;
    use crate::model::name::ClientName;

    const UNIT: &str = "wqclient@a.service";

    fn launch() -> Launch {
        Launch { name: ClientName::new("a").unwrap(), generation: Generation(7) }
    }

    fn running() -> Table {
        let mut table = Table::default();
        table.prepare(&UNIT.into(), launch()).unwrap();
        assert!(say(&mut table, "active", "1", 0).is_empty());
        assert!(table.confirm(UNIT, "1".into()).is_empty());
        table
    }

    fn of_unit(state: &str, invocation: &str, job: u32) -> Option<OfUnit> {
        Some(OfUnit {
            alive: super::super::told::is_alive(state),
            state: state.into(),
            invocation: (!invocation.is_empty()).then(|| invocation.into()),
            has_job: job != 0,
            frozen: None,
        })
    }

    fn of_service(result: &str, code: i32, status: i32, main_pid: u32) -> Option<OfService> {
        Some(OfService { main_pid, last_pid: main_pid, result: result.into(), code, status })
    }

    fn say(table: &mut Table, state: &str, invocation: &str, job: u32) -> Vec<Event> {
        table.hear(UNIT, of_unit(state, invocation, job), None)
    }

    fn ended(exit: Exit) -> Vec<Event> {
        vec![Event::Ended(launch(), exit)]
    }

    #[test]
    fn an_end_is_told_once_and_how() {
        let mut table = running();
        assert!(table.hear(UNIT, None, of_service("exit-code", 1, 7, 0)).is_empty());
        assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Code(7)));
        assert!(say(&mut table, "failed", "1", 0).is_empty() && !table.removed(UNIT));
    }

    #[test]
    fn an_operators_stop_is_no_failure_whatever_it_looks_like() {
        for (state, service) in [
            ("inactive", of_service("success", 1, 0, 0)),
            ("inactive", of_service("success", 2, 15, 0)),
            ("failed", of_service("timeout", 2, 9, 0)),
        ] {
            let mut table = running();
            table.job_new(UNIT);
            assert!(say(&mut table, "deactivating", "1", 5).is_empty());
            table.hear(UNIT, None, service);
            assert!(say(&mut table, state, "1", 5).is_empty(), "the job may be a restart");
            assert_eq!(say(&mut table, state, "1", 0), ended(Exit::Stopped));
        }
    }

    #[test]
    fn a_job_that_is_over_is_not_held_against_a_later_end() {
        let mut table = running();
        table.job_new(UNIT);
        assert!(say(&mut table, "active", "1", 0).is_empty());
        table.hear(UNIT, None, of_service("signal", 2, 9, 0));
        assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
    }

    #[test]
    fn our_own_stop_tells_the_signal() {
        let mut table = running();
        let end = table.ask_stop(UNIT, "1").unwrap();
        assert!(table.ask_stop(UNIT, "0").is_none(), "another run");
        table.job_new(UNIT);
        table.hear(UNIT, None, of_service("signal", 2, 9, 0));
        assert_eq!(say(&mut table, "failed", "1", 0), ended(Exit::Signal(9)));
        assert_eq!(*end.borrow(), Some(true), "to be reset");
    }

    #[test]
    fn a_restart_is_the_same_launch_with_another_process() {
        let mut table = running();
        table.job_new(UNIT);
        assert!(say(&mut table, "inactive", "1", 5).is_empty());
        assert!(say(&mut table, "activating", "2", 5).is_empty());
        assert!(table.hear(UNIT, None, of_service("success", 0, 0, 88)).is_empty());
        let handle = Handle::Unit { name: UNIT.into(), invocation_id: "2".into(), pid: 88 };
        assert_eq!(say(&mut table, "active", "2", 5), [Event::Replaced(launch(), handle)]);
        assert!(say(&mut table, "active", "2", 0).is_empty());
        table.hear(UNIT, None, of_service("success", 1, 0, 0));
        assert_eq!(say(&mut table, "inactive", "2", 0), ended(Exit::Code(0)));
    }

    #[test]
    fn a_restart_that_fails_is_a_failure() {
        let mut table = running();
        table.job_new(UNIT);
        say(&mut table, "inactive", "1", 5);
        table.hear(UNIT, None, of_service("exit-code", 1, 243, 0));
        assert_eq!(say(&mut table, "failed", "2", 0), ended(Exit::Code(243)));
    }

    #[test]
    fn what_is_not_loaded_any_more_is_asked_about() {
        let mut table = running();
        table.hear(UNIT, None, of_service("success", 1, 0, 0));
        assert!(table.removed(UNIT));
        let unloaded = table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0));
        assert_eq!(unloaded, ended(Exit::Code(0)), "how is known from before");

        let mut table = running();
        assert!(table.removed(UNIT));
        let reloaded = table.learn(UNIT, of_unit("active", "1", 0), of_service("success", 0, 0, 77));
        assert!(reloaded.is_empty());
    }

    #[test]
    fn an_end_before_the_start_is_known_is_told_after_it() {
        let mut table = Table::default();
        table.prepare(&UNIT.into(), launch()).unwrap();
        table.hear(UNIT, None, of_service("exit-code", 1, 3, 0));
        assert!(say(&mut table, "failed", "1", 0).is_empty());
        assert_eq!(table.confirm(UNIT, "1".into()), ended(Exit::Code(3)));
    }

    #[test]
    fn what_is_asked_never_overrules_what_was_said_since() {
        let mut table = running();
        table.doubt();
        say(&mut table, "active", "1", 0);
        assert!(table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0)).is_empty());
        table.doubt();
        let gone = table.learn(UNIT, of_unit("inactive", "", 0), of_service("success", 0, 0, 0));
        assert_eq!(gone, ended(Exit::Clean));
    }

    #[test]
    fn who_starts_hears_of_jobs_and_of_doubt() {
        let mut table = Table::default();
        let mut news = table.prepare(&UNIT.into(), launch()).unwrap();
        assert!(table.prepare(&UNIT.into(), launch()).is_none());
        table.job_removed(UNIT, "/job/1", "done");
        table.doubt();
        assert_eq!(news.try_recv(), Ok(JobNews::Removed("/job/1".into(), "done".into())));
        assert_eq!(news.try_recv(), Ok(JobNews::Missed));
    }

    #[test]
    fn freezing_is_told() {
        let mut table = running();
        let mut frozen = |frozen| {
            let said = OfUnit { frozen: Some(frozen), ..of_unit("active", "1", 0).unwrap() };
            table.hear(UNIT, Some(said), None)
        };
        assert_eq!(frozen(true), [Event::Frozen(launch(), true)]);
        assert!(frozen(true).is_empty());
        assert_eq!(frozen(false), [Event::Frozen(launch(), false)]);
    }
}
