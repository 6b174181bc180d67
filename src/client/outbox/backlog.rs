//! [`Backlog`]: the queue of messages, and the order of their turns. Pure: it is given the time and never
//! waits.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{SendError, SendOutcome};
use crate::client::backend::Draft;
use crate::client::backend::message::Recipient;
use tokio::sync::oneshot;

/// How many bytes the queued messages may have together: two of the longest (a call has at most 6 MiB, for an image).
const MAX_BYTES: usize = 12 * 1024 * 1024;

/// How many sends may be under way. A send without an answer lasts for the timeout of a call while the others
/// go on.
const MAX_SENDING: usize = 8;

/// A queued message.
pub(crate) struct QueuedMessage {
    pub(crate) draft: Arc<Draft>,
    /// Receives the outcome. None: no caller waits.
    pub(crate) outcome: Option<oneshot::Sender<SendOutcome>>,
}

/// The queue.
pub(crate) struct Backlog {
    waiting: VecDeque<QueuedMessage>,
    bytes: usize,
    max_messages: usize,
    /// Recipients with a send under way. The next message to them waits, so that order is kept.
    sending: HashSet<Recipient>,
    interval: Duration,
    /// When the next message may be sent.
    next: Instant,
    closed: bool,
}

impl Backlog {
    pub(crate) fn new(max_messages: usize, interval: Duration, now: Instant) -> Self {
        let (waiting, sending) = (VecDeque::new(), HashSet::new());
        Self { waiting, bytes: 0, max_messages, sending, interval, next: now, closed: false }
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a message that waits for at most `patience`, if given.
    ///
    /// # Errors
    /// There is no room, its turn would come too late, or the client stops.
    pub(crate) fn push(
        &mut self,
        turn: QueuedMessage,
        patience: Option<Duration>,
        now: Instant,
    ) -> Result<(), SendError> {
        // The dispatcher is gone or will not look again: the message would wait for ever.
        if self.closed {
            return Err(SendError::Stopped);
        }
        let until_turn = self.until_turn(now);
        if self.waiting.len() >= self.max_messages || self.bytes + turn.draft.bytes() > MAX_BYTES {
            // There is room again once the oldest message is sent.
            let room = self.next.saturating_duration_since(now);
            // A caller that waits needs more than room: its turn has to be near enough, too.
            return Err(SendError::too_many(
                room.max(patience.map_or(room, |wait| until_turn.saturating_sub(wait))),
            ));
        }
        if let Some(late) = patience.and_then(|patience| until_turn.checked_sub(patience))
            && !late.is_zero()
        {
            return Err(SendError::too_many(late));
        }
        self.bytes += turn.draft.bytes();
        self.waiting.push_back(turn);
        Ok(())
    }

    /// How long until the turn of a new message, if no send is slower than the interval.
    fn until_turn(&self, now: Instant) -> Duration {
        let before = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.next.saturating_duration_since(now).saturating_add(self.interval.saturating_mul(before))
    }

    fn first_free(&self) -> Option<usize> {
        if self.sending.len() >= MAX_SENDING {
            return None;
        }
        // Past messages whose recipient is busy: a send without an answer holds up its own conversation only.
        self.waiting.iter().position(|turn| !self.sending.contains(&turn.draft.to))
    }

    /// When [`Backlog::take`] returns the next message, if nothing changes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.first_free().map(|_| self.next)
    }

    /// Takes the next message.
    pub(crate) fn take(&mut self, now: Instant) -> Option<QueuedMessage> {
        if now < self.next {
            return None;
        }
        let turn = self.remove_at(self.first_free()?)?;
        self.sending.insert(turn.draft.to.clone());
        // From now and not from the last `next`: after a pause messages must not catch up in a burst.
        self.next = now + self.interval;
        Some(turn)
    }

    /// Notes that the send to this recipient ended.
    pub(crate) fn finish(&mut self, to: &Recipient) {
        self.sending.remove(to);
    }

    /// Removes a withdrawn message, if it is still queued.
    pub(crate) fn remove(&mut self, id: &str) -> Option<QueuedMessage> {
        self.remove_at(self.waiting.iter().position(|turn| turn.draft.id == id)?)
    }

    fn remove_at(&mut self, index: usize) -> Option<QueuedMessage> {
        let turn = self.waiting.remove(index)?;
        self.bytes -= turn.draft.bytes();
        Some(turn)
    }

    /// Stops accepting messages, and returns the queued ones.
    pub(crate) fn close(&mut self) -> VecDeque<QueuedMessage> {
        self.closed = true;
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::backend::SendClaim;

    const INTERVAL: Duration = Duration::from_secs(3);

    fn turn(id: u32, to: &str) -> QueuedMessage {
        let draft = Draft {
            id: id.to_string(),
            to: Recipient::Friend(to.into()),
            content: "x".into(),
            segments: Vec::new(),
            claim: SendClaim::default(),
        };
        QueuedMessage { draft: Arc::new(draft), outcome: None }
    }

    fn taken(backlog: &mut Backlog, now: Instant) -> Option<String> {
        backlog.take(now).map(|turn| turn.draft.id.clone())
    }

    #[tokio::test]
    async fn busy_recipient_does_not_block_others() {
        let start = Instant::now();
        let mut backlog = Backlog::new(100, INTERVAL, start);
        for (id, to) in [(1, "a"), (2, "a"), (3, "b")] {
            backlog.push(turn(id, to), None, start).unwrap();
        }
        assert_eq!(taken(&mut backlog, start).as_deref(), Some("1"));
        assert_eq!(taken(&mut backlog, start), None, "too soon");
        assert_eq!(backlog.due(), Some(start + INTERVAL));
        assert_eq!(taken(&mut backlog, start + INTERVAL).as_deref(), Some("3"));
        assert_eq!(
            (taken(&mut backlog, start + 2 * INTERVAL), backlog.due()),
            (None, None),
            "a has one already"
        );
        backlog.finish(&Recipient::Friend("a".into()));
        assert_eq!(taken(&mut backlog, start + 2 * INTERVAL).as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn late_turn_is_refused_with_retry_after() {
        let start = Instant::now();
        let mut backlog = Backlog::new(100, INTERVAL, start);
        let patience = Some(Duration::from_secs(10));
        for id in 0..4 {
            backlog.push(turn(id, "a"), patience, start).unwrap();
        }
        let refused = |seconds| Err(SendError::TooMany { retry_after: seconds });
        assert_eq!(backlog.push(turn(4, "a"), patience, start), refused(2));
        assert_eq!(backlog.push(turn(4, "a"), None, start), Ok(()), "one without a caller may wait");
        assert!(backlog.remove("4").is_some() && backlog.remove("4").is_none());
        assert!(backlog.take(start).is_some());
        assert_eq!(backlog.push(turn(5, "b"), patience, start), refused(2), "the next slot is as far");
        assert_eq!(backlog.push(turn(5, "b"), patience, start + Duration::from_secs(2)), Ok(()));
    }

    #[tokio::test]
    async fn backlog_is_bounded_by_messages_bytes_and_sends() {
        let start = Instant::now();
        let mut backlog = Backlog::new(MAX_SENDING + 2, Duration::ZERO, start);
        for id in 0..MAX_SENDING + 2 {
            backlog.push(turn(id as u32, &id.to_string()), None, start).unwrap();
        }
        assert_eq!(backlog.push(turn(99, "z"), None, start), Err(SendError::TooMany { retry_after: 1 }));
        for _ in 0..MAX_SENDING {
            assert!(backlog.take(start).is_some());
        }
        assert!(backlog.take(start).is_none());
        let content = "x".repeat(MAX_BYTES - 2);
        let (id, to) = ("99".into(), Recipient::Friend("z".into()));
        let long = Draft { id, to, content, segments: Vec::new(), claim: SendClaim::default() };
        backlog.push(QueuedMessage { draft: Arc::new(long), outcome: None }, None, start).unwrap();
        assert!(backlog.push(turn(100, "z"), None, start).is_err());
        assert_eq!(backlog.close().len(), 3);
        assert_eq!(backlog.push(turn(100, "z"), None, start), Err(SendError::Stopped));
    }
}
