//! [`ProcessWatcher`]: watches one process until it and the rest of its group are gone, stops them when asked to, and reports the
//! exit.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, error, warn};

use super::escaped::{self, Escaped};
use super::{Child, DirectState};
use crate::async_fd::ReadableFd;
use crate::model::client::Exit;
use crate::model::fleet::{Launch, ProcessEvent};
use crate::supervisor::output::{OutputSource, log_lines};
use crate::supervisor::output_file::OutputFile;
use crate::supervisor::proc;
use crate::tasks::on_blocking_thread;

/// How long the rest of a process group may take to exit after its leader exited by itself.
pub(super) const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// How long a process may take to exit after SIGKILL before the stop fails.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the rest of an exited client's output is awaited. A grandchild outside of the group may hold the pipe for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// How the process is related to the controller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// A child, whose exit status can be read.
    Child {
        /// Whether it is the built-in client, whose statuses are known.
        built_in: bool,
    },
    /// The child of an earlier controller, whose exit status is lost.
    Stranger,
}

/// Watches one process until it is gone.
pub(super) struct ProcessWatcher {
    pid: u32,
    start_ticks: u64,
    group: Pid,
    pidfd: ReadableFd,
    launch: Launch,
    relation: Relation,
    /// The file of its output, if it has one.
    file: Option<Arc<OutputFile>>,
    /// Its state file, where what it starts may leave its process group.
    state: Option<PathBuf>,
    end: watch::Receiver<Option<Instant>>,
    shared: Arc<DirectState>,
}

impl ProcessWatcher {
    pub(super) fn new(
        pid: u32,
        launch: Launch,
        relation: Relation,
        file: Option<Arc<OutputFile>>,
        shared: Arc<DirectState>,
    ) -> io::Result<(Self, Child)> {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // Non-blocking, so that `waitid` in `reap` can't hang the thread: of a process that still runs it fails with EAGAIN
        // (pidfd_open(2)).
        let pidfd = ReadableFd::new(pidfd_open(group, PidfdFlags::NONBLOCK)?)?;
        // After the pidfd is open: a later process with this pid has another start time, which the caller compares.
        let start_ticks = proc::stat(pid)?.start_ticks;
        let (sender, end) = watch::channel(None);
        let watcher =
            Self { pid, start_ticks, group, pidfd, launch, relation, file, state: None, end, shared };
        Ok((watcher, Child { start_ticks, end: sender }))
    }

    /// The same for an implementation with this state file: whatever has it in its environment ends with the process.
    pub(super) fn of_implementation(self, state: Option<PathBuf>) -> Self {
        Self { state, ..self }
    }

    /// The launch, and the process by pid and start time.
    pub(super) fn watched(&self) -> (Launch, u32, u64) {
        (self.launch.clone(), self.pid, self.start_ticks)
    }

    pub(super) async fn run(mut self, (out, err): (Option<OwnedFd>, Option<OwnedFd>), source: OutputSource) {
        let mut output = JoinSet::new();
        for stream in [out, err].into_iter().flatten() {
            match pipe::Receiver::from_owned_fd(stream) {
                Ok(stream) => {
                    // Standard output is the first of the two.
                    let (is_error, lines) = (output.len() == 1, log_lines(stream, source.clone()));
                    output.spawn(async move { (is_error, lines.await) });
                }
                Err(error) => warn!(client = %self.launch.name, %error, "its output can't be read: {error}"),
            }
        }
        let deadline = self.until_dead().await;
        self.end_leftovers(deadline).await;
        // Last, because a reaped leader frees the number of its group, which signals are sent to until here.
        let exit = self.reap();
        let mut words = None;
        let rest = async {
            while let Some(ended) = output.join_next().await {
                // The last line of standard error explains an exit, else that of standard output.
                if let Ok((is_error, Some(last))) = ended
                    && (is_error || words.is_none())
                {
                    words = Some(last);
                }
            }
        };
        if timeout(OUTPUT_PATIENCE, rest).await.is_err() {
            debug!(client = %self.launch.name, "its output is still open in another process; not waiting for the rest");
        }
        if let Some(file) = self.file.take() {
            words = on_blocking_thread(move || file.log_rest_and_last()).await;
        }
        self.shared.forget(self.pid, self.start_ticks);
        let last_words = words.map(|words| ProcessEvent::LastWords(self.launch.clone(), words.into()));
        let exited = ProcessEvent::Exited(self.launch, exit);
        // One call, in this order: the fleet judges the exit with the last line at hand.
        self.shared.events.send(last_words.into_iter().chain([exited]).collect()).await;
        // Dropping `end` wakes the callers of `stop`.
    }

    /// Waits until the process is dead, and stops it when asked to. Returns the deadline for the rest of its group.
    async fn until_dead(&mut self) -> Instant {
        let mut kill_at: Option<Instant> = None;
        let mut asked = true;
        loop {
            let insist = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                readable = self.pidfd.readable() => match readable {
                    Ok(()) => return kill_at.unwrap_or_else(|| Instant::now() + LEFTOVER_GRACE),
                    Err(error) => {
                        // The reactor is gone: the controller is shutting down.
                        error!(client = %self.launch.name, %error, "its process can't be watched any more: {error}");
                        return Instant::now();
                    }
                },
                changed = self.end.changed(), if asked => {
                    let by = *self.end.borrow_and_update();
                    // Without a sender no stop can come any more.
                    asked = changed.is_ok();
                    if asked && by.is_some() {
                        kill_at = by;
                        // To the leader alone, by pidfd, which can't hit another process. What it leaves behind is asked in
                        // `end_leftovers`.
                        self.report(pidfd_send_signal(&self.pidfd, self.shared.stop_signal()));
                    }
                }
                () = insist => {
                    let (pid, signal) = (self.pid, self.shared.stop_signal_name());
                    warn!(client = %self.launch.name, pid, "still running after {signal} (pid {pid}); sending SIGKILL");
                    self.report(kill_process_group(self.group, Signal::KILL));
                    // Once is enough: SIGKILL can't be caught, and a process that survives it waits in the kernel.
                    kill_at = None;
                }
            }
        }
    }

    /// Asks what a dead leader leaves behind to stop until `deadline`, then by SIGKILL.
    async fn end_leftovers(&mut self, mut deadline: Instant) {
        if !self.signal_leftovers(Some(self.shared.stop_signal())).await {
            return;
        }
        // Short at first, as most groups are empty at once, and then longer, as each look is a walk over /proc.
        let mut pause = Duration::from_millis(5);
        while Instant::now() < deadline {
            // Wakes up at once for a stop with a shorter grace, as at the second SIGINT of the controller.
            if let Ok(Ok(())) = timeout(pause, self.end.changed()).await
                && let Some(by) = *self.end.borrow_and_update()
            {
                deadline = deadline.min(by);
            }
            pause = (pause * 2).min(Duration::from_millis(100));
            if !self.signal_leftovers(None).await {
                return;
            }
        }
        let give_up = deadline.max(Instant::now()) + KILL_PATIENCE;
        while Instant::now() < give_up {
            if !self.signal_leftovers(Some(Signal::KILL)).await {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let pid = self.pid;
        error!(client = %self.launch.name, pid, "processes that it has left behind can't be killed (process group {pid})");
    }

    /// Whether a dead leader has left processes behind; those are sent the signal.
    async fn signal_leftovers(&self, signal: Option<Signal>) -> bool {
        let in_group = self.shared.groups.has_other_members(self.pid).await;
        let escaped = self.escaped().await;
        if let Some(signal) = signal {
            if in_group {
                self.report(kill_process_group(self.group, signal));
            }
            escaped::signal(&escaped, signal);
        }
        in_group || !escaped.is_empty()
    }

    /// What has left the process group, and is not over.
    async fn escaped(&self) -> Vec<Escaped> {
        match self.state.clone() {
            Some(state) => on_blocking_thread(move || escaped::find(&state)).await,
            None => Vec::new(),
        }
    }

    fn reap(&self) -> Exit {
        let Relation::Child { built_in } = self.relation else { return Exit::Unknown };
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code).of(built_in),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            },
            Ok(None) => Exit::Unknown,
            Err(error) => {
                error!(client = %self.launch.name, pid = self.pid, %error, "its exit status can't be read: {error}");
                Exit::Unknown
            }
        }
    }

    fn report(&self, sent: Result<(), Errno>) {
        match sent {
            // It has just exited.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                let pid = self.pid;
                warn!(client = %self.launch.name, pid, %error, "can't send a signal to process {pid}: {error}");
            }
        }
    }
}
