//! [`EventWorker`]: reports the events of the implementation one after another, and keeps the lists up to date.
//! It pauses until friends and groups are loaded; events wait meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::dedup::EventDedup;
use super::event::{RemoteChat, RemoteEvent, RemoteMessage};
use super::lists::{Member, unknown_friend};
use super::state::RemoteState;
use super::translation::content;
use super::translation::{self, UnknownParty};
use super::transport::SessionEnd;
use super::transport::inbox::EventQueue;
use super::value::text;
use crate::client::backend::BackendEvent;
use crate::client::backend::event::AccountEvent;

/// How long an unknown sender or group is not looked up again.
const LOOKUP_MEMORY: Duration = Duration::from_secs(60);

/// How many unknown senders and groups are looked up in that time. Each costs a reload of all lists, and
/// strangers may be many.
const MAX_LOOKUPS: usize = 20;

/// How long the event of an own message waits for the answer to a send, which may show that this client sent
/// it.
const OWN_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports the events of the implementation.
pub(crate) struct EventWorker {
    state: Arc<RemoteState>,
    events: EventQueue,
    events_out: mpsc::Sender<BackendEvent>,
    seen: EventDedup,
    recent_lookups: HashMap<(bool, u64), Instant>,
    unclear_was_said: bool,
}

impl EventWorker {
    pub(crate) fn new(
        state: Arc<RemoteState>,
        events: EventQueue,
        events_out: mpsc::Sender<BackendEvent>,
    ) -> Self {
        Self {
            state,
            events,
            events_out,
            seen: EventDedup::default(),
            recent_lookups: HashMap::new(),
            unclear_was_said: false,
        }
    }

    /// Reports events until the receiver is dropped.
    pub(crate) async fn run(mut self) -> SessionEnd {
        let mut open = self.state.inbox.is_open();
        let mut refresh = Instant::now() + self.state.refresh;
        loop {
            // Marks the value as seen, so `changed` below waits for the next one, the close.
            if open.wait_for(|open| *open).await.is_err() {
                return SessionEnd::Closed;
            }
            let told = tokio::select! {
                // Queued events first: the lists of a reload are newer, and would report the same changes before them.
                biased;
                event = self.events.next() => match event {
                    Some((event, stamp)) => {
                        let inbox = &self.state.inbox;
                        let is_ours = inbox.is_of_this_account(&stamp)
                            && !inbox.is_of_forgotten_account(&event, &stamp);
                        let told = if !is_ours || self.seen.has(&event, stamp) {
                            Ok(())
                        } else {
                            self.handle(event).await
                        };
                        // Also for a dropped event: `Inbox::close` waits until as many are handled as were taken.
                        self.state.inbox.mark_handled();
                        told
                    }
                    None => return SessionEnd::Closed,
                },
                () = self.state.inbox.gap() => {
                    // Joins and departures may be among the missing events.
                    self.state.roster().invalidate_members();
                    self.reload().await
                }
                () = sleep_until(refresh) => {
                    refresh = Instant::now() + self.state.refresh;
                    self.reload().await
                }
                // The login ended: further events wait for the next one.
                _ = open.changed() => Ok(()),
            };
            if told.is_err() {
                return SessionEnd::Closed;
            }
        }
    }

    async fn emit(&self, event: Option<AccountEvent>) -> Result<(), Closed> {
        let Some(event) = event else { return Ok(()) };
        self.events_out.send(BackendEvent::Account(Box::new(event))).await.map_err(|_| Closed)
    }

    /// Reloads friends and groups, and reports the differences.
    async fn reload(&mut self) -> Result<(), Closed> {
        match self.state.load_lists().await {
            Ok(events) => {
                for event in events {
                    self.emit(Some(event)).await?;
                }
                self.state.role_refresh.notify_one();
            }
            // The lists stay as they were, and the next refresh tries again.
            Err(error) => warn!("cannot reload the lists of friends and groups: {error}"),
        }
        Ok(())
    }

    async fn handle(&mut self, event: RemoteEvent) -> Result<(), Closed> {
        match event {
            RemoteEvent::Said(said) => self.on_message(said).await,
            RemoteEvent::FriendCame(uid) => self.on_friend_added(uid).await,
            RemoteEvent::MemberCame(group, uid) if uid == self.state.roster().own_uid() => {
                self.on_group_joined(group).await
            }
            RemoteEvent::MemberCame(group, uid) => {
                self.ensure_group(group).await?;
                // Two statements, as the roster is not locked while the network is asked.
                let member = self.state.member(group, uid).await;
                let event = self.state.roster().add_member(group, member);
                self.emit(event).await
            }
            RemoteEvent::MemberGone(group, uid) => {
                self.ensure_group(group).await?;
                let event = self.state.roster().remove_member(group, uid);
                self.emit(event).await
            }
            RemoteEvent::GroupGone(group) => {
                let event = self.state.roster().remove_group(group);
                self.emit(event).await
            }
            RemoteEvent::Admin(group, uid, is_admin) => {
                self.ensure_group(group).await?;
                let member = self.known_member(group, uid).await;
                let event = self.state.roster().set_admin(group, member, is_admin);
                self.emit(Some(event)).await
            }
            RemoteEvent::Card { group, member, old, new } => {
                self.ensure_group(group).await?;
                let member = self.known_member(group, member).await;
                let event = self.state.roster().set_card(group, member, &old, &new);
                self.emit(Some(event)).await
            }
            RemoteEvent::Named(group, new) => {
                let event = self.state.roster().rename_group(group, &new);
                self.emit(event).await
            }
            RemoteEvent::Happened(happening) => self.emit(Some(AccountEvent::Happened(happening))).await,
            RemoteEvent::Offline(why) => {
                self.state.inbox.set_offline(why);
                Ok(())
            }
            RemoteEvent::Unclear(kind) => {
                if std::mem::replace(&mut self.unclear_was_said, true) {
                    debug!("dropped an incomplete event ({kind})");
                } else {
                    warn!(
                        "dropped an incomplete event ({kind}) of the {} implementation: a field such as an id is missing or unreadable; further ones are logged at level debug",
                        self.state.dialect.name()
                    );
                }
                Ok(())
            }
            // The inbox handles heartbeats.
            RemoteEvent::Heartbeat(..) | RemoteEvent::Other => Ok(()),
        }
    }

    async fn known_member(&self, group: u64, uid: u64) -> Member {
        // Not in the `match`, where the guard would live across the await.
        let known = self.state.roster().member(group, uid).cloned();
        match known {
            Some(member) => member,
            None => self.state.member(group, uid).await,
        }
    }

    // ---- messages

    async fn on_message(&mut self, said: RemoteMessage) -> Result<(), Closed> {
        if said.own && !self.state.message_sync {
            return Ok(());
        }
        if said.own && self.was_sent_by_us(&said).await {
            debug!("ignoring the echo of a message that this client sent");
            return Ok(());
        }
        let id = self.state.next_id();
        let mut message = translation::message(&self.state.roster(), &said, id.clone());
        if let Err(unknown) = message {
            let recent_lookups = match unknown {
                UnknownParty::Friend(uid) => self.reload_for_unknown(false, uid).await?,
                UnknownParty::Group(uid) => self.reload_for_unknown(true, uid).await?,
                // The event itself lacks it, so a reload cannot help.
                UnknownParty::Place => false,
            };
            if recent_lookups {
                message = translation::message(&self.state.roster(), &said, id);
            }
        }
        match message {
            Ok(message) => {
                if let RemoteChat::Group(group) = said.place {
                    self.state.roster().note_spoke(group, said.by, message.time);
                }
                self.events_out.send(BackendEvent::Message(message)).await.map_err(|_| Closed)
            }
            Err(unknown) => {
                debug!("dropped a message of an unknown sender ({unknown:?})");
                Ok(())
            }
        }
    }

    /// Whether an own message is one that this client sent. If it were taken for one that was written
    /// elsewhere, a receiver that answers those would have the account talk to itself for ever.
    async fn was_sent_by_us(&self, said: &RemoteMessage) -> bool {
        // The event may come before the answer that has the id of our message.
        // Without the answer in time, recipient and text decide.
        let _ = timeout(OWN_ANSWER_TIMEOUT, self.state.sent_messages.all_answered()).await;
        let text = content::to_text(&said.content, |_| None);
        self.state.sent_messages.recognize(said, &text)
    }

    /// Reloads the lists for an unknown sender or group, unless that was done recently.
    async fn reload_for_unknown(&mut self, group: bool, uid: u64) -> Result<bool, Closed> {
        let now = Instant::now();
        self.recent_lookups.retain(|_, looked| now - *looked < LOOKUP_MEMORY);
        if self.recent_lookups.contains_key(&(group, uid)) || self.recent_lookups.len() >= MAX_LOOKUPS {
            return Ok(false);
        }
        // Before the load: a failed one counts, too, or each message of a stranger would wait for another.
        self.recent_lookups.insert((group, uid), now);
        self.reload().await?;
        Ok(true)
    }

    // ---- friends and groups

    async fn ensure_group(&mut self, group: u64) -> Result<(), Closed> {
        let known = self.state.roster().group(group).is_some();
        if !known {
            self.reload_for_unknown(true, group).await?;
        }
        Ok(())
    }

    async fn on_friend_added(&mut self, uid: u64) -> Result<(), Closed> {
        let knows = |state: &RemoteState| state.roster().friend(uid).is_some();
        if knows(&self.state) {
            return Ok(());
        }
        self.reload().await?;
        // The load has reported the friend as a difference of the lists.
        if knows(&self.state) {
            return Ok(());
        }
        // The implementation's own list does not have the friend yet.
        let (action, params) = self.state.dialect.profile(uid, true);
        let stranger = self.state.query_optional(action, params).await;
        let name = stranger.map(|data| text(&data["nickname"]).to_owned()).unwrap_or_default();
        let event = self.state.roster().add_friend(unknown_friend(uid, &name));
        self.emit(Some(event)).await
    }

    async fn on_group_joined(&mut self, group: u64) -> Result<(), Closed> {
        let knows = |state: &RemoteState| state.roster().group(group).is_some();
        if !knows(&self.state) {
            self.reload().await?;
            if !knows(&self.state) {
                let event = self.state.roster().add_group(group);
                self.emit(Some(event)).await?;
            }
        }
        self.state.role_refresh.notify_one();
        Ok(())
    }
}

/// The receiver of the backend's events is gone.
struct Closed;
