//! [`Inbox`]: where incoming frames go: answers to their calls at once, events into a queue in order. The queue
//! outlives connections, so events of a lost one are still reported.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Duration;
use tracing::{debug, warn};

use super::calls::{CallCompletion, Calls};
use crate::client::account::binding::{AccountBinding, OtherAccount};
use crate::client::applications::hub::Hub;
use crate::client::backend::happening::Happening;
use crate::client::remote::dedup::EventDedup;
use crate::client::remote::dialect::Dialect;
use crate::client::remote::event::{AsSaid, RemoteEvent};
use crate::client::remote::frame::{FrameError, RemoteFrame};
use crate::client::remote::message_ids::MessageIds;
use crate::locks::locked;

/// How many events may wait. When the queue is full, reading pauses. Before the lists are loaded it must not
/// pause, as the lists would come behind the events: then the newest events are dropped.
const WAITING_EVENTS: usize = 20_000;

/// How many bytes the frames of the waiting events may have.
const WAITING_BYTES: usize = 16 * 1024 * 1024;

/// The source of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameSource {
    /// A WebSocket, by number: nothing is repeated on it.
    Connection(u64),
    /// An HTTP request, which is repeated if its answer was lost.
    Post,
}

/// An event that waits.
struct QueuedEvent {
    event: RemoteEvent,
    stamp: EventStamp,
    _room: OwnedSemaphorePermit,
}

/// What identifies an event, to recognize repeats and stale ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventStamp {
    /// The source.
    pub(crate) source: FrameSource,
    /// A digest of the frame, if it has a time.
    pub(crate) digest: Option<u64>,
    /// The account that it names (`self_id`).
    pub(crate) account: Option<u64>,
    /// How often the account had changed when it came.
    pub(crate) era: u64,
}

/// What a frame means for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionSignal {
    /// Nothing.
    None,
    /// A heartbeat; the next one follows after this time.
    Alive(Duration),
    /// The token is refused.
    TokenRefused,
    /// It is about another account.
    OtherAccount(OtherAccount),
}

/// Where incoming frames go.
pub(crate) struct Inbox {
    dialect: &'static dyn Dialect,
    calls: Arc<Calls>,
    binding: Arc<AccountBinding>,
    connections: AtomicU64,
    events: mpsc::Sender<QueuedEvent>,
    room: Arc<Semaphore>,
    /// Whether events are reported: from the load of the lists until the events of the ended connection are
    /// reported.
    open: watch::Sender<bool>,
    /// How often the account changed.
    era: AtomicU64,
    taken: AtomicU64,
    told: watch::Sender<u64>,
    dropped: AtomicU64,
    gap: Notify,
    offline: watch::Sender<Option<String>>,
    /// Whether the last heartbeat of this login says that the account is online.
    online: watch::Sender<Option<bool>>,
    unreadable_was_said: AtomicBool,
    repair_was_said: AtomicBool,
    /// The applications that are told each event as it came, and the last ones that they were told.
    applications: Hub,
    published: Mutex<EventDedup>,
    ids: Arc<MessageIds>,
}

/// The receiving end of the queue.
pub(crate) struct EventQueue(mpsc::Receiver<QueuedEvent>);

/// An empty inbox for the account of `binding`; answers go to `calls`.
pub(crate) fn open(
    dialect: &'static dyn Dialect,
    calls: Arc<Calls>,
    binding: Arc<AccountBinding>,
) -> (Inbox, EventQueue) {
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    let inbox = Inbox {
        dialect,
        calls,
        binding,
        connections: AtomicU64::new(0),
        events: sender,
        room: Arc::new(Semaphore::new(WAITING_BYTES)),
        open: watch::Sender::new(false),
        era: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        told: watch::Sender::new(0),
        dropped: AtomicU64::new(0),
        gap: Notify::new(),
        offline: watch::Sender::default(),
        online: watch::Sender::default(),
        unreadable_was_said: AtomicBool::new(false),
        repair_was_said: AtomicBool::new(false),
        applications: Hub::new(Duration::ZERO),
        published: Mutex::default(),
        ids: Arc::new(MessageIds::in_memory()),
    };
    (inbox, EventQueue(receiver))
}

impl EventQueue {
    /// The next event. None: there will be no more.
    pub(crate) async fn next(&mut self) -> Option<(RemoteEvent, EventStamp)> {
        // The permit is dropped here: the event takes no more room in the queue.
        self.0.recv().await.map(|held| (held.event, held.stamp))
    }
}

impl Inbox {
    /// Tells these applications each event as it comes, with these numbers of messages.
    pub(crate) fn publishing_to(self, applications: Hub, ids: Arc<MessageIds>) -> Self {
        Self { applications, ids, ..self }
    }

    /// The numbers of messages.
    pub(crate) fn ids(&self) -> &Arc<MessageIds> {
        &self.ids
    }

    /// Lets events be reported.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until all events that came are reported. Later ones wait until [`Inbox::open`].
    pub(crate) async fn close(&self) {
        // While closed, the worker takes no events, so the wait would not end.
        if *self.open.borrow() {
            let taken = self.taken.load(Ordering::Acquire);
            // The sender is a field of ours.
            let _ = self.told.subscribe().wait_for(|told| *told >= taken).await;
        }
        self.open.send_replace(false);
    }

    /// Whether events are reported.
    pub(crate) fn is_open(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// Notes that an event of the queue was handled.
    pub(crate) fn mark_handled(&self) {
        self.told.send_modify(|told| *told += 1);
    }

    /// Notes that events may be missing although the login is still the same.
    pub(crate) fn note_gap(&self) {
        // Keeps one permit, so a gap during other work is not missed, and several gaps cost one reload.
        self.gap.notify_one();
    }

    /// Waits for [`Inbox::note_gap`].
    pub(crate) async fn gap(&self) {
        self.gap.notified().await;
    }

    /// Why the account was logged out elsewhere, once it was.
    pub(crate) fn offline(&self) -> watch::Receiver<Option<String>> {
        self.offline.subscribe()
    }

    /// Notes that the account was logged out elsewhere.
    pub(crate) fn set_offline(&self, why: String) {
        self.offline.send_replace(Some(why));
    }

    /// Whether heartbeats say that the account is online. Each one counts as a change.
    pub(crate) fn online(&self) -> watch::Receiver<Option<bool>> {
        self.online.subscribe()
    }

    /// Resets the heartbeat of an earlier login.
    pub(crate) fn begin(&self) {
        self.online.send_replace(None);
    }

    /// Notes that another account logged in: events queued for the old one must not be reported.
    pub(crate) fn change_account(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether an event that waited is about the current account. While the client moves to another account,
    /// event connections of the old one may still be open.
    pub(crate) fn is_of_this_account(&self, stamp: &EventStamp) -> bool {
        match stamp.account {
            Some(account) => self.binding.check(account).is_ok(),
            None => stamp.era == self.era.load(Ordering::Acquire),
        }
    }

    /// Whether this is a bot_offline of the account that the client was taken away from. The operator may log
    /// the old account out, and its implementation then says so on a connection that is still open.
    pub(crate) fn is_of_forgotten_account(&self, event: &RemoteEvent, stamp: &EventStamp) -> bool {
        matches!(event, RemoteEvent::Offline(_))
            && stamp.account.is_some_and(|account| self.binding.was_forgotten(account))
    }

    /// The protocol.
    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        self.dialect
    }

    /// The account that events must be about.
    pub(crate) fn binding(&self) -> &AccountBinding {
        &self.binding
    }

    /// The source for a new connection.
    pub(crate) fn connection(&self) -> FrameSource {
        FrameSource::Connection(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Logs that a frame or a body is unreadable, at warn only once: a program that writes one writes many.
    pub(crate) fn note_unreadable(&self, bytes: usize, why: &FrameError) {
        let name = self.dialect.name();
        if self.unreadable_was_said.swap(true, Ordering::Relaxed) {
            debug!("dropped {bytes} unreadable bytes of the {name} implementation: {why}");
        } else {
            warn!(
                "dropped {bytes} unreadable bytes of the {name} implementation: {why}; further ones are logged at level debug"
            );
        }
    }

    /// Logs once that broken text was repaired.
    pub(crate) fn note_repaired(&self) {
        if !self.repair_was_said.swap(true, Ordering::Relaxed) {
            warn!(
                "the {} implementation sends invalid JSON (half characters, control characters or numbers out of range); the invalid parts are replaced",
                self.dialect.name()
            );
        }
    }

    /// Handles a frame; waits for room in the queue if it is an event.
    pub(crate) async fn take(&self, text: &[u8], source: FrameSource) -> ConnectionSignal {
        let frame = self.dialect.read_frame(text).inspect(|read| {
            if read.is_repaired {
                self.note_repaired();
            }
        });
        match frame.map(|read| read.what) {
            Ok(RemoteFrame::Reply(echo, reply)) => {
                if !self.calls.complete(&echo, CallCompletion::Reply(reply)) {
                    debug!("dropped a late answer ({echo})");
                }
            }
            Ok(RemoteFrame::Unasked(reply)) => {
                if reply.refuses_token() {
                    return ConnectionSignal::TokenRefused;
                }
            }
            Ok(RemoteFrame::Event(mut event, envelope)) => {
                if let Some(Err(other)) = envelope.self_id.map(|account| self.binding.check(account)) {
                    return ConnectionSignal::OtherAccount(other);
                }
                let sign = match *event {
                    RemoteEvent::Heartbeat(Some(interval), _) => ConnectionSignal::Alive(interval),
                    _ => ConnectionSignal::None,
                };
                // Without a time, a repeat and a second event of the same content look the same.
                let digest = envelope.time.map(|_| {
                    let mut hasher = DefaultHasher::new();
                    text.hash(&mut hasher);
                    hasher.finish()
                });
                let era = self.era.load(Ordering::Acquire);
                let stamp = EventStamp { source, digest, account: envelope.self_id, era };
                self.publish(&mut event, stamp, text);
                self.event(*event, stamp, text.len()).await;
                return sign;
            }
            Err(why) => self.note_unreadable(text.len(), &why),
        }
        ConnectionSignal::None
    }

    /// Tells applications an event. What only that knows is added to the event: parts and number of a message, and what the API has
    /// no words of its own for.
    fn publish(&self, event: &mut RemoteEvent, stamp: EventStamp, frame: &[u8]) {
        let is_heard = self.applications.has_listeners() && !locked(&self.published).has(event, stamp);
        let is_translated = !self.dialect.passes_actions() && matches!(event, RemoteEvent::Said(_));
        let is_silent = matches!(event, RemoteEvent::Other);
        if !is_heard && !is_translated && !is_silent {
            return;
        }
        let Some(told) = self.dialect.application_event(frame, &self.ids) else { return };
        match event {
            RemoteEvent::Said(said) if is_translated => {
                // Our own text, so it is JSON.
                said.as_said = serde_json::from_str(&told).map(|told| AsSaid::of(&told)).unwrap_or_default();
            }
            // Reported in its place among messages, which is why it goes through the queue of events.
            RemoteEvent::Other => {
                let told: Value = serde_json::from_str(&told).unwrap_or_default();
                // The ids of this network are its numbers.
                if let Some(happening) = Happening::of(&told, |_, uid| uid.to_owned()) {
                    *event = RemoteEvent::Happened(happening);
                }
            }
            _ => {}
        }
        if is_heard {
            self.applications.publish(&told);
        }
    }

    /// Tells applications what no frame says.
    pub(crate) fn tell_applications(&self, told: &str) {
        self.applications.publish(told);
    }

    async fn event(&self, event: RemoteEvent, stamp: EventStamp, bytes: usize) {
        let is_open = *self.open.borrow();
        if self.is_of_forgotten_account(&event, &stamp) {
            debug!("ignoring bot_offline of the account that this client was taken away from");
            return;
        }
        match &event {
            RemoteEvent::Other => return,
            RemoteEvent::Heartbeat(_, online) => {
                // A heartbeat without a status says nothing about the account.
                if online.is_some() {
                    self.online.send_replace(*online);
                }
                return;
            }
            // Queued, so that earlier events are reported first. Before the lists are loaded nothing is
            // reported, so it counts at once.
            RemoteEvent::Offline(why) if !is_open => {
                return self.set_offline(why.clone());
            }
            _ => {}
        }
        // An event that is larger than all the room takes all of it, instead of waiting forever.
        let bytes = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
        let held = if is_open {
            // The semaphore is never closed.
            let Ok(room) = self.room.clone().acquire_many_owned(bytes).await else { return };
            self.events.send(QueuedEvent { event, stamp, _room: room }).await.is_ok()
        } else {
            let room = self.room.clone().try_acquire_many_owned(bytes);
            room.is_ok_and(|room| self.events.try_send(QueuedEvent { event, stamp, _room: room }).is_ok())
        };
        if held {
            // After the send: if a dropped future counted an event that it never sent, `close` would wait forever.
            self.taken.fetch_add(1, Ordering::AcqRel);
        } else {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // A few log lines, however many events are dropped.
            if dropped.is_power_of_two() {
                warn!("dropped {dropped} events so far: too many came before friends and groups were loaded");
            }
        }
    }
}

#[cfg(test)]
mod tests;
