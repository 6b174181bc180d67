//! Clients as units of systemd: it makes, confines, ends and watches their processes, and they go on without us.
//!
//! [`Units`] is the supervisor; `bus` owns the connection to systemd, `table` knows the units and turns what systemd says
//! into events, `told` reads what systemd says, `unit` writes what it is told, `manager` has its D-Bus members, and `launch`
//! is what a unit executes.

mod bus;
pub mod launch;
mod manager;
mod table;
mod told;
mod unit;

pub use bus::BusError;
pub(super) use unit::kind_of;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use zbus::OwnedObjectPath;

use super::{Event, LaunchPlan, Program, StartError, StopError, Supervisor};
use crate::config::{ManagerKind, SystemdSettings, UnitKind};
use crate::model::chain::Chain;
use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::model::saved::{Found, Saved, SavedClient};
use crate::template;
use bus::{Bus, word};
use launch::LaunchFile;
use manager::{Properties, SERVICE, UNIT};
use table::JobNews;
use told::{OfUnit, Told};

/// How long a job may take: what units may take themselves is bounded by systemd, this bounds a systemd that hangs.
const JOB_PATIENCE: Duration = Duration::from_secs(180);
/// How long a unit may take to end after SIGKILL before it is called immortal.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// An instance by which is found out what can be done with clients': no client has such an ID.
const PROBE: &str = "wqclient@probe-.service";
/// Its ID.
const PROBE_ID: &str = "probe-";

/// Runs clients as units.
#[derive(Debug)]
pub struct Units {
    shared: Arc<Shared>,
    _bus: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    bus: Arc<Bus>,
    settings: SystemdSettings,
    /// The folder of launch files.
    launches: PathBuf,
    /// This program, which is the launcher too.
    executable: PathBuf,
    /// Properties that this systemd does not have.
    unknown: Mutex<BTreeSet<String>>,
}

/// Why units can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// systemd can't be asked, or refuses.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The unit file is not as it must be.
    #[error("wqclient@.service is {0}")]
    Unit(String),
    /// It reads launch files from another place than we write them to.
    #[error("wqclient@.service does not load its environment from {}", .0.display())]
    Credential(PathBuf),
    /// We may not start it.
    #[error("this user may not start wqclient@.service; a polkit rule or root can")]
    Forbidden(#[source] BusError),
}

impl Units {
    /// Connects to systemd. Events of units go to `events`. `user_runtime` is the runtime directory of our user, whose units
    /// have their folders there. Must be called within a tokio runtime.
    pub async fn connect(
        settings: SystemdSettings,
        user_runtime: &Path,
        executable: PathBuf,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, BusError> {
        let (bus, owner) = Bus::connect(settings.manager, events).await?;
        // What the unit file says.
        let run = match settings.manager {
            ManagerKind::System => Path::new("/run"),
            ManagerKind::User => user_runtime,
        };
        let launches = run.join("wqcontroller/launch");
        let shared = Shared { bus, settings, launches, executable, unknown: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), _bus: AbortOnDropHandle::new(tokio::spawn(owner)) })
    }

    /// Whether systemd can be asked just now.
    pub fn is_reachable(&self) -> bool {
        self.shared.bus.is_there()
    }

    /// Which units they are, for people.
    pub fn describe(&self) -> &'static str {
        match (self.shared.settings.unit, self.shared.settings.manager) {
            (UnitKind::Template, ManagerKind::System) => "template units",
            (UnitKind::Transient, ManagerKind::System) => "transient units",
            (UnitKind::Template, ManagerKind::User) => "template units of the user",
            (UnitKind::Transient, ManagerKind::User) => "transient units of the user",
        }
    }

    /// Whether clients can be started: the unit is there, as we need it, and we may.
    pub async fn check(&self) -> Result<(), UnusableError> {
        if self.shared.settings.unit == UnitKind::Transient {
            // Nothing is installed, and whether we may is not known before it is done.
            return Ok(());
        }
        let bus = &self.shared.bus;
        let state = bus.property(PROBE, UNIT, "LoadState").await?;
        let state = <&str>::try_from(&state).unwrap_or_default();
        if state != "loaded" {
            return Err(UnusableError::Unit(if state == "not-found" {
                "not installed".into()
            } else {
                state.into()
            }));
        }
        let loaded = bus.property(PROBE, SERVICE, "LoadCredential").await?;
        let wanted = self.shared.launches.join(PROBE_ID);
        let credentials = Vec::<(String, String)>::try_from(loaded).unwrap_or_default();
        if credentials.iter().all(|(_, path)| Path::new(path) != wanted) {
            return Err(UnusableError::Credential(self.shared.launches.clone()));
        }
        // Changes nothing, and needs the same right as a start.
        let reset =
            bus.call("ResetFailedUnit", async |link| link.manager.reset_failed_unit(PROBE).await).await;
        match reset {
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) if !error.is_no_unit() => Err(UnusableError::Forbidden(error)),
            _ => Ok(()),
        }
    }

    /// Whether any unit of the registry has a process.
    pub async fn any_alive(&self, saved: &Saved) -> Result<bool, BusError> {
        let listed = self.shared.bus.list().await?;
        let alive = |client: &SavedClient| match &client.handle {
            Some(Handle::Unit { name, .. }) => listed.get(&**name).is_some_and(|found| found.alive),
            _ => false,
        };
        Ok(saved.clients.iter().any(alive))
    }

    /// Whether we are a service of this manager ourselves.
    pub async fn is_service(&self) -> bool {
        let pid = std::process::id();
        let bus = &self.shared.bus;
        let unit = bus.call("GetUnitByPID", async |link| link.manager.get_unit_by_pid(pid).await).await;
        let Some(label) = unit.ok().and_then(|path| path.as_str().rsplit('/').next().map(str::to_owned))
        else {
            return false;
        };
        let main = bus.main_pid_at(&label).await;
        main == Some(pid)
    }
}

impl Supervisor for Units {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let unit = unit::name_of(self.shared.settings.unit, &plan.launch.name.unit_id());
        // A task of its own: whoever waits may go away, and the unit must be known all the same.
        match tokio::spawn(self.shared.clone().start(unit.clone(), plan)).await {
            Ok(started) => started,
            Err(error) => Err(StartError::Job { unit, why: format!("an internal error: {error}") }),
        }
    }

    async fn adopt(&self, saved: Vec<SavedClient>) -> Vec<(SavedClient, Found)> {
        loop {
            // Without systemd it is not known what runs, and a guess could start a client twice.
            self.shared.bus.wait().await;
            match self.shared.clone().adopt(&saved).await {
                Ok(found) => return found,
                Err(error) => warn!(error = %Chain(&error), "units can't be looked for; it is tried again"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Unit { name, invocation_id, pid } = handle else { return Ok(()) };
        self.shared.stop(name, invocation_id, *pid, grace).await
    }
}

impl Shared {
    async fn start(self: Arc<Self>, unit: Arc<str>, plan: LaunchPlan) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let id = plan.launch.name.unit_id();
        let (launch, limits) = (plan.launch.clone(), plan.limits);
        let state = self.bus.state(&unit).await.map_err(refused)?;
        match state.as_str() {
            "inactive" => {}
            "failed" => self.reset(&unit).await.map_err(refused)?,
            // Its launch file must stay as it is.
            _ => return Err(StartError::NotOurs(unit, state)),
        }
        let folder = self.launches.clone();
        let written = tokio::task::spawn_blocking(move || write_launch_file(plan, &folder));
        written.await.unwrap_or_else(|error| {
            Err(StartError::Job { unit: unit.clone(), why: format!("an internal error: {error}") })
        })?;
        let Some(mut news) = self.bus.table().prepare(&unit, launch) else {
            return Err(StartError::NotOurs(unit, state));
        };
        let started = self.bring_up(&unit, &id, limits, &mut news).await;
        if started.is_err() {
            self.bus.table().forget(&unit);
            let path = self.launches.join(id.as_str());
            // It holds secrets and is of no use. Where it can't be removed the next start replaces it.
            let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
        }
        started
    }

    /// Has systemd start the unit, and finds out which process that is.
    async fn bring_up(
        &self,
        unit: &Arc<str>,
        id: &UnitId,
        limits: crate::config::LimitSettings,
        news: &mut mpsc::Receiver<JobNews>,
    ) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let queued = match self.settings.unit {
            UnitKind::Template => {
                let set = || self.set(unit, Setting::Limits, unit::limits(limits));
                self.bus.again(set).await.map_err(refused)?;
                self.bus.call("StartUnit", async |link| link.manager.start_unit(unit, "fail").await).await
            }
            UnitKind::Transient => {
                let transient = unit::Transient {
                    id,
                    manager: self.settings.manager,
                    slice: &self.settings.slice,
                    executable: &self.executable,
                    launch_file: &self.launches.join(id.as_str()),
                };
                self.set(unit, Setting::All, transient.properties(limits)).await
            }
        };
        let (job, lost) = match queued {
            Ok(job) => (Some(job), None),
            // It may have been queued: what systemd did is found out when it can be asked again.
            Err(error) if error.is_lost() => (None, Some(error)),
            Err(error) => return Err(refused(error)),
        };
        let result = match timeout(JOB_PATIENCE, self.job_result(unit, job, lost, news)).await {
            Ok(result) => result.map_err(refused)?,
            Err(_) => "timeout".to_owned(),
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
                let events = self.bus.table().confirm(unit, invocation);
                self.bus.tell(events).await;
                Ok(handle)
            }
            _ => {
                let why = match result.as_str() {
                    "failed" => of_service.failure(),
                    other => format!("its job ended as {other}"),
                };
                Err(StartError::Job { unit: unit.clone(), why })
            }
        }
    }

    /// What became of the job that starts a unit, also where the bus was lost meanwhile.
    async fn job_result(
        &self,
        unit: &Arc<str>,
        job: Option<OwnedObjectPath>,
        mut lost: Option<BusError>,
        news: &mut mpsc::Receiver<JobNews>,
    ) -> Result<String, BusError> {
        loop {
            if lost.is_some() {
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
                self.bus.table().learn(unit, of_unit, of_service);
                match (said.has_job, said.state.as_str()) {
                    (false, "active") => return Ok("done".to_owned()),
                    (false, "failed") => return Ok("failed".to_owned()),
                    // It was never begun, or is over already.
                    (false, "inactive") => match lost.take() {
                        Some(error) if said.invocation.is_none() => return Err(error),
                        _ => return Ok("done".to_owned()),
                    },
                    _ => lost = None,
                }
            }
            match news.recv().await {
                Some(JobNews::Removed(path, result))
                    if job.as_ref().is_none_or(|job| job.as_str() == path) =>
                {
                    return Ok(result);
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
                let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
                properties.retain(|(name, _)| !unknown.contains(*name));
            }
            let (unit, all) = (unit.clone(), properties.clone());
            let called = match setting {
                Setting::Limits => {
                    let call = async move |link: bus::Link| {
                        link.manager.set_unit_properties(&unit, true, &all).await?;
                        Ok(OwnedObjectPath::default())
                    };
                    self.bus.call("SetUnitProperties", call).await
                }
                Setting::All => {
                    let call = async move |link: bus::Link| {
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
            let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            if unknown.insert(name.clone()) {
                warn!(
                    property = name,
                    "this systemd does not know a property of clients' units, it is left out"
                );
            }
        }
    }

    async fn reset(&self, unit: &str) -> Result<(), BusError> {
        let reset =
            || self.bus.call("ResetFailedUnit", async |link| link.manager.reset_failed_unit(unit).await);
        match self.bus.again(reset).await {
            Err(error) if !error.is_no_unit() => Err(error),
            _ => Ok(()),
        }
    }

    async fn stop(
        &self,
        unit: &Arc<str>,
        invocation: &str,
        pid: u32,
        grace: Duration,
    ) -> Result<(), StopError> {
        let Some(mut end) = self.bus.table().ask_stop(unit, invocation) else { return Ok(()) };
        let kill_at = Instant::now() + grace;
        let mut failure = None;
        // Asks again when the bus was lost: then it is not known whether systemd heard.
        for _ in 0..3 {
            let stop =
                self.bus.call("StopUnit", async |link| link.manager.stop_unit(unit, "replace").await).await;
            match stop {
                Ok(_) => failure = None,
                Err(error) if error.is_no_unit() => failure = None,
                Err(error) if error.is_lost() => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => failure = Some(error),
            }
            break;
        }
        if let Some(error) = failure {
            self.bus.table().take_stop_back(unit);
            return Err(StopError::Bus(unit.clone(), error));
        }
        let in_time = tokio::select! {
            biased;
            failed = ended(&mut end) => Some(failed),
            () = sleep_until(kill_at) => None,
        };
        let failed = match in_time {
            Some(failed) => failed,
            None => {
                if !grace.is_zero() {
                    warn!(unit = %unit, "the client does not end by SIGTERM, it is killed");
                }
                let kill = self.bus.call("KillUnit", async |link| {
                    link.manager.kill_unit(unit, "all", Signal::KILL.as_raw()).await
                });
                if let Err(error) = kill.await {
                    debug!(unit = %unit, error = %Chain(&error), "the unit can't be killed");
                }
                match timeout_at(kill_at.max(Instant::now()) + KILL_PATIENCE, ended(&mut end)).await {
                    Ok(failed) => failed,
                    Err(_) => {
                        self.bus.table().take_stop_back(unit);
                        return Err(StopError::Immortal { pid });
                    }
                }
            }
        };
        if failed {
            // It ended as it should, so it is not to be listed as failed.
            if let Err(error) = self.reset(unit).await {
                debug!(unit = %unit, error = %Chain(&error), "the unit can't be reset");
            }
        }
        Ok(())
    }

    async fn adopt(self: Arc<Self>, saved: &[SavedClient]) -> Result<Vec<(SavedClient, Found)>, BusError> {
        // First taken up, then looked for: so nothing is missed in between.
        let take_up = |client: &SavedClient| {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            self.bus.table().prepare(&self.unit_of(client), launch);
        };
        saved.iter().for_each(take_up);
        let listed = self.bus.list().await?;
        self.bus.note_strangers(&listed);
        let mut looks = JoinSet::new();
        for client in saved {
            let (shared, unit) = (self.clone(), self.unit_of(client));
            let (client, listed) = (client.clone(), listed.get(&*unit).cloned());
            looks.spawn(async move {
                let found = shared.find(&unit, &client, listed).await;
                if !matches!(found, Ok(Found::Running(_))) {
                    shared.bus.table().forget(&unit);
                }
                found.map(|found| (client, found))
            });
        }
        looks.join_all().await.into_iter().collect()
    }

    fn unit_of(&self, client: &SavedClient) -> Arc<str> {
        match &client.handle {
            Some(Handle::Unit { name, .. }) => name.clone(),
            _ => unit::name_of(self.settings.unit, &client.spec.name.unit_id()),
        }
    }

    /// Looks for one client. `listed` is what the list said about its unit; where that is nothing it is not loaded.
    async fn find(
        &self,
        unit: &Arc<str>,
        client: &SavedClient,
        listed: Option<OfUnit>,
    ) -> Result<Found, BusError> {
        let gone = match &client.handle {
            Some(Handle::Unit { .. }) => Found::Ended(Exit::Clean),
            _ => Found::Gone { rebooted: false },
        };
        let Some(listed) = listed else { return Ok(gone) };
        let known = match &client.handle {
            Some(Handle::Unit { invocation_id, pid, .. }) => Some((invocation_id, *pid)),
            _ => None,
        };
        if listed.state == "active" && !listed.has_job {
            let invocation = self.bus.invocation(unit).await?;
            if let (Some((known, pid)), Some(invocation)) = (known, &invocation)
                && known == invocation
            {
                let found = OfUnit { invocation: Some(invocation.clone()), ..listed };
                self.bus.table().learn(unit, Some(found), None);
                return Ok(self.taken_up(unit, invocation.clone(), pid).await);
            }
        }
        let (of_unit, of_service) = self.bus.ask(unit).await?;
        let (Some(mut said), Some(mut service)) = (of_unit, of_service) else { return Ok(gone) };
        if said.has_job && !said.alive || said.state == "activating" {
            // An earlier controller was killed while it started this one, or an operator is at it.
            (said, service) = self.wait_for_job(unit).await?;
        }
        self.bus.table().learn(unit, Some(said.clone()), Some(service.clone()));
        let Some(invocation) = said.invocation.clone() else { return Ok(gone) };
        let same = known.is_some_and(|(known, _)| *known == invocation);
        match (said.alive, same) {
            (true, true) => Ok(self.taken_up(unit, invocation, service.main_pid).await),
            (false, true) if said.state == "failed" => Ok(Found::Ended(service.exit())),
            (false, true) => Ok(Found::Ended(Exit::Clean)),
            // Another run, of which nothing was written down: ours if its environment is that of this launch.
            (alive, false) => {
                let (folder, id) = (self.launches.clone(), client.spec.name.unit_id());
                let generation =
                    tokio::task::spawn_blocking(move || LaunchFile::generation_in(&folder, &id)).await;
                let ours = generation.ok().flatten() == Some(client.generation);
                match (alive, ours) {
                    (true, true) => Ok(self.taken_up(unit, invocation, service.main_pid).await),
                    (true, false) => {
                        warn!(unit = %unit, client = %client.spec.name, "this unit runs, but not by this registry; it is left alone");
                        Ok(gone)
                    }
                    (false, true) if said.state == "failed" => Ok(Found::Ended(service.exit())),
                    (false, _) => Ok(gone),
                }
            }
        }
    }

    /// The process is there and watched, unless it ended in this moment.
    async fn taken_up(&self, unit: &Arc<str>, invocation: Arc<str>, pid: u32) -> Found {
        let events = self.bus.table().confirm(unit, invocation.clone());
        match events.into_iter().next() {
            Some(Event::Ended(_, exit)) => Found::Ended(exit),
            _ => Found::Running(Handle::Unit { name: unit.clone(), invocation_id: invocation, pid }),
        }
    }

    /// Waits until no job is queued or under way for a unit.
    async fn wait_for_job(&self, unit: &Arc<str>) -> Result<(OfUnit, told::OfService), BusError> {
        let deadline = Instant::now() + JOB_PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            let (of_unit, of_service) = self.bus.ask(unit).await?;
            let said = (of_unit.unwrap_or_default(), of_service.unwrap_or_default());
            if !said.0.has_job && said.0.state != "activating" || Instant::now() > deadline {
                return Ok(said);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

/// What properties are set for.
#[derive(Clone, Copy)]
enum Setting {
    /// The limits of a unit that has a file.
    Limits,
    /// All of a unit that has none, which is started then.
    All,
}

/// Waits for the end of a process; whether its unit then counts as failed.
async fn ended(end: &mut tokio::sync::watch::Receiver<Option<bool>>) -> bool {
    // Without a sender it is gone, too.
    end.wait_for(Option::is_some).await.map(|failed| failed.unwrap_or(false)).unwrap_or(false)
}

/// Checks what is to be executed, as far as that can be seen from outside of the unit, and writes its launch file.
fn write_launch_file(plan: LaunchPlan, folder: &Path) -> Result<(), StartError> {
    let Program::Template(template) = plan.program else { return Err(StartError::OtherSupervisor) };
    if let Some(path) = &template {
        template::command(path, &plan.launch.name)?;
    }
    let id = plan.launch.name.unit_id();
    let file = LaunchFile::new(plan.launch.generation, template, plan.env);
    file.write(folder, &id)
        .map_err(|source| StartError::LaunchFile { path: folder.join(id.as_str()), source })
}
