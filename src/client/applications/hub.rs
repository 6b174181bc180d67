//! [`Hub`]: the applications that listen to the account's events, and what waits for each of them.
//!
//! Publishing never waits. An event is one text that all queues share. An application that falls too far behind is let go; one that
//! is known by a name, a token or a URL finds what was not written to it when it comes back within the hold.

mod queue;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{info, warn};

use crate::locks::locked;
use queue::EventBacklog;

/// How many applications may listen to one account, those that are away included.
pub(super) const MAX_LISTENERS: usize = 64;

/// What an application is known by from one connection to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ApplicationKey {
    /// `app=NAME` of its connection.
    Name(String),
    /// The name of its own token.
    Token(String),
    /// The URL to which this client connects or posts, by its place in the settings: it may have a password.
    Url(usize, String),
}

impl fmt::Display for ApplicationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "the application {name:?}"),
            Self::Token(name) => write!(f, "the application of the token {name:?}"),
            Self::Url(_, url) => write!(f, "the application at {url}"),
        }
    }
}

/// The account, as its applications are told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountStatus {
    /// Its number; none until it was logged in for the first time.
    pub number: Option<u64>,
    /// Whether it is logged in.
    pub is_online: bool,
}

/// The applications of an account. Clones share them.
#[derive(Clone)]
pub(crate) struct Hub(Arc<HubState>);

struct HubState {
    listeners: Mutex<Listeners>,
    /// How long an application may be away.
    hold: Duration,
    status: watch::Sender<AccountStatus>,
}

#[derive(Default)]
struct Listeners {
    /// The number of the last event.
    last: u64,
    next: u64,
    all: BTreeMap<u64, Listener>,
}

struct Listener {
    key: Option<ApplicationKey>,
    backlog: EventBacklog,
    /// Until when what waits is kept, if the application is away.
    away_until: Option<Instant>,
    changed: Arc<Notify>,
}

/// Too many applications listen already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// What an application is to be told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An event, by its number.
    Event(u64, Utf8Bytes),
    /// It fell too far behind.
    LetGo,
}

impl Hub {
    /// Without applications.
    pub(crate) fn new(hold: Duration) -> Self {
        let (listeners, status) = (Mutex::default(), watch::Sender::default());
        Self(Arc::new(HubState { listeners, hold, status }))
    }

    /// The account as it is.
    pub(crate) fn status(&self) -> watch::Receiver<AccountStatus> {
        self.0.status.subscribe()
    }

    /// The account logged in, or out.
    pub(crate) fn set_status(&self, status: AccountStatus) {
        let mut before = AccountStatus::default();
        self.0.status.send_if_modified(|old| {
            before = std::mem::replace(old, status);
            before != status
        });
        if before.number.is_some() && before.number != status.number {
            // What waits is another account's.
            let mut listeners = locked(&self.0.listeners);
            listeners.all.values_mut().for_each(|listener| listener.backlog.clear());
        }
    }

    /// Whether there are applications that an event is for.
    pub(crate) fn has_listeners(&self) -> bool {
        !locked(&self.0.listeners).all.is_empty()
    }

    /// How many applications listen now; those that are away do not.
    pub(crate) fn present(&self) -> usize {
        locked(&self.0.listeners).all.values().filter(|listener| listener.away_until.is_none()).count()
    }

    /// Tells an event, a text of JSON, to all applications. Never waits.
    pub(crate) fn publish(&self, event: &str) {
        let mut listeners = locked(&self.0.listeners);
        listeners.expire(Instant::now());
        listeners.last += 1;
        let number = listeners.last;
        if listeners.all.is_empty() {
            return;
        }
        let event: Utf8Bytes = event.into();
        for listener in listeners.all.values_mut() {
            listener.backlog.push(number, event.clone(), listener.away_until.is_some());
            listener.changed.notify_one();
        }
    }

    /// Lets an application listen. One that was away gets what waits for it first.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn attach(&self, key: Option<ApplicationKey>) -> Result<Attachment, TooMany> {
        let mut listeners = locked(&self.0.listeners);
        listeners.expire(Instant::now());
        let away = listeners.all.iter().find(|(_, listener)| {
            listener.away_until.is_some() && listener.key.is_some() && listener.key == key
        });
        let found = away.map(|(id, _)| *id);
        let (id, changed) = match found {
            Some(id) => {
                // It was found just now.
                let listener = listeners.all.get_mut(&id).ok_or(TooMany)?;
                listener.away_until = None;
                let lost = listener.backlog.welcome_back();
                if let (Some(key), 1..) = (&key, lost) {
                    warn!("{key} is back; {lost} events were lost while it was away");
                }
                (id, listener.changed.clone())
            }
            None if listeners.all.len() >= MAX_LISTENERS && !listeners.make_room() => return Err(TooMany),
            None => {
                listeners.next += 1;
                let (id, changed) = (listeners.next, Arc::new(Notify::new()));
                let backlog = EventBacklog::new(listeners.last);
                let listener = Listener { key, backlog, away_until: None, changed: changed.clone() };
                listeners.all.insert(id, listener);
                (id, changed)
            }
        };
        Ok(Attachment { hub: self.clone(), id, changed })
    }

    /// An application has gone.
    fn detach(&self, id: u64) {
        let mut listeners = locked(&self.0.listeners);
        let now = Instant::now();
        let Some(listener) = listeners.all.get_mut(&id) else { return };
        let key = listener.key.clone();
        if key.is_none() || self.0.hold.is_zero() {
            listeners.all.remove(&id);
            return;
        }
        // It may have come back already, over a new connection while the old one was not yet known to be dead.
        let returned =
            listeners.all.iter().rev().find(|(other, listener)| {
                **other != id && listener.key == key && listener.away_until.is_none()
            });
        match returned.map(|(other, _)| *other) {
            Some(other) => {
                let Some(gone) = listeners.all.remove(&id) else { return };
                if let Some(listener) = listeners.all.get_mut(&other) {
                    listener.backlog.take_over(gone.backlog);
                    listener.changed.notify_one();
                }
            }
            None => {
                if let Some(listener) = listeners.all.get_mut(&id) {
                    listener.away_until = Some(now + self.0.hold);
                }
            }
        }
    }
}

impl Listeners {
    /// Forgets the application that has been away longest, if one is away that has only a name or a token: any number of names can
    /// be made up. Returns whether there was one.
    fn make_room(&mut self) -> bool {
        let away = self.all.iter().filter_map(|(id, listener)| {
            let is_fixed = matches!(listener.key, Some(ApplicationKey::Url(..)));
            listener.away_until.filter(|_| !is_fixed).map(|until| (until, *id))
        });
        let Some((_, id)) = away.min() else { return false };
        if let Some(Listener { key: Some(key), backlog, .. }) = self.all.remove(&id) {
            let count = backlog.len_with_lost();
            warn!("{key} is away and makes room for another application; {count} events for it are dropped");
        }
        true
    }

    /// Forgets applications that were away for too long.
    fn expire(&mut self, now: Instant) {
        self.all.retain(|_, listener| {
            let stays = listener.away_until.is_none_or(|until| now < until);
            if let (false, Some(key)) = (stays, &listener.key) {
                let count = listener.backlog.len_with_lost();
                if count > 0 {
                    info!("{key} stayed away; {count} events for it are dropped");
                }
            }
            stays
        });
    }
}

/// An application that listens. When this is dropped, it is away.
pub(super) struct Attachment {
    hub: Hub,
    id: u64,
    changed: Arc<Notify>,
}

impl Attachment {
    /// Waits for what comes next. It is the same until it is [`Attachment::written`].
    pub(super) async fn next(&self) -> Next {
        loop {
            // Made before the look, so that no event in between is missed.
            let changed = self.changed.notified();
            let next = {
                let listeners = locked(&self.hub.0.listeners);
                listeners.all.get(&self.id).and_then(|listener| listener.backlog.next())
            };
            match next {
                Some(next) => return next,
                None => changed.await,
            }
        }
    }

    /// This event was written whole: it is not told again.
    pub(super) fn written(&self, number: u64) {
        let mut listeners = locked(&self.hub.0.listeners);
        if let Some(listener) = listeners.all.get_mut(&self.id) {
            listener.backlog.pop(number);
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.hub.detach(self.id);
    }
}

#[cfg(test)]
mod tests;
