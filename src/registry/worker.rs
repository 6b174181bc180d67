//! One client's worker: it looks at ports, launches and terminates, one thing after the other. What it finds goes to
//! the actor.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::config::Settings;
use crate::environ::{TOKEN, environment, token_file};
use crate::files::{FileError, read_secret};
use crate::homes::Homes;
use crate::model::chain::Chain;
use crate::model::client::{ClientFiles, ClientSpec, Handle};
use crate::model::fleet::{Input, Launch, PortState};
use crate::statefile::{StateFiles, Watch};
use crate::supervisor::{AnySupervisor, LaunchPlan, Output, Program, Supervisor};
use crate::template::{self, TemplateCommand, TemplateError};

/// What workers work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Runs the processes.
    pub supervisor: Arc<AnySupervisor>,
    /// The settings of now.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where the template is, unless the settings say otherwise.
    pub default_template: Arc<Path>,
    /// Where clients keep their files.
    pub homes: Arc<Homes>,
    /// The boot in which we are.
    pub boot_id: Arc<str>,
    /// This program, for a template that runs its built-in client.
    pub executable: Arc<Path>,
    /// Watches what clients say.
    pub state_files: StateFiles,
}

#[derive(Debug)]
pub(super) enum Job {
    Watch(Launch, Arc<ClientSpec>),
    Probe(Launch, u16),
    Launch(Launch, u16, Arc<ClientSpec>),
    Terminate(Launch, Handle),
}

impl Job {
    pub(super) fn launch(&self) -> &Launch {
        match self {
            Self::Watch(launch, _)
            | Self::Probe(launch, _)
            | Self::Launch(launch, ..)
            | Self::Terminate(launch, _) => launch,
        }
    }
}

pub(super) struct Worker {
    tools: Tools,
    found: mpsc::Sender<Input>,
    /// The watch on the state file of the last launch.
    watch: Option<Watch>,
}

/// Why a client is not launched.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("can't make the folder {}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("can't read the token of the OneBot implementation")]
    Token(#[source] FileError),
    #[error("can't remove the old image {}", path.display())]
    Image { path: PathBuf, source: io::Error },
}

impl Worker {
    pub(super) fn new(tools: Tools, found: mpsc::Sender<Input>) -> Self {
        Self { tools, found, watch: None }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Box<Job>>) {
        while let Some(job) = jobs.recv().await {
            let found = match *job {
                Job::Watch(launch, spec) => {
                    self.watch_running(launch, &spec);
                    None
                }
                Job::Probe(launch, port) => {
                    self.tools.supervisor.announce(&launch);
                    Some(probe(launch, port))
                }
                // There is a worker for each client, and it is idle most of the time: then it needs no room for these.
                Job::Launch(launch, port, spec) => Some(Box::pin(self.launch(launch, port, &spec)).await),
                Job::Terminate(launch, handle) => Box::pin(self.terminate(launch, &handle)).await,
            };
            if let Some(found) = found
                && self.found.send(found).await.is_err()
            {
                return;
            }
        }
    }

    async fn launch(&mut self, launch: Launch, port: u16, spec: &Arc<ClientSpec>) -> Input {
        let settings = self.tools.settings.borrow().clone();
        let homes = self.tools.homes.clone();
        let env = |inherited: Vec<_>, controller_pid| {
            environment(inherited, spec, port, &settings, &homes, controller_pid)
        };
        let limits = settings.limits;
        let plan = match &*homes {
            Homes::Units { .. } => {
                let mut env = env(Vec::new(), None);
                match token(token_file(spec, &settings)).await {
                    Ok(token) => env.extend(token.map(|token| (TOKEN.into(), token))),
                    Err(error) => return Input::LaunchFailed(launch, Chain(&error).to_string()),
                }
                LaunchPlan {
                    launch: launch.clone(),
                    program: Program::Template(settings.template_path.clone()),
                    env,
                    output: Output::Log,
                    limits,
                }
            }
            Homes::Shared { .. } => {
                let prepared = tokio::task::spawn_blocking({
                    let template = settings.template_path.clone();
                    let template = template.unwrap_or_else(|| self.tools.default_template.to_path_buf());
                    let (executable, spec) = (self.tools.executable.clone(), spec.clone());
                    move || prepare(&template, &executable, &spec)
                });
                let command = match prepared.await {
                    Ok(Ok(command)) => command,
                    Ok(Err(error)) => return Input::LaunchFailed(launch, Chain(&error).to_string()),
                    Err(error) => return Input::LaunchFailed(launch, error.to_string()),
                };
                // Before the launch, so that what an earlier process left is known as such.
                let owner = homes.owner(&launch.name);
                self.watch = Some(self.tools.state_files.watch(launch.clone(), &spec.files.state, owner));
                let outlives = settings.supervisor.clients_outlive_controller;
                let controller_pid = if outlives { None } else { Some(std::process::id()) };
                LaunchPlan {
                    launch: launch.clone(),
                    program: Program::Command(command),
                    env: env(std::env::vars_os().collect(), controller_pid),
                    output: if outlives { Output::File(spec.output()) } else { Output::Log },
                    limits,
                }
            }
        };
        match self.tools.supervisor.start(plan).await {
            Ok(handle) => {
                if let Homes::Units { .. } = &*homes {
                    // Only now is there a folder, and what is in it is the new process's.
                    self.watch_running(launch.clone(), spec);
                }
                Input::Launched(launch, handle)
            }
            Err(error) => Input::LaunchFailed(launch, Chain(&error).to_string()),
        }
    }

    fn watch_running(&mut self, launch: Launch, spec: &ClientSpec) {
        let owner = self.tools.homes.owner(&launch.name);
        // The one before may be for the same launch, which goes on with another process.
        self.watch = None;
        self.watch = Some(self.tools.state_files.watch_running(launch, &spec.files.state, owner));
    }

    /// Nothing is to be told when it works: the supervisor tells of the end.
    async fn terminate(&mut self, launch: Launch, handle: &Handle) -> Option<Input> {
        let grace = self.tools.settings.borrow().supervisor.stop_timeout;
        let stopped = self.tools.supervisor.stop(handle, grace).await;
        stopped.err().map(|error| Input::StopFailed(launch, Chain(&error).to_string()))
    }
}

/// The token of a unit's OneBot implementation, which the unit can't read itself: the file is ours.
async fn token(file: Option<PathBuf>) -> Result<Option<OsString>, PrepareError> {
    const LONGEST: u64 = 4096;
    let Some(file) = file else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || read_secret(&file, true, LONGEST)).await;
    // It does not panic.
    let content = read.unwrap_or_else(|_| Ok(Vec::new())).map_err(PrepareError::Token)?;
    // The launch file ends its lines by NUL, and a token has none.
    Ok(Some(OsString::from_vec(content.into_iter().filter(|byte| *byte != 0).collect())))
}

/// Whether somebody listens on the port, on 127.0.0.1 or everywhere.
fn probe(launch: Launch, port: u16) -> Input {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Input::Probed(launch, PortState::Free),
        // The latter: a port that this machine keeps for somebody else.
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            Input::Probed(launch, PortState::Taken)
        }
        Err(error) => Input::LaunchFailed(launch, format!("can't look at port {port}: {error}")),
    }
}

/// Makes what must be there before a client is launched. Blocks on the file system.
fn prepare(template: &Path, executable: &Path, spec: &ClientSpec) -> Result<TemplateCommand, PrepareError> {
    template::ensure(template, executable)?;
    let command = template::command(template, &spec.name)?;
    let files = &spec.files;
    for folder in
        [Some(files.tmpdir.as_path()), files.state.parent(), files.qrcode.parent(), files.pid.parent()]
    {
        let Some(folder) = folder else { continue };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| PrepareError::Folder { folder: folder.to_owned(), source })?;
    }
    // An earlier process that was killed may have left its image, and whoever scans that one scans in vain. What a
    // caller named is not ours to delete.
    if files.qrcode == ClientFiles::in_folder(files.tmpdir.clone(), &spec.name).qrcode {
        match fs::remove_file(&files.qrcode) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PrepareError::Image { path: files.qrcode.clone(), source });
            }
            _ => {}
        }
    }
    Ok(command)
}
