//! [`PeerLinks`]: the open connections to peers, and sending over them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::queue;
use super::wire::PeerFrame;
use crate::client::backend::{BackendError, sanitize_remote_text};
use crate::client::sandbox::SandboxState;
use crate::client::sandbox::view::changes::WorldChange;
use crate::client::sandbox::view::{ModerationAction, PeerMessage};
use crate::locks::locked;

/// The timeout of a peer's greeting, and of its answer to a message.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of a message without an answer.
pub(crate) const NO_ANSWER: u64 = 0;

/// What a change counts as in the queue to a peer; one with a long text is more, and rare.
pub(crate) const CHANGE_BYTES: usize = 1024;

/// The open connections, by uid.
#[derive(Default)]
pub(crate) struct PeerLinks {
    /// The last number that was assigned.
    last: AtomicU64,
    table: Mutex<HashMap<String, Vec<PeerLink>>>,
}

#[derive(Clone)]
pub(crate) struct PeerLink {
    pub(crate) number: u64,
    /// Whether the peer knows parts of messages and changes.
    pub(crate) is_current: bool,
    pub(crate) frames: queue::QueueSender<PeerFrame>,
    /// Messages that wait for their answer.
    pub(crate) waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>>,
}

impl PeerLink {
    /// A message in a frame that the peer knows, and its size; `content` is its text.
    fn frame(&self, number: u64, message: &PeerMessage, content: &str) -> (PeerFrame, usize) {
        if self.is_current {
            return (PeerFrame::Said { number, message: message.clone() }, message.bytes());
        }
        let (place, content) = (message.place.clone(), content.to_owned());
        let bytes = content.len();
        (PeerFrame::Message { number, place, content }, bytes)
    }
}

impl PeerLinks {
    pub(crate) fn table(&self) -> MutexGuard<'_, HashMap<String, Vec<PeerLink>>> {
        locked(&self.table)
    }

    /// A new number, which is never [`NO_ANSWER`].
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn to(&self, uid: &str) -> Option<PeerLink> {
        // A copy, so that the lock ends here and not with the send.
        self.table().get(uid)?.first().cloned()
    }

    /// Sends a message to one client, and waits for its answer.
    pub(crate) async fn deliver(
        &self,
        uid: &str,
        message: &PeerMessage,
        content: &str,
    ) -> Result<(), BackendError> {
        let refused = |why: &str| BackendError::Refused(why.to_owned());
        let link = self.to(uid).ok_or_else(|| refused("the recipient is offline"))?;
        let (answer, answered) = oneshot::channel();
        let number = self.number();
        // Before the frame is queued, so that its answer is expected.
        locked(&link.waiting).insert(number, answer);
        let (frame, bytes) = link.frame(number, message, content);
        if link.frames.push(frame, bytes).is_err() {
            locked(&link.waiting).remove(&number);
            return Err(refused("the recipient takes nothing at the moment"));
        }
        // From here on the recipient may have the message, whatever its answer is: a caller that sends it again sends it twice.
        // A strong reference would keep the link alive whose end it waits for.
        let waiting = Arc::downgrade(&link.waiting);
        drop(link);
        match timeout(PEER_TIMEOUT, answered).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(why))) => Err(BackendError::Refused(sanitize_remote_text(&why))),
            // It went offline.
            Ok(Err(_)) => Err(BackendError::NoAnswer),
            Err(_) => {
                if let Some(waiting) = waiting.upgrade() {
                    locked(&waiting).remove(&number);
                }
                Err(BackendError::NoAnswer)
            }
        }
    }

    /// Sends a message to one client without waiting for an answer.
    pub(crate) fn notify(&self, uid: &str, message: &PeerMessage, content: &str) {
        let push = |link: PeerLink| {
            let (frame, bytes) = link.frame(NO_ANSWER, message, content);
            link.frames.push(frame, bytes)
        };
        if self.to(uid).is_none_or(|link| push(link).is_err()) {
            debug!("{uid} does not read; dropped a message to it");
        }
    }

    /// Sends what a person without a client says. Those of earlier versions would take it for the words of this account.
    pub(crate) fn notify_as(&self, uid: &str, message: &PeerMessage) {
        if let Some(link) = self.to(uid).filter(|link| link.is_current) {
            let frame = PeerFrame::Said { number: NO_ANSWER, message: message.clone() };
            if link.frames.push(frame, message.bytes()).is_err() {
                debug!("{uid} does not read; dropped a message to it");
            }
        }
    }

    /// Sends a change to all clients that know such ones; `own` is the uid of this account.
    pub(crate) fn broadcast(&self, own: &str, change: &WorldChange) {
        // Over one connection where there are two, or a poke would be two.
        for link in self.table().values().filter_map(|links| links.first()) {
            let frame = match ModerationAction::of(change) {
                _ if link.is_current => PeerFrame::Change(change.clone()),
                // They close the connection at one in the name of another.
                Some(ruling) if change.by == own => PeerFrame::Ruling(ruling),
                _ => continue,
            };
            if link.frames.push(frame, CHANGE_BYTES).is_err() {
                debug!("a peer does not read; dropped a change of the world to it");
            }
        }
    }
}

/// Removes a connection from the table when it is dropped.
pub(crate) struct LinkGuard {
    pub(crate) shared: Arc<SandboxState>,
    pub(crate) uid: String,
    pub(crate) number: u64,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        let mut table = self.shared.links.table();
        if let Some(links) = table.get_mut(&self.uid) {
            // By its number, for the person may have another connection.
            links.retain(|link| link.number != self.number);
            if links.is_empty() {
                table.remove(&self.uid);
            }
        }
    }
}
