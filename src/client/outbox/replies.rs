//! What receivers of reports ask for in their answers: a reply goes to the outbox, a mute to the backend.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Outbox;
use crate::client::backend::Backend;
use crate::client::backend::message::Recipient;
use crate::client::process::log::MESSAGES;
use crate::client::reports::{ReceiverAnswer, ReportedMessage};

/// How many mutes may wait for the backend.
const MAX_QUEUED_MUTES: usize = 64;

/// How many replies are remembered.
const MAX_REMEMBERED_REPLIES: usize = 1024;

struct Mute {
    group: String,
    member: String,
    time: Duration,
}

/// Handles answers without waiting.
pub(crate) struct ReplyHandler<B> {
    backend: Arc<B>,
    outbox: Outbox,
    mutes: mpsc::Sender<Mute>,
    sent: SentReplies,
    /// The logged reasons for ignored answers; each is logged once.
    logged: BTreeSet<&'static str>,
}

/// The task that mutes, one member after another.
pub(crate) struct Muter(mpsc::Receiver<Mute>);

/// Replies go to `outbox`.
pub(crate) fn open<B: Backend>(backend: Arc<B>, outbox: Outbox) -> (ReplyHandler<B>, Muter) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_MUTES);
    let replies = ReplyHandler {
        backend,
        outbox,
        mutes: sender,
        sent: SentReplies::default(),
        logged: BTreeSet::new(),
    };
    (replies, Muter(receiver))
}

impl<B: Backend> ReplyHandler<B> {
    /// Does what the answer to the report of the message `source` asks for.
    pub(crate) fn handle(&mut self, source: ReportedMessage, answer: ReceiverAnswer) {
        match (answer.shutup, &source.reply_to) {
            (Some(time), Recipient::Group(group)) if !source.is_own => {
                let mute = Mute { group: group.clone(), member: source.sender, time };
                // Without waiting: this runs in the deliverer, and a backend that hangs must not hold up reports.
                if self.mutes.try_send(mute).is_err() {
                    warn!("dropped a mute that a receiver asked for: {MAX_QUEUED_MUTES} are waiting already");
                }
            }
            (Some(_), _) => self.ignore("a mute is for messages of others in a group"),
            (None, _) => {}
        }
        let Some(reply) = answer.reply else { return };
        if source.is_own && answer.is_other_format {
            return self.ignore("a reply to an own message is to have the format text");
        }
        // A receiver that answers every report would otherwise have the account talk to itself forever.
        if source.is_own && self.sent.contains(&source.id) {
            return self.ignore("the message was such a reply itself");
        }
        let id = self.backend.message_id();
        match self.outbox.queue(id.clone(), source.reply_to, reply.into()) {
            Ok(()) => {
                info!(target: MESSAGES, "reply queued as message {id}");
                // Nothing is awaited since the reply was queued, so its own report cannot have been answered yet.
                self.sent.add(id);
            }
            Err(error) => warn!("dropped a reply that a receiver asked for: {error}"),
        }
    }

    fn ignore(&mut self, why: &'static str) {
        if self.logged.insert(why) {
            warn!("ignored what a receiver's answer asks for: {why}; this is logged once");
        }
    }
}

/// The ids of the last replies, whose own reports may be answered too.
#[derive(Default)]
struct SentReplies(VecDeque<String>);

impl SentReplies {
    fn add(&mut self, id: String) {
        self.0.push_back(id);
        self.0.drain(..self.0.len().saturating_sub(MAX_REMEMBERED_REPLIES));
    }

    fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|reply| reply == id)
    }
}

impl Muter {
    /// Mutes until the handler is dropped.
    pub(crate) async fn run<B: Backend>(mut self, backend: Arc<B>) {
        while let Some(Mute { group, member, time }) = self.0.recv().await {
            match backend.mute(&group, std::slice::from_ref(&member), time).await {
                Ok(()) => {
                    info!("muted {member} in group {group} for {} s, as a receiver asked", time.as_secs())
                }
                Err(error) => {
                    warn!("cannot mute {member} in group {group}, as a receiver asked: {error}")
                }
            }
        }
    }
}
