//! What the controller knows about one client: what was asked for ([`ClientSpec`]), which process it is
//! ([`Handle`]) and how far it got ([`Phase`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::ClientName;
use super::state::{ClientState, StateReport};

/// What a caller asked for, checked and with its files resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// The account.
    pub name: ClientName,
    /// The start parameters as given, by name, without `client`.
    pub params: BTreeMap<String, ParamValue>,
    /// Where the client keeps its files.
    pub files: ClientFiles,
}

impl ClientSpec {
    /// Where its output goes when it outlives its controller, for a pipe would break.
    pub fn output(&self) -> PathBuf {
        self.files.tmpdir.join(format!("mojo_webqq_output_{}.log", self.name))
    }
}

/// The value of a start parameter. `Debug` hides a secret one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamValue {
    /// The text as given.
    pub text: String,
    /// Whether it may be shown to nobody but the client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// The file or folder that it names, links resolved, where it names one: this is what the client gets.
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
    /// The folder of all that has no path of its own.
    pub tmpdir: PathBuf,
    /// The state file, JSON.
    pub state: PathBuf,
    /// The image of the login QR code.
    pub qrcode: PathBuf,
    /// The client's pid file.
    pub pid: PathBuf,
}

impl ClientFiles {
    /// The seed's names in `tmpdir`.
    pub fn in_folder(tmpdir: PathBuf, name: &ClientName) -> Self {
        Self {
            state: tmpdir.join(format!("mojo_webqq_state_{name}.json")),
            qrcode: tmpdir.join(format!("mojo_webqq_qrcode_{name}.jpg")),
            pid: tmpdir.join(format!("mojo_webqq_pid_{name}.pid")),
            tmpdir,
        }
    }
}

/// Counts all launches there ever were: every event about a process carries its generation, so that one
/// about an earlier process is recognised and dropped.
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

/// Which process a client is. Never a bare pid: pids are used again.
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
        /// Which of all the times that a unit of this name ran: 32 hexadecimal digits, see systemd.exec(5).
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

    /// The unit that it is, if it is one.
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
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// In a way that cannot be found out: it was not our child when it ended.
    Unknown,
    /// It never began: it could not be launched again.
    NotLaunched,
    /// It was killed because memory ran out, its own or the machine's.
    OutOfMemory,
    /// It was killed because it had not told for too long that it was well.
    Watchdog,
    /// It was killed because it did not end in time.
    Timeout,
    /// Somebody stopped its unit, as `systemctl stop` does, or the machine went down.
    Stopped,
    /// It is gone, and did not fail, while no controller was there: it ended content, or its unit was stopped.
    Clean,
}

/// The exit status of a client whose account was put out, `EX_NOPERM` of `sysexits.h`.
pub const PUT_OUT: u8 = 77;

impl Exit {
    /// Ended by itself, and content.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// Ended by itself because its account was put out: another login would put out whoever did that, so somebody has to look
    /// at it first.
    pub fn is_put_out(self) -> bool {
        self == Self::Code(PUT_OUT.into())
    }

    /// Ended because an operator, or the machine's end, would have it so: no policy starts it again. What callers want of it
    /// stays as it is.
    pub fn is_imposed(self) -> bool {
        matches!(self, Self::Stopped | Self::Clean)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) if self.is_put_out() => {
                write!(f, "exited with status {code}: its account was put out")
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
        }
    }
}

/// What *we* know about the process. What the client says about itself is its [`ClientState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Admitted, with a port of its own; not launched yet.
    Reserved,
    /// Being launched.
    Starting,
    /// There is a process.
    Up,
    /// The process was asked to end.
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
    /// Its port on 127.0.0.1: no other living client's.
    pub port: u16,
    /// Which launch this is.
    pub generation: Generation,
    /// How far it got.
    pub phase: Phase,
    /// Its process; always there in [`Phase::Up`].
    pub handle: Option<Handle>,
    /// The last complete state file of this generation.
    pub report: Option<Arc<StateReport>>,
    /// Whether an operator froze it, as `systemctl freeze` does.
    pub frozen: bool,
    /// What became of its earlier processes.
    pub history: History,
}

/// What became of a client's processes since somebody started it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// How many ended without being asked to.
    pub exits: u32,
    /// How many of them in a row did not live for long.
    pub failures: u32,
    /// How the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Whether it is not started again by itself: too many failures, or nobody wants that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// When it is started again, while it waits for that.
    #[serde(skip)]
    pub next_start: Option<Moment>,
}

/// A moment, in milliseconds since the controller started. The model has no clock: it is told.
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
    /// Whether there is a process, so that the port is this client's. Without one the port may be another one's by now, even
    /// in [`Phase::Stopping`]: also what has ended is asked to stop.
    pub fn has_process(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Stopping) && self.handle.is_some()
    }

    /// What to tell callers about its state: its own word, where that can still be true.
    pub fn state(&self) -> ClientState {
        match (self.phase, &self.report) {
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

    /// The unit that it is, if it is one and runs.
    pub fn unit(&self) -> Option<&str> {
        self.handle.as_ref().and_then(Handle::unit)
    }
}
