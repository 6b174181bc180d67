//! [`OneBotEvent`]: the events of an implementation.

use std::time::Duration;

use serde_json::Value;

use super::segment::{self, MessageSegment};
use super::value::{flag, id, message_number, number, text, words};

/// An event of an implementation. Ids are numbers of people and groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OneBotEvent {
    /// A message.
    Said(OneBotMessage),
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
    /// An event that the API does not have.
    Other,
    /// An event that lacks a required field, such as a readable id. Its `post_type`.
    Unclear(&'static str),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OneBotMessage {
    /// The chat.
    pub place: OneBotChat,
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
}

/// The chat of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneBotChat {
    /// Between two friends.
    Friend,
    /// Between two people; the event does not say whether they are friends.
    Private,
    /// Between two members of a group, if the event names it.
    Session(Option<u64>),
    /// In a group.
    Group(u64),
}

impl OneBotEvent {
    /// Reads an event.
    pub(crate) fn read(event: &Value) -> Self {
        match text(&event["post_type"]) {
            "message" => said(event, is_own(event)).unwrap_or(Self::Unclear("message")),
            // Not in OneBot 11, which has no events for own messages; some implementations add it.
            "message_sent" => said(event, true).unwrap_or(Self::Unclear("message_sent")),
            "notice" => notice(event).unwrap_or(Self::Unclear("notice")),
            "meta_event" if text(&event["meta_event_type"]) == "heartbeat" => {
                let interval = number(&event["interval"]).filter(|interval| *interval > 0);
                Self::Heartbeat(interval.map(Duration::from_millis), flag(&event["status"]["online"]))
            }
            _ => Self::Other,
        }
    }
}

fn is_own(event: &Value) -> bool {
    id(&event["user_id"]).is_some_and(|user| id(&event["self_id"]) == Some(user))
}

fn said(event: &Value, own: bool) -> Option<OneBotEvent> {
    let sub_type = text(&event["sub_type"]);
    let sender = &event["sender"];
    // For a temporary session some have it only in `sender`.
    let group = || id(&event["group_id"]).or_else(|| id(&sender["group_id"]));
    let place = match (text(&event["message_type"]), sub_type) {
        // They have no author who could be answered.
        ("group", "anonymous" | "notice") => return Some(OneBotEvent::Other),
        ("group", _) => OneBotChat::Group(group()?),
        ("private", "friend") => OneBotChat::Friend,
        ("private", "group") => OneBotChat::Session(group()),
        ("private", _) => OneBotChat::Private,
        // Guilds and the like, which the API does not have.
        _ => return Some(OneBotEvent::Other),
    };
    let words = |key: &str| Some(text(&sender[key])).filter(|words| !words.is_empty()).map(str::to_owned);
    Some(OneBotEvent::Said(OneBotMessage {
        place,
        by: id(&event["user_id"]).or_else(|| id(&sender["user_id"]))?,
        to: id(&event["target_id"]),
        own,
        number: message_number(&event["message_id"]),
        // 0 would be 1970; without a time the time of arrival counts.
        time: number(&event["time"]).filter(|time| *time > 0),
        name: words("nickname"),
        card: words("card"),
        content: segment::read(&event["message"]),
    }))
}

fn notice(event: &Value) -> Option<OneBotEvent> {
    let (group, user) = (|| id(&event["group_id"]), || id(&event["user_id"]));
    let sub_type = text(&event["sub_type"]);
    Some(match text(&event["notice_type"]) {
        "group_upload" => OneBotEvent::Said(OneBotMessage {
            place: OneBotChat::Group(group()?),
            by: user()?,
            to: None,
            own: is_own(event),
            // Uploads have no message id, but each file has an id.
            number: message_number(&event["file"]["id"]).map(|id| format!("file {id}")),
            time: number(&event["time"]).filter(|time| *time > 0),
            name: None,
            card: None,
            content: vec![MessageSegment::Text(format!("共享文件 [{}]", text(&event["file"]["name"])))],
        }),
        "friend_add" => OneBotEvent::FriendCame(user()?),
        "group_increase" => OneBotEvent::MemberCame(group()?, user()?),
        // An account that leaves by itself is `leave` with its own number.
        "group_decrease" if matches!(sub_type, "kick_me" | "disband") || is_own(event) => {
            OneBotEvent::GroupGone(group()?)
        }
        "group_decrease" => OneBotEvent::MemberGone(group()?, user()?),
        "group_dismiss" => OneBotEvent::GroupGone(group()?),
        "group_admin" => OneBotEvent::Admin(group()?, user()?, sub_type == "set"),
        "group_card" => OneBotEvent::Card {
            group: group()?,
            member: user()?,
            old: text(&event["card_old"]).to_owned(),
            new: text(&event["card_new"]).to_owned(),
        },
        "notify" if sub_type == "group_name" => OneBotEvent::Named(
            group()?,
            event["name_new"].as_str().filter(|name| !name.is_empty())?.to_owned(),
        ),
        "bot_offline" => {
            let why = ["message", "tag"].into_iter().map(|key| words(&event[key]));
            OneBotEvent::Offline(
                why.into_iter().find(|why| !why.is_empty()).unwrap_or_else(|| "bot_offline".into()),
            )
        }
        _ => OneBotEvent::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut event: Value, more: Value) -> OneBotEvent {
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        OneBotEvent::read(&event)
    }

    fn message(more: Value) -> OneBotEvent {
        let event = json!({
            "post_type": "message", "message_type": "private", "sub_type": "friend", "self_id": 1, "user_id": "7",
            "message_id": -3, "time": 9, "message": "x", "sender": { "nickname": "n" },
        });
        read(event, more)
    }

    fn notice(kind: &str, more: Value) -> OneBotEvent {
        let event = json!({
            "post_type": "notice", "notice_type": kind, "self_id": "1", "group_id": 5, "user_id": 7, "time": 9,
        });
        read(event, more)
    }

    #[test]
    fn message_events_are_read() {
        let OneBotEvent::Said(said) = message(json!({})) else { panic!() };
        assert_eq!((said.place, said.by, said.own, said.time), (OneBotChat::Friend, 7, false, Some(9)));
        assert_eq!((said.number.as_deref(), said.name.as_deref(), said.card), (Some("-3"), Some("n"), None));
        for (more, place) in [
            (json!({ "sub_type": "group", "sender": { "group_id": "5" } }), OneBotChat::Session(Some(5))),
            (json!({ "sub_type": "group", "group_id": 5 }), OneBotChat::Session(Some(5))),
            (json!({ "sub_type": "group" }), OneBotChat::Session(None)),
            (json!({ "sub_type": "other" }), OneBotChat::Private),
            (json!({ "sub_type": null }), OneBotChat::Private),
            (json!({ "message_type": "group", "sub_type": "normal", "group_id": 5 }), OneBotChat::Group(5)),
            (json!({ "message_type": "group", "group_id": "5", "sub_type": null }), OneBotChat::Group(5)),
        ] {
            let OneBotEvent::Said(said) = message(more.clone()) else { panic!("{more}") };
            assert_eq!(said.place, place, "{more}");
        }
        for more in [
            json!({ "message_type": "group", "group_id": 5, "sub_type": "anonymous" }),
            json!({ "message_type": "group", "group_id": 5, "sub_type": "notice" }),
            json!({ "message_type": "channel" }),
            json!({ "post_type": "request" }),
            json!({ "post_type": {} }),
        ] {
            assert_eq!(message(more.clone()), OneBotEvent::Other, "{more}");
        }
        for more in [json!({ "message_type": "group" }), json!({ "user_id": null, "sender": null })] {
            assert_eq!(message(more.clone()), OneBotEvent::Unclear("message"), "{more}");
        }
        for unknown in [json!(0), json!("0"), json!(""), json!(null)] {
            let event = message(json!({ "message_id": unknown }));
            assert!(matches!(event, OneBotEvent::Said(OneBotMessage { number: None, .. })), "{unknown}");
        }
        assert!(matches!(
            message(json!({ "user_id": 1 })),
            OneBotEvent::Said(OneBotMessage { own: true, .. })
        ));
        let sent = message(json!({ "post_type": "message_sent", "target_id": 7, "user_id": 1 }));
        assert!(matches!(sent, OneBotEvent::Said(OneBotMessage { own: true, to: Some(7), .. })));
    }

    #[test]
    fn notice_events_are_read() {
        for (kind, more, event) in [
            ("friend_add", json!({}), OneBotEvent::FriendCame(7)),
            ("group_increase", json!({}), OneBotEvent::MemberCame(5, 7)),
            ("group_decrease", json!({ "sub_type": "leave" }), OneBotEvent::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick" }), OneBotEvent::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick_me" }), OneBotEvent::GroupGone(5)),
            ("group_decrease", json!({ "sub_type": "leave", "user_id": 1 }), OneBotEvent::GroupGone(5)),
            ("group_dismiss", json!({ "user_id": null }), OneBotEvent::GroupGone(5)),
            ("group_admin", json!({ "sub_type": "set" }), OneBotEvent::Admin(5, 7, true)),
            ("group_admin", json!({ "sub_type": "unset" }), OneBotEvent::Admin(5, 7, false)),
            (
                "notify",
                json!({ "sub_type": "group_name", "name_new": "n" }),
                OneBotEvent::Named(5, "n".into()),
            ),
            ("bot_offline", json!({ "tag": "t", "message": "m" }), OneBotEvent::Offline("m".into())),
            ("bot_offline", json!({}), OneBotEvent::Offline("bot_offline".into())),
            ("bot_offline", json!({ "message": "m\n".repeat(9999) }), OneBotEvent::Offline("m".repeat(200))),
            ("notify", json!({ "sub_type": "group_name" }), OneBotEvent::Unclear("notice")),
            ("notify", json!({ "sub_type": "poke" }), OneBotEvent::Other),
            ("group_recall", json!({}), OneBotEvent::Other),
            ("group_ban", json!({}), OneBotEvent::Other),
            ("essence", json!({}), OneBotEvent::Other),
            ("group_increase", json!({ "group_id": 0 }), OneBotEvent::Unclear("notice")),
        ] {
            assert_eq!(notice(kind, more.clone()), event, "{kind} {more}");
        }
        let card = notice("group_card", json!({ "card_new": "b", "card_old": "a" }));
        assert_eq!(card, OneBotEvent::Card { group: 5, member: 7, old: "a".into(), new: "b".into() });
        let OneBotEvent::Said(said) = notice("group_upload", json!({ "file": { "name": "a.txt" } })) else {
            panic!()
        };
        assert_eq!(said.content, [MessageSegment::Text("共享文件 [a.txt]".into())]);
    }

    #[test]
    fn heartbeats_are_read() {
        let beat = |more| read(json!({ "post_type": "meta_event", "meta_event_type": "heartbeat" }), more);
        assert_eq!(beat(json!({})), OneBotEvent::Heartbeat(None, None));
        let offline = beat(json!({ "interval": "30000", "status": { "online": false, "good": true } }));
        assert_eq!(offline, OneBotEvent::Heartbeat(Some(Duration::from_secs(30)), Some(false)));
        assert_eq!(beat(json!({ "interval": 0, "status": null })), OneBotEvent::Heartbeat(None, None));
        assert_eq!(beat(json!({ "meta_event_type": "lifecycle" })), OneBotEvent::Other);
    }
}
