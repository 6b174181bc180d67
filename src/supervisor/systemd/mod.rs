//! Clients as units of systemd: it makes, confines, ends and watches their processes, and they go on without us.
//!
//! [`Units`] is the supervisor; `starting`, `ending` and `adopting` tell how it does each of these. `bus` is what they share:
//! the connection (`link`) that one task owns and listens to (`listening`). `table` knows the units and turns what systemd
//! says into events, `freezing` sees what systemd does not say, `told` reads what it does, `unit` writes what it is told, `manager` has its D-Bus members, `launch` is
//! what a unit executes, and `witness` sees that it does.

mod adopting;
mod bus;
mod ending;
mod error;
mod freezing;
pub mod launch;
mod link;
mod listening;
mod manager;
mod starting;
mod table;
mod told;
mod unit;
mod witness;

pub use error::BusError;
pub(super) use unit::kind_of;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{Event, LaunchPlan, StartError, StopError, Supervisor};
use crate::config::{ManagerKind, SystemdSettings, UnitKind};
use crate::model::chain::Chain;
use crate::model::client::Handle;
use crate::model::fleet::Launch;
use crate::model::saved::{Found, Saved, SavedClient};
use bus::{Bus, Has};
use manager::{SERVICE, UNIT};

/// How long a job may take: what units may take themselves is bounded by systemd, this bounds a systemd that hangs.
const JOB_PATIENCE: Duration = Duration::from_secs(180);
/// Starts that are under way at once. More would not be sooner done, and where the machine is slow they would take the time
/// from each other until systemd calls all of them too late (`TimeoutStartSec=`).
const STARTS: usize = 32;
/// An instance by which is found out what can be done with clients': no client has such an ID.
const PROBE: &str = "wqclient@probe-.service";

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
    /// Held by who writes or removes a launch file: none is removed that was written meanwhile.
    launch_files: Mutex<()>,
    /// This program, which is the launcher too.
    executable: PathBuf,
    starts: Semaphore,
    /// What is asked about units whose launch was announced.
    announced: Mutex<HashMap<Launch, Question>>,
    /// Properties that this systemd does not have.
    unknown: Mutex<BTreeSet<String>>,
}

/// Asks what has to be known of a unit before it is started. It comes to its end where nobody needs the answer any more, too: a
/// call that is dropped would free its place among ours, while the bus counts it until it is answered, and refuses those too many.
type Question = JoinHandle<Result<(String, Has), BusError>>;

/// Why units can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// systemd can't be asked, or refuses.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The unit file is not as it must be.
    #[error("wqclient@.service is {0}")]
    Unit(String),
    /// It does not read launch files.
    #[error("wqclient@.service does not have StandardInput=file:{}/%i", .0.display())]
    Input(PathBuf),
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
        // What the unit file says.
        let run = match settings.manager {
            ManagerKind::System => Path::new("/run"),
            ManagerKind::User => user_runtime,
        };
        let launches = run.join("wqcontroller/launch");
        let (bus, owner) = Bus::connect(settings.manager, launches, events).await?;
        let (launch_files, announced, unknown) = (Mutex::default(), Mutex::default(), Mutex::default());
        let starts = Semaphore::new(STARTS);
        let shared = Shared { bus, settings, launch_files, executable, starts, announced, unknown };
        Ok(Self { shared: Arc::new(shared), _bus: AbortOnDropHandle::new(tokio::spawn(owner)) })
    }

    /// Whether systemd can be asked just now.
    pub fn is_reachable(&self) -> bool {
        self.shared.bus.is_there()
    }

    /// Whose units they are.
    pub fn manager(&self) -> ManagerKind {
        self.shared.settings.manager
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
        // Which file it is can't be asked.
        let input = bus.property(PROBE, SERVICE, "StandardInput").await?;
        if <&str>::try_from(&input) != Ok("file") {
            return Err(UnusableError::Input(bus.launches.clone()));
        }
        // Nothing is set, but whether that may be done is looked at. (Of a unit that is not loaded others, such as
        // ResetFailedUnit, say just that, before they look.)
        let set = async |link: link::Link| link.manager.set_unit_properties(PROBE, true, &[]).await;
        match bus.call("SetUnitProperties", set).await {
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) => Err(UnusableError::Forbidden(error)),
            Ok(()) => Ok(()),
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
        let unit = unit::name_of(self.shared.settings.unit, plan.launch.name.unit_id().as_str());
        // A task of its own: whoever waits may go away, and the unit must be known all the same.
        match tokio::spawn(self.shared.clone().start(unit.clone(), plan)).await {
            Ok(started) => started,
            Err(error) => Err(StartError::Job { unit, why: format!("an internal error: {error}") }),
        }
    }

    fn announce(&self, launch: &Launch) {
        self.shared.announce(launch);
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

    async fn discard(&self, launch: Launch) {
        self.shared.clone().discard(launch).await;
    }
}
