//! [`WorldChange`]: what somebody does to the world besides speaking, by whom it may be done, and what follows. Pure.
//!
//! The same rules hold for our own changes and for those of other clients, as those are not trusted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::messages::MessageKey;
use super::rights::{MAX_NAME, short};
use super::{Outcome, View};
use crate::client::backend::BackendError;
use crate::client::backend::objects::GroupRole;
use crate::client::backend::snapshot;
use crate::client::sandbox::notice;

/// How long a member may take back what it said, in seconds; as in QQ.
const RECALL_TIME: u64 = 120;

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
