//! [`Inbox`]: where all that comes in goes: answers to their calls at once, events into a queue, in order. The queue outlives
//! connections: what came in on one that is gone is not lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Duration;
use tracing::{debug, warn};

use super::calls::{Arrived, Calls};
use super::wire::Frame;
use super::wire::event::Event;

/// How many events may wait. Reading pauses where more come; while nothing can be passed on, before the lists are there,
/// it must not, for the lists would come behind them: then the newest are dropped.
const WAITING_EVENTS: usize = 20_000;

/// How many bytes of frames the waiting events may have come in.
const WAITING_BYTES: usize = 16 * 1024 * 1024;

/// An event that waits.
struct Held {
    event: Event,
    /// Of the whole frame, where it says when it happened: what has the same one is the same.
    digest: Option<u64>,
    _room: OwnedSemaphorePermit,
}

/// What a frame says of the connection that it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing.
    None,
    /// The implementation lives, and says so again after this time.
    Life(Duration),
    /// Our token is not the right one.
    TokenRefused,
}

/// Where all that comes in goes.
pub(super) struct Inbox {
    calls: Arc<Calls>,
    events: mpsc::Sender<Held>,
    room: Arc<Semaphore>,
    /// Whether events are passed on: once the lists are there, until those of the connection that ended are told.
    open: watch::Sender<bool>,
    taken: AtomicU64,
    told: watch::Sender<u64>,
    dropped: AtomicU64,
    gap: Notify,
    offline: watch::Sender<Option<String>>,
}

/// The other end of the queue.
pub(super) struct Events(mpsc::Receiver<Held>);

/// An empty inbox; answers go to `calls`.
pub(super) fn open(calls: Arc<Calls>) -> (Inbox, Events) {
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    let inbox = Inbox {
        calls,
        events: sender,
        room: Arc::new(Semaphore::new(WAITING_BYTES)),
        open: watch::Sender::new(false),
        taken: AtomicU64::new(0),
        told: watch::Sender::new(0),
        dropped: AtomicU64::new(0),
        gap: Notify::new(),
        offline: watch::Sender::default(),
    };
    (inbox, Events(receiver))
}

impl Events {
    /// The oldest event and its digest, if it has one; waits for one if need be. None: there will be no more.
    pub(super) async fn next(&mut self) -> Option<(Event, Option<u64>)> {
        self.0.recv().await.map(|held| (held.event, held.digest))
    }
}

impl Inbox {
    /// Events are passed on now.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until all events that came are told. Then what comes waits until [`Inbox::open`].
    pub(super) async fn close(&self) {
        if *self.open.borrow() {
            let taken = self.taken.load(Ordering::Acquire);
            // The sender is our own.
            let _ = self.told.subscribe().wait_for(|told| *told >= taken).await;
        }
        self.open.send_replace(false);
    }

    /// Whether events are passed on.
    pub(super) fn is_open(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// An event that came out of the queue is told, or is none to be told.
    pub(super) fn told_one(&self) {
        self.told.send_modify(|told| *told += 1);
    }

    /// Things may have happened of which no event came, though the login is still the same.
    pub(super) fn has_gap(&self) {
        self.gap.notify_one();
    }

    /// Waits for [`Inbox::has_gap`].
    pub(super) async fn gap(&self) {
        self.gap.notified().await;
    }

    /// Why the account is offline for good, once it is.
    pub(super) fn offline(&self) -> watch::Receiver<Option<String>> {
        self.offline.subscribe()
    }

    /// The account is offline for good.
    pub(super) fn set_offline(&self, why: String) {
        self.offline.send_replace(Some(why));
    }

    /// Takes a frame; waits for room where it is an event.
    pub(super) async fn take(&self, text: &[u8]) -> Sign {
        match Frame::read(text) {
            Some(Frame::Reply(echo, reply)) => {
                if !self.calls.arrive(&echo, Arrived::Reply(reply)) {
                    debug!(echo, "An answer came that nobody waits for any more.");
                }
            }
            Some(Frame::Unasked(reply)) => {
                if reply.refuses_token() {
                    return Sign::TokenRefused;
                }
            }
            Some(Frame::Event(event, time)) => {
                let sign = match *event {
                    Event::Heartbeat(Some(interval), _) => Sign::Life(interval),
                    _ => Sign::None,
                };
                let digest = time.map(|_| {
                    let mut hasher = DefaultHasher::new();
                    text.hash(&mut hasher);
                    hasher.finish()
                });
                self.event(*event, digest, text.len()).await;
                return sign;
            }
            None => debug!(bytes = text.len(), "A frame came that is not OneBot's."),
        }
        Sign::None
    }

    async fn event(&self, event: Event, digest: Option<u64>, bytes: usize) {
        let is_open = *self.open.borrow();
        match &event {
            Event::Other => return,
            // Before the lists are there, it is on its way to be online.
            Event::Heartbeat(_, online) if *online != Some(false) || !is_open => return,
            // In its turn, so that what came before is told. But before the lists are there nothing is.
            Event::Offline(why) if !is_open => {
                return self.set_offline(why.clone());
            }
            _ => {}
        }
        let bytes = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
        let held = if is_open {
            let Ok(room) = self.room.clone().acquire_many_owned(bytes).await else { return };
            self.events.send(Held { event, digest, _room: room }).await.is_ok()
        } else {
            let room = self.room.clone().try_acquire_many_owned(bytes);
            room.is_ok_and(|room| self.events.try_send(Held { event, digest, _room: room }).is_ok())
        };
        if held {
            self.taken.fetch_add(1, Ordering::AcqRel);
        } else {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(dropped, "Events are dropped: too many came before the lists were there.");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(n: usize) -> Vec<u8> {
        let message = json!({
            "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message": n.to_string(),
        });
        message.to_string().into_bytes()
    }

    #[tokio::test]
    async fn before_the_lists_are_there_the_queue_is_bounded_and_then_reading_pauses() {
        let (inbox, mut events) = open(Arc::new(Calls::new(Duration::from_secs(1))));
        for n in 0..WAITING_EVENTS + 2 {
            inbox.take(&message(n)).await;
        }
        assert_eq!(inbox.dropped.load(Ordering::Relaxed), 2);
        inbox.open();
        let waits = message(0);
        let mut waiting = std::pin::pin!(inbox.take(&waits));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(matches!(events.next().await, Some((Event::Said(_), None))));
        waiting.await;
        assert_eq!(inbox.dropped.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_a_frame_says_of_its_connection() {
        let (inbox, _events) = open(Arc::new(Calls::new(Duration::from_secs(1))));
        let beat = br#"{"post_type":"meta_event","meta_event_type":"heartbeat","interval":30000}"#;
        assert_eq!(inbox.take(beat).await, Sign::Life(Duration::from_secs(30)));
        let refused = br#"{"status":"failed","retcode":1403,"data":null,"echo":null}"#;
        assert_eq!(inbox.take(refused).await, Sign::TokenRefused);
        for other in [&message(1)[..], b"{", br#"{"status":"failed","retcode":1400,"echo":null}"#] {
            assert_eq!(inbox.take(other).await, Sign::None);
        }
    }

    #[tokio::test]
    async fn who_goes_offline_before_the_lists_are_there_is_not_waited_for() {
        let (inbox, mut events) = open(Arc::new(Calls::new(Duration::from_secs(1))));
        let offline = br#"{"post_type":"notice","notice_type":"bot_offline","message":"kicked"}"#;
        let beat = br#"{"post_type":"meta_event","meta_event_type":"heartbeat","status":{"online":false}}"#;
        inbox.take(beat).await;
        assert_eq!(*inbox.offline().borrow(), None, "a login goes on");
        inbox.open();
        inbox.take(offline).await;
        inbox.take(beat).await;
        assert_eq!(*inbox.offline().borrow(), None, "in its turn");
        assert!(matches!(events.next().await, Some((Event::Offline(why), _)) if why == "kicked"));
        assert!(matches!(events.next().await, Some((Event::Heartbeat(_, Some(false)), _))));
        for _ in 0..2 {
            inbox.told_one();
        }
        inbox.close().await;
        inbox.take(offline).await;
        assert_eq!(inbox.offline().borrow().as_deref(), Some("kicked"));
    }
}
