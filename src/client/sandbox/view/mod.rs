//! [`View`]: the world as one account sees it, and the changes by it and others. Pure: no clock, no sockets.
//! `projection` shows people and groups as objects of the API, `messaging` routes messages, `messages` keeps them, `changes` is what
//! people do to the world, `requests` what they ask the account for.

pub(super) mod changes;
mod effects;
mod exchange;
pub(super) mod messages;
mod messaging;
mod projection;
pub(super) mod requests;
mod rights;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::{self, Person, SandboxWorld, WorldDiscuss, WorldGroup, number};
use crate::client::backend::BackendError;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::message::ChatMessage;
use crate::client::backend::objects::{GroupRole, Presence};
use crate::client::backend::snapshot;
use crate::model::name::ClientName;
use changes::{GroupState, WorldChange};
pub(crate) use exchange::{ModerationAction, PeerMessage, SandboxChat};
use messages::MessageStore;
use requests::Request;

/// How many moderation actions are remembered.
const MAX_RULINGS: usize = 1000;

/// How many guests are remembered: more than may be connected at a time.
const MAX_GUESTS: usize = 512;

/// What follows from a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Events of the old API.
    pub(crate) events: Vec<AccountEvent>,
    /// Events for applications, see `notice`.
    pub(crate) notices: Vec<Value>,
}

/// How a message is delivered.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: ChatMessage,
    /// What the clients of others get.
    pub(crate) wire: PeerMessage,
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
    /// People who are no guests and not in the file of the world, by uid: they came by a request.
    visitors: BTreeMap<String, Person>,
    /// Who is a friend (true) or none (false), where that is not what the file of the world says.
    friendships: BTreeMap<String, bool>,
    /// What the account calls its friends, where that is not what the file of the world says.
    remarks: BTreeMap<String, String>,
    /// What is different from the file of the world, by group.
    changed: BTreeMap<String, GroupState>,
    pub(super) messages: MessageStore,
    requests: Vec<Request>,
    /// For whom somebody else speaks: they repeat nothing any more.
    played: BTreeSet<String>,
    /// Group and member.
    spoke: BTreeMap<(String, String), u64>,
    /// Those of this account, for clients that come later.
    own_changes: Vec<WorldChange>,
}

impl View {
    /// The view of `account`, which starts at this time, in Unix seconds.
    pub(crate) fn new(world: SandboxWorld, account: &ClientName, now: u64) -> Self {
        let me = world.person(account);
        Self {
            world,
            account: account.clone(),
            me,
            guests: BTreeMap::new(),
            clients: BTreeMap::new(),
            visitors: BTreeMap::new(),
            friendships: BTreeMap::new(),
            remarks: BTreeMap::new(),
            changed: BTreeMap::new(),
            messages: MessageStore::new(now),
            requests: Vec::new(),
            played: BTreeSet::new(),
            spoke: BTreeMap::new(),
            own_changes: Vec::new(),
        }
    }

    /// The changes of groups by this account.
    pub(crate) fn own_changes(&self) -> Vec<WorldChange> {
        self.own_changes.clone()
    }

    /// A new `message_id`.
    pub(crate) fn new_number(&mut self) -> i32 {
        self.messages.new_number()
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
        world::person_id(self.account.as_str(), uid)
    }

    fn group_id(&self, group: &WorldGroup) -> String {
        world::group_id(self.account.as_str(), &group.uid)
    }

    fn discuss_id(&self, discuss: &WorldDiscuss) -> String {
        number(&[self.account.as_str(), "discuss", &discuss.key])
    }

    fn person(&self, uid: &str) -> Option<&Person> {
        if uid == self.me.uid {
            return Some(&self.me);
        }
        let known = self.guests.get(uid).or_else(|| self.visitors.get(uid));
        known.or_else(|| self.world.people.iter().find(|person| person.uid == uid))
    }

    fn is_friend(&self, person: &Person) -> bool {
        self.friendships
            .get(&person.uid)
            .copied()
            .unwrap_or(!person.stranger && !self.visitors.contains_key(&person.uid))
    }

    /// Whether there is such a person.
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.person(uid).is_some()
    }

    /// Until when a member is muted; 0 if it is not.
    pub(crate) fn muted_until(&self, group: &str, uid: &str) -> u64 {
        self.changed.get(group).and_then(|changed| changed.muted.get(uid)).copied().unwrap_or(0)
    }

    /// The announcements of a group.
    pub(crate) fn announcements(&self, group: &str) -> &[changes::Announcement] {
        self.changed.get(group).map(|changed| changed.announcements.as_slice()).unwrap_or_default()
    }

    /// The files of a group, each with who shared it.
    pub(crate) fn files(&self, group: &str) -> &[(String, changes::GroupFile)] {
        self.changed.get(group).map(|changed| changed.files.as_slice()).unwrap_or_default()
    }

    /// The files of all groups.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = &changes::GroupFile> {
        self.changed.values().flat_map(|changed| changed.files.iter().map(|(_, file)| file))
    }

    /// Whether a person is a friend of the account.
    pub(crate) fn has_friend(&self, uid: &str) -> bool {
        uid != self.me.uid && self.person(uid).is_some_and(|person| self.is_friend(person))
    }

    /// The messages that a group honours.
    pub(crate) fn essence(&self, group: &str) -> &[messages::MessageKey] {
        self.changed.get(group).map(|changed| changed.essence.as_slice()).unwrap_or_default()
    }

    fn others(&self) -> impl Iterator<Item = &Person> {
        let people = self.world.people.iter().chain(self.guests.values()).chain(self.visitors.values());
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
        self.world.people.iter().all(|person| person.uid != uid) && !self.visitors.contains_key(uid)
    }

    /// Whether a person has no client that speaks for it.
    pub(super) fn has_no_client(&self, uid: &str) -> bool {
        uid != self.me.uid && !self.guests.contains_key(uid) && self.clients.get(uid) != Some(&true)
    }

    /// The role of a person in a group, if it is a member.
    fn role(&self, group: &WorldGroup, uid: &str) -> Option<GroupRole> {
        let changed = self.changed.get(&group.uid);
        // First: the file of the world still lists a member that was removed.
        if changed.is_some_and(|changed| changed.is_dismissed || changed.gone.contains(uid)) {
            return None;
        }
        if group.owner == uid {
            return Some(GroupRole::Owner);
        }
        let is_in = |list: &[String]| list.iter().any(|member| member == uid);
        let role = if is_in(&group.admins) {
            GroupRole::Admin
        } else if is_in(&group.members) {
            GroupRole::Member
        } else {
            // A guest is known only once its client has connected.
            let as_guest = group.guests.filter(|_| self.is_guest(uid) && self.person(uid).is_some());
            let has_joined =
                changed.is_some_and(|changed| changed.joined.contains(uid)) && self.person(uid).is_some();
            as_guest.or(has_joined.then_some(GroupRole::Member))?
        };
        Some(match changed.and_then(|changed| changed.admins.get(uid)) {
            Some(true) => GroupRole::Admin,
            Some(false) => GroupRole::Member,
            None => role,
        })
    }

    /// The name of a member in a group.
    fn card<'a>(&'a self, group: &'a WorldGroup, uid: &str) -> Option<&'a str> {
        let changed = self.changed.get(&group.uid).and_then(|changed| changed.cards.get(uid));
        let card = changed.or_else(|| group.cards.get(uid));
        card.map(String::as_str).filter(|card| !card.is_empty())
    }

    /// The name of a group.
    fn group_name(&self, uid: &str) -> Option<String> {
        let group = self.world.groups.iter().find(|group| group.uid == uid)?;
        let changed = self.changed.get(uid).and_then(|changed| changed.name.clone());
        Some(changed.unwrap_or_else(|| group.name.clone()))
    }

    /// What the account calls a person.
    fn display_name(&self, person: &Person) -> String {
        self.remark(person).unwrap_or_else(|| person.name.clone())
    }

    fn remark(&self, person: &Person) -> Option<String> {
        let remark = self.remarks.get(&person.uid).or(person.markname.as_ref());
        remark.filter(|remark| !remark.is_empty()).cloned()
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
            view.visitors.retain(|uid, _| people.iter().all(|person| person.uid != *uid));
        })
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

#[cfg(test)]
mod tests;
