//! The outbox: every message that goes out waits here for its turn, so that the network never sees an account
//! that writes faster than a person.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::backend::{Backend, BackendError, Recipient, Sent};
use super::log::MESSAGES;
use super::queue::{self, PushError};
use super::reports::Reporter;

/// How many messages may wait.
const WAITING_MESSAGES: usize = 100;

/// How many bytes the waiting messages may have together: some of the longest (a call has at most 1 MiB).
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// What became of a message. Its channel closes without a word when the client stops before the message's turn.
pub(super) type Outcome = Result<Sent, BackendError>;

struct Turn {
    to: Recipient,
    content: String,
    outcome: oneshot::Sender<Outcome>,
}

/// The way into the outbox.
#[derive(Clone)]
pub(super) struct Outbox {
    turns: queue::Sender<Turn>,
}

/// The task that sends.
pub(super) struct Dispatcher {
    turns: queue::Receiver<Turn>,
}

/// An empty outbox.
pub(super) fn open() -> (Outbox, Dispatcher) {
    let (sender, receiver) = queue::bounded(WAITING_MESSAGES, WAITING_BYTES);
    (Outbox { turns: sender }, Dispatcher { turns: receiver })
}

impl Outbox {
    /// Queues a message. It is sent in its turn, whether somebody waits for the outcome or not.
    ///
    /// # Errors
    /// Too many wait already, or the client stops.
    pub(super) fn submit(
        &self,
        to: Recipient,
        content: String,
    ) -> Result<oneshot::Receiver<Outcome>, PushError> {
        let (outcome, receiver) = oneshot::channel();
        let bytes = content.len();
        self.turns.push(Turn { to, content, outcome }, bytes)?;
        Ok(receiver)
    }
}

impl Dispatcher {
    /// Sends what is queued, `interval` apart: the first at once.
    pub(super) async fn run<B: Backend>(mut self, backend: Arc<B>, interval: Duration, reporter: Reporter) {
        let mut next = Instant::now();
        while let Some(turn) = self.turns.next().await {
            sleep_until(next).await;
            let outcome = backend.send(&turn.to, &turn.content).await;
            next = Instant::now() + interval;
            match &outcome {
                Ok(sent) => {
                    info!(target: MESSAGES, id = sent.message.id, "A message was sent.");
                    reporter.message(&sent.message);
                }
                Err(error) => warn!(%error, "A message could not be sent."),
            }
            // Whoever asked may have hung up, or not have waited at all.
            let _ = turn.outcome.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::backend::News;
    use crate::client::sandbox::tests::sandbox;

    #[tokio::test(start_paused = true)]
    async fn one_after_another_in_order() {
        let (backend, driver, mut news, _folder) = sandbox();
        tokio::spawn(driver.run());
        while !matches!(news.recv().await, Some(News::Ready { .. })) {}
        tokio::task::yield_now().await;
        let friend = Recipient::Friend(backend.friends().await.unwrap()[0].id.clone());
        let (outbox, dispatcher) = open();
        let start = Instant::now();
        let interval = Duration::from_secs(3);
        let dispatch = dispatcher.run(Arc::new(backend), interval, Reporter::to_nobody());
        let waiting: Vec<_> = (0..3).map(|n| outbox.submit(friend.clone(), n.to_string()).unwrap()).collect();
        let check = async {
            for (n, outcome) in (0..).zip(waiting) {
                assert_eq!(outcome.await.unwrap().unwrap().message.content, n.to_string());
                assert_eq!((Instant::now() - start).as_secs(), n * interval.as_secs());
            }
        };
        tokio::select! { () = dispatch => panic!("the dispatcher ended"), () = check => {} }
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused() {
        let (outbox, dispatcher) = open();
        let friend = Recipient::Friend("1".into());
        for _ in 0..WAITING_MESSAGES {
            outbox.submit(friend.clone(), "x".into()).unwrap();
        }
        assert_eq!(outbox.submit(friend.clone(), "x".into()).err(), Some(PushError::Full));
        drop(dispatcher);
        assert_eq!(outbox.submit(friend, "x".into()).err(), Some(PushError::Closed));
    }
}
