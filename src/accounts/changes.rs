//! [`Changes`]: every change of every account, numbered, as far back as memory reaches.
//!
//! Readers pull: each has the number of the last change that it read, so one that reads slowly costs no memory and delays no
//! other one. [`ChangeWatch`] alone adds changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::Accounts;
use crate::config::Settings;
use crate::environ::implementation_of;
use crate::locks::locked;
use crate::model::login::Login;
use crate::model::name::ClientName;
use crate::registry::ClientView;
use crate::wire::v1::account::Account;
use crate::wire::v1::explain::{Happening, MOST_EVENTS, controller_started, happenings};

/// How much text of changes is kept, in bytes: some 2,000 changes.
const MOST_TEXT: usize = 2 * 1024 * 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number. The first one of a controller has number 1, and none is left out.
    pub number: u64,
    /// What has changed.
    pub kind: ChangeKind,
    /// JSON: the account, the name of one that is gone, or what there is to say of the controller or a machine.
    pub text: Bytes,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// An account is new, or other than before.
    Account,
    /// An account has left the list.
    Gone,
    /// The controller itself has trouble, or has none any more.
    Controller,
    /// An account of another machine is new, or other than before.
    Elsewhere,
    /// An account of another machine has left its list.
    GoneElsewhere,
    /// Another machine can be reached, or can't be any more.
    Machine,
}

impl ChangeKind {
    /// Whether it is about another machine, which tells it itself.
    pub fn is_elsewhere(self) -> bool {
        matches!(self, Self::Elsewhere | Self::GoneElsewhere | Self::Machine)
    }
}

/// A change that others than [`ChangeWatch`] find out about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideChange {
    /// What has changed.
    pub kind: ChangeKind,
    /// JSON.
    pub text: Bytes,
}

/// Changes were dropped that a reader has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

/// The changes of all accounts.
#[derive(Clone, Debug)]
pub struct Changes {
    run: Arc<str>,
    kept: Arc<Mutex<Kept>>,
    /// The number of the newest change.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    changes: VecDeque<Change>,
    text: usize,
    /// What happened to each account in the list.
    stories: BTreeMap<ClientName, VecDeque<Happening>>,
}

impl Changes {
    /// No changes yet, of this run of the controller: its numbers mean nothing to the next one.
    pub fn new(run: Arc<str>) -> Self {
        Self { run, kept: Arc::default(), newest: watch::Sender::new(0) }
    }

    /// The ID of this run of the controller.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Receives the number of the newest change. None yet: 0.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// At most `most` changes that follow the one with this number, in their order.
    ///
    /// # Errors
    /// Some of those that follow are no longer kept.
    pub fn after(&self, number: u64, most: usize) -> Result<Vec<Change>, Gap> {
        let kept = locked(&self.kept);
        let Some(oldest) = kept.changes.front() else { return Ok(Vec::new()) };
        let read = (number + 1).checked_sub(oldest.number).ok_or(Gap)?;
        // More than there are only if the number is of another controller, which callers rule out.
        let read = usize::try_from(read).unwrap_or(usize::MAX);
        Ok(kept.changes.iter().skip(read).take(most).cloned().collect())
    }

    /// What happened to an account since the controller started, the oldest first; at most [`MOST_EVENTS`].
    pub fn story(&self, name: &ClientName) -> Vec<Happening> {
        locked(&self.kept).stories.get(name).map(|story| story.iter().cloned().collect()).unwrap_or_default()
    }

    fn tell(&self, name: &ClientName, happenings: Vec<Happening>) {
        let mut kept = locked(&self.kept);
        let story = kept.stories.entry(name.clone()).or_default();
        story.extend(happenings);
        let surplus = story.len().saturating_sub(MOST_EVENTS);
        story.drain(..surplus);
    }

    fn forget(&self, name: &ClientName) {
        locked(&self.kept).stories.remove(name);
    }

    fn add(&self, kind: ChangeKind, text: Bytes) {
        let number = *self.newest.borrow() + 1;
        {
            let mut kept = locked(&self.kept);
            kept.text += text.len();
            kept.changes.push_back(Change { number, kind, text });
            // The newest one stays, however large it is.
            while kept.text > MOST_TEXT && kept.changes.len() > 1 {
                let dropped = kept.changes.pop_front().map_or(0, |change| change.text.len());
                kept.text -= dropped;
            }
        }
        // After the change is there, as it wakes the readers.
        self.newest.send_replace(number);
    }
}

/// What an account was made of when it was looked at last. What is the same object has not changed.
struct Known {
    client: Arc<ClientView>,
    implementation: Option<Arc<ClientView>>,
    login: Option<Arc<Login>>,
    account: Account,
}

/// Finds out which accounts have changed, from the published lists.
pub struct ChangeWatch {
    accounts: Accounts,
    settings: watch::Receiver<Arc<Settings>>,
    changes: Changes,
    /// What others find out.
    outside: mpsc::Receiver<OutsideChange>,
    known: BTreeMap<ClientName, Known>,
    /// Whether the list was looked at before.
    has_looked: bool,
    /// Why nothing can be written to disk, as callers were told.
    trouble: Option<Arc<str>>,
}

impl ChangeWatch {
    /// Makes it. `outside` brings changes that others find out about.
    pub fn new(
        accounts: Accounts,
        settings: watch::Receiver<Arc<Settings>>,
        changes: Changes,
        outside: mpsc::Receiver<OutsideChange>,
    ) -> Self {
        Self {
            accounts,
            settings,
            changes,
            outside,
            known: BTreeMap::new(),
            has_looked: false,
            trouble: None,
        }
    }

    /// Works until a registry ends.
    pub async fn run(mut self) {
        let (mut clients, mut implementations) =
            (self.accounts.clients.changes(), self.accounts.implementations.changes());
        let mut logins = self.accounts.logins.clone();
        loop {
            // Marked as seen before the comparison, so that a change during it causes another one.
            clients.mark_unchanged();
            implementations.mark_unchanged();
            logins.mark_unchanged();
            self.look();
            loop {
                tokio::select! {
                    changed = clients.changed() => if changed.is_err() { return } else { break },
                    changed = implementations.changed() => if changed.is_err() { return } else { break },
                    // Its end is that of the controller, and so are those of the registries.
                    Ok(()) = logins.changed() => break,
                    // The list need not be looked at for it.
                    Some(told) = self.outside.recv() => self.changes.add(told.kind, told.text),
                }
            }
        }
    }

    fn look(&mut self) {
        let settings = self.settings.borrow().clone();
        let snapshot = self.accounts.clients.snapshot();
        let gone: BTreeSet<ClientName> =
            self.known.keys().filter(|name| snapshot.get(name).is_none()).cloned().collect();
        for name in gone {
            self.known.remove(&name);
            self.changes.forget(&name);
            self.changes.add(ChangeKind::Gone, json!({ "name": name.as_str() }).to_string().into());
        }
        for (name, client) in snapshot.named() {
            let has_implementation = implementation_of(&client.record.spec).is_some();
            let implementation = self.accounts.implementations.client(name).filter(|_| has_implementation);
            let login = self.accounts.login(name).filter(|_| has_implementation);
            let known = self.known.get(name);
            if known.is_some_and(|known| {
                Arc::ptr_eq(&known.client, client)
                    && is_same(known.implementation.as_ref(), implementation.as_ref())
                    && is_same(known.login.as_ref(), login.as_ref())
            }) {
                continue;
            }
            let account = self.accounts.account(client, &settings);
            // Not every change of a process is one that callers see.
            if known.is_none_or(|known| known.account != account) {
                let happened = match known {
                    None if !self.has_looked => vec![controller_started(unix_now())],
                    known => happenings(known.map(|known| &known.account), &account, unix_now()),
                };
                self.changes.tell(name, happened);
                // Our own type: no map of it has keys other than text, so it can't fail.
                self.changes
                    .add(ChangeKind::Account, serde_json::to_vec(&account).unwrap_or_default().into());
            }
            let now = Known { client: client.clone(), implementation, login, account };
            self.known.insert(name.clone(), now);
        }
        self.has_looked = true;
        let trouble = self.accounts.write_error();
        if self.trouble != trouble {
            let text = json!({ "trouble": trouble.as_deref() }).to_string();
            self.changes.add(ChangeKind::Controller, text.into());
            self.trouble = trouble;
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(changes: Result<Vec<Change>, Gap>) -> Result<Vec<u64>, Gap> {
        changes.map(|changes| changes.iter().map(|change| change.number).collect())
    }

    #[test]
    fn changes_are_read_from_where_a_reader_was() {
        let changes = Changes::new("run".into());
        assert_eq!(numbers(changes.after(0, 10)), Ok(vec![]));
        for _ in 0..3 {
            changes.add(ChangeKind::Account, Bytes::from_static(b"{}"));
        }
        assert_eq!(numbers(changes.after(0, 10)), Ok(vec![1, 2, 3]));
        assert_eq!(numbers(changes.after(0, 2)), Ok(vec![1, 2]));
        assert_eq!(numbers(changes.after(2, 10)), Ok(vec![3]));
        assert_eq!(numbers(changes.after(3, 10)), Ok(vec![]));
        assert_eq!(*changes.newest().borrow(), 3);
    }

    #[test]
    fn old_changes_are_dropped_and_readers_learn_of_it() {
        let changes = Changes::new("run".into());
        let large = Bytes::from(vec![b'x'; MOST_TEXT / 4]);
        for _ in 0..10 {
            changes.add(ChangeKind::Account, large.clone());
        }
        assert_eq!(numbers(changes.after(5, 10)), Err(Gap));
        assert_eq!(numbers(changes.after(6, 10)), Ok(vec![7, 8, 9, 10]));
        changes.add(ChangeKind::Account, Bytes::from(vec![b'x'; MOST_TEXT * 2]));
        assert_eq!(numbers(changes.after(10, 10)), Ok(vec![11]), "the newest one is always there");
    }
}
