//! [`RemoteEvent`]: the events of an implementation, whatever its protocol is.

use std::time::Duration;

use serde_json::Value;

use super::segment::MessageSegment;
use super::value::opaque;
use crate::client::backend::happening::Happening;
use crate::client::backend::segment::{self, Segment};

/// An event of an implementation. Ids are numbers of people and groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RemoteEvent {
    /// A message.
    Said(RemoteMessage),
    /// A friend was added.
    FriendCame(u64),
    /// A member joined: group and member.
    MemberCame(u64, u64),
    /// A member left or was removed: group and member.
    MemberGone(u64, u64),
    /// The account is no longer in a group.
    GroupGone(u64),
    /// A member became an admin, or is one no more: group, member, whether it is one now.
    Admin(u64, u64, bool),
    /// The name of a member in a group changed.
    Card {
        /// The group.
        group: u64,
        /// The member.
        member: u64,
        /// The old name.
        old: String,
        /// The new name.
        new: String,
    },
    /// A group was renamed: group and name.
    Named(u64, String),
    /// The account was logged out and will not log in again by itself: why.
    Offline(String),
    /// A heartbeat: when the next one follows, and whether the account is online.
    Heartbeat(Option<Duration>, Option<bool>),
    /// What the API tells as the standard does.
    Happened(Happening),
    /// An event that the API does not have.
    Other,
    /// An event that lacks a required field, such as a readable id. Its `post_type`.
    Unclear(&'static str),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemoteMessage {
    /// The chat.
    pub place: RemoteChat,
    /// The author.
    pub by: u64,
    /// The receiver of an own message to one person, if the event names it.
    pub to: Option<u64>,
    /// Whether the account itself wrote it.
    pub own: bool,
    /// The implementation's message id.
    pub number: Option<String>,
    /// The time in Unix seconds, if the event has one.
    pub time: Option<u64>,
    /// The names of the author in general and in this group, if the event has them.
    pub name: Option<String>,
    /// See `name`.
    pub card: Option<String>,
    /// The content.
    pub content: Vec<MessageSegment>,
    /// The same in the words of OneBot.
    pub as_said: AsSaid,
}

/// A message in the words of OneBot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AsSaid {
    /// The parts; none if they are to be made of the content.
    pub segments: Vec<Segment>,
    /// The `message_id`.
    pub number: Option<i32>,
}

impl AsSaid {
    /// Of an event of a message in the words of OneBot.
    pub(crate) fn of(event: &Value) -> Self {
        Self {
            segments: segment::read(&event["message"], false).unwrap_or_default(),
            number: opaque(&event["message_id"]).and_then(|number| number.parse().ok()),
        }
    }
}

/// The chat of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoteChat {
    /// Between two friends.
    Friend,
    /// Between two people; the event does not say whether they are friends.
    Private,
    /// Between two members of a group, if the event names it.
    Session(Option<u64>),
    /// In a group.
    Group(u64),
}
