//! [`Message`] and [`Event`]: what happens to an account, and its JSON for those who get reports.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::backend::Recipient;
use super::objects::{Discuss, DiscussMember, Friend, Group, GroupMember, User};
use crate::model::state::ClientState;

/// A person at one end of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// Valid for this login.
    pub id: String,
    /// The number that never changes.
    pub uid: String,
    /// What people call it.
    pub displayname: String,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody else's, to us.
    Received,
    /// Ours.
    Sent,
}

/// Where a message was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// Between two friends.
    Friend,
    /// To everybody in a group.
    Group(GroupName),
    /// To everybody in a discussion.
    Discuss(DiscussName),
    /// Between two members of a group, who need not be friends.
    GroupSession(GroupName),
    /// Between two members of a discussion, who need not be friends.
    DiscussSession(DiscussName),
}

/// A group, as far as a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupName {
    /// Valid for this login.
    pub id: String,
    /// The number that never changes.
    pub uid: String,
    /// What people call it.
    pub displayname: String,
}

/// A discussion, as far as a message names it. It has no lasting number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiscussName {
    /// Valid for this login.
    pub id: String,
    /// What people call it.
    pub displayname: String,
}

/// A message that the own account said or heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Which way it went.
    pub way: Way,
    /// Where it was said.
    pub scene: Scene,
    /// Its number in this login.
    pub id: String,
    /// When, in Unix seconds.
    pub time: u64,
    /// What it says.
    pub content: String,
    /// Who wrote it.
    pub sender: Party,
    /// Who got it. None: our own, to everybody in the scene.
    pub receiver: Option<Party>,
}

impl Message {
    /// Where an answer to it goes: none goes to our own.
    pub(super) fn reply_to(&self) -> Option<Recipient> {
        if self.way == Way::Sent {
            return None;
        }
        let sender = self.sender.id.clone();
        Some(match &self.scene {
            Scene::Friend => Recipient::Friend(sender),
            Scene::Group(group) => Recipient::Group(group.id.clone()),
            Scene::Discuss(discuss) => Recipient::Discuss(discuss.id.clone()),
            Scene::GroupSession(group) => Recipient::GroupMember { group: group.id.clone(), member: sender },
            Scene::DiscussSession(discuss) => {
                Recipient::DiscussMember { discuss: discuss.id.clone(), member: sender }
            }
        })
    }

    /// The report of it.
    pub(super) fn to_json(&self) -> Value {
        let (post_type, class) = match self.way {
            Way::Received => ("receive_message", "recv"),
            Way::Sent => ("send_message", "send"),
        };
        let kind = match &self.scene {
            Scene::Friend => "friend_message",
            Scene::Group(_) => "group_message",
            Scene::Discuss(_) => "discuss_message",
            Scene::GroupSession(_) | Scene::DiscussSession(_) => "sess_message",
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
        });
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
        match &self.scene {
            Scene::Friend => {}
            Scene::Group(group) | Scene::GroupSession(group) => {
                add(&[("group", &group.displayname), ("group_id", &group.id), ("group_uid", &group.uid)]);
            }
            Scene::Discuss(discuss) | Scene::DiscussSession(discuss) => {
                add(&[("discuss", &discuss.displayname), ("discuss_id", &discuss.id)]);
            }
        }
        match &self.scene {
            Scene::GroupSession(_) => add(&[("via", "group")]),
            Scene::DiscussSession(_) => add(&[("via", "discuss")]),
            _ => {}
        }
        report
    }
}

/// A property of an object that is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Its name on the wire.
    pub property: String,
    /// What it was.
    pub old: Value,
    /// What it is.
    pub new: Value,
}

/// What happens besides messages. Objects that are gone are shown as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The client went from one state to another.
    StateChange(ClientState, ClientState),
    /// A code waits to be scanned: the path of its image and the image in base64.
    InputQrcode(String, String),
    /// The account is logged in, with a scan or without.
    Login {
        /// Whether somebody had to scan a code.
        scanned: bool,
    },
    /// The client stops.
    Stop,
    /// There is a friend more.
    NewFriend(Friend),
    /// There is a friend less.
    LoseFriend(Friend),
    /// The own account is in a group more.
    NewGroup(Group),
    /// The own account is in a group less.
    LoseGroup(Group),
    /// Somebody came to a group.
    NewGroupMember(GroupMember, Group),
    /// Somebody is no longer in a group.
    LoseGroupMember(GroupMember, Group),
    /// The own account is in a discussion more.
    NewDiscuss(Discuss),
    /// The own account is in a discussion less.
    LoseDiscuss(Discuss),
    /// Somebody came to a discussion.
    NewDiscussMember(DiscussMember, Discuss),
    /// Somebody is no longer in a discussion.
    LoseDiscussMember(DiscussMember, Discuss),
    /// A friend is not as it was.
    FriendPropertyChange(Friend, Change),
    /// A group is not as it was.
    GroupPropertyChange(Group, Change),
    /// A member of a group is not as it was.
    GroupMemberPropertyChange(GroupMember, Change),
    /// The own account is not as it was.
    UserPropertyChange(User, Change),
}

impl Event {
    /// The name on the wire.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::StateChange(..) => "state_change",
            Self::InputQrcode(..) => "input_qrcode",
            Self::Login { .. } => "login",
            Self::Stop => "stop",
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
        }
    }

    /// The report of it. A group or discussion that comes along with something else is shown without its members.
    pub(super) fn to_json(&self) -> Value {
        let changed =
            |object: Value, change: &Change| json!([object, change.property, change.old, change.new]);
        let params = match self {
            Self::StateChange(old, new) => json!([old, new]),
            Self::InputQrcode(path, image) => json!([path, image]),
            Self::Login { scanned } => json!([u8::from(*scanned)]),
            Self::Stop => json!([]),
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
        };
        json!({ "post_type": "event", "event": self.name(), "params": params })
    }
}

/// Now, in whole seconds since 1970; 0 on a machine whose clock is before that.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_as_on_the_wire() {
        let change = Event::StateChange(ClientState::Loading, ClientState::Scaning);
        assert_eq!(
            change.to_json(),
            json!({ "post_type": "event", "event": "state_change", "params": ["loading", "scaning"] })
        );
        assert_eq!(Event::Login { scanned: true }.to_json()["params"], json!([1]));
        assert_eq!(Event::Stop.to_json()["params"], json!([]));
    }

    fn message(scene: Scene) -> Message {
        let party = |id: &str| Party { id: id.into(), uid: format!("u{id}"), displayname: "小红".into() };
        let (id, content) = ("7".into(), "你好".into());
        let (sender, receiver) = (party("s"), Some(party("r")));
        Message { way: Way::Received, scene, id, time: 1, content, sender, receiver }
    }

    #[test]
    fn messages_as_on_the_wire() {
        let group = GroupName { id: "g".into(), uid: "100".into(), displayname: "群".into() };
        let discuss = DiscussName { id: "d".into(), displayname: "讨论组".into() };
        let member = || "s".to_owned();
        for (scene, kind, more, reply) in [
            (Scene::Friend, "friend_message", json!({}), Recipient::Friend(member())),
            (
                Scene::Group(group.clone()),
                "group_message",
                json!({ "group": "群", "group_id": "g", "group_uid": "100" }),
                Recipient::Group("g".into()),
            ),
            (
                Scene::Discuss(discuss.clone()),
                "discuss_message",
                json!({ "discuss": "讨论组", "discuss_id": "d" }),
                Recipient::Discuss("d".into()),
            ),
            (
                Scene::GroupSession(group),
                "sess_message",
                json!({ "via": "group", "group": "群", "group_id": "g", "group_uid": "100" }),
                Recipient::GroupMember { group: "g".into(), member: member() },
            ),
            (
                Scene::DiscussSession(discuss),
                "sess_message",
                json!({ "via": "discuss", "discuss": "讨论组", "discuss_id": "d" }),
                Recipient::DiscussMember { discuss: "d".into(), member: member() },
            ),
        ] {
            let mut message = message(scene);
            let mut expected = json!({
                "post_type": "receive_message", "class": "recv", "type": kind, "id": "7", "time": 1,
                "content": "你好", "sender": "小红", "sender_id": "s", "sender_uid": "us",
                "receiver": "小红", "receiver_id": "r", "receiver_uid": "ur",
            });
            for (name, value) in more.as_object().unwrap() {
                expected[name] = value.clone();
            }
            assert_eq!(message.to_json(), expected);
            assert_eq!(message.reply_to(), Some(reply));
            (message.way, message.receiver) = (Way::Sent, None);
            assert_eq!(message.to_json()["class"], "send");
            assert_eq!(message.to_json()["post_type"], "send_message");
            assert!(message.to_json().get("receiver_id").is_none());
            assert_eq!(message.reply_to(), None);
        }
    }
}
