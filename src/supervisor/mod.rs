//! Starts, watches and stops processes. [`Supervisor`] is the trait, [`AnySupervisor`] the implementation that was chosen.
//!
//! - `detect`: which implementation runs the clients
//! - `direct`: child processes; `systemd`: units; `sim`: simulated processes for tests
//! - `events`: how they report what happens to processes
//! - `implementation`: the launcher of programs that hold an account
//! - `output`, `output_file`, `relay`: what clients print
//! - `usage`: what processes use
//! - `proc`: facts of `/proc`

pub mod detect;
pub mod direct;
mod events;
pub mod implementation;
mod output;
mod output_file;
mod proc;
pub mod relay;
pub mod sim;
pub mod systemd;
mod usage;

pub use events::EventSender;
pub use usage::ProcessUsage;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::config::LimitSettings;
use crate::files::FileError;
use crate::model::boot::Started;
use crate::model::client::{Handle, ManagerKind};
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::tasks::on_blocking_thread;
use crate::template::{TemplateCommand, TemplateError};
use implementation::ImplementationChild;
use systemd::{CleanError, CurrentSecret, FolderError, ReloadIf, Renewal, RenewalError};

/// Everything that a launch needs.
pub struct LaunchPlan {
    /// Which launch of which client.
    pub launch: Launch,
    /// The ID of the client's unit.
    pub id: UnitId,
    /// What to execute.
    pub program: Program,
    /// Its whole environment; nothing else is inherited. A unit has its own, and takes only `MOJO_WEBQQ_*` from here.
    pub env: Vec<(OsString, OsString)>,
    /// Where its output goes. The output of a unit goes to the journal.
    pub output: Output,
    /// The resource limits of a unit.
    pub limits: LimitSettings,
}

/// What to execute.
#[derive(Clone, Debug)]
pub enum Program {
    /// A file, as a child process.
    Command(TemplateCommand),
    /// A template, executed by the launcher in the unit. None stands for the built-in client.
    Template(Option<PathBuf>),
    /// An implementation, by its launcher: as a child process with these folders, or in its unit, which has its own.
    Implementation(Option<ImplementationChild>),
}

/// Where a client's output goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// To the controller's log, line by line.
    Log,
    /// Appended to this file, which outlives the controller.
    File(PathBuf),
}

impl fmt::Debug for LaunchPlan {
    /// Without the environment, which holds passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchPlan")
            .field("launch", &self.launch)
            .field("program", &self.program)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Why a launch failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused to execute the program.
    #[error("can't execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file for its output cannot be opened.
    #[error("can't open {} for the client's output", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plan is for another kind of supervisor, which is a bug.
    #[error("the launch was planned for another supervisor")]
    OtherSupervisor,
    /// The template can't be executed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The launch file can't be written.
    #[error("can't write the environment for the unit to {}", path.display())]
    LaunchFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
    /// systemd cannot be reached, or refuses.
    #[error("{0}")]
    Bus(Arc<str>, #[source] systemd::BusError),
    /// A unit of this name runs, and we did not start it.
    #[error("{0} is {1} already, not by this controller; if nobody needs it, stop it with systemctl")]
    NotOurs(Arc<str>, String),
    /// systemd tried, and the unit did not come up.
    #[error("{unit} did not start: {why}")]
    Job {
        /// The unit.
        unit: Arc<str>,
        /// What became of the job, and of the unit.
        why: String,
    },
    /// The process could not be watched, so it was killed.
    #[error("can't watch the new process {pid}")]
    Watch {
        /// Its pid.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// Whether it has nothing to do with the client, so that a later start may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Bus(_, error) if error.is_lost())
    }
}

/// Why a stop failed.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It survived SIGKILL. Most often it waits for a device or a network file system.
    #[error("process {pid} does not end, not even by SIGKILL")]
    Immortal {
        /// Its pid.
        pid: u32,
    },
    /// systemd cannot be reached, or refuses.
    #[error("{0}")]
    Bus(Arc<str>, #[source] systemd::BusError),
}

/// A way of running processes. Each exit is reported once, through the [`EventSender`] that an implementation is made with.
pub trait Supervisor {
    /// Starts a process. If the future is dropped, there may be a process or not; its exit is reported either way.
    fn start(&self, plan: LaunchPlan) -> impl Future<Output = Result<Handle, StartError>> + Send;

    /// Requests ahead what the start of this launch needs to know. The launch follows.
    fn prefetch(&self, _launch: &Launch, _id: &UnitId) {}

    /// Finds the processes that an earlier controller left, and watches those that still run. Identifies each beyond doubt, as
    /// pids are reused.
    fn adopt(
        &self,
        saved: Vec<PersistedClient>,
    ) -> impl Future<Output = Vec<(PersistedClient, ProcessStatus)>> + Send;

    /// Stops a process, kills it after `grace`, and returns when it is gone. It is no error if it is gone already. Another call
    /// meanwhile can only shorten the grace.
    fn stop(&self, handle: &Handle, grace: Duration) -> impl Future<Output = Result<(), StopError>> + Send;

    /// Removes what is kept of a launch whose client left the list.
    fn discard(&self, _launch: Launch, _id: UnitId) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The supervisor that was chosen.
#[derive(Debug)]
pub enum AnySupervisor {
    /// Child processes of the controller.
    Direct(direct::Direct),
    /// Units of systemd.
    Units(systemd::Units),
    /// Simulated processes, for tests.
    Sim(sim::Sim),
}

impl AnySupervisor {
    /// The kind of the clients, for the log and the status line of `systemctl status`.
    pub fn describe(&self) -> Cow<'static, str> {
        match self {
            Self::Direct(_) => "child processes".into(),
            Self::Units(units) if units.is_reachable() => units.describe().into(),
            Self::Units(units) => format!("{}, systemd is unreachable", units.describe()).into(),
            Self::Sim(_) => "on paper".into(),
        }
    }

    /// The manager of the units; none where clients are no units.
    pub fn manager(&self) -> Option<ManagerKind> {
        match self {
            Self::Units(units) => Some(units.manager()),
            Self::Direct(_) | Self::Sim(_) => None,
        }
    }

    /// Returns when systemd has been unreachable for `time` without interruption. Never returns where clients are no units.
    pub async fn unreachable_for(&self, time: Duration) {
        match self {
            Self::Units(units) => units.unreachable_for(time).await,
            Self::Direct(_) | Self::Sim(_) => std::future::pending().await,
        }
    }

    /// Returns when it does not work any more, so that another controller has to take over. The log says why.
    pub async fn broken(&self) {
        match self {
            Self::Units(units) => units.broken().await,
            // Each process has a watcher of its own, and one that fails concerns that process alone.
            Self::Direct(_) | Self::Sim(_) => std::future::pending().await,
        }
    }

    /// What started the machine or container, if known.
    pub fn started(&self) -> Option<Started> {
        match self {
            Self::Direct(direct) => direct.started(),
            Self::Units(units) => Some(units.started()),
            Self::Sim(_) => None,
        }
    }

    /// Restores files that running clients need and that were removed; returns their paths. Blocks on the file system.
    pub fn remake_files(&self) -> Result<Vec<PathBuf>, FileError> {
        match self {
            Self::Units(units) => units.remake_launch_files(),
            Self::Direct(_) | Self::Sim(_) => Ok(Vec::new()),
        }
    }

    /// The unit of the client with this ID; none where clients are no units.
    pub fn unit_of(&self, id: &UnitId) -> Option<Arc<str>> {
        match self {
            Self::Units(units) => Some(units.unit_of(id)),
            Self::Direct(_) | Self::Sim(_) => None,
        }
    }

    /// The running unit of the client with this ID, and the launch whose environment it has, which may be an earlier one if an
    /// operator started it. None where clients are no units.
    pub fn running_unit(&self, id: &UnitId) -> Option<(Launch, Handle)> {
        match self {
            Self::Units(units) => units.running(id),
            Self::Direct(_) | Self::Sim(_) => None,
        }
    }

    /// Whether a unit runs as the client with this ID, also one that an operator started a moment ago. False where clients are no
    /// units, or systemd cannot be reached.
    pub async fn is_unit_active(&self, id: &UnitId) -> bool {
        match self {
            Self::Units(units) => units.is_active(id).await.unwrap_or(false),
            Self::Direct(_) | Self::Sim(_) => false,
        }
    }

    /// What these processes use, with all that they have started, in their order; none where one is gone or it is not known.
    pub async fn usage(&self, handles: Vec<Handle>) -> Vec<Option<ProcessUsage>> {
        match self {
            Self::Units(units) => units.usage(handles).await,
            Self::Direct(_) => {
                on_blocking_thread(move || {
                    let one = if let [one] = &handles[..] { usage::of_child(one) } else { None };
                    one.map_or_else(|| usage::of_children(&handles), |found| vec![Some(found)])
                })
                .await
            }
            Self::Sim(_) => vec![None; handles.len()],
        }
    }

    /// Removes what the unit of the client with this ID kept on disk, if clients are units. Returns when it is gone.
    ///
    /// # Errors
    /// See [`CleanError`].
    pub async fn clean_unit(&self, id: &UnitId) -> Result<(), CleanError> {
        match self {
            Self::Units(units) => units.clean(id).await,
            // Their files are the controller's own user's.
            Self::Direct(_) | Self::Sim(_) => Ok(()),
        }
    }

    /// A connection to the state folder of the unit of the client with this ID. None where clients are no units: their folders belong to
    /// the controller's own user.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub async fn open_folder(&self, id: &UnitId) -> Result<Option<UnixStream>, FolderError> {
        match self {
            Self::Units(units) => units.open_folder(id).await.map(Some),
            Self::Direct(_) | Self::Sim(_) => Ok(None),
        }
    }

    /// Gives the client of this launch the secrets as they are now, if it is a unit. A child process reads the operator's files.
    pub async fn renew_secrets(
        &self,
        launch: Launch,
        id: UnitId,
        secrets: Vec<CurrentSecret>,
        when: ReloadIf,
    ) -> Result<Renewal, RenewalError> {
        match self {
            Self::Units(units) => units.renew_secrets(launch, id, secrets, when).await,
            Self::Direct(_) | Self::Sim(_) => Ok(Renewal::Unchanged),
        }
    }

    /// Whether processes always outlive the controller, whatever the configuration says.
    pub fn always_outlived(&self) -> bool {
        // systemd runs them in cgroups of their own, which the end of the controller's service does not touch.
        matches!(self, Self::Units(_))
    }
}

/// The ID of this boot: `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> io::Result<Arc<str>> {
    proc::boot_id()
}

/// A new random ID: `/proc/sys/kernel/random/uuid`.
pub fn random_id() -> io::Result<Arc<str>> {
    proc::random_id()
}

impl Supervisor for AnySupervisor {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        match self {
            Self::Direct(direct) => direct.start(plan).await,
            Self::Units(units) => units.start(plan).await,
            Self::Sim(sim) => sim.start(plan).await,
        }
    }

    fn prefetch(&self, launch: &Launch, id: &UnitId) {
        match self {
            // Forwarded for all of them: the trait's default would hide the one of `Units`.
            Self::Direct(direct) => direct.prefetch(launch, id),
            Self::Units(units) => units.prefetch(launch, id),
            Self::Sim(sim) => sim.prefetch(launch, id),
        }
    }

    async fn adopt(&self, saved: Vec<PersistedClient>) -> Vec<(PersistedClient, ProcessStatus)> {
        match self {
            Self::Direct(direct) => direct.adopt(saved).await,
            Self::Units(units) => units.adopt(saved).await,
            Self::Sim(sim) => sim.adopt(saved).await,
        }
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        match self {
            Self::Direct(direct) => direct.stop(handle, grace).await,
            Self::Units(units) => units.stop(handle, grace).await,
            Self::Sim(sim) => sim.stop(handle, grace).await,
        }
    }

    async fn discard(&self, launch: Launch, id: UnitId) {
        match self {
            Self::Direct(direct) => direct.discard(launch, id).await,
            Self::Units(units) => units.discard(launch, id).await,
            Self::Sim(sim) => sim.discard(launch, id).await,
        }
    }
}
