//! [`UnitTable`]: the units that are clients, and the last known properties of each. It turns signals and replies of systemd into
//! events, and reports each exit once. It does no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::properties::{CachedProps, ServiceProps, UnitProps};
use crate::model::client::{Exit, Generation, Handle};
use crate::model::fleet::{Launch, ProcessEvent};

/// How many job events of one unit may wait to be read.
const MAX_JOB_EVENTS: usize = 16;

/// What becomes of the jobs of a unit that is being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobEvent {
    /// A job ended: its object path and its result.
    Removed(String, String),
    /// Jobs may have ended unseen: the connection was lost, or systemd reloaded.
    Missed,
}

/// Whether a unit can be reloaded.
#[derive(Debug)]
pub(super) enum Reloadable {
    /// It can. Its job events come here.
    Now(mpsc::Receiver<JobEvent>),
    /// Not now: it is frozen, or is being reloaded.
    Later,
    /// It does not run with the environment of this launch.
    No,
}

/// The units that are clients, by name.
#[derive(Debug, Default)]
pub(super) struct UnitTable {
    units: HashMap<Arc<str>, TrackedUnit>,
    /// Clients that do not run and still have a launch file, so that an operator can start them.
    stopped: HashMap<Arc<str>, Launch>,
}

#[derive(Debug)]
struct TrackedUnit {
    launch: Launch,
    /// Whether it is the built-in client, whose exit statuses have a meaning.
    built_in: bool,
    /// The InvocationID of the client's process. None while the unit is being started or adopted.
    invocation: Option<Arc<str>>,
    props: CachedProps,
    /// Whether the controller has requested the stop.
    stop_asked: bool,
    /// Whether there is a job that the controller did not queue. For a unit that runs it is a stop or a restart.
    others_job: bool,
    /// Whether the controller reloads it.
    is_reloading: bool,
    frozen: bool,
    jobs: Option<mpsc::Sender<JobEvent>>,
    /// Set when the process has exited: whether the unit is in the state `failed`.
    end: watch::Sender<Option<bool>>,
}

impl TrackedUnit {
    fn new(launch: Launch) -> Self {
        Self {
            launch,
            built_in: false,
            invocation: None,
            props: CachedProps::default(),
            stop_asked: false,
            others_job: false,
            is_reloading: false,
            frozen: false,
            jobs: None,
            end: watch::Sender::new(None),
        }
    }
}

impl UnitTable {
    /// Adds a unit that is about to be started or adopted, so that its signals count from now on. Returns its job events; None
    /// where the unit is in the table already.
    pub(super) fn prepare(&mut self, unit: &Arc<str>, launch: Launch) -> Option<mpsc::Receiver<JobEvent>> {
        // A second entry would take the exit of the first one's process for its own.
        if self.units.contains_key(unit) {
            return None;
        }
        let (jobs, news) = mpsc::channel(MAX_JOB_EVENTS);
        self.units.insert(unit.clone(), TrackedUnit { jobs: Some(jobs), ..TrackedUnit::new(launch) });
        self.stopped.remove(unit);
        Some(news)
    }

    /// Sets whether the process of a unit is the built-in client.
    pub(super) fn set_built_in(&mut self, unit: &str, built_in: bool) {
        if let Some(entry) = self.units.get_mut(unit) {
            entry.built_in = built_in;
        }
    }

    /// Notes that a client does not run and can be started by an operator.
    pub(super) fn put_stopped(&mut self, unit: &Arc<str>, launch: Launch) {
        self.units.remove(unit);
        self.stopped.insert(unit.clone(), launch);
    }

    /// The launch of a client that does not run and can be started by an operator.
    pub(super) fn stopped_launch(&self, unit: &str) -> Option<Launch> {
        self.stopped.get(unit).cloned()
    }

    /// Removes a forgotten client, unless a later launch of it is stopped.
    pub(super) fn remove_stopped(&mut self, unit: &str, forgotten: Generation) {
        if self.stopped.get(unit).is_some_and(|launch| launch.generation <= forgotten) {
            self.stopped.remove(unit);
        }
    }

    /// Adopts a stopped client that an operator has started, with the properties that systemd gives for it. None where the unit is
    /// no stopped client, or has no process yet.
    pub(super) fn readopt(
        &mut self,
        unit: &Arc<str>,
        unit_props: UnitProps,
        service_props: ServiceProps,
        built_in: bool,
    ) -> Option<Vec<ProcessEvent>> {
        let invocation = unit_props.invocation.clone().filter(|_| service_props.main_pid != 0)?;
        let launch = self.stopped.remove(unit)?;
        let handle = Handle::Unit {
            name: unit.clone(),
            invocation_id: invocation.clone(),
            pid: service_props.main_pid,
        };
        let mut entry = TrackedUnit::new(launch.clone());
        entry.invocation = Some(invocation);
        entry.built_in = built_in;
        entry.props = CachedProps { unit: Some(unit_props), service: Some(service_props) };
        self.units.insert(unit.clone(), entry);
        let mut events = vec![ProcessEvent::Replaced(launch, handle)];
        events.append(&mut self.reconcile(unit));
        Some(events)
    }

    /// The process that runs as a unit, and the launch whose environment it runs with. None where no process is known.
    pub(super) fn running(&self, unit: &Arc<str>) -> Option<(Launch, Handle)> {
        let entry = self.units.get(unit)?;
        let pid = entry.props.service.as_ref().map(|said| said.main_pid).filter(|pid| *pid != 0)?;
        let invocation_id = entry.invocation.clone()?;
        Some((entry.launch.clone(), Handle::Unit { name: unit.clone(), invocation_id, pid }))
    }

    /// Removes a unit whose start failed.
    pub(super) fn forget(&mut self, unit: &str) {
        self.units.remove(unit);
    }

    /// The last known properties of a unit.
    pub(super) fn known(&self, unit: &str) -> CachedProps {
        self.units.get(unit).map(|entry| entry.props.clone()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.units.keys().cloned().collect()
    }

    pub(super) fn contains(&self, unit: &str) -> bool {
        self.units.contains_key(unit)
    }

    /// Sets the InvocationID of a client's process. An exit that was signalled before is reported now.
    pub(super) fn confirm(&mut self, unit: &str, invocation: Arc<str>) -> Vec<ProcessEvent> {
        if let Some(entry) = self.units.get_mut(unit) {
            entry.invocation = Some(invocation);
            // The start is over; a reload needs the place.
            entry.jobs = None;
        }
        self.reconcile(unit)
    }

    /// Expects the job of a reload that the controller is about to request of a unit.
    pub(super) fn expect_reload(&mut self, unit: &str, launch: &Launch) -> Reloadable {
        let entry = self.units.get_mut(unit).filter(|entry| entry.launch == *launch);
        let Some(entry) = entry.filter(|entry| entry.invocation.is_some()) else { return Reloadable::No };
        // In a frozen unit the launcher would freeze as well. Job events have one receiver, which a start or reload has now.
        if entry.frozen || entry.jobs.is_some() {
            return Reloadable::Later;
        }
        let (jobs, news) = mpsc::channel(MAX_JOB_EVENTS);
        (entry.jobs, entry.is_reloading) = (Some(jobs), true);
        Reloadable::Now(news)
    }

    /// Notes that the reload of a unit is over.
    pub(super) fn end_reload(&mut self, unit: &str, launch: &Launch) {
        let entry = self.units.get_mut(unit).filter(|entry| entry.launch == *launch && entry.is_reloading);
        if let Some(entry) = entry {
            (entry.jobs, entry.is_reloading) = (None, false);
        }
    }

    /// Takes the properties of a signal.
    pub(super) fn on_signal(
        &mut self,
        unit: &str,
        unit_props: Option<UnitProps>,
        service_props: Option<ServiceProps>,
    ) -> Vec<ProcessEvent> {
        let Some(entry) = self.units.get_mut(unit) else { return Vec::new() };
        if let Some(said) = unit_props {
            if entry.invocation.is_some() {
                // The job of an operator is over once a living unit has none. For a unit that has ended it still counts: it
                // explains the end. A reload never does, no matter who requested it.
                let reloads = said.state == "reloading" || entry.is_reloading && said.state == "active";
                entry.others_job = said.has_job && !reloads || entry.others_job && !said.alive;
            }
            entry.props.unit = Some(said);
        }
        if let Some(said) = service_props {
            entry.props.service = Some(said);
        }
        self.reconcile(unit)
    }

    /// Takes what the cgroup of a unit shows.
    pub(super) fn on_freezer_state(&mut self, unit: &str, frozen: bool) -> Vec<ProcessEvent> {
        // Without properties a request is in progress, and its reply includes the freezer state.
        if let Some(said) = self.units.get_mut(unit).and_then(|entry| entry.props.unit.as_mut()) {
            said.frozen = Some(frozen);
        }
        self.reconcile(unit)
    }

    /// Takes the properties of a reply. Those of a signal that came since the request are newer and stay.
    pub(super) fn on_reply(
        &mut self,
        unit: &str,
        unit_props: Option<UnitProps>,
        service_props: Option<ServiceProps>,
    ) -> Vec<ProcessEvent> {
        if let Some(entry) = self.units.get_mut(unit) {
            entry.props.unit = entry.props.unit.take().or(unit_props);
            entry.props.service = entry.props.service.take().or(service_props);
        }
        self.reconcile(unit)
    }

    /// Marks all properties as outdated: signals may have been lost.
    pub(super) fn invalidate(&mut self) {
        for entry in self.units.values_mut() {
            entry.props = CachedProps::default();
            if let Some(jobs) = &entry.jobs {
                // A full queue has enough events to cause another look.
                let _ = jobs.try_send(JobEvent::Missed);
            }
        }
    }

    /// Notes a new job of a unit.
    pub(super) fn job_new(&mut self, unit: &str) {
        // The controller's own stop queues a job as well: `reconcile` tells it apart by `stop_asked`.
        let running = |entry: &&mut TrackedUnit| entry.invocation.is_some() && !entry.is_reloading;
        if let Some(entry) = self.units.get_mut(unit).filter(running) {
            entry.others_job = true;
        }
    }

    pub(super) fn job_removed(&mut self, unit: &str, job: &str, result: &str) {
        if let Some(jobs) = self.units.get(unit).and_then(|entry| entry.jobs.as_ref()) {
            // Fails where nothing waits for it any more. Where the queue is full, the start asks systemd at its deadline.
            let _ = jobs.try_send(JobEvent::Removed(job.to_owned(), result.to_owned()));
        }
    }

    /// Notes that a unit was unloaded. systemd signals that of every unit while it reloads its configuration, so the state has to
    /// be requested. Returns whether the unit is a client that runs.
    pub(super) fn removed(&mut self, unit: &str) -> bool {
        let entry = self.units.get_mut(unit).filter(|entry| entry.invocation.is_some());
        // The properties of the service stay: an unloaded unit has none, so those last signalled tell how it ended.
        entry.map(|entry| entry.props.unit = None).is_some()
    }

    /// Notes that the controller stops a process. Returns what is set when it has exited; None where it has exited already.
    pub(super) fn ask_stop(&mut self, unit: &str, invocation: &str) -> Option<watch::Receiver<Option<bool>>> {
        let entry =
            self.units.get_mut(unit).filter(|entry| entry.invocation.as_deref() == Some(invocation))?;
        entry.stop_asked = true;
        Some(entry.end.subscribe())
    }

    /// Notes that the stop failed, so that a later exit is not the controller's doing.
    pub(super) fn cancel_stop(&mut self, unit: &str) {
        if let Some(entry) = self.units.get_mut(unit) {
            entry.stop_asked = false;
        }
    }

    /// Derives events from the properties: an exit, a restart, a freeze.
    fn reconcile(&mut self, unit: &str) -> Vec<ProcessEvent> {
        let Some((name, entry)) = self.units.get_key_value(unit) else { return Vec::new() };
        let (name, Some(known)) = (name.clone(), entry.invocation.clone()) else { return Vec::new() };
        let said = entry.props.unit.clone();
        // With a job queued it is about to run again: a restart is no exit.
        let gone = said.as_ref().is_some_and(|said| !said.alive && !said.has_job);
        if gone {
            // Removed at once, so that no later signal reports the exit again.
            let Some(entry) = self.units.remove(unit) else { return Vec::new() };
            let same_run = said
                .as_ref()
                .is_none_or(|said| said.invocation.is_none() || said.invocation.as_deref() == Some(&*known));
            let service = entry.props.service.as_ref();
            let exit = service.map_or(Exit::Unknown, ServiceProps::exit).of(entry.built_in);
            let words = service.and_then(|said| said.status_text.clone());
            // An exit under the job of an operator is a stop by the operator. A restart that failed has another InvocationID and
            // counts as a failure.
            let exit = if entry.others_job && !entry.stop_asked && same_run { Exit::Stopped } else { exit };
            entry.end.send_replace(Some(said.is_some_and(|said| said.state == "failed")));
            // An operator can start it until the client is forgotten, also while the controller waits to restart it.
            self.stopped.insert(name, entry.launch.clone());
            let words = words.map(|words| ProcessEvent::LastWords(entry.launch.clone(), words));
            return words.into_iter().chain([ProcessEvent::Exited(entry.launch, exit)]).collect();
        }
        let (Some(said), Some(entry)) = (said, self.units.get_mut(unit)) else { return Vec::new() };
        let mut events = Vec::new();
        if let Some(new) = said.invocation.filter(|new| *new != known)
            && said.state == "active"
        {
            let pid = entry.props.service.as_ref().map_or(0, |said| said.main_pid);
            // The signal with the pid follows.
            if pid == 0 {
                return events;
            }
            entry.invocation = Some(new.clone());
            entry.others_job = false;
            entry.stop_asked = false;
            entry.frozen = false;
            // The earlier process has exited, so its waiters are released.
            entry.end.send_replace(Some(false));
            entry.end = watch::Sender::new(None);
            let handle = Handle::Unit { name, invocation_id: new, pid };
            events.push(ProcessEvent::Replaced(entry.launch.clone(), handle));
        }
        if let Some(frozen) = said.frozen.filter(|frozen| *frozen != entry.frozen) {
            entry.frozen = frozen;
            events.push(ProcessEvent::Frozen(entry.launch.clone(), frozen));
        }
        events
    }
}

#[cfg(test)]
mod tests;
