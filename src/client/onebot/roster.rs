//! [`Roster`]: what is known of the account's friends, groups and their members, and how each change of it is told. Pure.
//!
//! Members are kept of the groups that were asked for last, as many as there is room for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

use super::wire::lists::{Member, unknown_group};
use crate::client::backend::{BackendError, Recipient};
use crate::client::diff::{self, Look};
use crate::client::events::{Change, Event, GroupName, Party};
use crate::client::objects::{Friend, Group, Role, User};

/// How many members are kept, of all groups together: about 20 MiB.
const MAX_MEMBERS: usize = 150_000;

/// What is known of people and groups. Nobody is known before the first login.
#[derive(Default)]
pub(super) struct Roster {
    user: Option<User>,
    friends: Arc<Vec<Friend>>,
    friend_at: HashMap<u64, usize>,
    groups: Vec<Group>,
    group_at: HashMap<u64, usize>,
    /// The own role in each group, as it was last heard of.
    roles: HashMap<u64, Role>,
    /// The groups in which it was heard of since the login.
    roles_heard: HashSet<u64>,
    members: HashMap<u64, Members>,
    /// Counts the uses of member lists.
    uses: u64,
    most_members: Option<usize>,
    /// Whether the lists were there already.
    loaded: bool,
}

struct Members {
    /// By their numbers.
    list: Vec<Member>,
    used: u64,
}

impl Members {
    fn find(&self, uid: u64) -> Option<&Member> {
        self.list.binary_search_by_key(&uid, |member| member.uid).ok().map(|at| &self.list[at])
    }

    fn put(&mut self, member: Member) {
        match self.list.binary_search_by_key(&member.uid, |member| member.uid) {
            Ok(at) => self.list[at] = member,
            Err(at) => self.list.insert(at, member),
        }
    }
}

fn digits(id: &str) -> Option<u64> {
    id.parse().ok()
}

impl Roster {
    // ---- what is there

    /// The own account.
    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The own number; 0 before the first login.
    pub(super) fn own_uid(&self) -> u64 {
        self.user.as_ref().and_then(|user| digits(&user.uid)).unwrap_or(0)
    }

    /// All friends.
    pub(super) fn friends(&self) -> Arc<Vec<Friend>> {
        self.friends.clone()
    }

    /// A friend.
    pub(super) fn friend(&self, uid: u64) -> Option<&Friend> {
        self.friend_at.get(&uid).map(|at| &self.friends[*at])
    }

    /// All groups, without members.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group, without members.
    pub(super) fn group(&self, uid: u64) -> Option<&Group> {
        self.group_at.get(&uid).map(|at| &self.groups[*at])
    }

    /// A member, if the group's members are known.
    pub(super) fn member(&self, group: u64, uid: u64) -> Option<&Member> {
        self.members.get(&group)?.find(uid)
    }

    /// A group with its members, if they are known.
    pub(super) fn with_members(&mut self, uid: u64) -> Option<Group> {
        self.uses += 1;
        let members = self.members.get_mut(&uid)?;
        members.used = self.uses;
        let member = members.list.iter().map(Member::object).collect();
        Some(Group { member, ..self.group(uid)?.clone() })
    }

    /// The own role in a group, where it is known.
    pub(super) fn own_role(&self, group: u64) -> Option<Role> {
        self.roles.get(&group).copied()
    }

    /// The groups in which the own role is not known, or may have changed unseen.
    pub(super) fn without_role(&self) -> Vec<u64> {
        self.group_at.keys().filter(|group| !self.roles_heard.contains(group)).copied().collect()
    }

    /// What somebody is called in a group, or by us.
    pub(super) fn name_of(&self, group: Option<u64>, uid: u64) -> Option<String> {
        if let Some(member) = group.and_then(|group| self.member(group, uid)) {
            return Some(member.displayname().to_owned());
        }
        if uid == self.own_uid() {
            return self.user.as_ref().map(|user| user.name.clone());
        }
        self.friend(uid).map(|friend| friend.displayname.clone())
    }

    /// Ourselves, as an end of a message.
    pub(super) fn own_party(&self, group: Option<u64>) -> Party {
        let uid = self.own_uid();
        let displayname = self.name_of(group, uid).unwrap_or_default();
        Party { id: uid.to_string(), uid: uid.to_string(), displayname }
    }

    /// A group, as messages name it.
    pub(super) fn group_name(&self, uid: u64) -> Option<GroupName> {
        let group = self.group(uid)?;
        Some(GroupName {
            id: group.id.clone(),
            uid: group.uid.clone(),
            displayname: group.displayname.clone(),
        })
    }

    /// Whether a message can go there.
    pub(super) fn knows(&self, to: &Recipient) -> Result<(), BackendError> {
        let known = match to {
            Recipient::Friend(id) => digits(id).is_some_and(|uid| self.friend(uid).is_some()),
            Recipient::Group(id) | Recipient::GroupMember { group: id, .. } => {
                digits(id).is_some_and(|uid| self.group(uid).is_some())
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => false,
        };
        if known { Ok(()) } else { Err(BackendError::Gone) }
    }

    // ---- what changes

    /// Who we are. Somebody else than before: nothing of what was known holds.
    pub(super) fn be(&mut self, user: User) {
        if self.user.as_ref().is_some_and(|before| before.uid != user.uid) {
            *self = Self { most_members: self.most_members, ..Self::default() };
        }
        self.user = Some(user);
    }

    /// Nothing that could have changed unseen is remembered of members. The own roles hold until they are heard anew.
    pub(super) fn forget_members(&mut self) {
        self.members.clear();
        self.roles_heard.clear();
    }

    /// These are the friends and groups now: what is new is told, but not the first time.
    pub(super) fn take_lists(&mut self, friends: Vec<Friend>, mut groups: Vec<Group>) -> Vec<Event> {
        for group in &mut groups {
            let Some(uid) = digits(&group.uid) else { continue };
            if let Some(role) = self.roles.get(&uid) {
                group.role = role.of_own_account();
            }
            if let Some(before) = self.group(uid).filter(|_| group.owner_uid.is_empty()) {
                let (id, uid) = (before.owner_id.clone(), before.owner_uid.clone());
                (group.owner_id, group.owner_uid) = (id, uid);
            }
        }
        let Some(user) = self.user.clone() else { return Vec::new() };
        let look = |friends, groups| Look { user: user.clone(), friends, groups, discusses: Vec::new() };
        let old = look(std::mem::take(&mut self.friends).to_vec(), std::mem::take(&mut self.groups));
        let new = look(friends, groups);
        let first = !std::mem::replace(&mut self.loaded, true);
        let events = if first { Vec::new() } else { diff::between(&old, &new) };
        (self.friends, self.groups) = (Arc::new(new.friends), new.groups);
        self.index();
        events
    }

    fn index(&mut self) {
        self.friend_at = self
            .friends
            .iter()
            .enumerate()
            .filter_map(|(at, friend)| Some((digits(&friend.uid)?, at)))
            .collect();
        self.group_at = self
            .groups
            .iter()
            .enumerate()
            .filter_map(|(at, group)| Some((digits(&group.uid)?, at)))
            .collect();
        self.members.retain(|group, _| self.group_at.contains_key(group));
        self.roles.retain(|group, _| self.group_at.contains_key(group));
        self.roles_heard.retain(|group| self.group_at.contains_key(group));
    }

    fn group_mut(&mut self, uid: u64) -> Option<&mut Group> {
        self.group_at.get(&uid).map(|at| &mut self.groups[*at])
    }

    /// There is this friend now, whom the list does not have yet.
    pub(super) fn befriend(&mut self, friend: Friend) -> Event {
        Arc::make_mut(&mut self.friends).push(friend.clone());
        self.index();
        Event::NewFriend(friend)
    }

    /// The account is in this group now, which the list does not have yet.
    pub(super) fn enter(&mut self, uid: u64) -> Event {
        let group = unknown_group(uid, &uid.to_string());
        self.groups.push(group.clone());
        self.index();
        Event::NewGroup(group)
    }

    /// The account is no longer in a group.
    pub(super) fn leave(&mut self, uid: u64) -> Option<Event> {
        let at = *self.group_at.get(&uid)?;
        let group = self.groups.remove(at);
        self.index();
        Some(Event::LoseGroup(group))
    }

    /// What was learnt about the own role.
    pub(super) fn take_own_role(&mut self, group: u64, role: Role) {
        self.roles.insert(group, role);
        self.roles_heard.insert(group);
        if let Some(group) = self.group_mut(group) {
            group.role = role.of_own_account();
        }
    }

    /// These are the members of a group.
    pub(super) fn take_members(&mut self, group: u64, list: Vec<Member>) {
        let own = self.own_uid();
        if let Some(me) = list.iter().find(|member| member.uid == own) {
            self.take_own_role(group, me.role);
        }
        let owner = list.iter().find(|member| member.role == Role::Owner).map(|owner| owner.uid.to_string());
        if let (Some(owner), Some(group)) = (owner, self.group_mut(group)) {
            (group.owner_id, group.owner_uid) = (owner.clone(), owner);
        }
        self.uses += 1;
        self.members.insert(group, Members { list, used: self.uses });
        self.make_room(group);
    }

    /// Forgets the members that nobody asked for the longest, but never those of `last`.
    fn make_room(&mut self, last: u64) {
        let most = self.most_members.unwrap_or(MAX_MEMBERS);
        let mut kept: usize = self.members.values().map(|members| members.list.len()).sum();
        while kept > most {
            let others = self.members.iter().filter(|(group, _)| **group != last);
            let Some(oldest) = others.min_by_key(|(_, members)| members.used).map(|(group, _)| *group) else {
                return;
            };
            kept -= self.members.remove(&oldest).map_or(0, |members| members.list.len());
        }
    }

    /// Somebody came to a group.
    pub(super) fn come(&mut self, group: u64, member: Member) -> Option<Event> {
        let event = Event::NewGroupMember(member.object(), self.group(group)?.clone());
        if let Some(members) = self.members.get_mut(&group) {
            members.put(member);
        }
        Some(event)
    }

    /// Somebody is no longer in a group.
    pub(super) fn go(&mut self, group: u64, uid: u64) -> Option<Event> {
        let known = self.member(group, uid).cloned();
        let name = self.name_of(None, uid).unwrap_or_default();
        let member = known.unwrap_or_else(|| Member::unknown(uid, &name));
        if let Some(members) = self.members.get_mut(&group) {
            members.list.retain(|member| member.uid != uid);
        }
        Some(Event::LoseGroupMember(member.object(), self.group(group)?.clone()))
    }

    /// A member is an admin now, or is one no more. `member` as far as it is known.
    pub(super) fn appoint(&mut self, group: u64, mut member: Member, is_admin: bool) -> Event {
        // The event says what happened, whether the member was asked for before or after it.
        let role = |is_admin| if is_admin { Role::Admin } else { Role::Member };
        member.role = role(is_admin);
        if member.uid == self.own_uid() {
            self.take_own_role(group, member.role);
        }
        let change = change("role", json!(role(!is_admin)), json!(member.role));
        self.changed(group, member, change)
    }

    /// A member is called something else in a group.
    pub(super) fn rename(&mut self, group: u64, mut member: Member, old: &str, new: &str) -> Event {
        let name = |name: &str| Some(name).filter(|name| !name.is_empty()).map(Box::<str>::from);
        member.card = name(new);
        let change = change("card", json!(name(old)), json!(member.card));
        self.changed(group, member, change)
    }

    fn changed(&mut self, group: u64, member: Member, change: Change) -> Event {
        let event = Event::GroupMemberPropertyChange(member.object(), change);
        if let Some(members) = self.members.get_mut(&group) {
            members.put(member);
        }
        event
    }

    /// A group is called something else.
    pub(super) fn name_group(&mut self, uid: u64, new: &str) -> Option<Event> {
        let group = self.group_mut(uid)?;
        let old = std::mem::replace(&mut group.name, new.to_owned());
        if old == new {
            return None;
        }
        if group.markname.is_none() {
            group.displayname = new.to_owned();
        }
        Some(Event::GroupPropertyChange(group.clone(), change("name", json!(old), json!(new))))
    }

    /// Somebody said something in a group.
    pub(super) fn spoke(&mut self, group: u64, uid: u64, time: u64) {
        let member = self.members.get_mut(&group).and_then(|members| {
            let at = members.list.binary_search_by_key(&uid, |member| member.uid).ok()?;
            members.list.get_mut(at)
        });
        if let Some(member) = member {
            member.spoke = u32::try_from(time).unwrap_or(u32::MAX);
        }
    }
}

fn change(property: &str, old: serde_json::Value, new: serde_json::Value) -> Change {
    Change { property: property.to_owned(), old, new }
}

#[cfg(test)]
mod tests;
