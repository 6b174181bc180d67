//! [`View`]: the world as one account sees it, and what it and the others do to it. Pure: no clock, no sockets. What it
//! shows of people and groups is in `seen`, what is said to whom in `said`.

mod said;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::world::{DiscussOf, GroupOf, Person, World, number};
use crate::client::backend::BackendError;
use crate::client::diff;
use crate::client::events::{Event, Message};
use crate::client::objects::{Presence, Role};
use crate::model::name::ClientName;

/// The most kicks and mutes that are remembered.
const MAX_RULINGS: usize = 1000;

/// Where a message is said, by what is the same for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Place {
    Friend,
    Group(String),
    Discuss(String),
    GroupSession(String),
    DiscussSession(String),
}

/// What somebody decided about a member of a group. All by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ruling {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) by: String,
    /// Until when it says nothing, in Unix seconds. None: it is put out.
    pub(super) muted_until: Option<u64>,
}

/// How a message goes out.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) message: Message,
    pub(super) place: Place,
    /// The clients that get it, by uid.
    pub(super) to: Vec<String>,
    /// Who says it back, where nobody else is there to answer.
    pub(super) echo: Option<Message>,
}

/// The world as one account sees it.
pub(super) struct View {
    world: World,
    account: ClientName,
    me: Person,
    /// Accounts that are not in the world, by uid, once they were met.
    guests: BTreeMap<String, Person>,
    /// Who is a client now (true), or was one (false).
    clients: BTreeMap<String, bool>,
    /// Group and member.
    kicked: BTreeSet<(String, String)>,
    muted: BTreeMap<(String, String), u64>,
    spoke: BTreeMap<(String, String), u64>,
    rulings: Vec<Ruling>,
}

impl View {
    pub(super) fn new(world: World, account: &ClientName) -> Self {
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

    pub(super) fn rulings(&self) -> Vec<Ruling> {
        self.rulings.clone()
    }

    /// The uid of an account.
    pub(super) fn uid_of(&self, account: &ClientName) -> String {
        self.world.person(account).uid
    }

    pub(super) fn own_uid(&self) -> &str {
        &self.me.uid
    }

    // ---- who is who

    fn id(&self, uid: &str) -> String {
        // Not the uid: a program that takes one for the other shall find out here, not in the field.
        number(&[self.account.as_str(), uid])
    }

    fn group_id(&self, group: &GroupOf) -> String {
        number(&[self.account.as_str(), "group", &group.uid])
    }

    fn discuss_id(&self, discuss: &DiscussOf) -> String {
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

    /// The role of somebody in a group, where it is in it.
    fn role(&self, group: &GroupOf, uid: &str) -> Option<Role> {
        if self.kicked.contains(&(group.uid.clone(), uid.to_owned())) {
            return None;
        }
        if group.owner == uid {
            return Some(Role::Owner);
        }
        let is_in = |list: &[String]| list.iter().any(|member| member == uid);
        if is_in(&group.admins) {
            return Some(Role::Admin);
        }
        if is_in(&group.members) {
            return Some(Role::Member);
        }
        group.guests.filter(|_| self.is_guest(uid) && self.person(uid).is_some())
    }

    fn takes_part(&self, discuss: &DiscussOf, uid: &str) -> bool {
        discuss.owner == uid
            || discuss.members.iter().any(|member| member == uid)
            || (discuss.guests && self.is_guest(uid) && self.person(uid).is_some())
    }

    fn own_groups(&self) -> impl Iterator<Item = &GroupOf> {
        self.world.groups.iter().filter(|group| self.role(group, &self.me.uid).is_some())
    }

    fn own_discusses(&self) -> impl Iterator<Item = &DiscussOf> {
        self.world.discusses.iter().filter(|discuss| self.takes_part(discuss, &self.me.uid))
    }

    // ---- what changes

    fn change(&mut self, change: impl FnOnce(&mut Self)) -> Vec<Event> {
        let before = self.look();
        change(self);
        diff::between(&before, &self.look())
    }

    /// Somebody is a client now.
    pub(super) fn arrive(&mut self, account: &ClientName) -> Vec<Event> {
        self.change(|view| {
            let person = view.world.person(account);
            view.clients.insert(person.uid.clone(), true);
            if view.is_guest(&person.uid) {
                view.guests.insert(person.uid.clone(), person);
            }
        })
    }

    /// Somebody is no longer a client.
    pub(super) fn leave(&mut self, uid: &str) -> Vec<Event> {
        self.change(|view| {
            view.clients.insert(uid.to_owned(), false);
        })
    }

    /// We are offline ourselves and see nobody.
    pub(super) fn everybody_leaves(&mut self) {
        self.clients.values_mut().for_each(|is_there| *is_there = false);
    }

    /// The file of the world says something else now.
    pub(super) fn replace_world(&mut self, world: World) -> Vec<Event> {
        self.change(|view| {
            view.world = world;
            view.me = view.world.person(&view.account);
        })
    }

    /// Somebody, perhaps we, decided about a member of a group.
    pub(super) fn rule(&mut self, ruling: &Ruling) -> Result<Vec<Event>, BackendError> {
        let group = self.world.groups.iter().find(|group| group.uid == ruling.group);
        let group = group.ok_or(BackendError::Gone)?;
        let by = self.role(group, &ruling.by).ok_or(BackendError::NotAllowed)?;
        let member = self.role(group, &ruling.member).ok_or(BackendError::Gone)?;
        if by <= member {
            return Err(BackendError::NotAllowed);
        }
        if self.rulings.len() >= MAX_RULINGS {
            self.rulings.remove(0);
        }
        self.rulings.push(ruling.clone());
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
    pub(super) fn resolve_member(&self, group: &str, member: &str) -> Result<(String, String), BackendError> {
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
