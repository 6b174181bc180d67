//! [`AccountSnapshot`]: the lists of an account at one time, and the events that lead from one snapshot to the
//! next.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::event::{AccountEvent, Change};
use super::objects::{Discuss, DiscussMember, Friend, Group, User};

/// Everything an account sees at one time.
pub(crate) struct AccountSnapshot {
    pub(crate) user: User,
    pub(crate) friends: Vec<Friend>,
    pub(crate) groups: Vec<Group>,
    pub(crate) discusses: Vec<Discuss>,
}

/// The events that lead from one snapshot to the next.
pub(crate) fn changes_between(old: &AccountSnapshot, new: &AccountSnapshot) -> Vec<AccountEvent> {
    let mut events = Vec::new();
    for change in differences(&old.user, &new.user) {
        events.push(AccountEvent::UserPropertyChange(new.user.clone(), change));
    }
    for pair in pairs(&old.friends, &new.friends, |friend| &friend.uid) {
        match pair {
            Pair::Came(friend) => events.push(AccountEvent::NewFriend(friend.clone())),
            Pair::Gone(friend) => events.push(AccountEvent::LoseFriend(friend.clone())),
            Pair::Both(old, new) => {
                let changes = differences(old, new).into_iter();
                events.extend(changes.map(|change| AccountEvent::FriendPropertyChange(new.clone(), change)));
            }
        }
    }
    for pair in pairs(&old.groups, &new.groups, |group| &group.uid) {
        match pair {
            Pair::Came(group) => events.push(AccountEvent::NewGroup(group.clone())),
            Pair::Gone(group) => events.push(AccountEvent::LoseGroup(group.clone())),
            Pair::Both(old, new) => {
                // Without members, which have events of their own.
                let changes = changes(old.basic(), new.basic()).into_iter();
                events.extend(changes.map(|change| AccountEvent::GroupPropertyChange(new.clone(), change)));
                events.extend(members_of_group(old, new));
            }
        }
    }
    for pair in pairs(&old.discusses, &new.discusses, |discuss| &discuss.id) {
        match pair {
            Pair::Came(discuss) => events.push(AccountEvent::NewDiscuss(discuss.clone())),
            Pair::Gone(discuss) => events.push(AccountEvent::LoseDiscuss(discuss.clone())),
            // The API has no event for a changed property of a discussion.
            Pair::Both(old, new) => events.extend(members_of_discuss(old, new)),
        }
    }
    events
}

fn members_of_group(old: &Group, new: &Group) -> Vec<AccountEvent> {
    let mut events = Vec::new();
    for pair in pairs(&old.member, &new.member, |member| &member.uid) {
        match pair {
            Pair::Came(member) => events.push(AccountEvent::NewGroupMember(member.clone(), new.clone())),
            Pair::Gone(member) => events.push(AccountEvent::LoseGroupMember(member.clone(), new.clone())),
            Pair::Both(old, new) => {
                let changes = differences(old, new).into_iter();
                events.extend(
                    changes.map(|change| AccountEvent::GroupMemberPropertyChange(new.clone(), change)),
                );
            }
        }
    }
    events
}

fn members_of_discuss(old: &Discuss, new: &Discuss) -> Vec<AccountEvent> {
    let event = |pair| match pair {
        Pair::Came(member) => Some(AccountEvent::NewDiscussMember(DiscussMember::clone(member), new.clone())),
        Pair::Gone(member) => Some(AccountEvent::LoseDiscussMember(member.clone(), new.clone())),
        // The API has no event for it.
        Pair::Both(..) => None,
    };
    pairs(&old.member, &new.member, |member| &member.uid).into_iter().filter_map(event).collect()
}

enum Pair<'a, T> {
    Came(&'a T),
    Gone(&'a T),
    Both(&'a T, &'a T),
}

/// Pairs the items of both lists by `key`: first those of the old list, then the new ones.
fn pairs<'a, T>(old: &'a [T], new: &'a [T], key: impl Fn(&T) -> &String) -> Vec<Pair<'a, T>> {
    let by_key = |list: &'a [T]| list.iter().map(|item| (key(item), item)).collect::<HashMap<_, _>>();
    let (before, after) = (by_key(old), by_key(new));
    let was = old.iter().map(|old| match after.get(key(old)) {
        Some(new) => Pair::Both(old, new),
        None => Pair::Gone(old),
    });
    let came = new.iter().filter(|new| !before.contains_key(key(new))).map(Pair::Came);
    was.chain(came).collect()
}

/// The properties in which two objects differ. Comparing first is cheap, and most are equal.
fn differences<T: PartialEq + Serialize>(old: &T, new: &T) -> Vec<Change> {
    if old == new { Vec::new() } else { changes(json!(old), json!(new)) }
}

fn changes(old: Value, new: Value) -> Vec<Change> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Vec::new() };
    // Both have the same keys, as both are of the same type.
    let changed = new.into_iter().filter_map(|(property, new)| {
        let old = old.get(&property).cloned().unwrap_or_default();
        (old != new).then_some(Change { property, old, new })
    });
    changed.collect()
}
