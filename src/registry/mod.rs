//! The registry: one actor owns the [`Fleet`], one worker a client does what takes time.
//!
//! Calls that change something go into the actor's queue; reads take the last [`Snapshot`] and never wait.

mod actor;
mod keeper;
mod news;
mod noting;
mod snapshot;
mod worker;

pub use news::News;
pub use snapshot::{ClientView, Snapshot};
pub use worker::Tools;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use crate::model::client::{ClientSpec, Generation};
use crate::model::fleet::{AtOnce, Fleet, Launch, Outcome, Rules, Shutdown};
use crate::model::name::ClientName;
use crate::model::saved::{Found, SavedClient};
use crate::statefile::Reported;
use crate::store::Store;
use crate::supervisor::Event;

/// How many calls may wait for the actor. It does each within microseconds, so more means that something is wrong.
const QUEUE: usize = 1024;

/// The way to the registry.
#[derive(Clone, Debug)]
pub struct Registry {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// The registry takes no call just now: its queue is full, or it is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry takes no call just now")]
pub struct Unavailable;

/// What an earlier controller left.
#[derive(Debug)]
pub struct Restored {
    /// The last generation that it gave.
    pub last_generation: Generation,
    /// Its clients, and what was found of their processes.
    pub clients: Vec<(SavedClient, Found)>,
    /// What the state files say of those that run: whoever asks first is to be told no less than who asked before.
    pub reports: Vec<Reported>,
}

#[derive(Debug)]
enum Command {
    Start(Arc<ClientSpec>, oneshot::Sender<Outcome>),
    Stop(ClientName, AtOnce, oneshot::Sender<Outcome>),
    Rules(Rules),
    StopAnnounced(Launch),
    Shutdown(Shutdown, oneshot::Sender<()>),
    Hurry,
    Ping(oneshot::Sender<()>),
}

impl Registry {
    /// Makes a registry and the future that is its life; it ends when nobody can call any more. What was restored can be
    /// seen at once. What the supervisor tells comes through `events`, what clients say through `news`, to which `told` leads.
    /// Must be called within a tokio runtime.
    pub fn new(
        rules: Rules,
        tools: Tools,
        store: Store,
        restored: Restored,
        events: mpsc::Receiver<Event>,
        (told, news): (mpsc::Sender<News>, mpsc::Receiver<News>),
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (publish, snapshot) = watch::channel(Arc::default());
        let mut actor = actor::Actor::new(Fleet::new(rules, restored.last_generation), tools, publish);
        actor.restore(restored.clients, restored.reports);
        (Self { commands: sender, snapshot }, actor.run(store, commands, events, told, news))
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// One client as it is known now.
    pub fn client(&self, name: &ClientName) -> Option<Arc<ClientView>> {
        self.snapshot.borrow().get(name).cloned()
    }

    /// Tells of every change of what is known.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Returns when the actor got to it: proof that it works.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Ping(answer)).await.map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)
    }

    /// Starts a client; returns when its process is there, or why it is not.
    pub async fn start(&self, spec: ClientSpec) -> Result<Outcome, Unavailable> {
        self.call(|answer| Command::Start(Arc::new(spec), answer)).await
    }

    /// Stops a client; unless `at_once`, returns when its process is gone.
    pub async fn stop(&self, name: ClientName, at_once: AtOnce) -> Result<Outcome, Unavailable> {
        self.call(|answer| Command::Stop(name, at_once, answer)).await
    }

    /// Changes the rules for what comes.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), Unavailable> {
        self.commands.send(Command::Rules(rules)).await.map_err(|_| Unavailable)
    }

    /// Tells that a caller told the client itself to stop. Never waits.
    pub fn stop_announced(&self, launch: Launch) {
        if self.commands.try_send(Command::StopAnnounced(launch)).is_err() {
            warn!("the registry is too busy to hear that a client was told to stop");
        }
    }

    /// Ends every client that does not outlive the controller; returns when all is at rest and written down.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Shutdown(shutdown, answer)).await.map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)
    }

    /// Gives clients that are being ended no more time.
    pub async fn hurry(&self) -> Result<(), Unavailable> {
        self.commands.send(Command::Hurry).await.map_err(|_| Unavailable)
    }

    async fn call(
        &self,
        command: impl FnOnce(oneshot::Sender<Outcome>) -> Command,
    ) -> Result<Outcome, Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.commands.try_send(command(answer)).map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)
    }
}
