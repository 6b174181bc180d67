//! What a change of a group that is allowed changes, and what applications are told of it. Pure.

use super::View;
use super::changes::{Announcement, GroupChange, GroupState};
use crate::client::backend::objects::GroupRole;
use crate::client::sandbox::notice;
use crate::client::sandbox::world::Person;

/// The most files, messages of honour and announcements of a group that are kept; the oldest go.
const MAX_KEPT: usize = 200;

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= MAX_KEPT {
        list.remove(0);
    }
    list.push(item);
}

impl View {
    pub(super) fn is_in_group(&self, group: &str) -> bool {
        self.own_groups().any(|own| own.uid == group)
    }

    /// What was allowed. The notice is none if nothing changes.
    pub(super) fn carry_out(
        &mut self,
        by: &str,
        group: &str,
        change: &GroupChange,
        now: u64,
    ) -> Option<serde_json::Value> {
        let old_card = |view: &Self, uid: &str| {
            let found = view.world.groups.iter().find(|known| known.uid == group);
            found.and_then(|found| view.card(found, uid)).unwrap_or_default().to_owned()
        };
        let role = |view: &Self, uid: &str| {
            view.world.groups.iter().find(|known| known.uid == group).and_then(|found| view.role(found, uid))
        };
        match change {
            GroupChange::Mute { member, until } => {
                let muted = &mut self.state_of(group).muted;
                let was = muted.get(member).copied().unwrap_or(0);
                if *until > now {
                    muted.insert(member.clone(), *until);
                } else {
                    muted.remove(member);
                }
                let changes = was.max(now) != (*until).max(now);
                changes.then(|| notice::ban(group, by, member, until.saturating_sub(now)))
            }
            GroupChange::Kick { member } => {
                self.remove_member(group, member);
                Some(notice::decrease(group, by, member, &self.me.uid))
            }
            GroupChange::MuteAll { on } => {
                let was = std::mem::replace(&mut self.state_of(group).all_muted, *on);
                (was != *on).then(|| notice::ban_all(group, by, *on))
            }
            GroupChange::Admin { member, on } => {
                let was = role(self, member) == Some(GroupRole::Admin);
                self.state_of(group).admins.insert(member.clone(), *on);
                (was != *on).then(|| notice::admin(group, member, *on))
            }
            GroupChange::Card { member, card } => {
                let old = old_card(self, member);
                self.state_of(group).cards.insert(member.clone(), card.clone());
                (old != *card).then(|| notice::card(group, member, &old, card))
            }
            GroupChange::Title { member, title } => {
                let was = self.state_of(group).titles.insert(member.clone(), title.clone());
                (was.unwrap_or_default() != *title).then(|| notice::title(group, member, title))
            }
            GroupChange::Name { name } => {
                let was = self.group_name(group).unwrap_or_default();
                self.state_of(group).name = Some(name.clone());
                (was != *name).then(|| notice::group_name(group, by, name))
            }
            GroupChange::Leave => {
                self.remove_member(group, by);
                Some(notice::decrease(group, by, by, &self.me.uid))
            }
            GroupChange::Dismiss => {
                let was = std::mem::replace(&mut self.state_of(group).is_dismissed, true);
                (!was).then(|| notice::dismiss(group, by, &self.me.uid))
            }
            GroupChange::Join { member, name, invited_by } => {
                if role(self, member).is_some() {
                    return None;
                }
                self.welcome(member, name);
                let state = self.state_of(group);
                state.gone.remove(member);
                state.joined.insert(member.clone());
                let operator = invited_by.as_deref().unwrap_or(by);
                Some(notice::increase(group, operator, member, invited_by.is_some()))
            }
            GroupChange::Essence { message, on } => {
                let number = self.messages.find(message)?.number;
                let essence = &mut self.state_of(group).essence;
                let was = essence.contains(message);
                essence.retain(|known| known != message);
                if *on {
                    keep(essence, message.clone());
                }
                (was != *on).then(|| notice::essence(group, by, &message.author, number, *on))
            }
            GroupChange::Upload { file } => {
                let files = &mut self.state_of(group).files;
                if files.iter().any(|(_, known)| known.id == file.id) {
                    return None;
                }
                keep(files, (by.to_owned(), file.clone()));
                Some(notice::upload(group, by, file))
            }
            GroupChange::Announce { id, text } => {
                let (id, by, text) = (id.clone(), by.to_owned(), text.clone());
                let known = &mut self.state_of(group).announcements;
                if !known.iter().any(|known| known.id == id) {
                    keep(known, Announcement { id, by, time: now, text });
                }
                None
            }
        }
    }

    fn state_of(&mut self, group: &str) -> &mut GroupState {
        self.changed.entry(group.to_owned()).or_default()
    }

    fn remove_member(&mut self, group: &str, member: &str) {
        let state = self.state_of(group);
        state.gone.insert(member.to_owned());
        state.joined.remove(member);
        state.admins.remove(member);
        state.muted.remove(member);
    }

    /// Makes somebody whom nobody knew a person of the world.
    pub(super) fn welcome(&mut self, uid: &str, name: &str) {
        if self.person(uid).is_none() && self.visitors.len() < super::MAX_GUESTS {
            let name = if name.is_empty() { uid } else { name };
            let person = Person { uid: uid.to_owned(), name: name.to_owned(), ..Person::default() };
            self.visitors.insert(uid.to_owned(), person);
        }
    }
}
