//! The inputs, the effects and the outcomes of a [`Fleet`](super::Fleet).

use std::sync::Arc;

use crate::model::client::{ClientSpec, Exit, Generation, Handle};
use crate::model::name::ClientName;
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::model::restart::RestartPolicy;
use crate::model::state::StateReport;
use std::time::Duration;

/// Identifies a call that waits for its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A revision of the registry file; counts the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// What the operator allows and wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many clients there may be, not counting held ones.
    pub max_clients: usize,
    /// The lowest port for a client.
    pub first_port: u16,
    /// How many ports a client has: its own, and those after it. At least one.
    pub ports_each: u16,
    /// Whether a client has the same port as long as it is registered. Its launch fails where another program has that port.
    pub keeps_port: bool,
    /// Which exits are followed by a new start.
    pub restart: RestartPolicy,
    /// After how many failures in a row a client is held.
    pub restart_limit: u32,
    /// The time between two starts when the controller starts many, as after a boot.
    pub start_interval: Duration,
    /// Whether the controller starts clients that should run when it starts itself.
    pub restore: bool,
    /// Whether clients go on when the controller ends.
    pub clients_outlive_controller: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The registry file has this client, and this is the status of its process. These inputs come before all others.
    Restored(Box<PersistedClient>, ProcessStatus),
    /// A caller wants this client to run.
    Start(RequestId, Arc<ClientSpec>),
    /// A caller wants this client to run with exactly these parameters.
    StartWith(RequestId, Arc<ClientSpec>),
    /// A caller wants this client to end, and waits for its exit in [`StopMode::Wait`].
    Stop(RequestId, ClientName, StopMode),
    /// A caller wants this client to end and to stay in the list, and waits for its exit.
    StopAndKeep(RequestId, ClientName),
    /// A caller wants this client to be in the list without being started.
    Register(RequestId, Arc<ClientSpec>),
    /// The reserved port was probed.
    Probed(Launch, PortState),
    /// The launch succeeded: the process runs.
    Launched(Launch, Handle),
    /// The launch failed, with the reason in words.
    LaunchFailed(Launch, String),
    /// The launch failed for a reason that passes and has nothing to do with the client, such as a lost bus.
    LaunchPostponed(Launch, String),
    /// The launch was refused: with these parameters it cannot succeed.
    LaunchRefused(Launch, String),
    /// Something happened to a process that runs.
    Process(ProcessEvent),
    /// The process could not be stopped, with the reason in words.
    StopFailed(Launch, String),
    /// The client accepted a stop request through its own API.
    StopAccepted(Launch),
    /// Start the process anew, for another reason than an exit.
    Relaunch(ClientName),
    /// End the process, if there is one, and hold it for this reason.
    Hold(ClientName, Arc<str>),
    /// The client's state file changed.
    Report(Launch, Arc<StateReport>),
    /// The registry file is on disk in this revision.
    Saved(Revision),
    /// The registry file could not be written in this revision, with the reason in words.
    SaveFailed(Revision, String),
    /// The operator changed the rules. They apply to what follows, not to clients that run.
    Rules(Rules),
    /// Time has passed: see [`super::Fleet::next_tick`].
    Tick,
    /// The controller was asked to shut down, and finishes open requests first.
    ShutdownRequested,
    /// The controller shuts down.
    Shutdown(Shutdown),
}

impl From<ProcessEvent> for Input {
    fn from(event: ProcessEvent) -> Self {
        Self::Process(event)
    }
}

/// What a supervisor reports about a running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// The last line that the process printed, or sent to the service manager. The exit follows, or was reported already.
    LastWords(Launch, Arc<str>),
    /// The process is gone.
    Exited(Launch, Exit),
    /// Another process with the same environment took its place: an operator restarted its unit.
    Replaced(Launch, Handle),
    /// An operator froze the process, or thawed it.
    Frozen(Launch, bool),
}

impl ProcessEvent {
    /// The launch whose process it is about.
    pub fn launch(&self) -> &Launch {
        match self {
            Self::LastWords(launch, _)
            | Self::Exited(launch, _)
            | Self::Replaced(launch, _)
            | Self::Frozen(launch, _) => launch,
        }
    }
}

/// What becomes of the clients when the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They are stopped. The next controller starts those again that should run.
    EndClients,
    /// They go on.
    KeepClients,
}

/// Whether a stop request waits for the exit of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// The answer comes as soon as the stop is on disk.
    NoWait,
    /// The answer comes when the process is gone.
    Wait,
}

/// The result of probing a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// No program listens on it.
    Free,
    /// Other programs have it, and all ports after it up to this one.
    TakenUpTo(u16),
}

/// One launch of one client. Events of another launch than the current one are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// The account.
    pub name: ClientName,
    /// Which of its launches.
    pub generation: Generation,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Probe this port.
    Probe(Launch, u16),
    /// Write the registry file in this revision or a later one.
    Save(Revision),
    /// Watch the state file of a process that an earlier controller or an operator started.
    Watch(Launch, Arc<ClientSpec>),
    /// Start the process.
    Launch(Launch, u16, Arc<ClientSpec>),
    /// Stop the process.
    Terminate(Launch, Handle),
    /// Answer a request.
    Answer(RequestId, RequestOutcome),
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum RequestOutcome {
    /// The request started it.
    Started(ClientInfo),
    /// It ran already.
    AlreadyExists(ClientInfo),
    /// It is gone, or about to be; or it is kept without a process.
    Stopped(ClientInfo),
    /// There is no such client.
    NotExists,
    /// Every port from the first one on is taken.
    NoPort(Arc<ClientSpec>),
    /// It could not be launched or stopped, or was stopped before it was up; with the reason in words.
    Failed(Arc<ClientSpec>, String),
    /// No launch with these parameters can succeed; with the reason in words.
    Invalid(Arc<ClientSpec>, String),
    /// It was launched and exited at once.
    NoPid(Arc<ClientSpec>, Exit),
    /// `max_clients` leaves no place.
    TooMany(Arc<ClientSpec>),
}

/// The client that a [`RequestOutcome`] is about.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The parameters of its start.
    pub spec: Arc<ClientSpec>,
    /// Its port.
    pub port: u16,
    /// Its pid; none if it was stopped before it had a process.
    pub pid: Option<u32>,
}
