//! [`Tunnel`]: a socket on this machine that leads to the one of another machine, through OpenSSH.
//!
//! It is the operator's own `ssh`, with the keys and known hosts of the user that the controller runs as. It asks for nothing, and
//! accepts no host that it does not know.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
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
const OPTIONS: [&str; 22] = [
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
    // A machine that is gone is noticed within 15 s.
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

/// What of ssh's words is kept: the last lines.
const MAX_LINES: usize = 20;

/// A tunnel. When it is dropped, ssh is ended.
pub(super) struct Tunnel {
    child: Child,
    words: Arc<Mutex<VecDeque<String>>>,
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

impl Tunnel {
    /// Starts ssh, which opens a tunnel from `socket` on this machine. The folder of that has to exist.
    ///
    /// # Errors
    /// It can't be started: why, for people.
    pub(super) fn start(route: &Route, socket: &Path) -> Result<Self, String> {
        let mut command = Command::new("ssh");
        command.args(route.arguments(socket));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "ssh is not installed (package openssh-client)".to_owned(),
            _ => format!("ssh can't be started: {error}"),
        })?;
        let words = Arc::default();
        let reading = AbortOnDropHandle::new(tokio::spawn(listen(child.stderr.take(), Arc::clone(&words))));
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
            // Another ssh may have left one, which nothing listens at.
            if UnixStream::connect(socket).await.is_ok() {
                return Ok(());
            }
        }
        Err(format!("ssh has not opened the tunnel within {} s", OPEN.as_secs()))
    }

    /// Waits until ssh ends; why, for people. Cancel-safe.
    pub(super) async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        // What it said comes with its end. A program that it started may hold the pipe.
        let _ = timeout(LAST_WORDS, &mut self.reading).await;
        match (locked(&self.words).back(), status) {
            (Some(said), _) => format!("ssh: {said}"),
            (None, Ok(status)) => format!("ssh ended ({status})"),
            (None, Err(error)) => format!("ssh is lost: {error}"),
        }
    }

    /// What ssh said, as far as it is kept.
    pub(super) fn said(&self) -> Vec<String> {
        locked(&self.words).iter().cloned().collect()
    }
}

/// Keeps the last lines that ssh says.
async fn listen(stream: Option<ChildStderr>, words: Arc<Mutex<VecDeque<String>>>) {
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
        let mut words = locked(&words);
        if words.len() == MAX_LINES {
            words.pop_front();
        }
        words.push_back(text);
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
