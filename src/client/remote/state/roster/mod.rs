//! [`Roster`]: the friends, groups and members of the account, and the events for their changes. Pure.
//!
//! Members are kept for the most recently used groups, within a bound.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

use crate::client::backend::BackendError;
use crate::client::backend::event::{AccountEvent, Change};
use crate::client::backend::message::Recipient;
use crate::client::backend::message::{GroupRef, Party};
use crate::client::backend::objects::{Friend, Group, GroupRole, User};
use crate::client::backend::snapshot::{self, AccountSnapshot};
use crate::client::remote::lists::{Member, unknown_group};

/// How many members are kept in all groups together: about 20 MiB.
const MAX_MEMBERS: usize = 150_000;

/// The known people and groups. Empty before the first login.
#[derive(Default)]
pub(crate) struct Roster {
    user: Option<User>,
    friends: Arc<Vec<Friend>>,
    friend_at: HashMap<u64, usize>,
    groups: Vec<Group>,
    group_at: HashMap<u64, usize>,
    /// The last known role of the account in each group.
    roles: HashMap<u64, GroupRole>,
    /// The groups whose role was confirmed since the login.
    roles_heard: HashSet<u64>,
    members: HashMap<u64, Members>,
    /// Counts the uses of member lists, for the eviction of the least recently used.
    uses: u64,
    most_members: Option<usize>,
    /// Whether the lists were loaded once.
    loaded: bool,
}

struct Members {
    /// Sorted by uid.
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

fn parse_id(id: &str) -> Option<u64> {
    id.parse().ok()
}

impl Roster {
    // ---- queries

    /// The own account.
    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The account's uid; 0 before the first login.
    pub(crate) fn own_uid(&self) -> u64 {
        self.user.as_ref().and_then(|user| parse_id(&user.uid)).unwrap_or(0)
    }

    /// All friends.
    pub(crate) fn friends(&self) -> Arc<Vec<Friend>> {
        self.friends.clone()
    }

    /// A friend.
    pub(crate) fn friend(&self, uid: u64) -> Option<&Friend> {
        self.friend_at.get(&uid).map(|at| &self.friends[*at])
    }

    /// All groups, without members.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group, without members.
    pub(crate) fn group(&self, uid: u64) -> Option<&Group> {
        self.group_at.get(&uid).map(|at| &self.groups[*at])
    }

    /// A member, if the group's members are known.
    pub(crate) fn member(&self, group: u64, uid: u64) -> Option<&Member> {
        self.members.get(&group)?.find(uid)
    }

    /// A group with its members, if they are known.
    pub(crate) fn with_members(&mut self, uid: u64) -> Option<Group> {
        self.uses += 1;
        let members = self.members.get_mut(&uid)?;
        members.used = self.uses;
        let member = members.list.iter().map(Member::object).collect();
        Some(Group { member, ..self.group(uid)?.clone() })
    }

    /// The account's role in a group, if it was confirmed since the login.
    pub(crate) fn own_role(&self, group: u64) -> Option<GroupRole> {
        self.roles.get(&group).filter(|_| self.roles_heard.contains(&group)).copied()
    }

    /// The groups in which the account's role is not known.
    pub(crate) fn groups_without_role(&self) -> Vec<u64> {
        self.group_at.keys().filter(|group| !self.roles.contains_key(group)).copied().collect()
    }

    /// The groups in which the account's role is not known, or may have changed unseen.
    pub(crate) fn groups_with_stale_role(&self) -> Vec<u64> {
        self.group_at.keys().filter(|group| !self.roles_heard.contains(group)).copied().collect()
    }

    /// The display name of a person in a group, or among the friends.
    pub(crate) fn name_of(&self, group: Option<u64>, uid: u64) -> Option<String> {
        if let Some(member) = group.and_then(|group| self.member(group, uid)) {
            return Some(member.displayname().to_owned());
        }
        if uid == self.own_uid() {
            return self.user.as_ref().map(|user| user.name.clone());
        }
        self.friend(uid).map(|friend| friend.displayname.clone())
    }

    /// The own account as sender or receiver of a message.
    pub(crate) fn own_party(&self, group: Option<u64>) -> Party {
        let uid = self.own_uid();
        let displayname = self.name_of(group, uid).unwrap_or_default();
        Party { id: uid.to_string(), uid: uid.to_string(), displayname }
    }

    /// The group of a message.
    pub(crate) fn group_name(&self, uid: u64) -> Option<GroupRef> {
        let group = self.group(uid)?;
        Some(GroupRef {
            id: group.id.clone(),
            uid: group.uid.clone(),
            displayname: group.displayname.clone(),
        })
    }

    /// Checks that the recipient exists.
    pub(crate) fn knows(&self, to: &Recipient) -> Result<(), BackendError> {
        let known = match to {
            Recipient::Friend(id) => parse_id(id).is_some_and(|uid| self.friend(uid).is_some()),
            Recipient::Group(id) | Recipient::GroupMember { group: id, .. } => {
                parse_id(id).is_some_and(|uid| self.group(uid).is_some())
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => false,
        };
        if known { Ok(()) } else { Err(BackendError::Gone) }
    }

    // ---- changes

    /// Sets the own account. If it is another one, everything known is dropped.
    pub(crate) fn set_user(&mut self, user: User) {
        if self.user.as_ref().is_some_and(|before| before.uid != user.uid) {
            *self = Self { most_members: self.most_members, ..Self::default() };
        }
        self.user = Some(user);
    }

    /// Forgets the members, which may have changed unseen. Roles stay as they were until they are confirmed.
    pub(crate) fn invalidate_members(&mut self) {
        self.members.clear();
        self.roles_heard.clear();
    }

    /// Replaces friends and groups. Returns the differences, except for the first time.
    pub(crate) fn update_lists(&mut self, friends: Vec<Friend>, mut groups: Vec<Group>) -> Vec<AccountEvent> {
        // The list lacks the own role and sometimes the owner. Left empty, they would be reported as changes.
        for group in &mut groups {
            let Some(uid) = parse_id(&group.uid) else { continue };
            if let Some(role) = self.roles.get(&uid) {
                group.role = role.of_own_account();
            }
            if let Some(before) = self.group(uid).filter(|_| group.owner_uid.is_empty()) {
                let (id, uid) = (before.owner_id.clone(), before.owner_uid.clone());
                (group.owner_id, group.owner_uid) = (id, uid);
            }
        }
        let Some(user) = self.user.clone() else { return Vec::new() };
        // The same user on both sides, as only a login changes it.
        let look =
            |friends, groups| AccountSnapshot { user: user.clone(), friends, groups, discusses: Vec::new() };
        let old = look(std::mem::take(&mut self.friends).to_vec(), std::mem::take(&mut self.groups));
        let new = look(friends, groups);
        // At the first load every friend would be new.
        let first = !std::mem::replace(&mut self.loaded, true);
        let events = if first { Vec::new() } else { snapshot::changes_between(&old, &new) };
        (self.friends, self.groups) = (Arc::new(new.friends), new.groups);
        self.index();
        events
    }

    fn index(&mut self) {
        self.friend_at = self
            .friends
            .iter()
            .enumerate()
            .filter_map(|(at, friend)| Some((parse_id(&friend.uid)?, at)))
            .collect();
        self.group_at = self
            .groups
            .iter()
            .enumerate()
            .filter_map(|(at, group)| Some((parse_id(&group.uid)?, at)))
            .collect();
        // What is kept of a group that was left would be out of date when it comes back.
        self.members.retain(|group, _| self.group_at.contains_key(group));
        self.roles.retain(|group, _| self.group_at.contains_key(group));
        self.roles_heard.retain(|group| self.group_at.contains_key(group));
    }

    fn group_mut(&mut self, uid: u64) -> Option<&mut Group> {
        self.group_at.get(&uid).map(|at| &mut self.groups[*at])
    }

    /// Adds a friend that the list does not have yet.
    pub(crate) fn add_friend(&mut self, friend: Friend) -> AccountEvent {
        // Copies only while a caller holds the list.
        Arc::make_mut(&mut self.friends).push(friend.clone());
        self.index();
        AccountEvent::NewFriend(friend)
    }

    /// Adds a group that the list does not have yet.
    pub(crate) fn add_group(&mut self, uid: u64) -> AccountEvent {
        let group = unknown_group(uid, &uid.to_string());
        self.groups.push(group.clone());
        self.index();
        AccountEvent::NewGroup(group)
    }

    /// Removes a group.
    pub(crate) fn remove_group(&mut self, uid: u64) -> Option<AccountEvent> {
        let at = *self.group_at.get(&uid)?;
        let group = self.groups.remove(at);
        self.index();
        Some(AccountEvent::LoseGroup(group))
    }

    /// Sets the account's role in a group.
    pub(crate) fn set_own_role(&mut self, group: u64, role: GroupRole) {
        self.roles.insert(group, role);
        self.roles_heard.insert(group);
        if let Some(group) = self.group_mut(group) {
            group.role = role.of_own_account();
        }
    }

    /// Replaces the members of a group.
    pub(crate) fn update_members(&mut self, group: u64, list: Vec<Member>) {
        let own = self.own_uid();
        if let Some(me) = list.iter().find(|member| member.uid == own) {
            self.set_own_role(group, me.role);
        }
        let owner =
            list.iter().find(|member| member.role == GroupRole::Owner).map(|owner| owner.uid.to_string());
        if let (Some(owner), Some(group)) = (owner, self.group_mut(group)) {
            (group.owner_id, group.owner_uid) = (owner.clone(), owner);
        }
        self.uses += 1;
        self.members.insert(group, Members { list, used: self.uses });
        self.make_room(group);
    }

    /// Evicts the least recently used member lists, but never that of the group `last`.
    fn make_room(&mut self, last: u64) {
        let most = self.most_members.unwrap_or(MAX_MEMBERS);
        let mut kept: usize = self.members.values().map(|members| members.list.len()).sum();
        while kept > most {
            let others = self.members.iter().filter(|(group, _)| **group != last);
            let Some(oldest) = others.min_by_key(|(_, members)| members.used).map(|(group, _)| *group) else {
                // A single list may exceed the bound: a caller has asked for all of it.
                return;
            };
            kept -= self.members.remove(&oldest).map_or(0, |members| members.list.len());
        }
    }

    /// Adds a member.
    pub(crate) fn add_member(&mut self, group: u64, member: Member) -> Option<AccountEvent> {
        let event = AccountEvent::NewGroupMember(member.object(), self.group(group)?.clone());
        if let Some(members) = self.members.get_mut(&group) {
            members.put(member);
        }
        Some(event)
    }

    /// Removes a member.
    pub(crate) fn remove_member(&mut self, group: u64, uid: u64) -> Option<AccountEvent> {
        let known = self.member(group, uid).cloned();
        let name = self.name_of(None, uid).unwrap_or_default();
        let member = known.unwrap_or_else(|| Member::unknown(uid, &name));
        if let Some(members) = self.members.get_mut(&group) {
            members.list.retain(|member| member.uid != uid);
        }
        Some(AccountEvent::LoseGroupMember(member.object(), self.group(group)?.clone()))
    }

    /// Makes a member an admin, or a plain member again.
    pub(crate) fn set_admin(&mut self, group: u64, mut member: Member, is_admin: bool) -> AccountEvent {
        // The event is authoritative, whether the member was queried before or after it.
        let role = |is_admin| if is_admin { GroupRole::Admin } else { GroupRole::Member };
        member.role = role(is_admin);
        if member.uid == self.own_uid() {
            self.set_own_role(group, member.role);
        }
        // The event has only the new role.
        let change = change("role", json!(role(!is_admin)), json!(member.role));
        self.changed(group, member, change)
    }

    /// Changes the name of a member in a group.
    pub(crate) fn set_card(&mut self, group: u64, mut member: Member, old: &str, new: &str) -> AccountEvent {
        // Without a card of its own a member is shown by name.
        let name = |name: &str| Some(name).filter(|name| !name.is_empty()).map(Box::<str>::from);
        member.card = name(new);
        let change = change("card", json!(name(old)), json!(member.card));
        self.changed(group, member, change)
    }

    fn changed(&mut self, group: u64, member: Member, change: Change) -> AccountEvent {
        let event = AccountEvent::GroupMemberPropertyChange(member.object(), change);
        if let Some(members) = self.members.get_mut(&group) {
            members.put(member);
        }
        event
    }

    /// Renames a group.
    pub(crate) fn rename_group(&mut self, uid: u64, new: &str) -> Option<AccountEvent> {
        let group = self.group_mut(uid)?;
        let old = std::mem::replace(&mut group.name, new.to_owned());
        if old == new {
            return None;
        }
        if group.markname.is_none() {
            group.displayname = new.to_owned();
        }
        Some(AccountEvent::GroupPropertyChange(group.clone(), change("name", json!(old), json!(new))))
    }

    /// Notes when a member spoke last.
    pub(crate) fn note_spoke(&mut self, group: u64, uid: u64, time: u64) {
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
