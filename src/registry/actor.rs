//! The actor: the only one who touches the fleet. It waits for nothing but its queues: what takes time is a
//! worker's, and a frozen client's worker delays nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::keeper::{Image, keep};
use super::news::{News, pass_on};
use super::noting::{Unseen, note, note_plan};
use super::snapshot::{ClientView, Snapshot};
use super::worker::{Job, Tools, Worker};
use super::{Command, QUEUE};
use crate::model::client::{Handle, Moment, Phase};
use crate::model::fleet::{Effect, Fleet, Input, Launch, Outcome, Ticket};
use crate::model::name::ClientName;
use crate::model::saved::{Found, Saved, SavedClient};
use crate::statefile::Reported;
use crate::store::Store;
use crate::supervisor::{Event, Supervisor};

/// How many jobs may wait for a worker: more than a fleet ever gives it at once.
const JOBS: usize = 8;
/// How many messages are taken before the snapshot is published.
const BATCH: usize = 64;

pub(super) struct Actor {
    fleet: Fleet,
    /// Which states are no news.
    unseen: Unseen,
    tools: Tools,
    clock: Clock,
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    callers: HashMap<Ticket, oneshot::Sender<Outcome>>,
    last_ticket: u64,
    /// Boxed, as the queue of each has room for many.
    workers: HashMap<ClientName, mpsc::Sender<Box<Job>>>,
    tasks: JoinSet<()>,
    task_names: HashMap<Id, ClientName>,
    /// What workers found out, and the keeper wrote.
    found: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    /// The newest image of the registry file.
    image: (watch::Sender<Image>, watch::Receiver<Image>),
    /// Whether the image that was sent is not the newest any more.
    to_save: bool,
    /// Told after the snapshot that shows it was published.
    answers: Vec<(Ticket, Outcome)>,
    closed: Vec<oneshot::Sender<()>>,
    /// Whether clients get no time for their end any more.
    in_a_hurry: bool,
}

/// For the test of the watchdog, and not in a release: the actor hangs when it is to start the client that the environment
/// names.
#[cfg(debug_assertions)]
async fn hang_if_told(command: &Command) {
    if let Command::Start(spec, _) = command
        && std::env::var("WQCONTROLLER_TEST_HANG").is_ok_and(|name| name == spec.name.as_str())
    {
        std::future::pending::<()>().await;
    }
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

/// Everything that wakes the actor.
enum Message {
    Command(Command),
    Found(Input),
    TaskEnded(Result<(Id, ()), JoinError>),
    Over,
}

impl Actor {
    pub(super) fn new(fleet: Fleet, tools: Tools, publish: watch::Sender<Arc<Snapshot>>) -> Self {
        Self {
            fleet,
            unseen: Unseen::default(),
            tools,
            clock: Clock::start(),
            snapshot: Snapshot::default(),
            publish,
            callers: HashMap::new(),
            last_ticket: 0,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            task_names: HashMap::new(),
            found: mpsc::channel(QUEUE),
            image: watch::channel(None),
            to_save: false,
            answers: Vec::new(),
            closed: Vec::new(),
            in_a_hurry: false,
        }
    }

    /// Takes up what an earlier controller left. From here on readers see it.
    pub(super) fn restore(&mut self, clients: Vec<(SavedClient, Found)>, reports: Vec<Reported>) {
        for (saved, found) in clients {
            self.apply(Input::Restored(Box::new(saved), found));
        }
        for Reported { launch, report } in reports {
            self.apply(Input::Report(launch, report));
        }
        self.publish();
    }

    pub(super) async fn run(
        mut self,
        store: Store,
        mut commands: mpsc::Receiver<Command>,
        events: mpsc::Receiver<Event>,
        told: mpsc::Sender<News>,
        mut news: mpsc::Receiver<News>,
    ) {
        let mut keeper =
            AbortOnDropHandle::new(tokio::spawn(keep(store, self.image.1.clone(), self.found.0.clone())));
        let mut passing =
            AbortOnDropHandle::new(tokio::spawn(pass_on(events, self.tools.state_files.clone(), told)));
        loop {
            let next_tick = self.fleet.next_tick().map(|moment| self.clock.instant(moment));
            let tick = async {
                match next_tick {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                command = commands.recv() => command.map_or(Message::Over, Message::Command),
                Some(input) = self.found.1.recv() => Message::Found(input),
                Some(news) = news.recv() => Message::Found(news.into()),
                Some(task) = self.tasks.join_next_with_id() => Message::TaskEnded(task),
                () = tick => Message::Found(Input::Tick),
                broken = &mut keeper => {
                    error!(error = ?broken.err(), "what writes the registry file broke down");
                    Message::Over
                }
                broken = &mut passing => {
                    error!(error = ?broken.err(), "what hears of clients' ends broke down");
                    Message::Over
                }
            };
            match message {
                Message::Command(command) => {
                    #[cfg(debug_assertions)]
                    hang_if_told(&command).await;
                    self.command(command);
                }
                Message::Found(input) => self.apply(input),
                Message::TaskEnded(ended) => self.task_ended(ended),
                Message::Over => return,
            }
            // One image and one snapshot for all that is there already.
            for _ in 0..BATCH {
                let input = if let Ok(news) = news.try_recv() {
                    news.into()
                } else if let Ok(input) = self.found.1.try_recv() {
                    input
                } else if let Ok(command) = commands.try_recv() {
                    self.command(command);
                    continue;
                } else {
                    break;
                };
                self.apply(input);
            }
            self.publish();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start(spec, caller) => {
                let ticket = self.ticket(caller);
                self.apply(Input::Start(ticket, spec));
            }
            Command::Stop(name, at_once, caller) => {
                let ticket = self.ticket(caller);
                self.apply(Input::Stop(ticket, name, at_once));
            }
            Command::Rules(rules) => self.apply(Input::Rules(rules)),
            Command::StopAnnounced(launch) => self.apply(Input::StopAnnounced(launch)),
            Command::Shutdown(shutdown, caller) => {
                self.closed.push(caller);
                self.apply(Input::Shutdown(shutdown));
            }
            Command::Ping(caller) => {
                // Who asked may have gone.
                let _ = caller.send(());
            }
            Command::Hurry => {
                self.in_a_hurry = true;
                let handles: Vec<_> =
                    self.fleet.records().filter_map(|record| record.handle.clone()).collect();
                handles.into_iter().for_each(|handle| self.end_at_once(handle));
            }
        }
    }

    /// The worker that waits for the same process says what came of it.
    fn end_at_once(&mut self, handle: Handle) {
        let supervisor = self.tools.supervisor.clone();
        self.tasks.spawn(async move { drop(supervisor.stop(&handle, Duration::ZERO).await) });
    }

    fn ticket(&mut self, caller: oneshot::Sender<Outcome>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.callers.insert(ticket, caller);
        ticket
    }

    fn apply(&mut self, input: Input) {
        note(&self.fleet, &input, &mut self.unseen);
        for effect in self.fleet.apply(self.clock.now(), input) {
            match effect {
                Effect::Watch(launch, spec) => self.give(Job::Watch(launch, spec)),
                Effect::Probe(launch, port) => self.give(Job::Probe(launch, port)),
                Effect::Launch(launch, port, spec) => self.give(Job::Launch(launch, port, spec)),
                Effect::Terminate(launch, handle) => {
                    if self.in_a_hurry {
                        self.end_at_once(handle.clone());
                    }
                    self.give(Job::Terminate(launch, handle));
                }
                Effect::Save(_) => self.to_save = true,
                Effect::Answer(ticket, outcome) => self.answers.push((ticket, outcome)),
            }
        }
    }

    fn give(&mut self, job: Job) {
        let name = &job.launch().name;
        let worker = match self.workers.get(name).filter(|worker| !worker.is_closed()) {
            Some(worker) => worker.clone(),
            None => {
                let (worker, jobs) = mpsc::channel(JOBS);
                let task = self.tasks.spawn(Worker::new(self.tools.clone(), self.found.0.clone()).run(jobs));
                self.task_names.insert(task.id(), name.clone());
                self.workers.insert(name.clone(), worker.clone());
                worker
            }
        };
        if let Err(refused) = worker.try_send(Box::new(job)) {
            let launch = refused.into_inner().launch().clone();
            error!(client = %launch.name, "the client's worker takes no more jobs");
            self.lost(launch);
        }
    }

    /// A worker can't do what it should: whoever waits for it is told.
    fn lost(&mut self, launch: Launch) {
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
        let Some(name) = self.task_names.remove(&id) else { return };
        let Some(error) = panic else { return };
        error!(client = %name, %error, "the client's worker broke down");
        self.workers.remove(&name);
        if let Some(generation) = self.fleet.get(&name).map(|record| record.generation) {
            self.lost(Launch { name, generation });
        }
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.to_save) {
            let (version, image) = self.fleet.image();
            let (boot_id, manager) = (Some(self.tools.boot_id.clone()), self.tools.supervisor.manager());
            let image = Saved { boot_id, manager, ..image };
            self.image.0.send_replace(Some(Arc::new((version, image))));
        }
        let changed = self.fleet.take_changes();
        if !changed.is_empty() {
            for name in changed {
                match self.fleet.get(&name) {
                    Some(record) => {
                        let planned = |view: &Arc<ClientView>| view.record.history != record.history;
                        if self.snapshot.clients.get(&name).is_none_or(planned) {
                            note_plan(record, self.clock.now());
                        }
                        let next_start =
                            record.history.next_start.map(|moment| self.clock.unix_seconds(moment));
                        let view = Arc::new(ClientView::new(record.clone(), next_start));
                        self.snapshot.clients.insert(name, view);
                    }
                    None => {
                        // Its worker ends when it has done what it was given.
                        self.workers.remove(&name);
                        if let Some(gone) = self.snapshot.clients.remove(&name) {
                            let launch = Launch { name, generation: gone.record.generation };
                            let supervisor = self.tools.supervisor.clone();
                            self.tasks.spawn(async move { supervisor.discard(launch).await });
                        }
                    }
                }
            }
            self.publish.send_replace(Arc::new(self.snapshot.clone()));
        }
        for (ticket, outcome) in self.answers.drain(..) {
            if let Some(caller) = self.callers.remove(&ticket) {
                // Who asked may have gone.
                let _ = caller.send(outcome);
            }
        }
        if self.fleet.is_settled() && !self.to_save {
            for caller in self.closed.drain(..) {
                let _ = caller.send(());
            }
        }
    }
}
