//! What clients of one world tell each other. By uid and other keys that are the same for all of them. Pure.

use serde::{Deserialize, Serialize};

use super::changes::{Change, GroupChange, WorldChange};
use crate::client::backend::segment::{self, Segment};

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

impl SandboxChat {
    /// The uid of the group, if it is one.
    pub(crate) fn group(&self) -> Option<&str> {
        match self {
            Self::Group(uid) => Some(uid),
            _ => None,
        }
    }
}

/// A mute or a removal of a group member, as earlier versions tell it. All by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModerationAction {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) by: String,
    /// The end of a mute, in Unix seconds. None: a removal.
    pub(crate) muted_until: Option<u64>,
}

impl ModerationAction {
    /// The change that it is.
    pub(crate) fn into_change(self) -> WorldChange {
        let member = self.member;
        let change = match self.muted_until {
            Some(until) => GroupChange::Mute { member, until },
            None => GroupChange::Kick { member },
        };
        WorldChange { by: self.by, what: Change::Group { group: self.group, change } }
    }

    /// The change as clients of earlier versions know it; none if they don't.
    pub(crate) fn of(change: &WorldChange) -> Option<Self> {
        let Change::Group { group, change: what } = &change.what else { return None };
        let (member, muted_until) = match what {
            GroupChange::Mute { member, until } => (member, Some(*until)),
            GroupChange::Kick { member } => (member, None),
            _ => return None,
        };
        let (group, member, by) = (group.clone(), member.clone(), change.by.clone());
        Some(Self { group, member, by, muted_until })
    }
}

/// A message on its way to other clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerMessage {
    pub(crate) place: SandboxChat,
    /// Who says it, if that is a person without a client.
    pub(crate) by: Option<String>,
    /// Its number in the client from which it comes.
    pub(crate) number: i32,
    /// The parts. One that refers to a message does so by its `MessageKey`.
    pub(crate) segments: Vec<Segment>,
}

impl PeerMessage {
    /// About how long it is on the wire.
    pub(crate) fn bytes(&self) -> usize {
        256 + segment::bytes(&self.segments)
    }
}
