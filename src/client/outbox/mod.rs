//! The outbox: all messages wait here for their turn, so that the account never writes faster than a person.
//!
//! - `backlog`: the queue and its order (pure)
//! - `unsent`: queued messages on disk, to report those that a kill loses
//! - `replies`: what receivers of reports ask for
//! - `error`: why a message was not sent

mod backlog;
mod error;
pub(super) mod replies;
mod unsent;

pub(super) use error::SendError;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backend::event::{AccountEvent, UnsentMessage};
use super::backend::message::Recipient;
use super::backend::{Backend, BackendError, Draft, SendClaim, Sent, Wording};
use super::process::log::MESSAGES;
use super::reports::Reporter;
use crate::client_settings::OutboxSettings;
use crate::locks::locked;
use backlog::{Backlog, QueuedMessage};
use unsent::UnsentFolder;

/// The longest time until the turn of a message with a waiting caller. The controller cuts a caller off after
/// 120 s.
const MAX_WAIT: Duration = Duration::from_secs(80);
/// When a message that was not begun is withdrawn, counted from its call.
const WITHDRAW_AFTER: Duration = Duration::from_secs(100);
// Together with `WITHDRAW_AFTER` below the 120 s of the controller, so that the caller gets our answer and not its timeout.
/// How much longer the outcome of a begun message is awaited.
const OUTCOME_TIME: Duration = Duration::from_secs(15);
// Below the 2 s after which `TaskGroup` aborts the dispatcher: what is left then is still to be reported.
/// How long sends under way may take when the client stops.
const END_TIME: Duration = Duration::from_secs(1);

/// The outcome of a message.
pub(crate) type SendOutcome = Result<Sent, SendError>;

struct OutboxState {
    backlog: Mutex<Backlog>,
    unsent: Mutex<UnsentFolder>,
    /// A message was queued, withdrawn or finished.
    changed: Notify,
}

impl OutboxState {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        locked(&self.backlog)
    }

    fn unsent(&self) -> MutexGuard<'_, UnsentFolder> {
        locked(&self.unsent)
    }
}

/// The handle of the outbox.
#[derive(Clone)]
pub(crate) struct Outbox {
    shared: Arc<OutboxState>,
}

/// The task that sends.
pub(crate) struct Dispatcher {
    shared: Arc<OutboxState>,
    reporter: Reporter,
}

/// Opens the outbox. Messages that a killed client left are logged and reported as failed.
pub(crate) fn open(settings: &OutboxSettings, reporter: Reporter) -> (Outbox, Dispatcher) {
    let (unsent, lost) = UnsentFolder::open(&settings.folder);
    for lost in lost {
        report_unsent(&reporter, lost.id.clone(), lost.to, lost.wording, &lost.error);
        // After the report is queued: a kill in between repeats the report, the other way round it would lose it.
        unsent.remove(&lost.id);
    }
    let backlog = Backlog::new(settings.max_messages, settings.interval, Instant::now());
    let shared = Arc::new(OutboxState {
        backlog: Mutex::new(backlog),
        unsent: Mutex::new(unsent),
        changed: Notify::new(),
    });
    (Outbox { shared: shared.clone() }, Dispatcher { shared, reporter })
}

impl Outbox {
    /// How many messages wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.backlog().len()
    }

    /// Queues a message without a waiting caller. A failure is reported.
    ///
    /// # Errors
    /// Too many messages wait, or the client stops.
    pub(crate) fn queue(&self, id: String, to: Recipient, wording: Wording) -> Result<(), SendError> {
        // On disk before it can be begun.
        self.shared.unsent().add(&id, &to, &wording);
        let (shared, noted) = (self.shared.clone(), id.clone());
        let claim = SendClaim::noted(move |is_begun| shared.unsent().note(&noted, is_begun));
        let Wording { content, segments } = wording;
        let draft = Arc::new(Draft { id: id.clone(), to, content, segments, claim });
        let pushed = self.shared.backlog().push(QueuedMessage { draft, outcome: None }, None, Instant::now());
        match pushed {
            Ok(()) => self.shared.changed.notify_one(),
            // The caller learns of it here; a file that stays would have the next client report it as well.
            Err(_) => self.shared.unsent().remove(&id),
        }
        pushed
    }

    /// Sends a message in its turn. If this future is dropped or takes too long, a message that was not begun
    /// is withdrawn.
    ///
    /// # Errors
    /// It was not sent, or may have been.
    pub(crate) async fn send(&self, id: String, to: Recipient, wording: Wording) -> SendOutcome {
        // Without a file: if the client is killed, the caller sees its connection break.
        let claim = SendClaim::default();
        let (sender, mut outcome) = oneshot::channel();
        let Wording { content, segments } = wording;
        let draft = Arc::new(Draft { id: id.clone(), to, content, segments, claim: claim.clone() });
        let turn = QueuedMessage { draft, outcome: Some(sender) };
        self.shared.backlog().push(turn, Some(MAX_WAIT), Instant::now())?;
        self.shared.changed.notify_one();
        // The server drops this future when the caller hangs up.
        let given_up = WithdrawOnDrop { shared: &self.shared, id: &id, claim: &claim };
        if let Ok(known) = timeout(WITHDRAW_AFTER, &mut outcome).await {
            return known.unwrap_or_else(|_| Err(cut_off(&claim)));
        }
        if claim.withdraw() {
            return Err(SendError::Withdrawn);
        }
        drop(given_up);
        match timeout(OUTCOME_TIME, outcome).await {
            Ok(known) => known.unwrap_or_else(|_| Err(cut_off(&claim))),
            Err(_) => Err(BackendError::NoAnswer.into()),
        }
    }
}

/// The outcome of a message whose dispatcher is gone.
fn cut_off(claim: &SendClaim) -> SendError {
    if claim.withdraw() { SendError::Stopped } else { BackendError::NoAnswer.into() }
}

/// Withdraws the message if its caller goes away, which frees its place at once.
struct WithdrawOnDrop<'a> {
    shared: &'a OutboxState,
    id: &'a str,
    claim: &'a SendClaim,
}

impl Drop for WithdrawOnDrop<'_> {
    fn drop(&mut self) {
        self.claim.withdraw();
        let turn = self.shared.backlog().remove(self.id);
        if turn.is_some() {
            self.shared.changed.notify_one();
        }
    }
}

impl Dispatcher {
    /// Sends queued messages until `ending`; then reports those that were not sent.
    pub(crate) async fn run<B: Backend>(self, backend: Arc<B>, ending: CancellationToken) {
        let mut sending = FuturesUnordered::new();
        // Those without a waiting caller. Kept beside `sending`, which cannot be searched: those without an outcome at the end
        // are to be reported.
        let mut uncalled: Vec<Arc<Draft>> = Vec::new();
        loop {
            let due = self.shared.backlog().due();
            let turn = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // In this order nothing new begins once the client stops, and a send that ended frees its recipient before
                // the next is chosen.
                biased;
                () = ending.cancelled() => break,
                // An empty set yields None, which only disables this arm for this round.
                Some(sent) = sending.next() => {
                    let (turn, outcome): (QueuedMessage, SendOutcome) = sent;
                    uncalled.retain(|draft| draft.id != turn.draft.id);
                    self.finish(turn, outcome);
                }
                () = turn => {
                    let turn = self.shared.backlog().take(Instant::now());
                    let is_uncalled = |turn: &&QueuedMessage| turn.outcome.is_none();
                    uncalled.extend(turn.as_ref().filter(is_uncalled).map(|turn| turn.draft.clone()));
                    sending.extend(turn.map(|turn| send(turn, &*backend)));
                }
                // `due` may have become earlier or later; the loop computes it anew.
                () = self.shared.changed.notified() => {}
            }
        }
        // Not in the loop's head, where the guard would live until its end.
        let unsent = self.shared.backlog().close();
        for turn in unsent {
            self.finish(turn, Err(SendError::Stopped));
        }
        // The outcome of sends under way is worth waiting for.
        let rest = async {
            while let Some((turn, outcome)) = sending.next().await {
                uncalled.retain(|draft| draft.id != turn.draft.id);
                self.finish(turn, outcome);
            }
        };
        if timeout(END_TIME, rest).await.is_err() {
            // Callers notice the end of their channel.
            for draft in uncalled {
                self.report_lost(&draft, &cut_off(&draft.claim));
            }
        }
    }

    fn finish(&self, turn: QueuedMessage, outcome: SendOutcome) {
        let QueuedMessage { draft, outcome: caller } = turn;
        // Whatever the outcome is, the next message to this recipient waits for it.
        self.shared.backlog().finish(&draft.to);
        match &outcome {
            Ok(sent) => {
                info!(target: MESSAGES, "message {} sent", sent.message.id);
                self.reporter.message(&sent.message);
            }
            // Its caller knows.
            Err(SendError::Backend(BackendError::Withdrawn)) => {}
            Err(error) if caller.is_some() => warn!("message {} was not sent: {error}", draft.id),
            Err(_) => {}
        }
        match (caller, outcome) {
            // The caller may have hung up.
            (Some(caller), outcome) => drop(caller.send(outcome)),
            (None, outcome) => match outcome {
                Ok(_) => self.shared.unsent().remove(&draft.id),
                Err(error) => self.report_lost(&draft, &error),
            },
        }
    }

    /// Reports that a queued message was not sent, or may have been.
    fn report_lost(&self, draft: &Draft, error: &SendError) {
        report_unsent(&self.reporter, draft.id.clone(), draft.to.clone(), draft.wording(), error);
        self.shared.unsent().remove(&draft.id);
    }
}

async fn send<B: Backend>(turn: QueuedMessage, backend: &B) -> (QueuedMessage, SendOutcome) {
    let outcome = backend.send(&turn.draft).await;
    (turn, outcome.map_err(SendError::from))
}

/// Logs and reports a queued message that was not sent, or may have been.
fn report_unsent(reporter: &Reporter, id: String, to: Recipient, wording: Wording, error: &SendError) {
    warn!("queued message {id} was not sent, or may have been: {error} (code {})", error.code());
    let Wording { content, segments } = wording;
    let unsent = UnsentMessage { id, to, content, segments, code: error.code(), info: error.to_string() };
    reporter.event(&AccountEvent::SendFailed(Box::new(unsent)));
}

#[cfg(test)]
mod tests;
