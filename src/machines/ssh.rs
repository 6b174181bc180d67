//! [`Tunnel`]: a socket on this machine that leads to the one of another machine, through OpenSSH.
//!
//! It is the operator's own `ssh`, with the keys and known hosts of the user that the controller runs as. It asks for nothing, and
//! accepts no host that it does not know.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Signal, getppid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::locks::locked;

/// How long ssh may take to open the tunnel.
const OPEN: Duration = Duration::from_secs(20);

/// The time between two looks whether the tunnel is open.
const LOOK: Duration = Duration::from_millis(50);

/// How long its words may take after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The longest line of ssh that is read, in bytes.
const MAX_LINE: u64 = 1024;

/// What is the same for all machines. `-N`: no command runs there.
const OPTIONS: [&str; 24] = [
    "-N",
    "-T",
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "ExitOnForwardFailure=yes",
    "-o",
    "StreamLocalBindUnlink=yes",
    "-o",
    "ConnectTimeout=5",
    // A machine that is gone ends it within 20 s. The questions that go through it notice sooner.
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
    // One connection of our own, whatever the operator's configuration shares.
    "-o",
    "ControlMaster=no",
    "-o",
    "ControlPath=none",
    "-o",
    "ForwardAgent=no",
    // Its words are what an operator gets to know.
    "-o",
    "LogLevel=INFO",
];

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// The socket there.
    pub(super) socket: PathBuf,
}

/// How many of ssh's last lines are kept.
const MAX_LINES: usize = 20;

/// How long a line of ssh may take that says why a connection through it failed.
const REASON: Duration = Duration::from_millis(500);

/// What ssh says, as far as it is kept.
#[derive(Clone, Default)]
pub(super) struct Words(Arc<(Mutex<VecDeque<String>>, Notify)>);

/// A tunnel. When it is dropped, ssh is ended.
pub(super) struct Tunnel {
    child: Child,
    words: Words,
    /// Ends when ssh says no more.
    reading: AbortOnDropHandle<()>,
}

impl Route {
    /// The arguments of ssh, for a tunnel from `socket` on this machine.
    fn arguments(&self, socket: &Path) -> Vec<String> {
        let mut all: Vec<String> = OPTIONS.map(str::to_owned).into();
        all.extend(["-L".to_owned(), format!("{}:{}", socket.display(), self.socket.display())]);
        all.extend(self.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        all.extend(self.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        // Whatever follows is no option.
        all.extend(["--".to_owned(), self.host.clone()]);
        all
    }
}

impl Route {
    /// How a person calls it.
    pub(super) fn by_hand(&self) -> String {
        let user = self.user.iter().map(|user| format!("{user}@"));
        let port = self.port.iter().map(|port| format!(" -p {port}"));
        format!("ssh{} {}{}", port.collect::<String>(), user.collect::<String>(), self.host)
    }

    /// What it is called among the known hosts.
    pub(super) fn known_as(&self) -> String {
        match self.port {
            Some(port) if port != 22 => format!("[{}]:{port}", self.host),
            _ => self.host.clone(),
        }
    }
}

impl Words {
    /// Takes what was said since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        locked(&self.0.0).drain(..).collect()
    }

    /// Takes what was said since the last time, and waits a moment where that is nothing.
    pub(super) async fn take_reason(&self) -> Vec<String> {
        let said = self.0.1.notified();
        let taken = self.take();
        if !taken.is_empty() {
            return taken;
        }
        // Where none comes, ssh has nothing to do with it.
        let _ = timeout(REASON, said).await;
        self.take()
    }

    fn push(&self, text: String) {
        let mut words = locked(&self.0.0);
        if words.len() == MAX_LINES {
            words.pop_front();
        }
        words.push_back(text);
        drop(words);
        self.0.1.notify_waiters();
    }
}

/// Whether there is such a program in `PATH`.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What runs ssh with arguments that follow. It ends when the controller is killed, or it would hold the connection and the socket: that
/// is for the program itself to say before it becomes ssh ([`become_ssh`]), as `setpriv` needs calls that the service is denied.
fn program() -> Command {
    // This one, also when the file was replaced by an upgrade.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wqcontroller").args(["ssh", &std::process::id().to_string(), "--"]);
    command
}

/// Becomes ssh with these arguments, which the kernel ends together with its parent, the controller. Returns only where that fails.
pub fn become_ssh(parent: u32, arguments: &[OsString]) -> ExitCode {
    // The kernel takes the thread that started it for its parent. That is a thread of the runtime, which lives as long as the controller.
    let told = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    // It may have been killed before.
    let is_orphan = getppid().is_none_or(|now| u32::try_from(now.as_raw_nonzero().get()) != Ok(parent));
    let why = match told {
        Ok(()) if is_orphan => return ExitCode::FAILURE,
        Ok(()) => std::process::Command::new("ssh").args(arguments).exec(),
        Err(error) => error.into(),
    };
    complain(&format!("ssh can't be started: {why}"));
    ExitCode::FAILURE
}

fn complain(why: &str) {
    // Where this fails, too, there is no other way to say it.
    let _ = writeln!(io::stderr(), "{why}");
}

impl Tunnel {
    /// Starts ssh, which opens a tunnel from `socket` on this machine. The folder of that has to exist.
    ///
    /// # Errors
    /// It can't be started: why, for people.
    pub(super) fn start(route: &Route, socket: &Path) -> Result<Self, String> {
        // One that another ssh has left would seem to be open.
        if let Err(error) = std::fs::remove_file(socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(format!("{} is in the way of the tunnel: {error}", socket.display()));
        }
        if !is_installed("ssh") {
            return Err("ssh is not installed (package openssh-client)".to_owned());
        }
        let mut command = program();
        command.args(route.arguments(socket));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("ssh can't be started: {error}"))?;
        let words = Words::default();
        let reading = AbortOnDropHandle::new(tokio::spawn(listen(child.stderr.take(), words.clone())));
        Ok(Self { child, words, reading })
    }

    /// Waits until the tunnel is open.
    ///
    /// # Errors
    /// It does not come to that: why, for people.
    pub(super) async fn open(&mut self, socket: &Path) -> Result<(), String> {
        let deadline = Instant::now() + OPEN;
        let mut looks = interval(LOOK);
        while Instant::now() < deadline {
            tokio::select! {
                why = self.ended() => return Err(why),
                _ = looks.tick() => {}
            }
            if UnixStream::connect(socket).await.is_ok() {
                return Ok(());
            }
        }
        Err(format!("ssh has not opened the tunnel within {} s", OPEN.as_secs()))
    }

    /// Waits until ssh ends; how it did that, for people. Cancel-safe.
    pub(super) async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        // What it said comes with its end. A program that it started may hold the pipe.
        let _ = timeout(LAST_WORDS, &mut self.reading).await;
        match status {
            Ok(status) => format!("ssh ended ({status})"),
            Err(error) => format!("ssh is lost: {error}"),
        }
    }

    /// What it says.
    pub(super) fn words(&self) -> Words {
        self.words.clone()
    }
}

/// Keeps the last lines that ssh says.
async fn listen(stream: Option<ChildStderr>, words: Words) {
    let Some(stream) = stream else { return };
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        if text.is_empty() {
            continue;
        }
        debug!("ssh: {text}");
        words.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_never_an_option() {
        let route = Route {
            user: Some("wq".into()),
            host: "tokyo".into(),
            port: Some(2222),
            socket: "/run/wqcontroller.sock".into(),
        };
        let all = route.arguments(Path::new("/run/x.sock"));
        let tail: Vec<&str> = all.iter().skip(OPTIONS.len()).map(String::as_str).collect();
        assert_eq!(
            tail,
            ["-L", "/run/x.sock:/run/wqcontroller.sock", "-l", "wq", "-p", "2222", "--", "tokyo"]
        );
        assert!(OPTIONS.contains(&"StrictHostKeyChecking=yes") && OPTIONS.contains(&"BatchMode=yes"));
    }
}
