//! Starting, watching and ending processes. [`Supervisor`] is what a way of doing so must offer;
//! [`AnySupervisor`] is the one that was chosen.

mod adopt;
pub mod direct;
mod groups;
mod output;
mod output_file;
mod proc;
pub mod sim;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::model::saved::{Found, SavedClient};

/// All that is needed to start one client.
pub struct LaunchPlan {
    /// Which launch of which client.
    pub launch: Launch,
    /// The file to execute.
    pub program: PathBuf,
    /// What the process is called in its own `argv[0]`, where that is not the program.
    pub arg0: Option<OsString>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited besides.
    pub env: Vec<(OsString, OsString)>,
    /// Where what it prints goes.
    pub output: Output,
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
            .field("args", &self.args)
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
}

/// A process ended, by itself or not.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which one.
    pub launch: Launch,
    /// How.
    pub exit: Exit,
}

/// A way of running processes. What ends is told once, through the channel of [`Ended`] that an implementation
/// is made with.
pub trait Supervisor {
    /// Starts a process. Cancellation: when the future is dropped the process may or may not be there; its end is
    /// told all the same.
    fn start(&self, plan: LaunchPlan) -> impl Future<Output = Result<Handle, StartError>> + Send;

    /// Looks for the processes that an earlier controller left, and watches those that are there. A process counts only
    /// when it is beyond doubt the same: pids are used again.
    fn adopt(&self, saved: Vec<SavedClient>) -> impl Future<Output = Vec<(SavedClient, Found)>> + Send;

    /// Asks a process to end, insists after `grace`, and returns when it is gone. One that is gone already is no
    /// error. A further call while one is under way can only shorten the grace.
    fn stop(&self, handle: &Handle, grace: Duration) -> impl Future<Output = Result<(), StopError>> + Send;
}

/// The supervisor that was chosen.
#[derive(Debug)]
pub enum AnySupervisor {
    /// Child processes of our own.
    Direct(direct::Direct),
    /// Processes on paper, for tests.
    Sim(sim::Sim),
}

impl AnySupervisor {
    /// How clients are run, in words for people.
    pub fn way(&self) -> Cow<'static, str> {
        match self {
            Self::Direct(_) => "child processes".into(),
            Self::Sim(_) => "on paper".into(),
        }
    }
}

impl Supervisor for AnySupervisor {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        match self {
            Self::Direct(direct) => direct.start(plan).await,
            Self::Sim(sim) => sim.start(plan).await,
        }
    }

    async fn adopt(&self, saved: Vec<SavedClient>) -> Vec<(SavedClient, Found)> {
        match self {
            Self::Direct(direct) => direct.adopt(saved).await,
            Self::Sim(sim) => sim.adopt(saved).await,
        }
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        match self {
            Self::Direct(direct) => direct.stop(handle, grace).await,
            Self::Sim(sim) => sim.stop(handle, grace).await,
        }
    }
}
