//! Clients as child processes of the controller, each in a process group of its own.
//!
//! A child is not reaped before its whole group is gone: while the dead leader is a zombie the kernel gives its
//! pid, and so the group's number, to nobody else, and a signal to the group can hit nobody else.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::groups::Groups;
use super::output::log_lines;
use super::output_file::{OutputFile, OutputFiles};
use super::{Event, LaunchPlan, Output, Program, StartError, StopError, Supervisor, adopt, proc};
use crate::locks::locked;
use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::model::saved::{Found, SavedClient};
use crate::readable::ReadableFd;

/// How long what a client left behind in its process group may take to end, when the client ended by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// How long a process may take to go after SIGKILL before it is called immortal.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the rest of an ended client's output is waited for: an escaped grandchild may hold the pipe for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// Runs clients as child processes.
#[derive(Debug)]
pub struct Direct {
    shared: Arc<Shared>,
    boot_id: Arc<str>,
    watchers: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    children: Mutex<HashMap<u32, Child>>,
    groups: Groups,
    files: OutputFiles,
    ended: mpsc::Sender<Event>,
}

/// The way to a child's watcher.
#[derive(Debug)]
struct Child {
    start_ticks: u64,
    /// Asks the watcher to end the process, and says by when it is to be gone.
    end: watch::Sender<Option<Instant>>,
}

impl Direct {
    /// A supervisor that tells every end through `ended`. Must be called within a tokio runtime.
    pub fn new(ended: mpsc::Sender<Event>) -> io::Result<Self> {
        let shared =
            Shared { children: Mutex::default(), groups: Groups::new(), files: OutputFiles::new(), ended };
        Ok(Self { shared: Arc::new(shared), boot_id: proc::boot_id()?, watchers: TaskTracker::new() })
    }

    /// Watches a process that was found, from now on.
    fn take_up(&self, client: SavedClient, found: Found) -> (SavedClient, Found) {
        let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
        // Where its output goes, if that goes to a file. If that can't be opened it is not kept small, no more.
        let path = client.spec.output();
        let file = path.exists().then(|| self.shared.files.open(&path, &launch.name).ok()).flatten();
        let running = match &found {
            Found::Running(Handle::Direct { pid, start_ticks, .. }) => Some((pid, start_ticks)),
            _ => None,
        };
        let Some((pid, start_ticks)) = running else {
            // Its last words.
            file.inspect(|file| file.log_rest());
            return (client, found);
        };
        let watched = Watcher::new(*pid, launch, Relation::Stranger, file, self.shared.clone());
        // Looked at again now that the pidfd holds it: it may have ended, and its pid be another's, meanwhile.
        let same = proc::stat(*pid).is_ok_and(|stat| stat.start_ticks == *start_ticks);
        match watched {
            Ok((watcher, end)) if same => {
                let child = Child { start_ticks: *start_ticks, end };
                locked(&self.shared.children).insert(*pid, child);
                self.watchers.spawn(watcher.run((None, None)));
                (client, found)
            }
            _ => (client, Found::Gone { rebooted: false }),
        }
    }
}

impl Supervisor for Direct {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let Program::Command(program) = plan.program else { return Err(StartError::OtherSupervisor) };
        let mut command = Command::new(&program.program);
        if let Some(arg0) = &program.arg0 {
            command.arg0(arg0);
        }
        command.args(&program.args).env_clear().envs(plan.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).process_group(0);
        let file = match &plan.output {
            Output::Log => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
            Output::File(path) => {
                let failed = |source| StartError::Output { path: path.clone(), source };
                let file = self.shared.files.open(path, &plan.launch.name).map_err(failed)?;
                command.stdout(file.handle().map_err(failed)?).stderr(file.handle().map_err(failed)?);
                Some(file)
            }
        };
        // Forked here, on a thread of the runtime, which lives as long as we do: a client that asked for a signal at
        // its parent's death would get it when the forking thread ends.
        let mut child =
            command.spawn().map_err(|source| StartError::Execute { program: program.program, source })?;
        let pid = child.id();
        let output = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let watched = Watcher::new(pid, plan.launch, Relation::Child, file, self.shared.clone()).and_then(
            |(watcher, end)| {
                // The child is not reaped yet, so this is its own line even if it is dead.
                let start_ticks = proc::stat(pid)?.start_ticks;
                Ok((watcher, Child { start_ticks, end }))
            },
        );
        match watched {
            Ok((watcher, child)) => {
                let start_ticks = child.start_ticks;
                locked(&self.shared.children).insert(pid, child);
                self.watchers.spawn(watcher.run(output));
                Ok(Handle::Direct { pid, start_ticks, boot_id: self.boot_id.clone() })
            }
            Err(source) => {
                // Out of file descriptors: what cannot be watched must not run. A child that was killed is gone at
                // once, so this waits for nothing.
                let _ = child.kill();
                let _ = child.wait();
                Err(StartError::Watch { pid, source })
            }
        }
    }

    async fn adopt(&self, saved: Vec<SavedClient>) -> Vec<(SavedClient, Found)> {
        let boot_id = self.boot_id.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || adopt::look(saved, &boot_id)).await else {
            // Only when the runtime is at its end.
            return Vec::new();
        };
        found.into_iter().map(|(client, found)| self.take_up(client, found)).collect()
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Direct { pid, start_ticks, .. } = handle else { return Ok(()) };
        let end = {
            let children = locked(&self.shared.children);
            children.get(pid).filter(|child| child.start_ticks == *start_ticks).map(|child| child.end.clone())
        };
        // A watcher leaves the list when its process is gone.
        let Some(end) = end else { return Ok(()) };
        // Of two calls that meet the stricter one counts, even where the watcher sees only what became of both.
        let by = Instant::now() + grace;
        end.send_modify(|end| *end = Some(end.map_or(by, |earlier| earlier.min(by))));
        match timeout(grace + LEFTOVER_GRACE + KILL_PATIENCE, end.closed()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StopError::Immortal { pid: *pid }),
        }
    }
}

/// What the process is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Our child: we learn how it ended.
    Child,
    /// The child of an earlier controller: we only learn when.
    Stranger,
}

/// Sees one process to its end.
struct Watcher {
    pid: u32,
    group: Pid,
    pidfd: ReadableFd,
    launch: Launch,
    relation: Relation,
    /// Where its output goes, if not to us.
    file: Option<Arc<OutputFile>>,
    end: watch::Receiver<Option<Instant>>,
    shared: Arc<Shared>,
}

impl Watcher {
    fn new(
        pid: u32,
        launch: Launch,
        relation: Relation,
        file: Option<Arc<OutputFile>>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, watch::Sender<Option<Instant>>)> {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let pidfd = ReadableFd::new(pidfd_open(group, PidfdFlags::NONBLOCK)?)?;
        let (sender, end) = watch::channel(None);
        Ok((Self { pid, group, pidfd, launch, relation, file, end, shared }, sender))
    }

    async fn run(mut self, (out, err): (Option<OwnedFd>, Option<OwnedFd>)) {
        let mut output = JoinSet::new();
        for stream in [out, err].into_iter().flatten() {
            match pipe::Receiver::from_owned_fd(stream) {
                Ok(stream) => drop(output.spawn(log_lines(stream, self.launch.name.clone()))),
                Err(error) => warn!(client = %self.launch.name, %error, "the client's output can't be read"),
            }
        }
        let deadline = self.until_dead().await;
        self.end_leftovers(deadline).await;
        let exit = self.reap();
        let rest = async { while output.join_next().await.is_some() {} };
        if timeout(OUTPUT_PATIENCE, rest).await.is_err() {
            debug!(client = %self.launch.name, "something still holds the client's output, it is not waited for");
        }
        if let Some(file) = self.file.take() {
            // Fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || file.log_rest()).await;
        }
        locked(&self.shared.children).remove(&self.pid);
        // Nobody listens only when the controller itself is at its end.
        let _ = self.shared.ended.send(Event::Ended(self.launch, exit)).await;
        // Dropping `end` tells whoever waits in `stop`.
    }

    /// Waits until the child is dead, and ends it when asked to; returns when what it leaves behind is to be gone.
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
                        // The reactor is gone: the runtime is shutting down, and so are we.
                        error!(client = %self.launch.name, %error, "the client can't be watched any more");
                        return Instant::now();
                    }
                },
                changed = self.end.changed(), if asked => {
                    let by = *self.end.borrow_and_update();
                    // With the sender gone nobody can ask for an end any more.
                    asked = changed.is_ok();
                    if asked && by.is_some() {
                        kill_at = by;
                        self.report(pidfd_send_signal(&self.pidfd, Signal::TERM));
                    }
                }
                () = insist => {
                    warn!(client = %self.launch.name, pid = self.pid, "the client does not end by SIGTERM, it is killed");
                    self.report(kill_process_group(self.group, Signal::KILL));
                    kill_at = None;
                }
            }
        }
    }

    /// Ends what the dead leader left in its group: politely until `deadline`, then not.
    async fn end_leftovers(&mut self, mut deadline: Instant) {
        if !self.shared.groups.has_others(self.pid).await {
            return;
        }
        self.report(kill_process_group(self.group, Signal::TERM));
        let mut pause = Duration::from_millis(5);
        while Instant::now() < deadline {
            if let Ok(Ok(())) = timeout(pause, self.end.changed()).await
                && let Some(by) = *self.end.borrow_and_update()
            {
                deadline = deadline.min(by);
            }
            pause = (pause * 2).min(Duration::from_millis(100));
            if !self.shared.groups.has_others(self.pid).await {
                return;
            }
        }
        let give_up = deadline.max(Instant::now()) + KILL_PATIENCE;
        while Instant::now() < give_up {
            self.report(kill_process_group(self.group, Signal::KILL));
            sleep(Duration::from_millis(5)).await;
            if !self.shared.groups.has_others(self.pid).await {
                return;
            }
        }
        error!(client = %self.launch.name, pid = self.pid, "processes that the client left behind can't be ended");
    }

    fn reap(&self) -> Exit {
        if self.relation == Relation::Stranger {
            return Exit::Unknown;
        }
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            },
            Ok(None) => Exit::Unknown,
            Err(error) => {
                error!(client = %self.launch.name, pid = self.pid, %error, "the client's exit status can't be read");
                Exit::Unknown
            }
        }
    }

    fn report(&self, sent: Result<(), Errno>) {
        match sent {
            // It ended in this moment.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => warn!(client = %self.launch.name, pid = self.pid, %error, "a signal can't be sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LimitSettings;
    use crate::model::client::{ClientFiles, ClientSpec, Generation, History};
    use crate::model::name::ClientName;
    use crate::model::saved::Desired;
    use crate::template::TemplateCommand;

    #[tokio::test]
    async fn of_two_stops_the_stricter_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (ended, mut all_ended) = mpsc::channel(8);
        let direct = Direct::new(ended).unwrap();
        for (n, graces) in [[0, 3600], [3600, 0]].into_iter().enumerate() {
            let refuses = folder.path().join(n.to_string());
            let script = format!("trap '' TERM; : >'{}'; while :; do sleep 1; done", refuses.display());
            let plan = LaunchPlan {
                launch: Launch { name: ClientName::new("a").unwrap(), generation: Generation(n as u64) },
                program: Program::Command(TemplateCommand {
                    program: "/bin/sh".into(),
                    arg0: None,
                    args: ["-c".into(), script.into()].into(),
                }),
                env: std::env::vars_os().collect(),
                output: Output::Log,
                limits: LimitSettings::default(),
            };
            let handle = direct.start(plan).await.unwrap();
            while !refuses.exists() {
                sleep(Duration::from_millis(5)).await;
            }
            let [first, second] = graces.map(|seconds| direct.stop(&handle, Duration::from_secs(seconds)));
            // Both ask before the watcher, which is on this thread, sees any of it.
            let both = timeout(Duration::from_secs(60), async { tokio::join!(first, second) });
            let (first, second) = both.await.expect("the time given up was waited for");
            assert!(first.is_ok() && second.is_ok());
            assert!(matches!(all_ended.recv().await, Some(Event::Ended(_, Exit::Signal(9)))));
        }
    }

    #[tokio::test]
    async fn a_pid_that_became_another_ones_meanwhile_is_not_taken_up() {
        let (ended, _all_ended) = mpsc::channel(8);
        let direct = Direct::new(ended).unwrap();
        // Whatever becomes of this test it ends, when its input does.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let start_ticks = proc::stat(child.id()).unwrap().start_ticks;
        let name = ClientName::new("a").unwrap();
        let files = ClientFiles::in_folder("/nonexistent".into(), &name);
        let client = SavedClient {
            spec: Arc::new(ClientSpec { name, params: [].into(), files }),
            port: 5000,
            generation: Generation(1),
            desired: Desired::Running,
            handle: None,
            history: History::default(),
        };
        let found = |start_ticks| {
            let boot_id = direct.boot_id.clone();
            Found::Running(Handle::Direct { pid: child.id(), start_ticks, boot_id })
        };
        let (client, gone) = direct.take_up(client, found(start_ticks - 1));
        assert_eq!(gone, Found::Gone { rebooted: false });
        assert!(direct.shared.children.lock().unwrap().is_empty(), "nor can it be ended");
        let (_, running) = direct.take_up(client, found(start_ticks));
        assert_eq!(running, found(start_ticks));
        // Its input is closed before it is waited for.
        child.wait().unwrap();
    }
}
