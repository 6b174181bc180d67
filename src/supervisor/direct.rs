//! Clients as child processes of the controller, each in a process group of its own.
//!
//! A child is reaped only when its whole group is gone. While the dead leader is a zombie, the kernel does not reuse its pid, and
//! so not the number of the group: a signal to the group cannot hit another one. What an implementation starts in another group is
//! found by its environment.

pub(super) mod adopt;
mod escaped;
mod process_groups;
mod watcher;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::error;

use super::output::OutputSource;
use super::output_file::{OutputFile, OutputFiles};
use super::{
    EventSender, LaunchPlan, Output, Program, StartError, StopError, Supervisor, implementation, proc,
};
use crate::environ::implementation_of;
use crate::locks::locked;
use crate::model::boot::Started;
use crate::model::client::{ClientSpec, Exit, Handle};
use crate::model::fleet::{Launch, ProcessEvent};
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::tasks::on_blocking_thread;
use crate::template::{self, TemplateCommand};
use process_groups::ProcessGroups;
use watcher::{KILL_PATIENCE, LEFTOVER_GRACE, ProcessWatcher, Relation};

/// Runs clients as child processes.
#[derive(Debug)]
pub struct Direct {
    shared: Arc<DirectState>,
    boot_id: Arc<str>,
    started: Option<Started>,
    watchers: TaskTracker,
}

#[derive(Debug)]
struct DirectState {
    children: Mutex<HashMap<u32, Child>>,
    groups: ProcessGroups,
    files: OutputFiles,
    events: EventSender,
    /// Whether the processes are implementations, and not clients.
    of_implementations: bool,
}

impl DirectState {
    /// The signal that asks a process to stop. At SIGTERM some implementations hang, and others leave processes behind.
    fn stop_signal(&self) -> Signal {
        if self.of_implementations { Signal::INT } else { Signal::TERM }
    }

    fn stop_signal_name(&self) -> &'static str {
        if self.of_implementations { "SIGINT" } else { "SIGTERM" }
    }

    /// What the log says about the output of the process with these parameters.
    fn source(&self, spec: &ClientSpec) -> OutputSource {
        match implementation_of(spec).filter(|_| self.of_implementations) {
            Some(name) => OutputSource::implementation(spec.name.clone(), name),
            None => OutputSource::client(spec.name.clone()),
        }
    }

    /// Makes the command of a launch, and opens the file for its output. Blocks on the file system.
    fn prepare(&self, plan: &LaunchPlan) -> Result<PreparedChild, StartError> {
        let name = plan.launch.name.clone();
        let mut state = None;
        let (mut command, source, built_in) = match &plan.program {
            Program::Command(program) => {
                let command = command_of(program, &plan.env);
                (command, OutputSource::client(name), template::runs_built_in(program))
            }
            Program::Implementation(Some(child)) => {
                let failed = |source| StartError::Execute { program: child.executable.clone(), source };
                let command = implementation::command(child, plan).map_err(failed)?;
                state = child.state_file();
                (command, OutputSource::implementation(name, &child.name), false)
            }
            Program::Template(_) | Program::Implementation(None) => return Err(StartError::OtherSupervisor),
        };
        // So that a signal reaches what the client starts, too, and Ctrl-C in the controller's terminal does not reach the
        // client.
        command.process_group(0);
        let file = match &plan.output {
            Output::Log => {
                // Only for clients that end with the controller: a write to a pipe without a reader ends them by SIGPIPE.
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
            Output::File(path) => {
                let failed = |source| StartError::Output { path: path.clone(), source };
                let file = self.files.open(path, source.clone()).map_err(failed)?;
                command.stdout(file.handle().map_err(failed)?).stderr(file.handle().map_err(failed)?);
                Some(file)
            }
        };
        Ok(PreparedChild { command, source, built_in, file, state })
    }

    /// Opens the output file of an adopted process, if it has one, and logs what is in it. Blocks on the file system.
    fn take_up_output(&self, client: &PersistedClient, found: &ProcessStatus) -> Option<Arc<OutputFile>> {
        let path = client.spec.output();
        // If it cannot be opened, it is not logged and kept small, and that is all.
        let file = path.exists().then(|| self.files.open(&path, self.source(&client.spec)).ok()).flatten()?;
        if let ProcessStatus::Running(_) = found {
            return Some(file);
        }
        // What it printed while no controller ran.
        if let Some(words) = file.log_rest_and_last() {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            self.events.try_send(ProcessEvent::LastWords(launch, words.into()));
        }
        None
    }

    /// Removes the handle to the watcher of a process. A process that is reaped has freed its pid, and the next child may have it.
    fn forget(&self, pid: u32, start_ticks: u64) {
        let mut children = locked(&self.children);
        if children.get(&pid).is_some_and(|child| child.start_ticks == start_ticks) {
            children.remove(&pid);
        }
    }

    /// Runs the watcher of a process. Where it panics the process is killed, as nothing could stop it any more, and counts as ended.
    async fn run_watcher(
        &self,
        (launch, pid, start_ticks): (Launch, u32, u64),
        watcher: impl Future<Output = ()> + Send + 'static,
    ) {
        let Err(error) = tokio::spawn(watcher).await else { return };
        if !error.is_panic() {
            // The runtime ends.
            return;
        }
        error!(client = %launch.name, pid, %error, "the watch on its process failed ({error}); killing the process (pid {pid})");
        // Only while it, or its zombie, still has the number. It is not reaped, so a child stays a zombie until the controller ends.
        let is_there = proc::stat(pid).is_ok_and(|stat| stat.start_ticks == start_ticks);
        if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| is_there) {
            // Fails where all of the group has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.forget(pid, start_ticks);
        self.events.send(vec![ProcessEvent::Exited(launch, Exit::Unknown)]).await;
    }
}

/// What a launch needs of the file system.
struct PreparedChild {
    command: Command,
    source: OutputSource,
    /// Whether it is the built-in client.
    built_in: bool,
    /// The file of its output, if it has one.
    file: Option<Arc<OutputFile>>,
    /// The state file of an implementation.
    state: Option<PathBuf>,
}

/// A handle to the watcher of a child.
#[derive(Debug)]
struct Child {
    start_ticks: u64,
    /// Tells the watcher to stop the process, and when to kill it.
    end: watch::Sender<Option<Instant>>,
}

impl Direct {
    /// A supervisor that reports every exit through `events`. Must be called within a tokio runtime.
    pub fn new(events: EventSender) -> io::Result<Self> {
        Self::make(events, false)
    }

    /// One for implementations.
    pub fn of_implementations(events: EventSender) -> io::Result<Self> {
        Self::make(events, true)
    }

    fn make(events: EventSender, of_implementations: bool) -> io::Result<Self> {
        let shared = DirectState {
            children: Mutex::default(),
            groups: ProcessGroups::new(),
            files: OutputFiles::new(),
            events,
            of_implementations,
        };
        let (boot_id, watchers) = (proc::boot_id()?, TaskTracker::new());
        Ok(Self { shared: Arc::new(shared), boot_id, started: None, watchers })
    }

    /// Adds what started the machine or container.
    pub fn with_started(self, started: Option<Started>) -> Self {
        Self { started, ..self }
    }

    /// What started the machine or container, if known.
    pub fn started(&self) -> Option<Started> {
        self.started.clone()
    }

    /// Watches an adopted process from now on.
    fn take_up(
        &self,
        client: PersistedClient,
        found: ProcessStatus,
        file: Option<Arc<OutputFile>>,
    ) -> (PersistedClient, ProcessStatus) {
        let ProcessStatus::Running(Handle::Direct { pid, start_ticks, .. }) = &found else {
            return (client, found);
        };
        let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
        match ProcessWatcher::new(*pid, launch, Relation::Stranger, file, self.shared.clone()) {
            // Compared again now that the pidfd is open: the process may have exited before, and its pid been reused.
            Ok((watcher, child)) if child.start_ticks == *start_ticks => {
                let state = self.shared.of_implementations.then(|| client.spec.files.state.clone());
                let watcher = watcher.of_implementation(state);
                self.watch((watcher, child), (None, None), self.shared.source(&client.spec));
                (client, found)
            }
            _ => (client, ProcessStatus::Gone { rebooted: false }),
        }
    }

    /// Has a watcher run.
    fn watch(
        &self,
        (watcher, child): (ProcessWatcher, Child),
        output: (Option<OwnedFd>, Option<OwnedFd>),
        source: OutputSource,
    ) {
        let (shared, watched) = (self.shared.clone(), watcher.watched());
        locked(&shared.children).insert(watched.1, child);
        self.watchers.spawn(async move { shared.run_watcher(watched, watcher.run(output, source)).await });
    }
}

impl Supervisor for Direct {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let (shared, launch) = (self.shared.clone(), plan.launch.clone());
        let prepared = on_blocking_thread(move || shared.prepare(&plan)).await?;
        let PreparedChild { mut command, source, built_in, file, state } = prepared;
        // Forked on a thread of the runtime, which lives as long as the controller. A client with PR_SET_PDEATHSIG gets its signal
        // when the forking thread exits, not the process.
        let mut child = command
            .spawn()
            .map_err(|source| StartError::Execute { program: command.get_program().into(), source })?;
        // `Child` neither kills nor reaps when it is dropped. The watcher reaps by pidfd.
        let pid = child.id();
        let output = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        // The child is not reaped yet, so its pid is its own even if it is dead.
        match ProcessWatcher::new(pid, launch, Relation::Child { built_in }, file, self.shared.clone()) {
            Ok((watcher, child)) => {
                let start_ticks = child.start_ticks;
                // Before the handle is returned: with the handle a caller can stop the process.
                self.watch((watcher.of_implementation(state), child), output, source);
                Ok(Handle::Direct { pid, start_ticks, boot_id: self.boot_id.clone() })
            }
            Err(source) => {
                // Out of file descriptors. A process that cannot be watched must not run. The wait is short, as the child was
                // killed.
                let _ = child.kill();
                let _ = child.wait();
                Err(StartError::Watch { pid, source })
            }
        }
    }

    async fn adopt(&self, saved: Vec<PersistedClient>) -> Vec<(PersistedClient, ProcessStatus)> {
        let (shared, boot_id) = (self.shared.clone(), self.boot_id.clone());
        let look = move || {
            let found = adopt::look(saved, &boot_id).into_iter();
            let with_output = |(client, found)| {
                let file = shared.take_up_output(&client, &found);
                (client, found, file)
            };
            found.map(with_output).collect::<Vec<_>>()
        };
        // A panic ends the start of the controller: without the clients that were found, it would forget them all.
        let found = on_blocking_thread(look).await.into_iter();
        found.map(|(client, found, file)| self.take_up(client, found, file)).collect()
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Direct { pid, start_ticks, .. } = handle else { return Ok(()) };
        let end = {
            let children = locked(&self.shared.children);
            // A later process may have the pid by now; its start time tells them apart.
            children.get(pid).filter(|child| child.start_ticks == *start_ticks).map(|child| child.end.clone())
        };
        // No watcher: the process is gone.
        let Some(end) = end else { return Ok(()) };
        // Of two concurrent calls the earlier deadline counts, even if the watcher sees only the result of both.
        let by = Instant::now() + grace;
        end.send_modify(|end| *end = Some(end.map_or(by, |earlier| earlier.min(by))));
        match timeout(grace + LEFTOVER_GRACE + KILL_PATIENCE, end.closed()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StopError::Immortal { pid: *pid }),
        }
    }
}

/// The command of a client.
fn command_of(program: &TemplateCommand, env: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new(&program.program);
    if let Some(arg0) = &program.arg0 {
        command.arg0(arg0);
    }
    command.args(&program.args).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests;
