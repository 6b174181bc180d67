//! [`WorldChange`]: what somebody does to the world besides speaking, by whom it may be done, and what follows. Pure.
//!
//! The same rules hold for our own changes and for those of other clients, as those are not trusted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::messages::MessageKey;
use super::{Outcome, View};
use crate::client::backend::BackendError;
use crate::client::backend::objects::GroupRole;
use crate::client::backend::snapshot;
use crate::client::sandbox::notice;
use crate::client::sandbox::world::Person;

/// How long a member may take back what it said, in seconds; as in QQ.
const RECALL_TIME: u64 = 120;

/// The longest name, card or title, in characters, and the longest announcement.
const MAX_NAME: usize = 60;
const MAX_ANNOUNCEMENT: usize = 3000;

/// The most files, messages of honour and announcements of a group that are kept; the oldest go.
const MAX_KEPT: usize = 200;

/// Something that somebody does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorldChange {
    /// Who does it, by uid.
    pub(crate) by: String,
    pub(crate) what: Change,
}

/// What is done. All by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Change {
    /// In a group.
    Group { group: String, change: GroupChange },
    /// A message is taken back.
    Recall { message: MessageKey },
    /// Somebody is poked, in a group or between friends.
    Poke { group: Option<String>, target: String },
    /// A message of a group gets a reaction, or loses it.
    React { message: MessageKey, emoji: String, on: bool },
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum GroupChange {
    /// A mute until a time, in Unix seconds; one in the past ends it.
    Mute {
        member: String,
        until: u64,
    },
    Kick {
        member: String,
    },
    MuteAll {
        on: bool,
    },
    Admin {
        member: String,
        on: bool,
    },
    Card {
        member: String,
        card: String,
    },
    Title {
        member: String,
        title: String,
    },
    Name {
        name: String,
    },
    Leave,
    Dismiss,
    /// Somebody joins: approved by an admin, or invited by a member.
    Join {
        member: String,
        name: String,
        invited_by: Option<String>,
    },
    Essence {
        message: MessageKey,
        on: bool,
    },
    Upload {
        file: GroupFile,
    },
    Announce {
        id: String,
        text: String,
    },
}

/// A file of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupFile {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) url: String,
}

/// An announcement of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) id: String,
    pub(crate) by: String,
    pub(crate) time: u64,
    pub(crate) text: String,
}

/// What is different in a group from what the file of the world says.
#[derive(Default)]
pub(super) struct GroupState {
    pub(super) is_dismissed: bool,
    pub(super) gone: BTreeSet<String>,
    pub(super) joined: BTreeSet<String>,
    pub(super) admins: BTreeMap<String, bool>,
    /// An empty one: none.
    pub(super) cards: BTreeMap<String, String>,
    pub(super) titles: BTreeMap<String, String>,
    pub(super) name: Option<String>,
    pub(super) all_muted: bool,
    /// Until when.
    pub(super) muted: BTreeMap<String, u64>,
    pub(super) essence: Vec<MessageKey>,
    pub(super) files: Vec<(String, GroupFile)>,
    pub(super) announcements: Vec<Announcement>,
}

impl GroupChange {
    /// Which earlier change of the same group this one takes the place of: its kind, and whom or what it is about.
    pub(super) fn subject(&self) -> (&'static str, &str) {
        match self {
            Self::Mute { member, .. } => ("mute", member),
            Self::Kick { member } => ("kick", member),
            Self::MuteAll { .. } => ("mute_all", ""),
            Self::Admin { member, .. } => ("admin", member),
            Self::Card { member, .. } => ("card", member),
            Self::Title { member, .. } => ("title", member),
            Self::Name { .. } => ("name", ""),
            Self::Leave => ("leave", ""),
            Self::Dismiss => ("dismiss", ""),
            Self::Join { member, .. } => ("join", member),
            Self::Essence { message, .. } => ("essence", &message.author),
            Self::Upload { file } => ("upload", &file.id),
            Self::Announce { id, .. } => ("announce", id),
        }
    }
}

fn short(text: &str, most: usize) -> Result<(), BackendError> {
    if text.chars().count() <= most && !text.contains('\0') {
        return Ok(());
    }
    Err(BackendError::Refused(format!("the text is longer than {most} characters")))
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= MAX_KEPT {
        list.remove(0);
    }
    list.push(item);
}

impl View {
    /// Applies a change, ours or another's.
    ///
    /// # Errors
    /// Who does it may not, or what it is about is not there. Nothing has changed.
    pub(crate) fn apply(&mut self, change: &WorldChange, now: u64) -> Result<Outcome, BackendError> {
        let by = &change.by;
        let outcome = match &change.what {
            Change::Group { group, change } => self.change_group(by, group, change, now)?,
            Change::Recall { message } => self.recall(by, message, now)?,
            Change::Poke { group, target } => return self.poke(by, group.as_deref(), target),
            Change::React { message, emoji, on } => return self.react(by, message, emoji, *on),
        };
        if *by == self.me.uid {
            self.remember(change);
        }
        Ok(outcome)
    }

    /// Who may do this, as QQ has it.
    fn check_rights(&self, by: &str, group: &str, change: &GroupChange) -> Result<(), BackendError> {
        let found = self.world.groups.iter().find(|known| known.uid == group).ok_or(BackendError::Gone)?;
        let own = || self.role(found, by).ok_or(BackendError::NotAllowed);
        let of = |member: &str| self.role(found, member).ok_or(BackendError::Gone);
        let is_allowed = match change {
            GroupChange::Mute { member, .. } | GroupChange::Kick { member } => {
                let by = own()?;
                by > of(member)?
            }
            GroupChange::Card { member, card } => {
                short(card, MAX_NAME)?;
                let (own, other) = (own()?, of(member)?);
                by == member || own > other
            }
            GroupChange::Admin { member, .. } => {
                own()? == GroupRole::Owner && of(member)? != GroupRole::Owner
            }
            GroupChange::Title { member, title } => {
                short(title, MAX_NAME)?;
                of(member)?;
                own()? == GroupRole::Owner
            }
            GroupChange::Name { name } => {
                short(name, MAX_NAME)?;
                own()? >= GroupRole::Admin && !name.is_empty()
            }
            GroupChange::MuteAll { .. } => own()? >= GroupRole::Admin,
            GroupChange::Essence { message, .. } => {
                let known = self.messages.find(message).ok_or(BackendError::Gone)?;
                if known.place.group() != Some(group) {
                    return Err(BackendError::Gone);
                }
                own()? >= GroupRole::Admin
            }
            GroupChange::Announce { text, id } => {
                short(text, MAX_ANNOUNCEMENT)?;
                short(id, MAX_NAME)?;
                own()? >= GroupRole::Admin
            }
            GroupChange::Upload { file } => {
                short(&file.name, 4 * MAX_NAME)?;
                short(&file.id, 4 * MAX_NAME)?;
                short(&file.url, 1000)?;
                own()?;
                true
            }
            GroupChange::Leave if own()? == GroupRole::Owner => {
                return Err(BackendError::Refused("the owner of a group can only dismiss it".into()));
            }
            GroupChange::Leave => true,
            GroupChange::Dismiss => own()? == GroupRole::Owner,
            GroupChange::Join { member, name, invited_by } => {
                short(name, MAX_NAME)?;
                if self.changed.get(group).is_some_and(|state| state.is_dismissed) {
                    return Err(BackendError::Gone);
                }
                match invited_by {
                    Some(inviter) => by == member && of(inviter).is_ok(),
                    None => own()? >= GroupRole::Admin,
                }
            }
        };
        if is_allowed { Ok(()) } else { Err(BackendError::NotAllowed) }
    }

    fn change_group(
        &mut self,
        by: &str,
        group: &str,
        change: &GroupChange,
        now: u64,
    ) -> Result<Outcome, BackendError> {
        self.check_rights(by, group, change)?;
        let was_there = self.is_in_group(group);
        let before = self.snapshot();
        let notices = self.carry_out(by, group, change, now);
        let events = snapshot::changes_between(&before, &self.snapshot());
        let concerns_us = was_there || self.is_in_group(group);
        Ok(Outcome { events, notices: notices.into_iter().filter(|_| concerns_us).collect() })
    }

    fn is_in_group(&self, group: &str) -> bool {
        self.own_groups().any(|own| own.uid == group)
    }

    /// What was allowed. The notice is none if nothing changes.
    fn carry_out(
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

    fn recall(&mut self, by: &str, message: &MessageKey, now: u64) -> Result<Outcome, BackendError> {
        let known = self.messages.find(message).ok_or(BackendError::Gone)?;
        let group = known.place.group().map(str::to_owned);
        let found = self.world.groups.iter().find(|found| Some(found.uid.as_str()) == group.as_deref());
        let role = |uid: &str| found.and_then(|found| self.role(found, uid));
        if message.author == by {
            let is_late = now.saturating_sub(known.time) > RECALL_TIME && role(by) < Some(GroupRole::Admin);
            if is_late {
                let why = format!("a message can be taken back for {RECALL_TIME} seconds only");
                return Err(BackendError::Refused(why));
            }
        } else if role(by) < Some(GroupRole::Admin) || role(by) <= role(&message.author) {
            return Err(BackendError::NotAllowed);
        }
        let number = known.number;
        // A friend's notice names the friend; that of an own message its receiver.
        let friend = known.with.clone().unwrap_or_default();
        self.messages.remove(number);
        let notice = match &group {
            Some(group) => notice::group_recall(group, &message.author, by, number),
            None => notice::friend_recall(&friend, number),
        };
        Ok(Outcome { events: Vec::new(), notices: vec![notice] })
    }

    fn poke(&self, by: &str, group: Option<&str>, target: &str) -> Result<Outcome, BackendError> {
        self.person(target).ok_or(BackendError::Gone)?;
        let concerns_us = match group {
            Some(uid) => {
                let found = self.world.groups.iter().find(|found| found.uid == uid);
                let found = found.ok_or(BackendError::Gone)?;
                self.role(found, by).ok_or(BackendError::NotAllowed)?;
                self.role(found, target).ok_or(BackendError::Gone)?;
                self.is_in_group(uid)
            }
            None => {
                let other = if by == self.me.uid { target } else { by };
                self.person(other).filter(|person| self.is_friend(person)).ok_or(BackendError::NotAllowed)?;
                by == self.me.uid || target == self.me.uid
            }
        };
        let notices = if concerns_us { vec![notice::poke(group, by, target)] } else { Vec::new() };
        Ok(Outcome { events: Vec::new(), notices })
    }

    fn react(
        &mut self,
        by: &str,
        message: &MessageKey,
        emoji: &str,
        on: bool,
    ) -> Result<Outcome, BackendError> {
        short(emoji, MAX_NAME)?;
        let known = self.messages.find(message).ok_or(BackendError::Gone)?;
        let group = known.place.group().ok_or(BackendError::NotAllowed)?.to_owned();
        let number = known.number;
        let found = self.world.groups.iter().find(|found| found.uid == group).ok_or(BackendError::Gone)?;
        self.role(found, by).ok_or(BackendError::NotAllowed)?;
        let notices = match self.messages.react(number, by, emoji, on) {
            Some(count) => vec![notice::reaction(&group, by, number, emoji, count, on)],
            None => Vec::new(),
        };
        Ok(Outcome { events: Vec::new(), notices })
    }

    /// Keeps a change of our own for clients that come later.
    fn remember(&mut self, change: &WorldChange) {
        let Change::Group { group, change: what } = &change.what else { return };
        let same = |known: &WorldChange| match &known.what {
            Change::Group { group: of, change } => of == group && change.subject() == what.subject(),
            _ => false,
        };
        // Each message is a subject of its own.
        if !matches!(what, GroupChange::Essence { .. }) {
            self.own_changes.retain(|known| !same(known));
        }
        if self.own_changes.len() >= super::MAX_RULINGS {
            self.own_changes.remove(0);
        }
        self.own_changes.push(change.clone());
    }
}
