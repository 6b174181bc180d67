//! The actor: it alone owns the fleet, and waits for nothing but its queues. Whatever takes time is done by a worker, so a frozen
//! client delays no other one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::Command;
use super::audit_log::AuditLog;
use super::launcher::Launcher;
use super::persister::{Image, persist};
use super::snapshot::{ClientView, Snapshot, phase_since};
use super::tally::tally;
use super::worker::{ClientWorker, WorkerContext, WorkerJob};
use crate::metrics::ProcessKind;
use crate::model::client::{Handle, Moment, Phase};
use crate::model::fleet::{Effect, Fleet, Input, Launch, ProcessEvent, RequestId, RequestOutcome};
use crate::model::name::{ClientName, UnitId};
use crate::model::persisted::{PersistedClient, PersistedState, ProcessStatus};
use crate::statefile::Reported;
use crate::store::Store;
use crate::supervisor::Supervisor;

/// How many jobs may wait for a worker. The fleet never gives it that many at once.
const JOBS: usize = 8;
/// How many messages are handled before the snapshot is published.
const BATCH: usize = 64;

pub(super) struct Actor {
    fleet: Fleet,
    /// Logs what happens to accounts.
    log: AuditLog,
    /// What its processes are.
    kind: ProcessKind,
    context: WorkerContext,
    clock: Clock,
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    callers: HashMap<RequestId, oneshot::Sender<RequestOutcome>>,
    last_request: u64,
    /// Jobs are boxed: every queue reserves room for several, and there is one a client.
    workers: HashMap<ClientName, Worker>,
    tasks: JoinSet<()>,
    task_names: HashMap<Id, ClientName>,
    /// The actor's own queue, for workers and the persister.
    inputs: mpsc::Sender<Input>,
    /// The newest image of the registry file.
    image: (watch::Sender<Image>, watch::Receiver<Image>),
    /// Whether the registry changed since the last image.
    to_save: bool,
    /// Whether something else than clients changed in the snapshot.
    to_publish: bool,
    /// Sent after the snapshot that shows their effect is published.
    answers: Vec<(RequestId, RequestOutcome)>,
    shutdown_waiters: Vec<oneshot::Sender<()>>,
    /// Whether clients are killed without a grace period.
    force_stop: bool,
}

/// For the test of the watchdog, in debug builds only: the actor hangs at the start of the client that the environment names.
#[cfg(debug_assertions)]
async fn hang_if_told(command: &Command) {
    if let Command::Start(spec, _) = command
        && std::env::var("WQCONTROLLER_TEST_HANG").is_ok_and(|name| name == spec.name.as_str())
    {
        std::future::pending::<()>().await;
    }
}

/// A handle to the worker of a client.
struct Worker {
    task: Id,
    jobs: mpsc::Sender<Box<WorkerJob>>,
}

/// Tells the fleet's time.
struct Clock {
    start: Instant,
    /// The start in Unix milliseconds.
    unix: u64,
}

impl Clock {
    fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { start: Instant::now(), unix: u64::try_from(unix).unwrap_or(0) }
    }

    fn now(&self) -> Moment {
        Moment::default().after(self.start.elapsed())
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_millis(moment.0)
    }

    fn unix_seconds(&self, moment: Moment) -> u64 {
        self.unix.saturating_add(moment.0) / 1000
    }
}

/// What wakes the actor.
enum Message {
    Command(Command),
    Input(Input),
    TaskEnded(Result<(Id, ()), JoinError>),
    Over,
}

impl Actor {
    pub(super) fn new(
        fleet: Fleet,
        context: WorkerContext,
        publish: watch::Sender<Arc<Snapshot>>,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let kind = match context.launcher {
            Launcher::Client(_) => ProcessKind::Client,
            Launcher::Implementation(_) => ProcessKind::Implementation,
        };
        Self {
            fleet,
            kind,
            log: AuditLog::new(!context.launcher.has_state_files()),
            context,
            clock: Clock::start(),
            snapshot: Snapshot::default(),
            publish,
            callers: HashMap::new(),
            last_request: 0,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            task_names: HashMap::new(),
            inputs,
            image: watch::channel(None),
            to_save: false,
            to_publish: false,
            answers: Vec::new(),
            shutdown_waiters: Vec::new(),
            force_stop: false,
        }
    }

    /// Takes over what an earlier controller left, and publishes it.
    pub(super) fn restore(&mut self, clients: Vec<(PersistedClient, ProcessStatus)>, reports: Vec<Reported>) {
        for (saved, found) in clients {
            let launch = Launch { name: saved.spec.name.clone(), generation: saved.generation };
            let id = saved.spec.id.clone();
            self.apply(Input::Restored(Box::new(saved), found));
            if self.fleet.get(&launch.name).is_none() {
                // It was stopped, but the earlier controller ended before it removed the files of the launch.
                self.discard(launch, id);
            }
        }
        // After the clients: the fleet drops a report of a launch that it does not have.
        for Reported { launch, report } in reports {
            self.apply(Input::Report(launch, report));
        }
        self.publish();
    }

    pub(super) async fn run(
        mut self,
        store: Arc<Store>,
        mut commands: mpsc::Receiver<Command>,
        mut inputs: mpsc::Receiver<Input>,
    ) {
        let mut persister =
            AbortOnDropHandle::new(tokio::spawn(persist(store, self.image.1.clone(), self.inputs.clone())));
        loop {
            let next_tick = self.fleet.next_tick().map(|moment| self.clock.instant(moment));
            let tick = async {
                match next_tick {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                // Closed when the last handle to the registry is dropped.
                command = commands.recv() => command.map_or(Message::Over, Message::Command),
                // Never closed: the actor has a sender itself.
                Some(input) = inputs.recv() => Message::Input(input),
                Some(task) = self.tasks.join_next_with_id() => Message::TaskEnded(task),
                () = tick => Message::Input(Input::Tick),
                broken = &mut persister => {
                    error!(error = ?broken.err(), "the writer of the registry file stopped; the controller ends");
                    Message::Over
                }
            };
            match message {
                Message::Command(command) => {
                    #[cfg(debug_assertions)]
                    hang_if_told(&command).await;
                    self.command(command);
                }
                Message::Input(input) => self.apply(input),
                Message::TaskEnded(ended) => self.task_ended(ended),
                Message::Over => return,
            }
            // One image and one snapshot for everything that is queued already.
            // Bounded, as a stream of inputs must not keep the snapshot from readers.
            for _ in 0..BATCH {
                if let Ok(input) = inputs.try_recv() {
                    self.apply(input);
                } else if let Ok(command) = commands.try_recv() {
                    self.command(command);
                } else {
                    break;
                }
            }
            self.publish();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start(spec, caller) => {
                let request = self.request(caller);
                self.apply(Input::Start(request, spec));
            }
            Command::StartWith(spec, caller) => {
                let request = self.request(caller);
                self.apply(Input::StartWith(request, spec));
            }
            Command::Stop(name, mode, caller) => {
                let request = self.request(caller);
                self.apply(Input::Stop(request, name, mode));
            }
            Command::StopAndKeep(name, caller) => {
                let request = self.request(caller);
                self.apply(Input::StopAndKeep(request, name));
            }
            Command::Register(spec, caller) => {
                let request = self.request(caller);
                self.apply(Input::Register(request, spec));
            }
            Command::Rules(rules) => self.apply(Input::Rules(rules)),
            Command::StopAccepted(launch) => self.apply(Input::StopAccepted(launch)),
            Command::Relaunch(name) => self.apply(Input::Relaunch(name)),
            Command::Hold(name, why) => self.apply(Input::Hold(name, why)),
            Command::ShutdownRequested => self.apply(Input::ShutdownRequested),
            Command::Shutdown(shutdown, caller) => {
                self.shutdown_waiters.push(caller);
                self.apply(Input::Shutdown(shutdown));
            }
            Command::Ping(caller) => {
                // The caller may be gone.
                let _ = caller.send(());
            }
            Command::ForceStop => {
                self.force_stop = true;
                let handles: Vec<_> =
                    self.fleet.records().filter_map(|record| record.handle.clone()).collect();
                handles.into_iter().for_each(|handle| self.end_at_once(handle));
            }
        }
    }

    /// Kills a process. The worker that stops the same process reports the result.
    fn end_at_once(&mut self, handle: Handle) {
        let supervisor = self.context.supervisor.clone();
        self.tasks.spawn(async move { drop(supervisor.stop(&handle, Duration::ZERO).await) });
    }

    fn request(&mut self, caller: oneshot::Sender<RequestOutcome>) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.callers.insert(request, caller);
        request
    }

    /// The input with the exit of a process in the words of its kind.
    fn with_meaning(&self, mut input: Input) -> Input {
        let found = match &mut input {
            Input::Process(ProcessEvent::Exited(launch, exit)) => {
                self.fleet.get(&launch.name).map(|record| (record.spec.clone(), exit))
            }
            Input::Restored(saved, ProcessStatus::Ended(exit)) => Some((saved.spec.clone(), exit)),
            _ => None,
        };
        if let Some((spec, exit)) = found {
            *exit = self.context.launcher.meaning(&spec, &self.context.settings.borrow(), *exit);
        }
        input
    }

    fn apply(&mut self, input: Input) {
        // First, so that the log and the fleet speak of the same exit.
        let input = self.with_meaning(input);
        let failure = self.log.log_input(&self.fleet, &input);
        tally(&self.context.metrics, self.kind, &self.fleet, &input);
        match &input {
            Input::Saved(_) => self.set_write_error(None),
            Input::SaveFailed(_, why) => self.set_write_error(Some(why)),
            _ => {}
        }
        let now = self.clock.now();
        for effect in self.fleet.apply(now, input) {
            match effect {
                Effect::Watch(launch, spec) => self.give(WorkerJob::Watch(launch, spec)),
                Effect::Probe(launch, port) => {
                    let id = self.fleet.get(&launch.name).map(|record| record.spec.id.clone());
                    self.give(WorkerJob::Probe(launch, port, id));
                }
                Effect::Launch(launch, port, spec) => self.give(WorkerJob::Launch(launch, port, spec)),
                Effect::Terminate(launch, handle) => {
                    // The worker stops it with the usual grace. Of two stops the shorter grace counts.
                    if self.force_stop {
                        self.end_at_once(handle.clone());
                    }
                    self.give(WorkerJob::Terminate(launch, handle));
                }
                Effect::Save(_) => self.to_save = true,
                Effect::Answer(request, outcome) => self.answers.push((request, outcome)),
            }
        }
        if let Some(failure) = failure {
            self.log.log_failure(&self.fleet, failure, now);
        }
    }

    /// Sets the error in the next snapshot.
    fn set_write_error(&mut self, why: Option<&str>) {
        if self.snapshot.write_error.as_deref() != why {
            self.snapshot.write_error = why.map(Arc::from);
            self.to_publish = true;
        }
    }

    fn give(&mut self, job: WorkerJob) {
        let name = &job.launch().name;
        // A worker that has panicked has closed its queue; that it ended may not be handled yet.
        let jobs = match self.workers.get(name).filter(|worker| !worker.jobs.is_closed()) {
            Some(worker) => worker.jobs.clone(),
            None => {
                let (jobs, given) = mpsc::channel(JOBS);
                let worker = ClientWorker::new(self.context.clone(), self.inputs.clone());
                let task = self.tasks.spawn(worker.run(given)).id();
                self.task_names.insert(task, name.clone());
                self.workers.insert(name.clone(), Worker { task, jobs: jobs.clone() });
                jobs
            }
        };
        if let Err(refused) = jobs.try_send(Box::new(job)) {
            let launch = refused.into_inner().launch().clone();
            error!(client = %launch.name, "its worker takes no more jobs");
            self.fail_worker(launch);
        }
    }

    /// A worker failed. Fails the launch or stop that it was to carry out, so that callers are answered.
    fn fail_worker(&mut self, launch: Launch) {
        let why = "an internal error; the log says more".to_owned();
        match self.fleet.get(&launch.name).map(|record| record.phase) {
            Some(Phase::Reserved | Phase::Starting) => self.apply(Input::LaunchFailed(launch, why)),
            Some(Phase::Stopping) => self.apply(Input::StopFailed(launch, why)),
            Some(Phase::Up | Phase::Gone(_)) | None => {}
        }
    }

    fn task_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let name = self.task_names.remove(&id);
        let Some(error) = panic else { return };
        let Some(name) = name else {
            // Only workers have a name here. Other tasks have no caller that waits for them.
            error!(%error, "a task that ends processes, or removes what is kept of a launch, failed: {error}");
            return;
        };
        error!(client = %name, %error, "its worker failed: {error}");
        if self.workers.get(&name).is_some_and(|worker| worker.task != id) {
            // A job that came before this news has got another worker, which reports what the client waits for now.
            return;
        }
        self.workers.remove(&name);
        if let Some(generation) = self.fleet.get(&name).map(|record| record.generation) {
            self.fail_worker(Launch { name, generation });
        }
    }

    /// Removes what the supervisor keeps of a client that left the list.
    fn discard(&mut self, launch: Launch, id: UnitId) {
        let supervisor = self.context.supervisor.clone();
        self.tasks.spawn(async move { supervisor.discard(launch, id).await });
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.to_save) {
            let (revision, image) = self.fleet.image();
            let boot_id = Some(self.context.boot_id.clone());
            let (started, manager) = (self.context.supervisor.started(), self.context.supervisor.manager());
            let image = PersistedState { boot_id, started, manager, ..image };
            self.image.0.send_replace(Some(Arc::new((revision, image))));
        }
        let changed = self.fleet.take_changes();
        if std::mem::take(&mut self.to_publish) || !changed.is_empty() {
            for name in changed {
                match self.fleet.get(&name) {
                    Some(record) => {
                        self.log.log_plan(&self.fleet, record, self.clock.now());
                        let next_start =
                            record.history.next_start.map(|moment| self.clock.unix_seconds(moment));
                        let earlier = self.snapshot.clients.get(&name).map(|view| &**view);
                        let view = Arc::new(ClientView::new(
                            record.clone(),
                            (
                                phase_since(record, earlier, self.clock.unix_seconds(self.clock.now())),
                                next_start,
                            ),
                            self.context.supervisor.unit_of(&record.spec.id),
                        ));
                        self.snapshot.clients.insert(name, view);
                    }
                    None => {
                        // Its worker ends after its last job, when the queue is closed.
                        self.workers.remove(&name);
                        self.log.forget(&name);
                        if let Some(gone) = self.snapshot.clients.remove(&name) {
                            let launch = Launch { name, generation: gone.record.generation };
                            self.discard(launch, gone.record.spec.id.clone());
                        }
                    }
                }
            }
            self.publish.send_replace(Arc::new(self.snapshot.clone()));
        }
        for (request, outcome) in self.answers.drain(..) {
            if let Some(caller) = self.callers.remove(&request) {
                // The caller may be gone.
                let _ = caller.send(outcome);
            }
        }
        if self.fleet.is_settled() {
            for caller in self.shutdown_waiters.drain(..) {
                let _ = caller.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
