//! [`Reconciler`]: starts and stops implementations until they are what the list of clients asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::Accounts;
use super::plan::{Step, spec_of, step};
use crate::environ::implementation_of;
use crate::model::client::{ClientSpec, Generation, Phase};
use crate::model::fleet::{RequestOutcome, StopMode};
use crate::model::name::ClientName;
use crate::registry::{CallError, ClientView, Refusal, Refusals, Snapshot, token_file};

/// The pause before a start or stop that failed is tried again. The client of the account runs meanwhile.
const AGAIN: Duration = Duration::from_secs(10);

/// What became of a start or a stop.
enum Done {
    /// It is as it should be.
    Well,
    /// It could not be started or stopped.
    Failed(Arc<str>),
}

/// The one that starts and stops implementations.
pub struct Reconciler {
    accounts: Accounts,
    woken: mpsc::Receiver<ClientName>,
    refusals: watch::Sender<Refusals>,
    /// The folder of what each implementation shows: its login code.
    runtime: Arc<Path>,
    /// The folder of the tokens.
    tokens: Arc<Path>,
    tasks: JoinSet<Done>,
    /// The accounts for which something is under way, and the launch of the client for which it is.
    under_way: HashMap<Id, (ClientName, Generation)>,
    /// The accounts that are left alone until then.
    again: BTreeMap<ClientName, Instant>,
}

impl Reconciler {
    /// Makes it. Failed starts go to `refusals`, from which launches of clients read them.
    pub fn new(
        accounts: Accounts,
        woken: mpsc::Receiver<ClientName>,
        refusals: watch::Sender<Refusals>,
        (runtime, tokens): (Arc<Path>, Arc<Path>),
    ) -> Self {
        let (tasks, under_way, again) = (JoinSet::new(), HashMap::new(), BTreeMap::new());
        Self { accounts, woken, refusals, runtime, tokens, tasks, under_way, again }
    }

    /// Works until a registry ends.
    pub async fn run(mut self) {
        let (mut clients, mut implementations) =
            (self.accounts.clients.changes(), self.accounts.implementations.changes());
        loop {
            // Cloned, because a borrow is a read lock on the channel, and the actor would wait for it when it publishes.
            let lists = (clients.borrow_and_update().clone(), implementations.borrow_and_update().clone());
            self.reconcile(&lists.0, &lists.1);
            let again = self.again.values().min().copied();
            let pause = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = clients.changed() => if changed.is_err() { return },
                changed = implementations.changed() => if changed.is_err() { return },
                // None while there is no task, which only leaves this branch out of the round.
                Some(done) = self.tasks.join_next_with_id() => self.done(done),
                Some(name) = self.woken.recv() => self.wake(&name),
                () = pause => {
                    let now = Instant::now();
                    // Only forgotten: the next round compares the lists, and tries again where they still differ.
                    self.again.retain(|_, at| *at > now);
                }
            }
        }
    }

    fn is_busy(&self, name: &ClientName) -> bool {
        self.again.contains_key(name) || self.under_way.values().any(|(busy, _)| busy == name)
    }

    fn reconcile(&mut self, clients: &Snapshot, implementations: &Snapshot) {
        let asks =
            |(_, view): &(&ClientName, &Arc<ClientView>)| implementation_of(&view.record.spec).is_some();
        let names: BTreeSet<ClientName> = clients
            .named()
            .filter(asks)
            .chain(implementations.named())
            .map(|(name, _)| name.clone())
            .collect();
        // Of accounts that left the list, or the map would grow with each name that was ever tried. Only a real change is sent,
        // since it wakes every launch that waits.
        self.refusals.send_if_modified(|refusals| {
            let gone = |name: &ClientName| clients.get(name).is_none();
            let is_modified = refusals.keys().any(gone);
            if is_modified {
                Arc::make_mut(refusals).retain(|name, _| !gone(name));
            }
            is_modified
        });
        // Collected first, as each start and stop changes what is busy.
        for name in names.into_iter().filter(|name| !self.is_busy(name)).collect::<Vec<_>>() {
            let (client, implementation) = (clients.get(&name), implementations.get(&name));
            match step(client.map(|view| &view.record), implementation.map(|view| &view.record)) {
                Step::Start => {
                    let Some(client) = client else { continue };
                    self.start(&client.record.spec, client.record.generation);
                }
                Step::Stop => {
                    let Some(running) = implementation else { continue };
                    // An account that stays registered keeps its token: its client has the path of that file already.
                    let token = client.is_none().then(|| token_file(&self.tokens, &running.record.spec.id));
                    self.stop(name, token);
                }
                Step::Nothing => {}
            }
        }
    }

    fn start(&mut self, client: &ClientSpec, generation: Generation) {
        let spec = spec_of(client, &self.runtime);
        let (name, registry) = (spec.name.clone(), self.accounts.implementations.clone());
        let task = self.tasks.spawn(async move {
            match registry.start(spec).await {
                Ok(RequestOutcome::Started(_) | RequestOutcome::AlreadyExists(_)) => Done::Well,
                Ok(outcome) => Done::Failed(why(&outcome)),
                // It is started as soon as systemd can be reached.
                Err(CallError::Outage) => Done::Well,
                Err(error) => Done::Failed(error.to_string().into()),
            }
        });
        // A failure refuses this launch of the client and earlier ones. A later launch waits for an attempt of its own.
        self.under_way.insert(task.id(), (name, generation));
    }

    /// Stops an implementation, and removes its token where its account is gone.
    fn stop(&mut self, name: ClientName, token: Option<PathBuf>) {
        let (of, account, registry) = (name.clone(), name.clone(), self.accounts.implementations.clone());
        let task = self.tasks.spawn(async move {
            match registry.stop(of, StopMode::Wait).await {
                Ok(RequestOutcome::Failed(_, why)) => Done::Failed(why.into()),
                Ok(_) => {
                    // Nothing else touches it before this task has ended.
                    if let Some(token) = token {
                        remove_token(&account, token).await;
                    }
                    Done::Well
                }
                // A stop that was not under way is repeated at once, for the lists differ still.
                Err(CallError::Outage) => Done::Well,
                Err(error) => Done::Failed(error.to_string().into()),
            }
        });
        // No launch has generation 0, so a failed stop refuses none: launches do not wait for stops.
        self.under_way.insert(task.id(), (name, Generation(0)));
    }

    fn done(&mut self, done: Result<(Id, Done), JoinError>) {
        let (id, done) = match done {
            Ok(done) => done,
            Err(error) => {
                // The task panicked. Its account is tried again after the pause, as after any failure.
                error!(%error, "a start or stop of an implementation failed: {error}");
                (error.id(), Done::Failed("failed by an internal error; the log says more".into()))
            }
        };
        let Some((name, generation)) = self.under_way.remove(&id) else { return };
        let why = match done {
            Done::Well => None,
            Done::Failed(why) => {
                self.again.insert(name.clone(), Instant::now() + AGAIN);
                Some(why)
            }
        };
        self.refusals.send_if_modified(|refusals| match why {
            Some(why) => {
                Arc::make_mut(refusals).insert(name, Refusal { generation, why });
                true
            }
            None if refusals.contains_key(&name) => Arc::make_mut(refusals).remove(&name).is_some(),
            None => false,
        });
    }

    /// Starts an implementation at once that is held or waits for its next start: `start_client` was called.
    fn wake(&mut self, name: &ClientName) {
        // One that could not be started is tried at once, too.
        self.again.remove(name);
        let found = self.accounts.implementations.client(name);
        let waits = found.is_some_and(|view| matches!(view.record.phase, Phase::Gone(_)));
        let client = self.accounts.clients.client(name);
        // For one that is busy an attempt is under way, and its result is this call's, too.
        if let Some(client) = client.filter(|_| waits && !self.is_busy(name)) {
            self.start(&client.record.spec, client.record.generation);
        }
    }
}

async fn remove_token(account: &ClientName, token: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(token)).await;
    // The task fails only when the runtime ends.
    if let Ok(Err(error)) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(client = %account, %error, "can't remove the token of its implementation: {error}");
    }
}

/// Why a start has not succeeded: what follows "its implementation".
fn why(outcome: &RequestOutcome) -> Arc<str> {
    match outcome {
        RequestOutcome::Failed(_, why) | RequestOutcome::Invalid(_, why) => {
            format!("could not be started: {why}").into()
        }
        RequestOutcome::NoPid(_, exit) => format!("{exit} at once").into(),
        RequestOutcome::NoPort(_) => "could not be started: no port is free".into(),
        RequestOutcome::TooMany(_) => "could not be started: there are max_clients others".into(),
        _ => "was stopped".into(),
    }
}
