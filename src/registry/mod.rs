//! The registry: one actor owns the [`Fleet`], and one worker per client does the slow work.
//!
//! Calls that change something go through the actor's queue. Reads take the last [`Snapshot`] and never wait.
//!
//! - `actor`: owns the fleet, carries out its effects, publishes snapshots
//! - `worker`, `launcher`: probe ports, launch and stop processes
//! - `secret_renewal`: gives units the secrets that the operator changes
//! - `persister`: writes the registry file
//! - `audit_log`: what the log says about accounts
//! - `tally`: what of them is counted

mod actor;
mod audit_log;
mod launcher;
mod persister;
mod secret_renewal;
mod snapshot;
mod tally;
mod worker;

pub use launcher::{
    ClientLauncher, Endpoints, Forgetting, ImplementationLauncher, Launcher, Refusal, Refusals, token_file,
};
pub use snapshot::{ClientView, Snapshot};
pub use worker::WorkerContext;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::config::Settings;
use crate::environ::SpecError;
use crate::model::client::{ClientSpec, Generation, Handle, ManagerKind};
use crate::model::fleet::{Fleet, Input, Launch, RequestOutcome, Rules, Shutdown, StopMode};
use crate::model::name::{ClientName, UnitId};
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::statefile::Reported;
use crate::store::Store;
use crate::supervisor::systemd::{CleanError, FolderError};
use crate::supervisor::{AnySupervisor, ProcessUsage};

/// How many calls may wait for the actor. Each takes microseconds, so a full queue means that something is wrong.
const QUEUE: usize = 1024;

/// A handle to the registry.
#[derive(Clone, Debug)]
pub struct Registry {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    supervisor: Arc<AnySupervisor>,
    launcher: Launcher,
}

/// How long a call waits while systemd cannot be reached.
const OUTAGE: Duration = Duration::from_secs(5);

/// The registry takes no calls: its queue is full, or it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry takes no call just now")]
pub struct RegistryGone;

/// Why a start or a stop has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was done.
    #[error(transparent)]
    RegistryGone(#[from] RegistryGone),
    /// It is under way, but systemd could not be reached for 5 seconds, so its outcome is not known yet.
    #[error("systemd can't be reached")]
    Outage,
}

/// What an earlier controller left.
#[derive(Debug)]
pub struct Restored {
    /// A unique ID of this run of the controller.
    pub run_id: Arc<str>,
    /// The last generation of the earlier controller.
    pub last_generation: Generation,
    /// Its clients, and the status of their processes.
    pub clients: Vec<(PersistedClient, ProcessStatus)>,
    /// The state files of those that run, so that the first caller sees no less than callers of the earlier controller.
    pub reports: Vec<Reported>,
}

#[derive(Debug)]
enum Command {
    Start(Arc<ClientSpec>, oneshot::Sender<RequestOutcome>),
    StartWith(Arc<ClientSpec>, oneshot::Sender<RequestOutcome>),
    Stop(ClientName, StopMode, oneshot::Sender<RequestOutcome>),
    StopAndKeep(ClientName, oneshot::Sender<RequestOutcome>),
    Register(Arc<ClientSpec>, oneshot::Sender<RequestOutcome>),
    Rules(Rules),
    StopAccepted(Launch),
    Relaunch(ClientName),
    Hold(ClientName, Arc<str>),
    ShutdownRequested,
    Shutdown(Shutdown, oneshot::Sender<()>),
    ForceStop,
    Ping(oneshot::Sender<()>),
}

impl Registry {
    /// Makes a registry and the future that runs it, which ends when all handles are dropped. Restored clients are visible at
    /// once. `inputs` are both ends of the actor's queue, to which supervisor, state files, workers and persister send. Must be
    /// called within a tokio runtime.
    pub fn new(
        rules: Rules,
        context: WorkerContext,
        store: Arc<Store>,
        restored: Restored,
        inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (publish, snapshot) = watch::channel(Arc::default());
        let (supervisor, launcher) = (context.supervisor.clone(), context.launcher.clone());
        let mut actor = actor::Actor::new(
            Fleet::new(rules, restored.last_generation).with_run_id(restored.run_id),
            context,
            publish,
            inputs.0,
        );
        // Before there is a handle, so that no caller sees a list without them.
        actor.restore(restored.clients, restored.reports);
        let registry = Self { commands: sender, snapshot, supervisor, launcher };
        (registry, actor.run(store, commands, inputs.1))
    }

    /// The last snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// One client of the last snapshot.
    pub fn client(&self, name: &ClientName) -> Option<Arc<ClientView>> {
        self.snapshot.borrow().get(name).cloned()
    }

    /// Receives every snapshot.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Returns when the actor has answered, which shows that it works.
    pub async fn ping(&self) -> Result<(), RegistryGone> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Ping(answer)).await.map_err(|_| RegistryGone)?;
        answered.await.map_err(|_| RegistryGone)
    }

    /// Checks whether a client can be started with these parameters. Blocks on the file system.
    ///
    /// # Errors
    /// The first parameter with which the client would end at once.
    pub fn check_start(&self, spec: &ClientSpec, settings: &Settings) -> Result<(), SpecError> {
        self.launcher.check_start(spec, settings)
    }

    /// Starts a client. Returns when its process runs or the launch has failed.
    pub async fn start(&self, spec: ClientSpec) -> Result<RequestOutcome, CallError> {
        self.call(|answer| Command::Start(Arc::new(spec), answer)).await
    }

    /// The same with exactly these parameters: a client that runs with others is started anew.
    pub async fn start_with(&self, spec: ClientSpec) -> Result<RequestOutcome, CallError> {
        self.call(|answer| Command::StartWith(Arc::new(spec), answer)).await
    }

    /// Stops a client. Returns when its process is gone, unless `mode` says not to wait.
    pub async fn stop(&self, name: ClientName, mode: StopMode) -> Result<RequestOutcome, CallError> {
        self.call(|answer| Command::Stop(name, mode, answer)).await
    }

    /// Stops a client and keeps it in the list. Returns when its process is gone.
    pub async fn stop_and_keep(&self, name: ClientName) -> Result<RequestOutcome, CallError> {
        self.call(|answer| Command::StopAndKeep(name, answer)).await
    }

    /// Puts a client without a process into the list, or gives it other parameters. Returns when that is on disk.
    pub async fn register(&self, spec: ClientSpec) -> Result<RequestOutcome, CallError> {
        self.call(|answer| Command::Register(Arc::new(spec), answer)).await
    }

    /// The unit of the process with this ID, and its manager, where processes are units.
    pub fn unit_of(&self, id: &UnitId) -> Option<(ManagerKind, Arc<str>)> {
        self.supervisor.manager().zip(self.supervisor.unit_of(id))
    }

    /// What these processes use, in their order; none where one is gone or it is not known.
    pub async fn usage(&self, handles: Vec<Handle>) -> Vec<Option<ProcessUsage>> {
        self.supervisor.usage(handles).await
    }

    /// Removes what the unit with this ID kept on disk, where processes are units. Returns when it is gone.
    ///
    /// # Errors
    /// See [`CleanError`].
    pub async fn clean_unit(&self, id: &UnitId) -> Result<(), CleanError> {
        self.supervisor.clean_unit(id).await
    }

    /// A connection to what the unit with this ID keeps on disk. None where processes are no units.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub async fn open_folder(&self, id: &UnitId) -> Result<Option<UnixStream>, FolderError> {
        self.supervisor.open_folder(id).await
    }

    /// Changes the rules for what follows.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), RegistryGone> {
        self.commands.send(Command::Rules(rules)).await.map_err(|_| RegistryGone)
    }

    /// Starts a process anew: stops it and starts it again, or starts it at once where there is none. Returns before it is done.
    pub async fn relaunch(&self, name: ClientName) -> Result<(), RegistryGone> {
        self.commands.send(Command::Relaunch(name)).await.map_err(|_| RegistryGone)
    }

    /// Ends a process and holds it, for this reason. Returns before it is done.
    pub async fn hold(&self, name: ClientName, why: Arc<str>) -> Result<(), RegistryGone> {
        self.commands.send(Command::Hold(name, why)).await.map_err(|_| RegistryGone)
    }

    /// Reports that the client accepted a stop request through its own API. Never waits.
    pub fn stop_accepted(&self, launch: Launch) {
        let name = launch.name.clone();
        if self.commands.try_send(Command::StopAccepted(launch)).is_err() {
            warn!(client = %name, "told by a caller to stop, but the registry is too busy; it may be started again");
        }
    }

    /// Reports that the controller was asked to shut down. The same signal may end clients as well, which then is no failure of
    /// theirs. Never waits.
    pub fn shutdown_requested(&self) {
        if self.commands.try_send(Command::ShutdownRequested).is_err() {
            warn!(
                "the registry is too busy to learn of the shutdown; clients that end with the controller may count as failed"
            );
        }
    }

    /// Stops the clients that do not outlive the controller. Returns when nothing is under way and the registry file is written.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Result<(), RegistryGone> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Shutdown(shutdown, answer)).await.map_err(|_| RegistryGone)?;
        answered.await.map_err(|_| RegistryGone)
    }

    /// Kills the clients that are being stopped.
    pub async fn force_stop(&self) -> Result<(), RegistryGone> {
        self.commands.send(Command::ForceStop).await.map_err(|_| RegistryGone)
    }

    async fn call(
        &self,
        command: impl FnOnce(oneshot::Sender<RequestOutcome>) -> Command,
    ) -> Result<RequestOutcome, CallError> {
        let (answer, answered) = oneshot::channel();
        // A full queue refuses at once: callers that waited for room would only pile up.
        self.commands.try_send(command(answer)).map_err(|_| RegistryGone)?;
        tokio::select! {
            // An outcome that is there counts, however long systemd has been away.
            biased;
            outcome = answered => Ok(outcome.map_err(|_| RegistryGone)?),
            () = self.supervisor.unreachable_for(OUTAGE) => Err(CallError::Outage),
        }
    }
}
