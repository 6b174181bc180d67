//! What the processes of accounts use: a sample of all, made when a list asks for it and the last one is too old, and one account as
//! it is now.
//!
//! A list never waits: it shows the last sample, and the next list has the new one. While no list is asked for nothing is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::Accounts;
use crate::locks::locked;
use crate::model::client::Handle;
use crate::model::name::ClientName;
use crate::registry::{ClientView, Registry};
use crate::supervisor::ProcessUsage;
use crate::wire::v1::usage::Usage;

/// How old a sample is before a list asks for another one.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long an answer about one account waits for what it uses. systemd may be away.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many answers about one account are made at a time.
const AT_ONCE: usize = 4;

/// What was found, by account.
type Sample = Arc<HashMap<ClientName, Usage>>;

/// The last sample. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Usages {
    last: Arc<Mutex<Last>>,
    wanted: Arc<Notify>,
    /// For answers about one account: child processes are found by a walk over all of `/proc`.
    turns: Arc<Semaphore>,
}

impl Default for Usages {
    fn default() -> Self {
        let (last, wanted) = (Arc::default(), Arc::default());
        Self { last, wanted, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[derive(Debug, Default)]
struct Last {
    sample: Sample,
    /// When it was asked for.
    asked: Option<Instant>,
}

impl Accounts {
    /// The last sample, and has another one made if it is too old. Never waits.
    pub fn usages(&self) -> UsageSample {
        let mut last = locked(&self.usages.last);
        if last.asked.is_none_or(|asked| asked.elapsed() >= LIFETIME) {
            // Set at once, so that each sample is asked for once.
            last.asked = Some(Instant::now());
            self.usages.wanted.notify_one();
        }
        UsageSample(last.sample.clone())
    }

    /// Makes the samples that are asked for, one at a time, without an end.
    pub async fn sample_usage(self) {
        loop {
            self.usages.wanted.notified().await;
            let (clients, implementations) = tokio::join!(all(&self.clients), all(&self.implementations));
            let at = now();
            let mut sample: HashMap<ClientName, Usage> = HashMap::with_capacity(clients.len());
            for (name, used) in clients.into_iter().chain(implementations) {
                let sum = sample.entry(name).or_insert(Usage { memory: 0, cpu: Duration::ZERO, at });
                *sum = with(*sum, used);
            }
            locked(&self.usages.last).sample = Arc::new(sample);
        }
    }

    /// What an account uses now; none where it has no process, or that can't be found out at once.
    pub async fn usage(&self, view: &ClientView) -> Option<Usage> {
        let implementation = self.implementations.client(&view.record.spec.name);
        let handles = (handle(view), implementation.as_deref().and_then(handle));
        let both =
            async { tokio::join!(one(&self.clients, handles.0), one(&self.implementations, handles.1)) };
        let found = async {
            // The semaphore is never closed.
            let _turn = self.usages.turns.acquire().await;
            both.await
        };
        let (client, implementation) = timeout(PATIENCE, found).await.ok()?;
        let used = [client, implementation].into_iter().flatten().reduce(|one, other| one + other)?;
        Some(Usage { memory: used.memory, cpu: used.cpu, at: now() })
    }
}

/// What all accounts used at one time.
#[derive(Clone, Debug)]
pub struct UsageSample(Sample);

impl UsageSample {
    /// What an account used; none where that is not known, or it has no process now.
    pub fn of(&self, view: &ClientView) -> Option<Usage> {
        self.0.get(&view.record.spec.name).filter(|_| view.record.has_process()).copied()
    }
}

fn handle(view: &ClientView) -> Option<Handle> {
    view.record.handle.clone().filter(|_| view.record.has_process())
}

/// What one process of a registry uses.
async fn one(registry: &Registry, handle: Option<Handle>) -> Option<ProcessUsage> {
    registry.usage(vec![handle?]).await.pop().flatten()
}

/// What all processes of a registry use.
async fn all(registry: &Registry) -> Vec<(ClientName, ProcessUsage)> {
    let snapshot = registry.snapshot();
    let running = snapshot.named().filter_map(|(name, view)| Some((name.clone(), handle(view)?)));
    let (names, handles): (Vec<_>, Vec<_>) = running.unzip();
    if handles.is_empty() {
        return Vec::new();
    }
    let used = registry.usage(handles).await;
    names.into_iter().zip(used).filter_map(|(name, used)| Some((name, used?))).collect()
}

fn with(sum: Usage, used: ProcessUsage) -> Usage {
    let both = ProcessUsage { memory: sum.memory, cpu: sum.cpu } + used;
    Usage { memory: both.memory, cpu: both.cpu, ..sum }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
