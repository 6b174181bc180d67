//! Lets `systemctl reload` wait for a reload and learn its result.
//!
//! A signal has no answer, and `Type=notify-reload` (systemd 253) can't say that the configuration was refused. So [`run`], which
//! `ExecReload=` executes, waits for the file in which the controller writes the result of each reload.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use crate::files::{FileError, replace};
use crate::paths::first_folder;

/// The file in the runtime directory.
const FILE: &str = "reload";
/// How often the file is checked, in nanoseconds.
const PAUSE: i64 = 10_000_000;

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is in effect.
    Taken,
    /// The new configuration was refused, and the old one stays.
    Refused,
}

/// A reload in progress.
#[derive(Debug)]
pub struct Reload {
    /// The file for its result. None without a runtime directory; then no process waits for it.
    file: Option<PathBuf>,
    begun: u64,
}

/// Why a controller can't be told to reload.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The command is not executed by systemd, or the unit has no `RuntimeDirectory=`.
    #[error("$RUNTIME_DIRECTORY is not set; this is for ExecReload= of a unit with RuntimeDirectory=")]
    NoDirectory,
    /// The signal can't be sent.
    #[error("the controller, process {pid}, can't be sent SIGHUP")]
    Signal {
        /// The process.
        pid: i32,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The controller is gone.
    #[error("the controller, process {0}, ended before it had read its configuration")]
    Ended(i32),
}

impl Reload {
    /// Begins a reload.
    pub fn begin() -> Self {
        Self { file: file(), begun: now() }
    }

    /// Ends it with this result.
    pub fn end(self, outcome: Outcome) -> Result<(), FileError> {
        let Some(file) = self.file else { return Ok(()) };
        let word = match outcome {
            Outcome::Taken => "taken",
            Outcome::Refused => "refused",
        };
        replace(&file, format!("{} {word}\n", self.begun).as_bytes(), 0o600)
    }
}

/// Tells the controller that is process `pid` to reload, and waits for the result.
pub fn run(pid: i32) -> Result<Outcome, ReloadError> {
    ask(pid, &file().ok_or(ReloadError::NoDirectory)?)
}

fn ask(pid: i32, file: &Path) -> Result<Outcome, ReloadError> {
    let failed = |errno: Errno| ReloadError::Signal { pid, source: errno.into() };
    let process = (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or(Errno::SRCH).map_err(failed)?;
    // Before the signal: after it the controller may end, and its pid be another process's.
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
    // A reload that begins from here on reads all present files. One in progress may have missed some.
    let asked = now();
    pidfd_send_signal(&process, Signal::HUP).map_err(failed)?;
    // Without a limit of its own: systemd ends ExecReload= after the time that the unit has to start.
    loop {
        if let Some(outcome) = read(file).filter(|(begun, _)| *begun >= asked).map(|(_, outcome)| outcome) {
            return Ok(outcome);
        }
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE };
        // An error is an interruption; the file is then checked again.
        if poll(&mut ended, Some(&pause)) == Ok(1) {
            return Err(ReloadError::Ended(pid));
        }
    }
}

fn read(file: &Path) -> Option<(u64, Outcome)> {
    let text = fs::read_to_string(file).ok()?;
    let (begun, word) = text.trim_end().split_once(' ')?;
    let outcome = match word {
        "taken" => Outcome::Taken,
        "refused" => Outcome::Refused,
        _ => return None,
    };
    Some((begun.parse().ok()?, outcome))
}

/// The path of the file; none without a runtime directory.
fn file() -> Option<PathBuf> {
    Some(first_folder(&std::env::var_os("RUNTIME_DIRECTORY")?)?.join(FILE))
}

/// Nanoseconds since some moment of this boot, without the time in which the machine was suspended.
fn now() -> u64 {
    // Both processes compare it, and a step of the wall clock must not make an old result look new.
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1_000_000_000 + nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_what_began_after_the_question_is_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        // Ignores SIGHUP, as a controller does that is busy.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP; echo; exec sleep 600"]).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let reload = |begun, outcome| Reload { file: Some(file.clone()), begun }.end(outcome).unwrap();
        reload(now(), Outcome::Taken);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(pid, &file));
            // It is ignored, but for the one who asks it is sent.
            reload(u64::MAX, Outcome::Refused);
            assert_eq!(asking.join().unwrap().unwrap(), Outcome::Refused);
        });
        reload(now(), Outcome::Taken);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(pid, &file));
            child.kill().unwrap();
            let error = asking.join().unwrap().unwrap_err();
            assert!(matches!(error, ReloadError::Ended(_)), "{error}");
        });
        child.wait().unwrap();
        assert!(matches!(ask(pid, &file), Err(ReloadError::Signal { .. })), "it is gone");
        assert!(matches!(ask(-1, &file), Err(ReloadError::Signal { .. })));
    }
}
