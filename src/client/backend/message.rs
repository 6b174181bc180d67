//! [`ChatMessage`]: a message sent or received by the account, and its JSON in reports.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::segment::{self, Segment};

/// The sender or the receiver of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    /// Valid for this login.
    pub id: String,
    /// The number that never changes.
    pub uid: String,
    /// The display name.
    pub displayname: String,
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From another account to this one.
    Received,
    /// From this account.
    Sent,
}

/// The chat that a message belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chat {
    /// Between two friends.
    Friend,
    /// In a group.
    Group(GroupRef),
    /// In a discussion.
    Discuss(DiscussRef),
    /// Between two members of a group, who need not be friends.
    GroupSession(GroupRef),
    /// Between two members of a discussion, who need not be friends.
    DiscussSession(DiscussRef),
}

/// The group of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRef {
    /// Valid for this login.
    pub id: String,
    /// The number that never changes.
    pub uid: String,
    /// What people call it.
    pub displayname: String,
}

/// The discussion of a message. It has no lasting number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscussRef {
    /// Valid for this login.
    pub id: String,
    /// What people call it.
    pub displayname: String,
}

/// A message that the account sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChatMessage {
    /// The direction.
    pub direction: Direction,
    /// The chat.
    pub chat: Chat,
    /// The id in this login.
    pub id: String,
    /// When, in Unix seconds.
    pub time: u64,
    /// The text.
    pub content: String,
    /// The parts, of which `content` is what the old API shows.
    pub segments: Vec<Segment>,
    /// The `message_id` of OneBot, if the network has one.
    pub number: Option<i32>,
    /// The sender.
    pub sender: Party,
    /// The receiver; none for an own message to a whole group or discussion.
    pub receiver: Option<Party>,
}

impl ChatMessage {
    /// The recipient of a reply. A reply to an own message goes where that message went.
    pub(crate) fn reply_to(&self) -> Option<Recipient> {
        let other = || match self.direction {
            Direction::Received => Some(self.sender.id.clone()),
            Direction::Sent => self.receiver.as_ref().map(|receiver| receiver.id.clone()),
        };
        Some(match &self.chat {
            Chat::Friend => Recipient::Friend(other()?),
            Chat::Group(group) => Recipient::Group(group.id.clone()),
            Chat::Discuss(discuss) => Recipient::Discuss(discuss.id.clone()),
            Chat::GroupSession(group) => Recipient::GroupMember { group: group.id.clone(), member: other()? },
            Chat::DiscussSession(discuss) => {
                Recipient::DiscussMember { discuss: discuss.id.clone(), member: other()? }
            }
        })
    }

    /// The report as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let (post_type, class) = match self.direction {
            Direction::Received => ("receive_message", "recv"),
            Direction::Sent => ("send_message", "send"),
        };
        let kind = match &self.chat {
            Chat::Friend => "friend_message",
            Chat::Group(_) => "group_message",
            Chat::Discuss(_) => "discuss_message",
            Chat::GroupSession(_) | Chat::DiscussSession(_) => "sess_message",
        };
        let mut report = json!({
            "post_type": post_type,
            "class": class,
            "type": kind,
            "id": self.id,
            "time": self.time,
            "content": self.content,
            "sender": self.sender.displayname,
            "sender_id": self.sender.id,
            "sender_uid": self.sender.uid,
            "segments": self.segments,
            "raw": segment::raw(&self.segments),
        });
        if let Some(number) = self.number {
            report["message_id"] = number.into();
        }
        let mut add = |fields: &[(&str, &str)]| {
            for (name, value) in fields {
                report[*name] = json!(value);
            }
        };
        if let Some(receiver) = &self.receiver {
            add(&[
                ("receiver", &receiver.displayname),
                ("receiver_id", &receiver.id),
                ("receiver_uid", &receiver.uid),
            ]);
        }
        match &self.chat {
            Chat::Friend => {}
            Chat::Group(group) | Chat::GroupSession(group) => {
                add(&[("group", &group.displayname), ("group_id", &group.id), ("group_uid", &group.uid)]);
            }
            Chat::Discuss(discuss) | Chat::DiscussSession(discuss) => {
                add(&[("discuss", &discuss.displayname), ("discuss_id", &discuss.id)]);
            }
        }
        // Both kinds of session are `sess_message`; only `via` tells them apart.
        match &self.chat {
            Chat::GroupSession(_) => add(&[("via", "group")]),
            Chat::DiscussSession(_) => add(&[("via", "discuss")]),
            _ => {}
        }
        report
    }
}

/// The recipient of a message. Ids are those of this login.
// Queued messages are saved with it (outbox/unsent.rs), so another name of a variant is another format of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recipient {
    /// A friend, by id.
    Friend(String),
    /// A group, by id.
    Group(String),
    /// A discussion, by id.
    Discuss(String),
    /// One member of a group.
    GroupMember {
        /// The group's id.
        group: String,
        /// The member's id.
        member: String,
    },
    /// One member of a discussion.
    DiscussMember {
        /// The discussion's id.
        discuss: String,
        /// The member's id.
        member: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(chat: Chat) -> ChatMessage {
        let party = |id: &str| Party { id: id.into(), uid: format!("u{id}"), displayname: "小红".into() };
        let (id, content) = ("7".into(), "你好".into());
        let (sender, receiver) = (party("s"), Some(party("r")));
        let (segments, number) = (vec![Segment::new("at", &[("qq", "7")])], Some(-3));
        let direction = Direction::Received;
        ChatMessage { direction, chat, id, time: 1, content, segments, number, sender, receiver }
    }

    #[test]
    fn message_json_matches_the_wire() {
        let group = GroupRef { id: "g".into(), uid: "100".into(), displayname: "群".into() };
        let discuss = DiscussRef { id: "d".into(), displayname: "讨论组".into() };
        let member = || "s".to_owned();
        for (chat, kind, more, reply) in [
            (Chat::Friend, "friend_message", json!({}), Recipient::Friend(member())),
            (
                Chat::Group(group.clone()),
                "group_message",
                json!({ "group": "群", "group_id": "g", "group_uid": "100" }),
                Recipient::Group("g".into()),
            ),
            (
                Chat::Discuss(discuss.clone()),
                "discuss_message",
                json!({ "discuss": "讨论组", "discuss_id": "d" }),
                Recipient::Discuss("d".into()),
            ),
            (
                Chat::GroupSession(group),
                "sess_message",
                json!({ "via": "group", "group": "群", "group_id": "g", "group_uid": "100" }),
                Recipient::GroupMember { group: "g".into(), member: member() },
            ),
            (
                Chat::DiscussSession(discuss),
                "sess_message",
                json!({ "via": "discuss", "discuss": "讨论组", "discuss_id": "d" }),
                Recipient::DiscussMember { discuss: "d".into(), member: member() },
            ),
        ] {
            let mut message = message(chat);
            let mut expected = json!({
                "post_type": "receive_message", "class": "recv", "type": kind, "id": "7", "time": 1,
                "content": "你好", "sender": "小红", "sender_id": "s", "sender_uid": "us",
                "receiver": "小红", "receiver_id": "r", "receiver_uid": "ur",
                "message_id": -3, "segments": [{ "type": "at", "data": { "qq": "7" } }], "raw": "[CQ:at,qq=7]",
            });
            for (name, value) in more.as_object().unwrap() {
                expected[name] = value.clone();
            }
            assert_eq!(message.to_json(), expected);
            assert_eq!(message.reply_to().as_ref(), Some(&reply));
            // Our own to the same: an answer goes where it went.
            message.direction = Direction::Sent;
            (message.sender.id, message.receiver) = ("own".into(), Some(message.sender.clone()));
            assert_eq!(message.reply_to(), Some(reply));
            (message.direction, message.receiver) = (Direction::Sent, None);
            assert_eq!(message.to_json()["class"], "send");
            assert_eq!(message.to_json()["post_type"], "send_message");
            assert!(message.to_json().get("receiver_id").is_none());
            let is_to_all = matches!(message.chat, Chat::Group(_) | Chat::Discuss(_));
            assert_eq!(message.reply_to().is_some(), is_to_all);
        }
    }
}
