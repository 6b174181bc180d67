//! [`Actions`]: carries out what applications ask for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::quick_operation;
use super::request::{ActionCall, Pace};
use crate::client::backend::Backend;
use crate::client::backend::action::{Action, Answer, Refusal};

/// How many actions whose callers do not wait may be under way, and how many may wait for that.
const UNAWAITED: usize = 16;
const MAX_QUEUED: usize = 256;

/// The pause after an action of `_rate_limited` (the default of the standard's `rate_limit_interval`).
const PAUSE: Duration = Duration::from_millis(500);

/// Carries out actions.
pub(super) struct Actions<B> {
    backend: Arc<B>,
    unawaited: mpsc::Sender<Action>,
    paced: mpsc::Sender<Action>,
}

/// The task that carries out those whose callers do not wait.
pub(crate) struct ActionQueue<B> {
    backend: Arc<B>,
    unawaited: mpsc::Receiver<Action>,
    paced: mpsc::Receiver<Action>,
}

pub(super) fn open<B: Backend>(backend: Arc<B>) -> (Actions<B>, ActionQueue<B>) {
    let (unawaited, later) = mpsc::channel(MAX_QUEUED);
    let (paced, slowly) = mpsc::channel(MAX_QUEUED);
    let queue = ActionQueue { backend: backend.clone(), unawaited: later, paced: slowly };
    (Actions { backend, unawaited, paced }, queue)
}

impl<B: Backend> Actions<B> {
    /// Carries out what an application answered to an event.
    pub(super) async fn operate(&self, actions: Vec<Action>) -> Answer {
        operate(&*self.backend, actions).await
    }

    /// Carries out a call. An answer that says that it failed says so only if nothing of it can have gone out.
    pub(super) async fn call(&self, call: ActionCall) -> Answer {
        let queue = match call.pace {
            Pace::Wait => return act(&*self.backend, call.action).await,
            Pace::Async => &self.unawaited,
            Pace::RateLimited => &self.paced,
        };
        match queue.try_send(call.action) {
            Ok(()) => Answer::Accepted,
            Err(TrySendError::Full(_)) => {
                Answer::refused(Refusal::Busy, format!("{MAX_QUEUED} actions wait already"))
            }
            Err(TrySendError::Closed(_)) => Answer::refused(Refusal::Busy, "the client ends"),
        }
    }
}

impl<B: Backend> ActionQueue<B> {
    /// Runs until the client ends, and says then how many are not carried out.
    pub(crate) async fn run(mut self, ending: CancellationToken) {
        ending.run_until_cancelled(self.carry_out_all()).await;
        let left = self.unawaited.len() + self.paced.len();
        if left > 0 {
            warn!("{left} actions for which no application waits are not carried out, as the client ends");
        }
    }

    async fn carry_out_all(&mut self) {
        let Self { backend, unawaited, paced } = self;
        let unawaited = async {
            let mut under_way = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(action) = unawaited.recv(), if under_way.len() < UNAWAITED => {
                        under_way.push(carry_out(&**backend, action));
                    }
                    Some(()) = under_way.next() => {}
                    else => return,
                }
            }
        };
        let paced = async {
            while let Some(action) = paced.recv().await {
                carry_out(&**backend, action).await;
                sleep(PAUSE).await;
            }
        };
        tokio::join!(unawaited, paced);
    }
}

async fn carry_out<B: Backend>(backend: &B, action: Action) {
    let name = action.name.clone();
    if let Answer::Failed { code, why } = act(backend, action).await {
        debug!("{name}, for which no application waits, failed with {code}: {why}");
    }
}

/// Carries out an action of an application: by the backend, but for those that are the same for all backends.
async fn act<B: Backend>(backend: &B, action: Action) -> Answer {
    match quick_operation::of_call(&action) {
        None => backend.act(action).await,
        Some(Ok(actions)) => operate(backend, actions).await,
        Some(Err(refused)) => refused,
    }
}

/// Carries out the actions of a quick operation, all of them.
async fn operate<B: Backend>(backend: &B, actions: Vec<Action>) -> Answer {
    let (mut is_any_done, mut failed) = (false, None);
    for action in actions {
        let name = action.name.clone();
        match backend.act(action).await {
            Answer::Failed { code, why } => {
                debug!("{name} of a quick operation failed with {code}: {why}");
                failed = failed.or(Some(Answer::Failed { code, why: format!("{name}: {why}") }));
            }
            Answer::Done(_) | Answer::Accepted => is_any_done = true,
        }
    }
    match failed {
        None => Answer::Done(Value::Null),
        // Told that it failed, the application would do all of it again.
        Some(_) if is_any_done => Answer::Accepted,
        Some(failed) => failed,
    }
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
