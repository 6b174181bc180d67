//! Clients as child processes of the controller, each in a process group of its own.
//!
//! A child is reaped only when its whole group is gone. While the dead leader is a zombie, the kernel does not reuse its pid, and
//! so not the number of the group: a signal to the group cannot hit another one.

pub(super) mod adopt;
mod process_groups;
mod watcher;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::output::OutputSource;
use super::output_file::OutputFiles;
use super::{
    EventSender, LaunchPlan, Output, Program, StartError, StopError, Supervisor, implementation, proc,
};
use crate::environ::implementation_of;
use crate::locks::locked;
use crate::model::boot::Started;
use crate::model::client::{ClientSpec, Handle};
use crate::model::fleet::{Launch, ProcessEvent};
use crate::model::persisted::{PersistedClient, ProcessStatus};
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
    fn take_up(&self, client: PersistedClient, found: ProcessStatus) -> (PersistedClient, ProcessStatus) {
        let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
        // The file of its output, if it has one. If it cannot be opened, it is not logged and kept small, and that is all.
        let path = client.spec.output();
        let source = self.shared.source(&client.spec);
        let file = path.exists().then(|| self.shared.files.open(&path, source.clone()).ok()).flatten();
        let running = match &found {
            ProcessStatus::Running(Handle::Direct { pid, start_ticks, .. }) => Some((pid, start_ticks)),
            _ => None,
        };
        let Some((pid, start_ticks)) = running else {
            // What it printed while no controller ran.
            if let Some(words) = file.and_then(|file| file.log_rest_and_last()) {
                self.shared.events.try_send(ProcessEvent::LastWords(launch, words.into()));
            }
            return (client, found);
        };
        let watched = ProcessWatcher::new(*pid, launch, Relation::Stranger, file, self.shared.clone());
        // Checked again now that the pidfd is open: the process may have exited before, and its pid been reused.
        let same = proc::stat(*pid).is_ok_and(|stat| stat.start_ticks == *start_ticks);
        match watched {
            Ok((watcher, end)) if same => {
                let child = Child { start_ticks: *start_ticks, end };
                locked(&self.shared.children).insert(*pid, child);
                self.watchers.spawn(watcher.run((None, None), source));
                (client, found)
            }
            _ => (client, ProcessStatus::Gone { rebooted: false }),
        }
    }
}

impl Supervisor for Direct {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let name = plan.launch.name.clone();
        let (mut command, source, built_in) = match &plan.program {
            Program::Command(program) => {
                let command = command_of(program, &plan.env);
                (command, OutputSource::client(name), template::runs_built_in(program))
            }
            Program::Implementation(Some(child)) => {
                let failed = |source| StartError::Execute { program: child.executable.clone(), source };
                let command = implementation::command(child, &plan).map_err(failed)?;
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
                let file = self.shared.files.open(path, source.clone()).map_err(failed)?;
                command.stdout(file.handle().map_err(failed)?).stderr(file.handle().map_err(failed)?);
                Some(file)
            }
        };
        // Forked on a thread of the runtime, which lives as long as the controller. A client with PR_SET_PDEATHSIG gets its signal
        // when the forking thread exits, not the process.
        let mut child = command
            .spawn()
            .map_err(|source| StartError::Execute { program: command.get_program().into(), source })?;
        // `Child` neither kills nor reaps when it is dropped. The watcher reaps by pidfd.
        let pid = child.id();
        let output = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let relation = Relation::Child { built_in };
        let watched = ProcessWatcher::new(pid, plan.launch, relation, file, self.shared.clone()).and_then(
            |(watcher, end)| {
                // The child is not reaped yet, so its pid is its own even if it is dead.
                let start_ticks = proc::stat(pid)?.start_ticks;
                Ok((watcher, Child { start_ticks, end }))
            },
        );
        match watched {
            Ok((watcher, child)) => {
                let start_ticks = child.start_ticks;
                // Before the handle is returned: with the handle a caller can stop the process.
                locked(&self.shared.children).insert(pid, child);
                self.watchers.spawn(watcher.run(output, source));
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
        let boot_id = self.boot_id.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || adopt::look(saved, &boot_id)).await else {
            // Fails only when the runtime ends.
            return Vec::new();
        };
        found.into_iter().map(|(client, found)| self.take_up(client, found)).collect()
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
mod tests {
    use super::*;
    use crate::config::LimitSettings;
    use crate::model::client::{Exit, Generation};
    use crate::model::fleet::Input;
    use crate::model::name::ClientName;
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    #[tokio::test]
    async fn shorter_grace_of_two_stops_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (ended, mut all_ended) = mpsc::channel(8);
        let direct = Direct::new(EventSender::new(ended)).unwrap();
        for (n, graces) in [[0, 3600], [3600, 0]].into_iter().enumerate() {
            let refuses = folder.path().join(n.to_string());
            let script = format!("trap '' TERM; : >'{}'; while :; do sleep 1; done", refuses.display());
            let plan = LaunchPlan {
                launch: Launch { name: ClientName::new("a").unwrap(), generation: Generation(n as u64) },
                id: crate::model::name::UnitId::of(&ClientName::new("a").unwrap()),
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
            // Both calls come before the watcher runs, which is on this thread.
            let both = timeout(Duration::from_secs(60), async { tokio::join!(first, second) });
            let (first, second) = both.await.expect("the time given up was waited for");
            assert!(first.is_ok() && second.is_ok());
            assert!(matches!(
                all_ended.recv().await,
                Some(Input::Process(ProcessEvent::Exited(_, Exit::Signal(9))))
            ));
        }
    }

    #[tokio::test]
    async fn reused_pid_is_not_adopted() {
        let (ended, _all_ended) = mpsc::channel(8);
        let direct = Direct::new(EventSender::new(ended)).unwrap();
        // It exits with this test, at the end of its input.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let start_ticks = proc::stat(child.id()).unwrap().start_ticks;
        let client = PersistedClient::example(ClientSpec::example("a", "/nonexistent"), None);
        let found = |start_ticks| {
            let boot_id = direct.boot_id.clone();
            ProcessStatus::Running(Handle::Direct { pid: child.id(), start_ticks, boot_id })
        };
        let (client, gone) = direct.take_up(client, found(start_ticks - 1));
        assert_eq!(gone, ProcessStatus::Gone { rebooted: false });
        assert!(direct.shared.children.lock().unwrap().is_empty(), "nor can it be ended");
        let (_, running) = direct.take_up(client, found(start_ticks));
        assert_eq!(running, found(start_ticks));
        // Its input is closed before it is waited for.
        child.wait().unwrap();
    }
}
