//! What a fleet is told, what it says to do, and what callers are told.

use std::sync::Arc;

use crate::model::client::{ClientSpec, Exit, Generation, Handle};
use crate::model::name::ClientName;
use crate::model::restart::RestartPolicy;
use crate::model::saved::{Found, SavedClient};
use crate::model::state::StateReport;
use std::time::Duration;

/// Stands for a caller who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Counts what the registry file went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// What the operator allows and wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many clients there may be.
    pub max_clients: usize,
    /// The lowest port for a client.
    pub first_port: u16,
    /// Which ends are followed by a new start.
    pub restart: RestartPolicy,
    /// After how many failures in a row no further start follows.
    pub restart_limit: u32,
    /// The time between two starts when many are made at once, after a boot.
    pub start_interval: Duration,
    /// Whether what should run and does not is started when the controller starts.
    pub restore: bool,
    /// Whether clients go on when the controller ends.
    pub clients_outlive_controller: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The registry file has this client, and this was found of its process. Told before anything else.
    Restored(Box<SavedClient>, Found),
    /// A caller wants this client to run.
    Start(Ticket, Arc<ClientSpec>),
    /// A caller wants this client to end, and waits until it has unless `at_once`.
    Stop(Ticket, ClientName, AtOnce),
    /// The port that was to be looked at is free, or another program has it.
    Probed(Launch, PortState),
    /// The process is there.
    Launched(Launch, Handle),
    /// It could not be launched; why, in words.
    LaunchFailed(Launch, String),
    /// The process is gone.
    Exited(Launch, Exit),
    /// Another process has taken its place, by no call of ours: an operator started its unit anew.
    Replaced(Launch, Handle),
    /// An operator froze the process, or thawed it.
    Frozen(Launch, bool),
    /// The process cannot be ended; why, in words.
    StopFailed(Launch, String),
    /// A caller told the client itself to stop, and it agreed.
    StopAnnounced(Launch),
    /// The client's state file says something new.
    Report(Launch, Arc<StateReport>),
    /// The registry file has this version.
    Saved(Version),
    /// The registry file could not be written as this version; why, in words.
    SaveFailed(Version, String),
    /// The operator changed the rules. They hold for what comes, not for what is there.
    Rules(Rules),
    /// Time has passed: see [`super::Fleet::next_tick`].
    Tick,
    /// The controller is about to end.
    Shutdown(Shutdown),
}

/// What becomes of the clients when the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They end with it; those who should run are started again by the next controller.
    EndClients,
    /// They go on.
    KeepClients,
}

/// Whether a caller waits for the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// The answer comes as soon as the wish is on disk.
    Yes,
    /// The answer comes when the process is gone.
    No,
}

/// What was found on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Nobody listens on it.
    Free,
    /// Another program has it.
    Taken,
}

/// One launch of one client: what an event must name to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// The account.
    pub name: ClientName,
    /// Which launch of it.
    pub generation: Generation,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// See whether another program has this port.
    Probe(Launch, u16),
    /// Write the registry file, at least as new as this version.
    Save(Version),
    /// Watch the state file of a process that an earlier controller started, or an operator.
    Watch(Launch, Arc<ClientSpec>),
    /// Start the process.
    Launch(Launch, u16, Arc<ClientSpec>),
    /// End the process.
    Terminate(Launch, Handle),
    /// Tell the caller.
    Answer(Ticket, Outcome),
}

/// What a caller is told.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It runs, by this call.
    Started(Told),
    /// It ran already.
    AlreadyExists(Told),
    /// It is gone, or on its way.
    Stopped(Told),
    /// There is no such client.
    NotExists,
    /// Every port from the first one on is taken.
    NoPort(Arc<ClientSpec>),
    /// It could not be launched, or was stopped before it was up; why, in words.
    Failed(Arc<ClientSpec>, String),
    /// It was launched and was gone before anybody could see it.
    NoPid(Arc<ClientSpec>, Exit),
    /// There are as many as there may be.
    TooMany(Arc<ClientSpec>),
}

/// The facts of an [`Outcome`] about a client that there is or was.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was asked for when it was started.
    pub spec: Arc<ClientSpec>,
    /// Its port.
    pub port: u16,
    /// Its pid; none where it was stopped before there was a process.
    pub pid: Option<u32>,
}
