//! How a unit is started: its launch file, its properties, its job, and which process came of it.

use std::fs;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};
use zbus::OwnedObjectPath;

use super::bus::Has;
use super::error::BusError;
use super::launch::LaunchFile;
use super::link::{Link, word};
use super::manager::Properties;
use super::table::JobNews;
use super::told::{OfUnit, Told};
use super::witness::Witness;
use super::{JOB_PATIENCE, Shared, unit};
use crate::config::{LimitSettings, UnitKind};
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::model::client::Handle;
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::supervisor::{LaunchPlan, Program, StartError};
use crate::template;

/// How often a start is asked for that systemd does not hear of.
const ATTEMPTS: u32 = 3;
/// Why there is no process where systemd has done all that it should.
const GONE: &str =
    "it ended before systemd could be asked about it, or a condition in its unit file does not hold";

impl Shared {
    pub(super) async fn start(
        self: Arc<Self>,
        unit: Arc<str>,
        plan: LaunchPlan,
    ) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let id = plan.launch.name.unit_id();
        let (launch, limits) = (plan.launch.clone(), plan.limits);
        let mut announced = locked(&self.announced).remove(&launch);
        let _turn = match self.starts.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                // What was asked may not be so any more when it is this one's turn.
                announced = None;
                self.starts.acquire().await
            }
        };
        let (state, has) = match announced {
            Some(asked) => asked.await.map_err(|error| internal(&unit, &error))?.map_err(refused)?,
            None => self.bus.before_start(&unit).await.map_err(refused)?,
        };
        match state.as_str() {
            "inactive" => {}
            "failed" => self.reset(&unit).await.map_err(refused)?,
            // Its launch file must stay as it is.
            _ => return Err(StartError::NotOurs(unit, state)),
        }
        let shared = self.clone();
        let written = tokio::task::spawn_blocking(move || shared.write_launch_file(plan));
        let witness = written.await.unwrap_or_else(|error| Err(internal(&unit, &error)))?;
        let Some(mut news) = self.bus.table().prepare(&unit, launch.clone()) else {
            return Err(StartError::NotOurs(unit, state));
        };
        let started = self.bring_up(&unit, &id, (limits, has), (witness.as_ref(), &mut news)).await;
        // To close it may take the kernel some milliseconds, and nobody need wait for that.
        tokio::task::spawn_blocking(move || drop(witness));
        if started.is_err() {
            self.bus.table().forget(&unit);
            self.clone().discard(launch).await;
        }
        started
    }

    /// A launch will come: asks about its unit meanwhile.
    pub(super) fn announce(&self, launch: &Launch) {
        let unit = unit::name_of(self.settings.unit, launch.name.unit_id().as_str());
        let bus = self.bus.clone();
        let question = tokio::spawn(async move { bus.before_start(&unit).await });
        let mut announced = locked(&self.announced);
        // An earlier one of this client did not come.
        announced.retain(|earlier, _| earlier.name != launch.name);
        announced.insert(launch.clone(), question);
    }

    /// Removes the launch file of this launch, which holds secrets, unless a later one has written another.
    pub(super) async fn discard(self: Arc<Self>, launch: Launch) {
        let unit = unit::name_of(self.settings.unit, launch.name.unit_id().as_str());
        let remove = move || {
            let _held = locked(&self.launch_files);
            let (folder, id) = (&self.bus.launches, launch.name.unit_id());
            locked(&self.announced).remove(&launch);
            if LaunchFile::generation_in(folder, &id) == Some(launch.generation) {
                self.bus.table().drop_aside(&unit);
                // Where it can't be removed the next start replaces it.
                let _ = fs::remove_file(folder.join(id.as_str()));
            }
        };
        // Fails only when the runtime ends.
        let _ = tokio::task::spawn_blocking(remove).await;
    }

    /// Checks what is to be executed, as far as that can be seen from outside of the unit, and writes its launch file. What sees
    /// whether that is opened, where the system has enough for that. Blocks on the file system.
    fn write_launch_file(&self, plan: LaunchPlan) -> Result<Option<Witness>, StartError> {
        let Program::Template(template) = plan.program else { return Err(StartError::OtherSupervisor) };
        if let Some(path) = &template {
            template::command(path, &plan.launch.name)?;
        }
        let (folder, id) = (&self.bus.launches, plan.launch.name.unit_id());
        let file = LaunchFile::new(plan.launch.generation, template, plan.env);
        let _held = locked(&self.launch_files);
        let path = folder.join(id.as_str());
        match file.write(folder, &id) {
            Ok(()) => Ok(Witness::of(&path).ok()),
            Err(source) => Err(StartError::LaunchFile { path, source }),
        }
    }

    /// Has systemd start the unit, and finds out which process that is.
    async fn bring_up(
        &self,
        unit: &Arc<str>,
        id: &UnitId,
        (limits, has): (LimitSettings, Has),
        (witness, news): (Option<&Witness>, &mut mpsc::Receiver<JobNews>),
    ) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let ran = || witness.is_none_or(Witness::saw_it_opened);
        let mut attempts = 0;
        let result = loop {
            attempts += 1;
            let (job, lost) = match self.queue(unit, id, limits, &has).await {
                Ok(job) => (Some(job), None),
                // It may have been queued: what systemd did is found out when it can be asked again.
                Err(error) if error.is_lost() => (None, Some(error)),
                Err(error) => return Err(refused(error)),
            };
            match timeout(JOB_PATIENCE, self.job_result(unit, (job, lost), ran, news)).await {
                Ok(Ok(Job::Ended(result))) => break result,
                Ok(Ok(Job::NeverBegun(error))) if attempts < ATTEMPTS => {
                    debug!(unit = %unit, error = %Chain(&error), "systemd did not hear of the start, it is asked again");
                }
                Ok(Ok(Job::NeverBegun(error)) | Err(error)) => return Err(refused(error)),
                Err(_) => break "timeout".to_owned(),
            }
        };
        let told = self.told(unit).await.map_err(refused)?;
        let of_service = told.service.unwrap_or_default();
        let invocation = told.unit.and_then(|said| said.invocation);
        match invocation {
            Some(invocation) if result == "done" || of_service.ran() => {
                let handle = Handle::Unit {
                    name: unit.clone(),
                    invocation_id: invocation.clone(),
                    pid: of_service.last_pid,
                };
                self.bus.watch_freezing(unit);
                let events = self.bus.table().confirm(unit, invocation);
                self.bus.tell(events).await;
                Ok(handle)
            }
            _ => {
                let why = match result.as_str() {
                    "failed" => of_service.failure(),
                    "done" => GONE.to_owned(),
                    other => format!("its job ended as {other}"),
                };
                Err(StartError::Job { unit: unit.clone(), why })
            }
        }
    }

    /// Asks systemd to start the unit; the job.
    async fn queue(
        &self,
        unit: &Arc<str>,
        id: &UnitId,
        limits: LimitSettings,
        has: &Has,
    ) -> Result<OwnedObjectPath, BusError> {
        match self.settings.unit {
            UnitKind::Template => {
                let limits = unit::limits(limits);
                // Most often it has them already.
                if !limits.iter().all(|limit| has.has(limit)) {
                    self.bus.again(|| self.set(unit, Setting::Limits, limits.clone())).await?;
                }
                self.bus.call("StartUnit", async |link| link.manager.start_unit(unit, "fail").await).await
            }
            UnitKind::Transient => {
                let transient = unit::Transient {
                    id,
                    manager: self.settings.manager,
                    slice: &self.settings.slice,
                    executable: &self.executable,
                    launch_file: &self.bus.launches.join(id.as_str()),
                };
                self.set(unit, Setting::All, transient.properties(limits)).await
            }
        }
    }

    /// What became of the job that starts a unit, also where the bus was lost meanwhile. `ran` says whether the unit had a
    /// process.
    async fn job_result(
        &self,
        unit: &Arc<str>,
        (job, mut lost): (Option<OwnedObjectPath>, Option<BusError>),
        ran: impl Fn() -> bool,
        news: &mut mpsc::Receiver<JobNews>,
    ) -> Result<Job, BusError> {
        let mut heard = job.is_some();
        loop {
            if let Some(error) = lost.take() {
                let (of_unit, of_service) = match self.bus.ask(unit).await {
                    Ok(asked) => asked,
                    Err(error) if error.is_lost() && self.bus.is_there() => return Err(error),
                    Err(error) if error.is_lost() => {
                        self.bus.wait().await;
                        lost = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let said = of_unit.clone().unwrap_or_default();
                let has_run = of_service.as_ref().is_some_and(|said| said.last_pid != 0);
                self.bus.table().learn(unit, of_unit, of_service);
                heard |= said.has_job;
                match Seen::of(&said, has_run, heard || ran()) {
                    Seen::UnderWay => {}
                    Seen::Ended(result) => return Ok(Job::Ended(result.to_owned())),
                    Seen::NeverBegun => return Ok(Job::NeverBegun(error)),
                }
            }
            match news.recv().await {
                Some(JobNews::Removed(path, result))
                    if job.as_ref().is_none_or(|job| job.as_str() == path) =>
                {
                    return Ok(Job::Ended(result));
                }
                Some(JobNews::Removed(..)) => {}
                Some(JobNews::Missed) | None => lost = Some(BusError::Away(word(self.bus.kind))),
            }
        }
    }

    /// Everything that was said about a unit; what is missing is asked for.
    async fn told(&self, unit: &Arc<str>) -> Result<Told, BusError> {
        let told = self.bus.table().told(unit);
        let complete = told.unit.as_ref().is_some_and(|said| said.invocation.is_some())
            && told.service.as_ref().is_some_and(|said| said.main_pid != 0 || said.code != 0);
        if complete {
            return Ok(told);
        }
        let (of_unit, of_service) = self.bus.ask(unit).await?;
        self.bus.table().learn(unit, of_unit.clone(), of_service.clone());
        Ok(Told { unit: of_unit, service: of_service })
    }

    /// Sets properties; the job, where a unit of them is started. Properties that this systemd does not have are left out,
    /// which is said once.
    async fn set(
        &self,
        unit: &Arc<str>,
        setting: Setting,
        mut properties: Properties<'static>,
    ) -> Result<OwnedObjectPath, BusError> {
        loop {
            {
                let unknown = locked(&self.unknown);
                properties.retain(|(name, _)| !unknown.contains(*name));
            }
            let (unit, all) = (unit.clone(), properties.clone());
            let called = match setting {
                Setting::Limits => {
                    let call = async move |link: Link| {
                        link.manager.set_unit_properties(&unit, true, &all).await?;
                        Ok(OwnedObjectPath::default())
                    };
                    self.bus.call("SetUnitProperties", call).await
                }
                Setting::All => {
                    let call = async move |link: Link| {
                        link.manager.start_transient_unit(&unit, "fail", &all, &[]).await
                    };
                    self.bus.call("StartTransientUnit", call).await
                }
            };
            let error = match called {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(name) =
                error.unknown_property().filter(|name| properties.iter().any(|(set, _)| set == name))
            else {
                return Err(error);
            };
            let mut unknown = locked(&self.unknown);
            if unknown.insert(name.clone()) {
                warn!(
                    property = name,
                    "this systemd does not know a property of clients' units, it is left out"
                );
            }
        }
    }
}

fn internal(unit: &Arc<str>, error: &tokio::task::JoinError) -> StartError {
    StartError::Job { unit: unit.clone(), why: format!("an internal error: {error}") }
}

/// What a unit says of the job that is to start it, where the end of that may have been missed.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It is queued or under way, and its end will be told.
    UnderWay,
    /// It ended, with this result.
    Ended(&'static str),
    /// There was none.
    NeverBegun,
}

impl Seen {
    /// `has_run` is whether the unit, as it is loaded, has or had a main process; `begun`, whether systemd is known to have had
    /// a job for it, or the unit any process.
    fn of(said: &OfUnit, has_run: bool, begun: bool) -> Self {
        match (said.has_job, said.state.as_str()) {
            (false, "active") => Self::Ended("done"),
            // It ends already, and nothing more will be told of the job.
            (false, "deactivating") if has_run => Self::Ended("done"),
            (false, "failed" | "deactivating") => Self::Ended("failed"),
            // It is over already: asked for again it would run twice, or against the wish of an operator who stopped it.
            (false, "inactive") if begun => Self::Ended("done"),
            (false, "inactive") => Self::NeverBegun,
            _ => Self::UnderWay,
        }
    }
}

/// What became of a job.
enum Job {
    /// It ended, with this result.
    Ended(String),
    /// There was none: the bus was lost before systemd had read the call.
    NeverBegun(BusError),
}

/// What properties are set for.
#[derive(Clone, Copy)]
enum Setting {
    /// The limits of a unit that has a file.
    Limits,
    /// All of a unit that has none, which is started then.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, has_job: bool, has_run: bool, begun: bool) -> Seen {
        Seen::of(&OfUnit { state: state.into(), has_job, ..OfUnit::default() }, has_run, begun)
    }

    #[test]
    fn only_what_was_never_begun_is_asked_for_again() {
        // Of a unit that was forgotten it is not known that it ran.
        assert_eq!(seen("inactive", false, false, false), Seen::NeverBegun);
        assert_eq!(seen("inactive", false, false, true), Seen::Ended("done"), "it would run twice");
        for state in ["active", "activating", "deactivating", "failed", "inactive"] {
            for begun in [false, true] {
                let asked_again = seen(state, false, true, begun) == Seen::NeverBegun;
                assert_eq!(asked_again, state == "inactive" && !begun, "{state}");
                assert_eq!(seen(state, true, false, begun), Seen::UnderWay, "{state}");
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_job_that_is_over() {
        for begun in [false, true] {
            assert_eq!(seen("active", false, true, begun), Seen::Ended("done"));
            assert_eq!(seen("failed", false, true, begun), Seen::Ended("failed"));
            assert_eq!(seen("deactivating", false, true, begun), Seen::Ended("done"));
            assert_eq!(seen("deactivating", false, false, begun), Seen::Ended("failed"), "in ExecStartPre=");
            assert_eq!(seen("activating", false, false, begun), Seen::UnderWay);
        }
    }
}
