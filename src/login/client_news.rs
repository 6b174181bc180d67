//! [`ClientNews`]: tells clients of changes of their logins, which they post as events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{interval, timeout};
use tracing::{debug, error, warn};

use super::LoginNews;
use super::connection::{AskError, Owner, post};
use crate::model::client::Phase;
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use crate::peers::PeerPolicy;
use crate::registry::Registry;
use crate::wire::calls::LOGIN_CHANGE;

/// How many changes wait for a client that does not answer.
const MOST_WAITING: usize = 16;
/// The time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a change waits for a client, in seconds: an account that was logged out elsewhere has no client until it is
/// logged in again.
const KEPT: u64 = 3600;

/// Tells clients of changes of their logins.
pub struct ClientNews {
    clients: Registry,
    policy: Option<Arc<PeerPolicy>>,
    waiting: BTreeMap<ClientName, VecDeque<LoginNews>>,
    tasks: JoinSet<Result<(), AskError>>,
    asked: HashMap<Id, ClientName>,
}

impl ClientNews {
    /// Makes it. `policy` tells whose a port is.
    pub fn new(clients: Registry, policy: Option<Arc<PeerPolicy>>) -> Self {
        Self { clients, policy, waiting: BTreeMap::new(), tasks: JoinSet::new(), asked: HashMap::new() }
    }

    /// Passes on what comes by `news`, until its sender is gone.
    pub async fn run(mut self, mut news: mpsc::Receiver<LoginNews>) {
        let mut again = interval(PAUSE);
        loop {
            tokio::select! {
                told = news.recv() => match told {
                    Some(told) => self.queue(told),
                    None => return,
                },
                Some(done) = self.tasks.join_next_with_id() => self.done(done),
                _ = again.tick(), if !self.waiting.is_empty() => {}
            }
            self.send();
        }
    }

    fn queue(&mut self, told: LoginNews) {
        let waiting = self.waiting.entry(told.spec.name.clone()).or_default();
        if waiting.len() >= MOST_WAITING {
            // The newest matter most.
            waiting.pop_front();
        }
        waiting.push_back(told);
    }

    /// Sends the oldest change of each client that can be reached, one at a time, so that they stay in order.
    fn send(&mut self) {
        let (clients, now) = (&self.clients, super::unix_now());
        self.waiting.retain(|name, waiting| {
            waiting.retain(|told| now.saturating_sub(told.at) < KEPT);
            !waiting.is_empty() && clients.client(name).is_some()
        });
        for (name, waiting) in &self.waiting {
            let is_busy = self.asked.values().any(|busy| busy == name);
            let Some(view) = clients.client(name).filter(|view| view.record.phase == Phase::Up && !is_busy)
            else {
                continue;
            };
            let Some(told) = waiting.front() else { continue };
            let body =
                json!({ "event": told.event.as_str(), "reason": told.reason.as_deref().unwrap_or_default() });
            let (policy, port) = (self.policy.clone(), view.record.port);
            let unit = view.record.unit().map(str::to_owned);
            let task = self.tasks.spawn(async move {
                let owner = Owner { policy: policy.as_deref(), unit: unit.as_deref() };
                let posted = timeout(PATIENCE, post(port, owner, LOGIN_CHANGE, None, &body)).await;
                posted.unwrap_or_else(|late| Err(AskError::Io(late.into()))).map(|_| ())
            });
            self.asked.insert(task.id(), name.clone());
        }
    }

    fn done(&mut self, done: Result<(Id, Result<(), AskError>), JoinError>) {
        let (id, result) = match done {
            Ok(done) => done,
            Err(error) => {
                error!(%error, "telling a client of its login failed: {error}");
                (error.id(), Ok(()))
            }
        };
        let Some(name) = self.asked.remove(&id) else { return };
        match result {
            // A client of another kind does not know the path. A client that refuses it once refuses it again.
            Ok(()) | Err(AskError::Status(_)) => {
                if let Err(error) = result {
                    debug!(client = %name, %error, "it takes no change of its login: {error}");
                }
                if let Some(waiting) = self.waiting.get_mut(&name) {
                    waiting.pop_front();
                }
            }
            Err(AskError::Json(error)) => {
                warn!(client = %name, %error, "its answer to a change of its login is no JSON: {error}");
                if let Some(waiting) = self.waiting.get_mut(&name) {
                    waiting.pop_front();
                }
            }
            Err(error) => {
                debug!(client = %name, error = %ErrorChain(&error), "can't tell it of its login: {}", ErrorChain(&error));
            }
        }
    }
}
