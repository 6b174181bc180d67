//! [`AccountEvent`]: what happens to an account besides messages, and its JSON in reports.

use serde_json::{Value, json};

use super::happening::Happening;
use super::message::Recipient;
use super::objects::{Discuss, DiscussMember, Friend, Group, GroupMember, User};
use super::segment::{self, Segment};
use crate::model::login::LoginEvent;
use crate::model::state::ClientState;

/// A changed property of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name on the wire.
    pub property: String,
    /// The old value.
    pub old: Value,
    /// The new value.
    pub new: Value,
}

/// A queued message without a waiting caller that was not sent, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnsentMessage {
    /// The id that the caller got.
    pub id: String,
    /// The recipient.
    pub to: Recipient,
    /// The text.
    pub content: String,
    /// The parts; none where the text was all of it.
    pub segments: Vec<Segment>,
    /// The code that a waiting caller would have got.
    pub code: i32,
    /// Why, in words.
    pub info: String,
}

impl UnsentMessage {
    /// The message as JSON, with the keys of reports of messages.
    fn message(&self) -> Value {
        let (kind, to) = match &self.to {
            Recipient::Friend(id) => ("friend_message", json!({ "receiver_id": id })),
            Recipient::Group(id) => ("group_message", json!({ "group_id": id })),
            Recipient::Discuss(id) => ("discuss_message", json!({ "discuss_id": id })),
            Recipient::GroupMember { group, member } => {
                ("sess_message", json!({ "via": "group", "group_id": group, "receiver_id": member }))
            }
            Recipient::DiscussMember { discuss, member } => {
                ("sess_message", json!({ "via": "discuss", "discuss_id": discuss, "receiver_id": member }))
            }
        };
        let mut message = json!({ "id": self.id, "type": kind, "content": self.content });
        if !self.segments.is_empty() {
            message["segments"] = json!(segment::without_content(&self.segments));
        }
        // Both are objects, as made above.
        if let (Some(message), Value::Object(to)) = (message.as_object_mut(), to) {
            message.extend(to);
        }
        message
    }
}

/// An event besides messages. Objects that are gone are shown as they were last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountEvent {
    /// The state changed (old, new); the reason if the account was logged out elsewhere.
    StateChange(ClientState, ClientState, Option<String>),
    /// A login code is shown: the path of its image, and the image in base64.
    InputQrcode(String, String),
    /// The account is logged in, with a scan or without.
    Login {
        /// Whether a code was scanned.
        scanned: bool,
    },
    /// The controller found a change of the account's login, with its reason.
    LoginChange(LoginEvent, Option<String>),
    /// The client stops; the reason if the account was logged out elsewhere.
    Stop(Option<String>),
    /// A queued message was not sent, or may have been.
    SendFailed(Box<UnsentMessage>),
    /// A friend was added.
    NewFriend(Friend),
    /// A friend was removed.
    LoseFriend(Friend),
    /// The account joined a group.
    NewGroup(Group),
    /// The account left a group.
    LoseGroup(Group),
    /// A member joined a group.
    NewGroupMember(GroupMember, Group),
    /// A member left a group.
    LoseGroupMember(GroupMember, Group),
    /// The account joined a discussion.
    NewDiscuss(Discuss),
    /// The account left a discussion.
    LoseDiscuss(Discuss),
    /// A member joined a discussion.
    NewDiscussMember(DiscussMember, Discuss),
    /// A member left a discussion.
    LoseDiscussMember(DiscussMember, Discuss),
    /// A property of a friend changed.
    FriendPropertyChange(Friend, Change),
    /// A property of a group changed.
    GroupPropertyChange(Group, Change),
    /// A property of a group member changed.
    GroupMemberPropertyChange(GroupMember, Change),
    /// A property of the own account changed.
    UserPropertyChange(User, Change),
    /// What the old API had no words for.
    Happened(Happening),
}

impl AccountEvent {
    /// The name on the wire.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::StateChange(..) => "state_change",
            Self::InputQrcode(..) => "input_qrcode",
            Self::Login { .. } => "login",
            Self::LoginChange(..) => "login_change",
            Self::Stop(_) => "stop",
            Self::SendFailed(_) => "send_failed",
            Self::NewFriend(_) => "new_friend",
            Self::LoseFriend(_) => "lose_friend",
            Self::NewGroup(_) => "new_group",
            Self::LoseGroup(_) => "lose_group",
            Self::NewGroupMember(..) => "new_group_member",
            Self::LoseGroupMember(..) => "lose_group_member",
            Self::NewDiscuss(_) => "new_discuss",
            Self::LoseDiscuss(_) => "lose_discuss",
            Self::NewDiscussMember(..) => "new_discuss_member",
            Self::LoseDiscussMember(..) => "lose_discuss_member",
            Self::FriendPropertyChange(..) => "friend_property_change",
            Self::GroupPropertyChange(..) => "group_property_change",
            Self::GroupMemberPropertyChange(..) => "group_member_property_change",
            Self::UserPropertyChange(..) => "user_property_change",
            Self::Happened(happening) => happening.name,
        }
    }

    /// The report as JSON. A group or discussion that is only context is shown without its members.
    pub(crate) fn to_json(&self) -> Value {
        let changed =
            |object: Value, change: &Change| json!([object, change.property, change.old, change.new]);
        let params = match self {
            Self::StateChange(old, new, _) => json!([old, new]),
            Self::InputQrcode(path, image) => json!([path, image]),
            Self::Login { scanned } => json!([u8::from(*scanned)]),
            Self::LoginChange(event, _) => json!([event.as_str()]),
            Self::Stop(_) => json!([]),
            Self::SendFailed(unsent) => json!([unsent.message(), unsent.code, unsent.info]),
            Self::NewFriend(friend) | Self::LoseFriend(friend) => json!([friend]),
            Self::NewGroup(group) | Self::LoseGroup(group) => json!([group]),
            Self::NewGroupMember(member, group) | Self::LoseGroupMember(member, group) => {
                json!([member, group.basic()])
            }
            Self::NewDiscuss(discuss) | Self::LoseDiscuss(discuss) => json!([discuss]),
            Self::NewDiscussMember(member, discuss) | Self::LoseDiscussMember(member, discuss) => {
                json!([member, discuss.basic()])
            }
            Self::FriendPropertyChange(friend, change) => changed(json!(friend), change),
            Self::GroupPropertyChange(group, change) => changed(group.basic(), change),
            Self::GroupMemberPropertyChange(member, change) => changed(json!(member), change),
            Self::UserPropertyChange(user, change) => changed(json!(user), change),
            Self::Happened(happening) => json!([happening.details]),
        };
        let mut report = json!({ "post_type": "event", "event": self.name(), "params": params });
        // The parameters are those of the original, so the reason is a key of its own.
        if let Self::StateChange(.., Some(reason))
        | Self::Stop(Some(reason))
        | Self::LoginChange(_, Some(reason)) = self
        {
            report["reason"] = json!(reason);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_json_matches_the_wire() {
        let change = AccountEvent::StateChange(ClientState::Loading, ClientState::Scaning, None);
        assert_eq!(
            change.to_json(),
            json!({ "post_type": "event", "event": "state_change", "params": ["loading", "scaning"] })
        );
        assert_eq!(
            AccountEvent::LoginChange(LoginEvent::Offline, Some("no connection".into())).to_json(),
            json!({ "post_type": "event", "event": "login_change", "params": ["offline"], "reason": "no connection" })
        );
        assert_eq!(AccountEvent::Login { scanned: true }.to_json()["params"], json!([1]));
        assert_eq!(
            AccountEvent::Stop(Some("kicked".into())).to_json(),
            json!({ "post_type": "event", "event": "stop", "params": [], "reason": "kicked" })
        );
        assert_eq!(
            AccountEvent::Stop(None).to_json(),
            json!({ "post_type": "event", "event": "stop", "params": [] })
        );
        let unsent = UnsentMessage {
            id: "7".into(),
            to: Recipient::GroupMember { group: "g".into(), member: "m".into() },
            content: "你好".into(),
            segments: Vec::new(),
            code: -3,
            info: "why".into(),
        };
        let message = json!({ "id": "7", "type": "sess_message", "content": "你好", "via": "group", "group_id": "g",
                              "receiver_id": "m" });
        assert_eq!(
            AccountEvent::SendFailed(Box::new(unsent)).to_json(),
            json!({ "post_type": "event", "event": "send_failed", "params": [message, -3, "why"] })
        );
    }
}
