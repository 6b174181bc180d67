//! What receivers answer to reports of messages: a reply goes to the outbox, a mute to the backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::backend::{Backend, Recipient};
use super::log::MESSAGES;
use super::outbox::Outbox;
use super::reports::{Answer, Source};

/// How many mutes may wait for the backend.
const WAITING_MUTES: usize = 64;

struct Mute {
    group: String,
    member: String,
    time: Duration,
}

/// Takes answers; never waits.
pub(super) struct Replies {
    outbox: Outbox,
    mutes: mpsc::Sender<Mute>,
}

/// The task that mutes, one after another.
pub(super) struct Muter(mpsc::Receiver<Mute>);

/// Replies go to `outbox`.
pub(super) fn open(outbox: Outbox) -> (Replies, Muter) {
    let (sender, receiver) = mpsc::channel(WAITING_MUTES);
    (Replies { outbox, mutes: sender }, Muter(receiver))
}

impl Replies {
    /// Does what the answer to the report of a message from `source` asks for.
    pub(super) fn act(&self, source: Source, answer: Answer) {
        match (answer.shutup, &source.reply_to) {
            (Some(time), Recipient::Group(group)) => {
                let mute = Mute { group: group.clone(), member: source.sender, time };
                if self.mutes.try_send(mute).is_err() {
                    warn!("The sender of a group message is not muted: too many mutes wait.");
                }
            }
            (Some(_), _) => debug!("A receiver wants somebody muted, which only goes in a group."),
            (None, _) => {}
        }
        let Some(reply) = answer.reply else { return };
        match self.outbox.submit(source.reply_to, reply) {
            Ok(_) => info!(target: MESSAGES, "A reply to a message was queued."),
            Err(error) => warn!(%error, "A reply to a message was dropped."),
        }
    }
}

impl Muter {
    /// Mutes until nobody asks for it any more.
    pub(super) async fn run<B: Backend>(mut self, backend: Arc<B>) {
        while let Some(Mute { group, member, time }) = self.0.recv().await {
            match backend.mute(&group, std::slice::from_ref(&member), time).await {
                Ok(()) => {
                    info!(group, member, seconds = time.as_secs(), "The sender of a group message was muted.")
                }
                Err(error) => {
                    warn!(group, member, %error, "The sender of a group message could not be muted.")
                }
            }
        }
    }
}
