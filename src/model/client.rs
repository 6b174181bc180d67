//! What the controller knows about one client: its parameters ([`ClientSpec`]), its process ([`Handle`]) and its phase
//! ([`Phase`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ClientName, UnitId};
use super::state::{ClientState, StateReport};

/// The parameters of a client, checked and with its files resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// The account.
    pub name: ClientName,
    /// The ID of its unit and folders. It stays the same as long as the account is registered.
    pub id: UnitId,
    /// The start parameters as given, by name, without `client`.
    pub params: BTreeMap<String, ParamValue>,
    /// Where the client keeps its files.
    pub files: ClientFiles,
}

impl ClientSpec {
    /// The file for its output when it outlives its controller. A pipe would break then.
    pub fn output(&self) -> PathBuf {
        self.files.tmpdir.join(format!("mojo_webqq_output_{}.log", self.name))
    }

    /// A client without parameters, for tests.
    #[cfg(test)]
    pub(crate) fn example(name: &str, folder: impl Into<PathBuf>) -> Arc<Self> {
        let name = ClientName::new(name).unwrap();
        let files = ClientFiles::in_folder(folder.into(), &name);
        Arc::new(Self { id: UnitId::of(&name), name, params: BTreeMap::new(), files })
    }
}

/// The value of a start parameter. `Debug` hides a secret one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamValue {
    /// The text as given.
    pub text: String,
    /// Whether only the client may see it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// The file or folder that it names, with links resolved. The client gets this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl fmt::Debug for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("(secret)") } else { fmt::Debug::fmt(&self.text, f) }
    }
}

/// The files of a client, absolute and free of symbolic links where they existed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFiles {
    /// The folder of all files that have no path of their own.
    pub tmpdir: PathBuf,
    /// The state file, JSON.
    pub state: PathBuf,
    /// The image of the login QR code.
    pub qrcode: PathBuf,
    /// The client's pid file.
    pub pid: PathBuf,
}

impl ClientFiles {
    /// The original's file names in `tmpdir`.
    pub fn in_folder(tmpdir: PathBuf, name: &ClientName) -> Self {
        Self {
            state: tmpdir.join(format!("mojo_webqq_state_{name}.json")),
            qrcode: tmpdir.join(format!("mojo_webqq_qrcode_{name}.jpg")),
            pid: tmpdir.join(format!("mojo_webqq_pid_{name}.pid")),
            tmpdir,
        }
    }
}

/// Counts all launches ever made. Events about a process carry its generation, so that those about an earlier process are
/// recognised and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose units: which manager of systemd has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagerKind {
    /// The machine's.
    #[default]
    System,
    /// Those of the controller's own user.
    User,
}

/// Identifies the process of a client. Never a bare pid, as pids are reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handle {
    /// A child process of ours.
    Direct {
        /// Its pid, which is also its process group.
        pid: u32,
        /// When it started, in clock ticks since boot: `starttime` of proc_pid_stat(5).
        start_ticks: u64,
        /// The boot that this pid belongs to: `/proc/sys/kernel/random/boot_id`.
        boot_id: Arc<str>,
    },
    /// A unit of systemd.
    Unit {
        /// Its name, such as `wqclient@alice.service`.
        name: Arc<str>,
        /// Its InvocationID, which identifies one run of the unit: 32 hexadecimal digits, see systemd.exec(5).
        invocation_id: Arc<str>,
        /// The pid of its main process.
        pid: u32,
    },
}

impl Handle {
    /// The pid that callers are told.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Direct { pid, .. } | Self::Unit { pid, .. } => *pid,
        }
    }

    /// The name of its unit, if it is one.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Self::Direct { .. } => None,
            Self::Unit { name, .. } => Some(name),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Unknown, since it was not a child of this controller.
    Unknown,
    /// There was no process: the launch failed.
    NotLaunched,
    /// It was killed because memory ran out, its own or the machine's.
    OutOfMemory,
    /// systemd's watchdog killed it because it did not report in time.
    Watchdog,
    /// It was killed because it did not stop in time.
    Timeout,
    /// An operator stopped its unit, or the machine went down.
    Stopped,
    /// It is gone and did not fail while no controller ran: it exited with status 0, or its unit was stopped.
    Clean,
    /// It exited with this status, which for its kind means a mistake in its configuration or its surroundings. A signal counts
    /// as 128 and its number, as in shells.
    Misconfigured(i32),
    /// The built-in client refused its settings. Another program may use the same status for something else, so supervisors
    /// tell the two apart.
    Unusable,
}

/// The exit status of the built-in client when it refuses its settings.
pub const UNUSABLE: u8 = 2;

/// The exit status of a client whose account was logged out by a login elsewhere, `EX_NOPERM` of `sysexits.h`.
pub const LOGGED_OUT_ELSEWHERE: u8 = 77;

/// The exit status of a client that stopped because `stop_client` of its own API was called.
///
/// No other cause has it: it is above every `errno`, with which Perl's `die` exits, above the statuses that shells give to
/// signals (128 and the number), and below systemd's own (200 and more).
pub const STOP_ASKED: u8 = 193;

/// Signals that come from outside: SIGHUP, SIGINT, SIGKILL, SIGTERM. The last line of a process does not explain them.
const SENT: [i32; 4] = [1, 2, 9, 15];

impl Exit {
    /// Whether it exited with status 0, for whatever reason.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// Whether it exited because `stop_client` of its own API was called.
    pub fn is_stop_asked(self) -> bool {
        self == Self::Code(STOP_ASKED.into())
    }

    /// The exit, where the statuses of the built-in client have their own meaning.
    pub fn of(self, built_in: bool) -> Self {
        if built_in && self == Self::Code(UNUSABLE.into()) { Self::Unusable } else { self }
    }

    /// Whether each further start would fail in the same way, so that a person has to look at it first.
    pub fn is_final(self) -> bool {
        self.is_logged_out_elsewhere() || self == Self::Unusable
    }

    /// Whether its kind of process ends so when something is wrong with its configuration or its surroundings.
    pub fn is_misconfigured(self) -> bool {
        matches!(self, Self::Misconfigured(_))
    }

    /// The same end, known to be that of a misconfigured process.
    pub fn misconfigured(self) -> Self {
        match self {
            Self::Code(status) => Self::Misconfigured(status),
            Self::Signal(signal) => Self::Misconfigured(128 + signal),
            // Not an end by the program itself, so its configuration is not to blame.
            other => other,
        }
    }

    /// Whether the last line that the process printed can say why it ended.
    pub fn has_last_words(self) -> bool {
        !matches!(self, Self::Signal(signal) if SENT.contains(&signal)) && !matches!(self, Self::Stopped)
    }

    /// Whether its account was logged out by a login elsewhere. Another start would log that one out, so a person has to decide.
    pub fn is_logged_out_elsewhere(self) -> bool {
        self == Self::Code(LOGGED_OUT_ELSEWHERE.into())
    }

    /// Whether an operator stopped it, or the machine went down. No restart policy applies, and what callers want of it stays.
    pub fn is_stopped_by_operator(self) -> bool {
        matches!(self, Self::Stopped | Self::Clean)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) if self.is_logged_out_elsewhere() => {
                write!(f, "exited with status {code}: its account was put out")
            }
            Self::Code(code) if self.is_stop_asked() => {
                write!(f, "exited with status {code}: its API was asked to stop it")
            }
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Unknown => f.write_str("ended in a way that can't be found out"),
            Self::NotLaunched => f.write_str("could not be launched"),
            Self::OutOfMemory => f.write_str("was killed for want of memory"),
            Self::Watchdog => f.write_str("was killed by the watchdog"),
            Self::Timeout => f.write_str("was killed because it did not end in time"),
            Self::Stopped => f.write_str("was stopped through systemd"),
            Self::Clean => f.write_str("ended, or was stopped, while no controller was there"),
            Self::Misconfigured(code) => {
                write!(f, "exited with status {code}: its configuration or its surroundings do not suit it")
            }
            Self::Unusable => write!(f, "exited with status {UNUSABLE}: its settings can't be used"),
        }
    }
}

/// What the *controller* knows about the process. What the client says about itself is its [`ClientState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Admitted, with a port of its own; not launched yet.
    Reserved,
    /// Being launched.
    Starting,
    /// The process runs.
    Up,
    /// The process is being stopped.
    Stopping,
    /// The process is gone.
    Gone(Exit),
}

impl Phase {
    /// The word for logs and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Stopping => "stopping",
            Self::Gone(_) => "gone",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All that the controller knows about a client.
#[derive(Clone, Debug)]
pub struct ClientRecord {
    /// What was asked for.
    pub spec: Arc<ClientSpec>,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Which launch this is.
    pub generation: Generation,
    /// Its phase.
    pub phase: Phase,
    /// Its process. Always set in [`Phase::Up`].
    pub handle: Option<Handle>,
    /// The last complete state file of this generation.
    pub report: Option<Arc<StateReport>>,
    /// Whether an operator froze it, as `systemctl freeze` does.
    pub frozen: bool,
    /// What became of its earlier processes.
    pub history: RestartHistory,
}

/// What became of a client's processes since a caller started it, and what is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartHistory {
    /// How many exited unasked.
    pub exits: u32,
    /// How many of them in a row exited after a short uptime.
    pub failures: u32,
    /// How the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Why it exited, in its own words, or why it could not be launched; at most [`RestartHistory::REASON_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The launch whose exit was counted last, so that the next controller does not count it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Generation>,
    /// Whether it is not started again without a call: it failed too often, or the policy or an operator does not want it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Whether a caller stopped it and keeps it: it is held, also after a boot, and that is as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether it was held before the machine booted: until its start it takes no place of `max_clients`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// When it is started again, while it waits for that.
    // A moment of this run means nothing to the next controller, which plans anew.
    #[serde(skip)]
    pub next_start: Option<Moment>,
}

/// A moment, in milliseconds since the controller started. The model has no clock; the time is an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time since `earlier`; none if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl ClientRecord {
    /// A client without a process.
    pub fn new(
        spec: Arc<ClientSpec>,
        port: u16,
        generation: Generation,
        phase: Phase,
        history: RestartHistory,
    ) -> Self {
        Self { spec, port, generation, phase, handle: None, report: None, frozen: false, history }
    }

    /// Whether it takes one of the places that `max_clients` gives. A held client may wait for ever.
    pub fn takes_place(&self) -> bool {
        self.has_process() || !self.history.held && !self.history.returning
    }

    /// Whether a caller stopped it and keeps it, and it has ended.
    pub fn is_kept_stopped(&self) -> bool {
        self.history.stopped && matches!(self.phase, Phase::Gone(_))
    }

    /// Whether it has a process, and therefore its port. Without a process the port may be another client's, even in
    /// [`Phase::Stopping`], which a stop of an exited client passes as well.
    pub fn has_process(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Stopping) && self.handle.is_some()
    }

    /// The state for callers: what the client said last, where that can still be true.
    pub fn state(&self) -> ClientState {
        match (self.phase, &self.report) {
            // The file still says what the client wrote last, such as `running`.
            (Phase::Gone(_), _) => ClientState::Stop,
            (_, Some(report)) => report.state.clone(),
            (Phase::Stopping, None) => ClientState::Stop,
            (_, None) => ClientState::Init,
        }
    }

    /// The pid of its process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        self.handle.as_ref().map(Handle::pid)
    }

    /// The name of its unit, if it is one and runs.
    pub fn unit(&self) -> Option<&str> {
        self.handle.as_ref().and_then(Handle::unit)
    }
}
