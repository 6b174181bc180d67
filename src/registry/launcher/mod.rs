//! What is known before a launch: which program is to run, and whether it can run with what was asked for.
//!
//! - `client`: the clients of accounts
//! - `implementation`: the programs of others that hold accounts
//! - `endpoints`: where the client of an account finds its implementation

mod client;
mod endpoints;
mod implementation;

pub use client::ClientLauncher;
pub(super) use client::launch_value;
pub use endpoints::{Endpoints, Refusal, Refusals, token_file};
pub use implementation::{Forgetting, ImplementationLauncher};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::config::{ManagerKind, Settings};
use crate::environ::SpecError;
use crate::files::FileError;
use crate::model::client::{ClientSpec, Exit};
use crate::model::fleet::Launch;
use crate::supervisor::LaunchPlan;
use crate::template::TemplateError;

/// Prepares the launches of one kind of process.
#[derive(Clone, Debug)]
pub enum Launcher {
    /// Clients.
    Client(ClientLauncher),
    /// Implementations.
    Implementation(ImplementationLauncher),
}

/// Why a process is not launched.
pub(super) enum NotPrepared {
    /// No launch with these parameters can succeed.
    Refused(SpecError),
    /// Another attempt may succeed.
    Failed(PrepareError),
}

impl From<PrepareError> for NotPrepared {
    fn from(error: PrepareError) -> Self {
        Self::Failed(error)
    }
}

/// What is missing for a launch.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("can't make the folder {}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("can't remove the old image {}", path.display())]
    Image { path: PathBuf, source: io::Error },
    #[error("{parameter}: can't listen on {address}")]
    Listen { parameter: &'static str, address: SocketAddr, source: io::Error },
    #[error("can't read the token")]
    Secret(#[source] FileError),
    #[error("its implementation {0}")]
    Implementation(Arc<str>),
    #[error("can't make a token for the implementation")]
    Token(#[source] FileError),
    #[error("the preparation of the launch broke down: {0}")]
    BrokeDown(String),
}

impl Launcher {
    /// Prepares a launch, of a unit of `manager` or of a child process. `is_active` says whether the unit is active already; it is
    /// asked where the address of a client is taken. Blocks on nothing: the file system is asked on threads of its own.
    pub(super) async fn prepare(
        &self,
        launch: &Launch,
        port: u16,
        spec: &Arc<ClientSpec>,
        settings: Arc<Settings>,
        (manager, is_active): (Option<ManagerKind>, impl Future<Output = bool>),
    ) -> Result<LaunchPlan, NotPrepared> {
        match (self, manager) {
            (Self::Client(launcher), Some(manager)) => {
                launcher.prepare_unit(launch, port, spec, settings, manager, is_active).await
            }
            (Self::Client(launcher), None) => launcher.prepare_child(launch, port, spec, settings).await,
            (Self::Implementation(launcher), manager) => {
                launcher.prepare(launch, port, spec, settings, manager.is_some()).await
            }
        }
    }

    /// Checks the parameters of a start. Blocks on the file system.
    ///
    /// # Errors
    /// The first one that can't be used.
    pub(super) fn check_start(&self, spec: &ClientSpec, settings: &Settings) -> Result<(), SpecError> {
        match self {
            Self::Client(launcher) => launcher.check_start(spec, settings),
            // It has those of its client, which were checked.
            Self::Implementation(_) => Ok(()),
        }
    }

    /// What an exit of the process means.
    pub(super) fn meaning(&self, spec: &ClientSpec, settings: &Settings, exit: Exit) -> Exit {
        match self {
            Self::Client(_) => exit,
            Self::Implementation(_) => implementation::meaning(spec, settings, exit),
        }
    }

    /// Whether the processes keep a state file.
    pub(super) fn has_state_files(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotPrepared> + Send + 'static,
) -> Result<T, NotPrepared> {
    let done = spawn_blocking(work).await;
    // A panic fails this launch alone; the worker goes on.
    done.unwrap_or_else(|error| Err(PrepareError::BrokeDown(error.to_string()).into()))
}
