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
pub(super) struct Table {
    units: HashMap<Arc<str>, Entry>,
    /// Those that do not run, and whose launch files are there still: an operator can start them.
    aside: HashMap<Arc<str>, Launch>,
}

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

impl Entry {
    fn new(launch: Launch) -> Self {
        Self {
            launch,
            invocation: None,
            told: Told::default(),
            stop_asked: false,
            others_job: false,
            frozen: false,
            jobs: None,
            end: watch::Sender::new(None),
        }
    }
}

impl Table {
    /// Takes up a unit that is about to be started or looked for: from here on it is listened to. Returns what becomes of
    /// its jobs; none where the unit is there already.
    pub(super) fn prepare(&mut self, unit: &Arc<str>, launch: Launch) -> Option<mpsc::Receiver<JobNews>> {
        if self.units.contains_key(unit) {
            return None;
        }
        let (jobs, news) = mpsc::channel(JOBS);
        self.units.insert(unit.clone(), Entry { jobs: Some(jobs), ..Entry::new(launch) });
        self.aside.remove(unit);
        Some(news)
    }

    /// A client does not run, and may be started by an operator.
    pub(super) fn put_aside(&mut self, unit: &Arc<str>, launch: Launch) {
        self.units.remove(unit);
        self.aside.insert(unit.clone(), launch);
    }

    /// The launch of a client that does not run and may be started by an operator.
    pub(super) fn set_aside(&self, unit: &str) -> Option<Launch> {
        self.aside.get(unit).cloned()
    }

    /// There is no client any more that could be started.
    pub(super) fn drop_aside(&mut self, unit: &str) {
        self.aside.remove(unit);
    }

    /// An operator started a client that was put aside, and this is what systemd says of it. None where it is none of those.
    pub(super) fn rejoin(
        &mut self,
        unit: &Arc<str>,
        of_unit: OfUnit,
        of_service: OfService,
    ) -> Option<Vec<Event>> {
        let invocation = of_unit.invocation.clone().filter(|_| of_service.main_pid != 0)?;
        let launch = self.aside.remove(unit)?;
        let handle =
            Handle::Unit { name: unit.clone(), invocation_id: invocation.clone(), pid: of_service.main_pid };
        let mut entry = Entry::new(launch.clone());
        entry.invocation = Some(invocation);
        entry.told = Told { unit: Some(of_unit), service: Some(of_service) };
        self.units.insert(unit.clone(), entry);
        let mut events = vec![Event::Replaced(launch, handle)];
        events.append(&mut self.evaluate(unit));
        Some(events)
    }

    /// There is no process after all.
    pub(super) fn forget(&mut self, unit: &str) {
        self.units.remove(unit);
    }

    /// What was last said about a unit.
    pub(super) fn told(&self, unit: &str) -> Told {
        self.units.get(unit).map(|entry| entry.told.clone()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.units.keys().cloned().collect()
    }

    pub(super) fn contains(&self, unit: &str) -> bool {
        self.units.contains_key(unit)
    }

    /// The process of a unit is known: this run of it.
    pub(super) fn confirm(&mut self, unit: &str, invocation: Arc<str>) -> Vec<Event> {
        if let Some(entry) = self.units.get_mut(unit) {
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
        let Some(entry) = self.units.get_mut(unit) else { return Vec::new() };
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

    /// The cgroup of a unit says whether it is frozen.
    pub(super) fn hear_frozen(&mut self, unit: &str, frozen: bool) -> Vec<Event> {
        // Where nothing is known of it all is being asked for, this too.
        if let Some(said) = self.units.get_mut(unit).and_then(|entry| entry.told.unit.as_mut()) {
            said.frozen = Some(frozen);
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
        if let Some(entry) = self.units.get_mut(unit) {
            entry.told.unit = entry.told.unit.take().or(of_unit);
            entry.told.service = entry.told.service.take().or(of_service);
        }
        self.evaluate(unit)
    }

    /// What was said may be out of date: everything has to be asked anew.
    pub(super) fn doubt(&mut self) {
        for entry in self.units.values_mut() {
            entry.told = Told::default();
            if let Some(jobs) = &entry.jobs {
                // Where it is full there is enough to look at.
                let _ = jobs.try_send(JobNews::Missed);
            }
        }
    }

    /// Somebody wants something of a unit.
    pub(super) fn job_new(&mut self, unit: &str) {
        if let Some(entry) = self.units.get_mut(unit).filter(|entry| entry.invocation.is_some()) {
            entry.others_job = true;
        }
    }

    pub(super) fn job_removed(&mut self, unit: &str, job: &str, result: &str) {
        if let Some(jobs) = self.units.get(unit).and_then(|entry| entry.jobs.as_ref()) {
            let _ = jobs.try_send(JobNews::Removed(job.to_owned(), result.to_owned()));
        }
    }

    /// systemd does not have a unit loaded any more. It says so of all units while it reads its files anew, so it has to be
    /// asked what that means; whether there is somebody to whom it matters.
    pub(super) fn removed(&mut self, unit: &str) -> bool {
        let entry = self.units.get_mut(unit).filter(|entry| entry.invocation.is_some());
        // How it ended is known from before, or by nobody.
        entry.map(|entry| entry.told.unit = None).is_some()
    }

    /// We want it to end. Returns what says that it has; none where this run of it has ended already.
    pub(super) fn ask_stop(&mut self, unit: &str, invocation: &str) -> Option<watch::Receiver<Option<bool>>> {
        let entry =
            self.units.get_mut(unit).filter(|entry| entry.invocation.as_deref() == Some(invocation))?;
        entry.stop_asked = true;
        Some(entry.end.subscribe())
    }

    /// It could not be ended, so an end that comes later is no wish of ours.
    pub(super) fn take_stop_back(&mut self, unit: &str) {
        if let Some(entry) = self.units.get_mut(unit) {
            entry.stop_asked = false;
        }
    }

    /// Compares what is known with what was said.
    fn evaluate(&mut self, unit: &str) -> Vec<Event> {
        let Some((name, entry)) = self.units.get_key_value(unit) else { return Vec::new() };
        let (name, Some(known)) = (name.clone(), entry.invocation.clone()) else { return Vec::new() };
        let said = entry.told.unit.clone();
        let gone = said.as_ref().is_some_and(|said| !said.alive && !said.has_job);
        if gone {
            let Some(entry) = self.units.remove(unit) else { return Vec::new() };
            let same_run = said
                .as_ref()
                .is_none_or(|said| said.invocation.is_none() || said.invocation.as_deref() == Some(&*known));
            let exit = entry.told.service.as_ref().map_or(Exit::Unknown, OfService::exit);
            // An operator's restart that failed is a failure; what he stopped ended as he wished.
            let exit = if entry.others_job && !entry.stop_asked && same_run { Exit::Stopped } else { exit };
            entry.end.send_replace(Some(said.is_some_and(|said| said.state == "failed")));
            if exit.is_imposed() {
                self.aside.insert(name, entry.launch.clone());
            }
            return vec![Event::Ended(entry.launch, exit)];
        }
        let (Some(said), Some(entry)) = (said, self.units.get_mut(unit)) else { return Vec::new() };
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
mod tests;
