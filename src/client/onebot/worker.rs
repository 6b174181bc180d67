//! [`Worker`]: tells what happens, one event after another, and keeps the lists up to date. It pauses until the lists are
//! there: then events wait.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::inbox::Events;
use super::link::Ended;
use super::shared::Shared;
use super::translate::{self, Unknown};
use super::wire::event::{Event, Place, Said};
use super::wire::lists::{Member, unknown_friend};
use super::wire::value::text;
use crate::client::backend::News;
use crate::client::events::Event as Happening;

/// How many events are remembered, so that one that comes again is not told again.
const REMEMBERED: usize = 4096;

/// How long somebody whom the lists did not have is not looked for again.
const LOOKED_FOR: Duration = Duration::from_secs(60);

/// How many are looked for in that time: each takes all lists, and strangers may be many.
const MOST_LOOKED_FOR: usize = 20;

/// How long a message of our own waits for the answer that may say that we sent it.
const OWN_ANSWER: Duration = Duration::from_secs(2);

/// Tells what happens.
pub(super) struct Worker {
    shared: Arc<Shared>,
    events: Events,
    news: mpsc::Sender<News>,
    seen: Seen,
    looked_for: HashMap<(bool, u64), Instant>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, events: Events, news: mpsc::Sender<News>) -> Self {
        Self { shared, events, news, seen: Seen::default(), looked_for: HashMap::new() }
    }

    /// Tells until nobody hears it any more.
    pub(super) async fn run(mut self) -> Ended {
        let mut open = self.shared.inbox.is_open();
        let mut refresh = Instant::now() + self.shared.refresh;
        loop {
            if open.wait_for(|open| *open).await.is_err() {
                return Ended::Unheard;
            }
            let told = tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some((event, digest)) => {
                        let told = if self.seen.has(&event, digest) { Ok(()) } else { self.handle(event).await };
                        self.shared.inbox.told_one();
                        told
                    }
                    None => return Ended::Unheard,
                },
                () = self.shared.inbox.gap() => {
                    self.shared.roster().forget_members();
                    self.reload().await
                }
                () = sleep_until(refresh) => {
                    refresh = Instant::now() + self.shared.refresh;
                    self.reload().await
                }
                // There is none any more: what comes next waits.
                _ = open.changed() => Ok(()),
            };
            if told.is_err() {
                return Ended::Unheard;
            }
        }
    }

    async fn tell(&self, event: Option<Happening>) -> Result<(), NobodyHears> {
        let Some(event) = event else { return Ok(()) };
        self.news.send(News::Happened(Box::new(event))).await.map_err(|_| NobodyHears)
    }

    /// Loads friends and groups anew, and tells what is different.
    async fn reload(&mut self) -> Result<(), NobodyHears> {
        match self.shared.load_lists().await {
            Ok(events) => {
                for event in events {
                    self.tell(Some(event)).await?;
                }
                self.shared.roles_wanted.notify_one();
            }
            Err(error) => warn!(%error, "The lists of friends and groups cannot be loaded anew."),
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), NobodyHears> {
        match event {
            Event::Said(said) => self.said(said).await,
            Event::FriendCame(uid) => self.friend_came(uid).await,
            Event::MemberCame(group, uid) if uid == self.shared.roster().own_uid() => {
                self.entered(group).await
            }
            Event::MemberCame(group, uid) => {
                self.find_group(group).await?;
                let member = self.shared.member(group, uid).await;
                let event = self.shared.roster().come(group, member);
                self.tell(event).await
            }
            Event::MemberGone(group, uid) => {
                let event = self.shared.roster().go(group, uid);
                self.tell(event).await
            }
            Event::GroupGone(group) => {
                let event = self.shared.roster().leave(group);
                self.tell(event).await
            }
            Event::Admin(group, uid, is_admin) => {
                self.find_group(group).await?;
                let member = self.known_member(group, uid).await;
                let event = self.shared.roster().appoint(group, member, is_admin);
                self.tell(Some(event)).await
            }
            Event::Card { group, member, old, new } => {
                self.find_group(group).await?;
                let member = self.known_member(group, member).await;
                let event = self.shared.roster().rename(group, member, &old, &new);
                self.tell(Some(event)).await
            }
            Event::Named(group, new) => {
                let event = self.shared.roster().name_group(group, &new);
                self.tell(event).await
            }
            Event::Offline(why) => {
                self.shared.inbox.set_offline(why);
                Ok(())
            }
            Event::Heartbeat(..) => {
                self.shared.inbox.set_offline("the heartbeat says that the account is offline".to_owned());
                Ok(())
            }
            Event::Other => Ok(()),
        }
    }

    async fn known_member(&self, group: u64, uid: u64) -> Member {
        let known = self.shared.roster().member(group, uid).cloned();
        match known {
            Some(member) => member,
            None => self.shared.member(group, uid).await,
        }
    }

    // ---- messages

    async fn said(&mut self, said: Said) -> Result<(), NobodyHears> {
        if said.own && !self.is_news(&said).await {
            return Ok(());
        }
        let id = self.shared.next_id();
        let mut message = translate::message(&self.shared.roster(), &said, id.clone());
        if let Err(unknown) = message {
            let looked_for = match unknown {
                Unknown::Friend(uid) => self.look_for(false, uid).await?,
                Unknown::Group(uid) => self.look_for(true, uid).await?,
                Unknown::Place => false,
            };
            if looked_for {
                message = translate::message(&self.shared.roster(), &said, id);
            }
        }
        match message {
            Ok(message) => {
                if let Place::Group(group) = said.place {
                    self.shared.roster().spoke(group, said.by, message.time);
                }
                self.news.send(News::Received(message)).await.map_err(|_| NobodyHears)
            }
            Err(unknown) => {
                debug!(?unknown, "A message of somebody unknown is not passed on.");
                Ok(())
            }
        }
    }

    /// Whether a message of the own account is passed on: one that we did not send ourselves, where that is wanted.
    async fn is_news(&self, said: &Said) -> bool {
        if !self.shared.message_sync {
            return false;
        }
        let Some(number) = &said.number else { return true };
        // It may come before the answer that says which number our message has.
        let _ = timeout(OWN_ANSWER, self.shared.sends.all_answered()).await;
        !self.shared.sends.have(number)
    }

    /// Loads the lists anew for somebody whom they do not have, unless that was done just now.
    async fn look_for(&mut self, group: bool, uid: u64) -> Result<bool, NobodyHears> {
        let now = Instant::now();
        self.looked_for.retain(|_, looked| now - *looked < LOOKED_FOR);
        if self.looked_for.contains_key(&(group, uid)) || self.looked_for.len() >= MOST_LOOKED_FOR {
            return Ok(false);
        }
        self.looked_for.insert((group, uid), now);
        self.reload().await?;
        Ok(true)
    }

    // ---- friends and groups

    async fn find_group(&mut self, group: u64) -> Result<(), NobodyHears> {
        let known = self.shared.roster().group(group).is_some();
        if !known {
            self.look_for(true, group).await?;
        }
        Ok(())
    }

    async fn friend_came(&mut self, uid: u64) -> Result<(), NobodyHears> {
        let knows = |shared: &Shared| shared.roster().friend(uid).is_some();
        if knows(&self.shared) {
            return Ok(());
        }
        self.reload().await?;
        if knows(&self.shared) {
            return Ok(());
        }
        // The implementation's own list is behind.
        let stranger =
            self.shared.ask("get_stranger_info", json!({ "user_id": uid, "no_cache": true })).await;
        let name = stranger.map(|data| text(&data["nickname"]).to_owned()).unwrap_or_default();
        let event = self.shared.roster().befriend(unknown_friend(uid, &name));
        self.tell(Some(event)).await
    }

    async fn entered(&mut self, group: u64) -> Result<(), NobodyHears> {
        let knows = |shared: &Shared| shared.roster().group(group).is_some();
        if !knows(&self.shared) {
            self.reload().await?;
            if !knows(&self.shared) {
                let event = self.shared.roster().enter(group);
                self.tell(Some(event)).await?;
            }
        }
        self.shared.roles_wanted.notify_one();
        Ok(())
    }
}

/// Nobody hears the news any more.
struct NobodyHears;

/// The last events, by their digests. An implementation that had no answer to a POST says it again, and so does one that is
/// not sure what arrived before its connection was lost.
#[derive(Default)]
struct Seen {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Seen {
    /// Whether this event came before; from now on it did. `digest` is that of all of it, where it says when it happened.
    fn has(&mut self, event: &Event, digest: Option<u64>) -> bool {
        let digest = match event {
            Event::Said(Said { number: Some(number), by, time, place, .. }) => {
                let place = match place {
                    Place::Friend | Place::Private | Place::Session(_) => 0,
                    Place::Group(group) => *group,
                };
                // What else it says may be written in another way the next time.
                let mut hasher = DefaultHasher::new();
                (number, by, time, place).hash(&mut hasher);
                Some(hasher.finish())
            }
            _ => digest,
        };
        let Some(digest) = digest else { return false };
        if !self.all.insert(digest) {
            debug!("An event came again.");
            return true;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        false
    }
}
