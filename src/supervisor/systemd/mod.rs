//! Clients as units of systemd. systemd starts, confines, watches and stops their processes, which keep running without the
//! controller.
//!
//! [`Units`] is the supervisor.
//!
//! | module | what it does |
//! |---|---|
//! | `start`, `start_job`, `stop`, `adopt` | starts and stops a unit; finds the units of an earlier controller |
//! | `clean` | removes what a unit kept on disk |
//! | `folder` | sends that elsewhere, and takes it |
//! | `renewal` | gives a unit that runs the secrets that have changed |
//! | `bus`, `connection`, `error` | the connection to systemd, and the calls on it |
//! | `signals` | reads what systemd sends, and connects again |
//! | `unit_table`, `properties` | what is known of each unit, and the events that follow |
//! | `usage` | what units use |
//! | `freezer` | notices frozen units, for which systemd sends no signal |
//! | `unit`, `manager` | names and properties of units; the D-Bus interfaces |
//! | `launch_file`, `launch_files`, `launch_file_watch` | the environment of a client, and the files that carry it |
//! | `launch` | the launcher that runs in a unit |
//! | `socket_units` | the socket units of the controller's own service |

mod adopt;
mod bus;
mod clean;
mod connection;
mod error;
#[cfg(test)]
mod fake_bus;
mod folder;
mod freezer;
pub mod launch;
pub(super) mod launch_file;
mod launch_file_watch;
mod launch_files;
mod manager;
mod properties;
mod renewal;
mod signals;
mod socket_units;
mod start;
mod start_job;
mod stop;
mod unit;
mod unit_table;
mod usage;

pub use clean::CleanError;
pub use error::BusError;
pub use folder::FolderError;
pub use renewal::{CurrentSecret, ReloadIf, Renewal, RenewalError};
pub use socket_units::{SocketsError, check_sockets};
pub use unit::UnitRole;
pub(super) use unit::kind_of;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{EventSender, LaunchPlan, StartError, StopError, Supervisor};
use crate::config::{ManagerKind, SystemdSettings, UnitKind};
use crate::locks::locked;
use crate::model::boot::Started;
use crate::model::client::Handle;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::model::persisted::{PersistedClient, PersistedState, ProcessStatus};
use bus::{Bus, CurrentProps, breaking, forward_events};
use manager::{SERVICE, UNIT};

/// How long a job may take. systemd bounds what a unit may take; this bounds a unit file without limits, and a systemd that hangs.
const JOB_TIMEOUT: Duration = Duration::from_secs(180);
/// Starts in progress at a time. More parallelism does not help, and on a slow machine all of them would run into
/// `TimeoutStartSec=`.
const MAX_STARTS: usize = 32;
/// The probe unit for permission checks. No client has such an ID: it begins with a hyphen and is no hash.
const PROBE_UNIT: &str = "wqclient@-probe.service";

/// Runs clients as units.
#[derive(Debug)]
pub struct Units {
    shared: Arc<UnitsInner>,
    /// Cancelled when the tasks have ended.
    broken: CancellationToken,
    _tasks: AbortOnDropHandle<()>,
}

struct UnitsInner {
    bus: Arc<Bus>,
    settings: SystemdSettings,
    /// The content of the launch files, by the ID of the unit, so that a removed file can be restored. Locked while a file is
    /// written or removed, so that none is removed that was just written.
    launch_files: Mutex<HashMap<UnitId, Vec<u8>>>,
    /// This program, which is the launcher too.
    executable: PathBuf,
    /// The only file of the configuration, where the controller has one.
    config: Option<PathBuf>,
    starts: Semaphore,
    /// The properties of units that are about to be launched, requested ahead.
    prefetched: Mutex<HashMap<Launch, Prefetched>>,
    /// Properties that this systemd does not have.
    unknown: Mutex<BTreeSet<String>>,
    /// The cgroups of units, as far as what they use was asked for.
    cgroups: Mutex<usage::Cgroups>,
}

impl fmt::Debug for UnitsInner {
    /// Without the launch files, which hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitsInner")
            .field("bus", &self.bus)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A request for the properties that a start needs. It runs to its end even where the start does not come: a dropped call would
/// free its permit here, while dbus-daemon counts it until it is answered and disconnects who has too many.
type Prefetched = JoinHandle<Result<(String, CurrentProps), BusError>>;

/// Why clients cannot be units.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// systemd cannot be reached, or refuses.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The unit file is missing or not loaded.
    #[error("wqclient@.service is {0}")]
    Unit(String),
    /// The unit does not read launch files.
    #[error("wqclient@.service does not have StandardInput=file:{}/%i", .0.display())]
    Input(PathBuf),
    /// This user may not start the unit.
    #[error("this user may not start wqclient@.service; a polkit rule or root can")]
    Forbidden(#[source] BusError),
}

/// How long the job of a start may take.
fn start_timeout() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(shorter) = start_timeout_if_told() {
        return shorter;
    }
    JOB_TIMEOUT
}

/// For the tests of starts that take too long. Not in a release.
#[cfg(debug_assertions)]
fn start_timeout_if_told() -> Option<Duration> {
    std::env::var("WQCONTROLLER_TEST_START_TIMEOUT").ok()?.parse().ok().map(Duration::from_secs)
}

/// When the machine's systemd started. None without systemd, or where it cannot be reached.
pub(super) async fn machine_started() -> Option<Started> {
    match connection::ask_started(ManagerKind::System).await {
        Ok(started) => Some(started),
        Err(error) => {
            let error = ErrorChain(&error);
            debug!(%error, "cannot tell when systemd started: {error}");
            None
        }
    }
}

/// Whether this machine was booted with systemd, see sd_booted(3).
pub(super) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

impl Units {
    /// Connects to systemd. Events of units go to `events`. `user_runtime` is the runtime directory of the controller's user;
    /// units of that user have their folders there. Must be called within a tokio runtime.
    pub async fn connect(
        settings: SystemdSettings,
        user_runtime: &Path,
        executable: PathBuf,
        events: EventSender,
    ) -> Result<Self, BusError> {
        // Clients need no configuration: their launch files name the template.
        Self::connect_as(UnitRole::Client, settings, user_runtime, (executable, None), events).await
    }

    /// Connects once more, for implementations, which run as units of the same kind. `config` is the only file of the configuration,
    /// where the controller has one.
    pub async fn of_implementations(
        &self,
        user_runtime: &Path,
        config: Option<PathBuf>,
        events: EventSender,
    ) -> Result<Self, BusError> {
        let UnitsInner { settings, executable, .. } = &*self.shared;
        let program = (executable.clone(), config);
        Self::connect_as(UnitRole::Implementation, settings.clone(), user_runtime, program, events).await
    }

    async fn connect_as(
        role: UnitRole,
        settings: SystemdSettings,
        user_runtime: &Path,
        (executable, config): (PathBuf, Option<PathBuf>),
        events: EventSender,
    ) -> Result<Self, BusError> {
        // The same path as in the unit file.
        let run = match settings.manager {
            ManagerKind::System => Path::new("/run"),
            ManagerKind::User => user_runtime,
        };
        let launches = run.join("wqcontroller").join(role.launches());
        let (bus, incoming) = Bus::connect((settings.manager, role), launches).await?;
        // One task for the three, so that they end together with `Units`.
        let listening = {
            let bus = bus.clone();
            async move {
                tokio::join!(
                    bus.clone().run(incoming.messages),
                    freezer::watch(bus.clone(), incoming.to_watch),
                    forward_events(incoming.events, events),
                );
            }
        };
        let broken = CancellationToken::new();
        let tasks = AbortOnDropHandle::new(tokio::spawn(breaking(broken.clone(), listening)));
        let (launch_files, prefetched, unknown) = (Mutex::default(), Mutex::default(), Mutex::default());
        let starts = Semaphore::new(MAX_STARTS);
        let shared = UnitsInner {
            bus,
            settings,
            launch_files,
            executable,
            config,
            starts,
            prefetched,
            unknown,
            cgroups: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), broken, _tasks: tasks })
    }

    /// Returns when nothing listens to systemd any more.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Whether there is a connection to systemd now.
    pub fn is_reachable(&self) -> bool {
        self.shared.bus.is_connected()
    }

    /// Returns once the connection to systemd has been lost for `time` without interruption.
    pub async fn unreachable_for(&self, time: Duration) {
        let mut link = self.shared.bus.link.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = link.wait_for(Option::is_none).await;
            if tokio::time::timeout(time, link.wait_for(Option::is_some)).await.is_err() {
                return;
            }
        }
    }

    /// When the service manager of the units started.
    pub fn started(&self) -> Started {
        locked(&self.shared.bus.started).clone()
    }

    /// The name of the unit of the client with this ID.
    pub fn unit_of(&self, id: &UnitId) -> Arc<str> {
        unit::name_of(self.shared.bus.role, self.shared.settings.unit, id.as_str())
    }

    /// The process that runs as the unit of the client with this ID, and the launch that it has the environment of.
    pub fn running(&self, id: &UnitId) -> Option<(Launch, Handle)> {
        self.shared.bus.table().running(&self.unit_of(id))
    }

    /// Whether the unit of the client with this ID has a process, or may have one. systemd is asked, because it may have
    /// started the unit a moment ago.
    pub async fn is_active(&self, id: &UnitId) -> Result<bool, BusError> {
        let (state, _) = self.shared.bus.before_start(&self.unit_of(id)).await?;
        Ok(properties::is_alive(&state))
    }

    /// Which service manager has the units.
    pub fn manager(&self) -> ManagerKind {
        self.shared.settings.manager
    }

    /// The kind of the units, for the log and the status line.
    pub fn describe(&self) -> &'static str {
        match (self.shared.settings.unit, self.shared.settings.manager) {
            (UnitKind::Template, ManagerKind::System) => "template units",
            (UnitKind::Transient, ManagerKind::System) => "transient units",
            (UnitKind::Template, ManagerKind::User) => "template units of the user",
            (UnitKind::Transient, ManagerKind::User) => "transient units of the user",
        }
    }

    /// Checks that clients can be started: the template unit is installed, reads launch files, and may be started by this user.
    pub async fn check(&self) -> Result<(), UnusableError> {
        if self.shared.settings.unit == UnitKind::Transient {
            // Nothing has to be installed, and only the first start shows whether it is permitted.
            return Ok(());
        }
        let bus = &self.shared.bus;
        let state = bus.property(PROBE_UNIT, UNIT, "LoadState").await?;
        let state = <&str>::try_from(&state).unwrap_or_default();
        if state != "loaded" {
            return Err(UnusableError::Unit(if state == "not-found" {
                "not installed".into()
            } else {
                state.into()
            }));
        }
        // The path of the file is no property.
        let input = bus.property(PROBE_UNIT, SERVICE, "StandardInput").await?;
        if <&str>::try_from(&input) != Ok("file") {
            return Err(UnusableError::Input(bus.launches.clone()));
        }
        // This sets nothing, but systemd checks the permission. Other calls, such as ResetFailedUnit, fail before that check for a
        // unit that is not loaded.
        let set = async |link: connection::SystemdConnection| {
            link.manager.set_unit_properties(PROBE_UNIT, true, &[]).await
        };
        match bus.call("SetUnitProperties", set).await {
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) => Err(UnusableError::Forbidden(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether any unit of the saved registry has a process.
    pub async fn any_alive(&self, saved: &PersistedState) -> Result<bool, BusError> {
        // One call for all of them. A unit that is not listed is not loaded, and so has no process.
        let listed = self.shared.bus.list().await?;
        let alive = |client: &PersistedClient| match &client.handle {
            Some(Handle::Unit { name, .. }) => listed.get(&**name).is_some_and(|found| found.alive),
            _ => false,
        };
        Ok(saved.clients.iter().any(alive))
    }

    /// Whether the controller itself is a service of this manager.
    pub async fn is_service(&self) -> bool {
        let pid = std::process::id();
        let bus = &self.shared.bus;
        let unit = bus.call("GetUnitByPID", async |link| link.manager.get_unit_by_pid(pid).await).await;
        let Some(label) = unit.ok().and_then(|path| path.as_str().rsplit('/').next().map(str::to_owned))
        else {
            return false;
        };
        // `GetUnitByPID` also names the session, or the service, in which a person has started it.
        let main = bus.main_pid_at(&label).await;
        main == Some(pid)
    }
}

impl Supervisor for Units {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let unit = self.unit_of(&plan.id);
        // A task of its own, because the caller may be cancelled and the unit must be in the table all the same.
        match tokio::spawn(self.shared.clone().start(unit.clone(), plan)).await {
            Ok(started) => started,
            Err(error) => Err(StartError::Job { unit, why: format!("an internal error: {error}") }),
        }
    }

    fn prefetch(&self, launch: &Launch, id: &UnitId) {
        self.shared.prefetch(launch, id);
    }

    async fn adopt(&self, saved: Vec<PersistedClient>) -> Vec<(PersistedClient, ProcessStatus)> {
        loop {
            // Only systemd knows which units run, and a guess could start a client twice.
            self.shared.bus.wait().await;
            match self.shared.clone().adopt(&saved).await {
                Ok(found) => return found,
                Err(error) => {
                    let error = ErrorChain(&error);
                    warn!(%error, "cannot ask systemd for the clients' units: {error}; trying again");
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Unit { name, invocation_id, pid } = handle else { return Ok(()) };
        self.shared.stop(name, invocation_id, *pid, grace).await
    }

    async fn discard(&self, launch: Launch, id: UnitId) {
        self.shared.clone().forget_client(launch, id).await;
    }
}
