//! Starting, watching and ending processes. [`Supervisor`] is what a way of doing so must offer;
//! [`AnySupervisor`] is the one that was chosen.

mod adopt;
pub mod choose;
pub mod direct;
mod groups;
mod output;
mod output_file;
mod proc;
pub mod sim;
pub mod systemd;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::LimitSettings;
use crate::files::FileError;
use crate::model::client::{Exit, Handle, ManagerKind};
use crate::model::fleet::Launch;
use crate::model::saved::{Found, SavedClient};
use crate::template::{TemplateCommand, TemplateError};

/// All that is needed to start one client.
pub struct LaunchPlan {
    /// Which launch of which client.
    pub launch: Launch,
    /// What to execute.
    pub program: Program,
    /// Its whole environment; nothing is inherited besides. A unit has one of its own, and takes nothing but `MOJO_WEBQQ_*`.
    pub env: Vec<(OsString, OsString)>,
    /// Where what it prints goes; what a unit prints goes to the journal.
    pub output: Output,
    /// What a unit may use.
    pub limits: LimitSettings,
}

/// What to execute.
#[derive(Clone, Debug)]
pub enum Program {
    /// A file, as a child process.
    Command(TemplateCommand),
    /// A template in a unit, where it is found out how to execute it; none: the built-in client.
    Template(Option<PathBuf>),
}

/// Where a client's output goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// Line by line into our log.
    Log,
    /// To the end of this file, which does not go away with us.
    File(PathBuf),
}

impl fmt::Debug for LaunchPlan {
    /// Leaves the environment out: it holds passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchPlan")
            .field("launch", &self.launch)
            .field("program", &self.program)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Why there is no process.
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
    /// The plan is for another kind of supervisor. A mistake of the program.
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
    /// systemd can't be asked, or refuses.
    #[error("{0} can't be started")]
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
    /// The process is there but cannot be watched, so it was killed again.
    #[error("can't watch the new process {pid}")]
    Watch {
        /// Its pid.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a process is still there.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Not even SIGKILL ended it; most often it waits for a device or a network file system.
    #[error("process {pid} does not end, not even by SIGKILL")]
    Immortal {
        /// Its pid.
        pid: u32,
    },
    /// systemd can't be asked, or refuses.
    #[error("{0} can't be stopped")]
    Bus(Arc<str>, #[source] systemd::BusError),
}

/// What happens to a process that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It ended, by itself or not.
    Ended(Launch, Exit),
    /// Another one took its place, with the same environment: an operator started its unit anew.
    Replaced(Launch, Handle),
    /// An operator froze it, or thawed it.
    Frozen(Launch, bool),
}

/// A way of running processes. What ends is told once, through the channel of [`Event`]s that an implementation
/// is made with.
pub trait Supervisor {
    /// Starts a process. Cancellation: when the future is dropped the process may or may not be there; its end is
    /// told all the same.
    fn start(&self, plan: LaunchPlan) -> impl Future<Output = Result<Handle, StartError>> + Send;

    /// This launch is about to come, and what it takes to be known for it can be asked for while other things are done.
    fn announce(&self, _launch: &Launch) {}

    /// Looks for the processes that an earlier controller left, and watches those that are there. A process counts only
    /// when it is beyond doubt the same: pids are used again.
    fn adopt(&self, saved: Vec<SavedClient>) -> impl Future<Output = Vec<(SavedClient, Found)>> + Send;

    /// Asks a process to end, insists after `grace`, and returns when it is gone. One that is gone already is no
    /// error. A further call while one is under way can only shorten the grace.
    fn stop(&self, handle: &Handle, grace: Duration) -> impl Future<Output = Result<(), StopError>> + Send;

    /// Removes what is kept of a launch that nobody needs any more: its client is forgotten.
    fn discard(&self, _launch: Launch) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The supervisor that was chosen.
#[derive(Debug)]
pub enum AnySupervisor {
    /// Child processes of our own.
    Direct(direct::Direct),
    /// Units of systemd.
    Units(systemd::Units),
    /// Processes on paper, for tests.
    Sim(sim::Sim),
}

impl AnySupervisor {
    /// What clients are, for people: in the log, and in the line that `systemctl status` shows.
    pub fn way(&self) -> Cow<'static, str> {
        match self {
            Self::Direct(_) => "child processes".into(),
            Self::Units(units) if units.is_reachable() => units.describe().into(),
            Self::Units(units) => format!("{}, systemd can't be asked", units.describe()).into(),
            Self::Sim(_) => "on paper".into(),
        }
    }

    /// Whose units clients are, where they are units.
    pub fn manager(&self) -> Option<ManagerKind> {
        match self {
            Self::Units(units) => Some(units.manager()),
            Self::Direct(_) | Self::Sim(_) => None,
        }
    }

    /// Whether processes outlive the controller whatever the configuration says.
    pub fn always_outlived(&self) -> bool {
        matches!(self, Self::Units(_))
    }
}

/// The ID of this boot: `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> io::Result<Arc<str>> {
    proc::boot_id()
}

impl Supervisor for AnySupervisor {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        match self {
            Self::Direct(direct) => direct.start(plan).await,
            Self::Units(units) => units.start(plan).await,
            Self::Sim(sim) => sim.start(plan).await,
        }
    }

    fn announce(&self, launch: &Launch) {
        match self {
            Self::Direct(direct) => direct.announce(launch),
            Self::Units(units) => units.announce(launch),
            Self::Sim(sim) => sim.announce(launch),
        }
    }

    async fn adopt(&self, saved: Vec<SavedClient>) -> Vec<(SavedClient, Found)> {
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

    async fn discard(&self, launch: Launch) {
        match self {
            Self::Direct(direct) => direct.discard(launch).await,
            Self::Units(units) => units.discard(launch).await,
            Self::Sim(sim) => sim.discard(launch).await,
        }
    }
}
