//! [`View`]: the world as one account sees it, and the changes by it and others. Pure: no clock, no sockets.
//! `projection` shows people and groups as objects of the API, `messaging` routes messages.

mod messaging;
mod projection;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::world::{Person, SandboxWorld, WorldDiscuss, WorldGroup, number};
use crate::client::backend::BackendError;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::message::ChatMessage;
use crate::client::backend::objects::{GroupRole, Presence};
use crate::client::backend::snapshot;
use crate::model::name::ClientName;

/// How many moderation actions are remembered.
const MAX_RULINGS: usize = 1000;

/// How many guests are remembered: more than may be connected at a time.
const MAX_GUESTS: usize = 512;

/// The chat of a message, by keys that are the same for all accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SandboxChat {
    Friend,
    Group(String),
    Discuss(String),
    GroupSession(String),
    DiscussSession(String),
}

/// A mute or a removal of a group member. All by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModerationAction {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) by: String,
    /// The end of a mute, in Unix seconds. None: a removal.
    pub(crate) muted_until: Option<u64>,
}

/// How a message is delivered.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: ChatMessage,
    pub(crate) place: SandboxChat,
    /// The clients that receive it, by uid.
    pub(crate) to: Vec<String>,
    /// The echo, if no client is there to answer.
    pub(crate) echo: Option<ChatMessage>,
}

/// The world as one account sees it.
pub(crate) struct View {
    world: SandboxWorld,
    account: ClientName,
    me: Person,
    /// Accounts outside the world, by uid, once they have connected.
    guests: BTreeMap<String, Person>,
    /// Whether a person has a client now (true) or had one (false).
    clients: BTreeMap<String, bool>,
    /// Group and member.
    kicked: BTreeSet<(String, String)>,
    muted: BTreeMap<(String, String), u64>,
    spoke: BTreeMap<(String, String), u64>,
    /// Those of this account, for clients that come later.
    rulings: Vec<ModerationAction>,
}

impl View {
    pub(crate) fn new(world: SandboxWorld, account: &ClientName) -> Self {
        let me = world.person(account);
        Self {
            world,
            account: account.clone(),
            me,
            guests: BTreeMap::new(),
            clients: BTreeMap::new(),
            kicked: BTreeSet::new(),
            muted: BTreeMap::new(),
            spoke: BTreeMap::new(),
            rulings: Vec::new(),
        }
    }

    /// The moderation actions of this account.
    pub(crate) fn rulings(&self) -> Vec<ModerationAction> {
        self.rulings.clone()
    }

    /// The uid of an account.
    pub(crate) fn uid_of(&self, account: &ClientName) -> String {
        self.world.person(account).uid
    }

    pub(crate) fn own_uid(&self) -> &str {
        &self.me.uid
    }

    // ---- people

    fn id(&self, uid: &str) -> String {
        // Different from the uid: a program that confuses the two should fail here, not in production.
        number(&[self.account.as_str(), uid])
    }

    fn group_id(&self, group: &WorldGroup) -> String {
        number(&[self.account.as_str(), "group", &group.uid])
    }

    fn discuss_id(&self, discuss: &WorldDiscuss) -> String {
        number(&[self.account.as_str(), "discuss", &discuss.key])
    }

    fn person(&self, uid: &str) -> Option<&Person> {
        if uid == self.me.uid {
            return Some(&self.me);
        }
        self.guests.get(uid).or_else(|| self.world.people.iter().find(|person| person.uid == uid))
    }

    fn others(&self) -> impl Iterator<Item = &Person> {
        let people = self.world.people.iter().chain(self.guests.values());
        people.filter(|person| person.uid != self.me.uid)
    }

    fn presence(&self, person: &Person) -> Presence {
        match self.clients.get(&person.uid) {
            _ if person.uid == self.me.uid => Presence::Online,
            Some(true) => Presence::Online,
            Some(false) => Presence::Offline,
            None => person.state,
        }
    }

    fn is_guest(&self, uid: &str) -> bool {
        self.world.people.iter().all(|person| person.uid != uid)
    }

    /// The role of a person in a group, if it is a member.
    fn role(&self, group: &WorldGroup, uid: &str) -> Option<GroupRole> {
        // First: the file of the world still lists a member that was removed.
        if self.kicked.contains(&(group.uid.clone(), uid.to_owned())) {
            return None;
        }
        if group.owner == uid {
            return Some(GroupRole::Owner);
        }
        let is_logged_in = |list: &[String]| list.iter().any(|member| member == uid);
        if is_logged_in(&group.admins) {
            return Some(GroupRole::Admin);
        }
        if is_logged_in(&group.members) {
            return Some(GroupRole::Member);
        }
        // A guest is known only once its client has connected.
        group.guests.filter(|_| self.is_guest(uid) && self.person(uid).is_some())
    }

    fn is_participant(&self, discuss: &WorldDiscuss, uid: &str) -> bool {
        discuss.owner == uid
            || discuss.members.iter().any(|member| member == uid)
            || (discuss.guests && self.is_guest(uid) && self.person(uid).is_some())
    }

    fn own_groups(&self) -> impl Iterator<Item = &WorldGroup> {
        self.world.groups.iter().filter(|group| self.role(group, &self.me.uid).is_some())
    }

    fn own_discusses(&self) -> impl Iterator<Item = &WorldDiscuss> {
        self.world.discusses.iter().filter(|discuss| self.is_participant(discuss, &self.me.uid))
    }

    // ---- changes

    fn change(&mut self, change: impl FnOnce(&mut Self)) -> Vec<AccountEvent> {
        // Two looks at everything, so that no change can be forgotten. A world is small.
        let before = self.snapshot();
        change(self);
        snapshot::changes_between(&before, &self.snapshot())
    }

    /// A client came online.
    pub(crate) fn peer_arrived(&mut self, account: &ClientName) -> Vec<AccountEvent> {
        self.change(|view| {
            let person = view.world.person(account);
            view.clients.insert(person.uid.clone(), true);
            if view.is_guest(&person.uid) {
                view.guests.insert(person.uid.clone(), person);
            }
            view.forget_guests();
        })
    }

    /// Forgets guests without a client beyond the limit: the names of a peer are without number.
    fn forget_guests(&mut self) {
        while self.guests.len() > MAX_GUESTS
            && let Some(gone) = self.guests.keys().find(|uid| self.clients.get(*uid) != Some(&true)).cloned()
        {
            self.guests.remove(&gone);
            self.clients.remove(&gone);
            self.spoke.retain(|(_, member), _| *member != gone);
        }
    }

    /// A client went offline.
    pub(crate) fn peer_left(&mut self, uid: &str) -> Vec<AccountEvent> {
        self.change(|view| {
            // Not removed: without a client the person would echo again and show the state that the file says.
            view.clients.insert(uid.to_owned(), false);
        })
    }

    /// We are offline, and see all others offline.
    pub(crate) fn all_peers_left(&mut self) {
        self.clients.values_mut().for_each(|is_there| *is_there = false);
    }

    /// Replaces the world.
    pub(crate) fn replace_world(&mut self, world: SandboxWorld) -> Vec<AccountEvent> {
        self.change(|view| {
            view.world = world;
            // The new file may have another person for this account.
            view.me = view.world.person(&view.account);
            // It may have made a guest one of its people.
            let people = &view.world.people;
            view.guests.retain(|uid, _| people.iter().all(|person| person.uid != *uid));
        })
    }

    /// Applies a moderation action, ours or another's.
    pub(crate) fn moderate(&mut self, ruling: &ModerationAction) -> Result<Vec<AccountEvent>, BackendError> {
        let group = self.world.groups.iter().find(|group| group.uid == ruling.group);
        let group = group.ok_or(BackendError::Gone)?;
        let by = self.role(group, &ruling.by).ok_or(BackendError::NotAllowed)?;
        let member = self.role(group, &ruling.member).ok_or(BackendError::Gone)?;
        if by <= member {
            return Err(BackendError::NotAllowed);
        }
        if ruling.by == self.me.uid {
            // A later mute of the same member takes the place of an earlier one.
            let same = |known: &ModerationAction| {
                (&known.group, &known.member, known.muted_until.is_some())
                    == (&ruling.group, &ruling.member, ruling.muted_until.is_some())
            };
            self.rulings.retain(|known| !same(known));
            if self.rulings.len() >= MAX_RULINGS {
                self.rulings.remove(0);
            }
            self.rulings.push(ruling.clone());
        }
        let key = (ruling.group.clone(), ruling.member.clone());
        Ok(self.change(|view| match ruling.muted_until {
            Some(until) => {
                view.muted.insert(key, until);
            }
            None => {
                view.kicked.insert(key);
            }
        }))
    }

    /// Uids of a group and of one of its members, from ids.
    pub(crate) fn resolve_member(&self, group: &str, member: &str) -> Result<(String, String), BackendError> {
        let group = self.own_groups().find(|own| self.group_id(own) == group).ok_or(BackendError::Gone)?;
        let everybody = std::iter::once(&self.me).chain(self.others());
        let mut members = everybody.filter(|person| self.role(group, &person.uid).is_some());
        let member = members.find(|person| self.id(&person.uid) == member).ok_or(BackendError::Gone)?;
        Ok((group.uid.clone(), member.uid.clone()))
    }
}

fn display_name(person: &Person) -> String {
    person.markname.as_ref().unwrap_or(&person.name).clone()
}

#[cfg(test)]
mod tests;
