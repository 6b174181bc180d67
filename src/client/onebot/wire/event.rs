//! [`Event`]: what an implementation tells unasked.

use std::time::Duration;

use serde_json::Value;

use super::segment::{self, Segment};
use super::value::{flag, id, number, opaque, text, words};

/// What an implementation tells unasked. Ids are numbers of people and groups.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::client::onebot) enum Event {
    /// Somebody said something.
    Said(Said),
    /// There is a friend more.
    FriendCame(u64),
    /// Somebody came to a group: group and member.
    MemberCame(u64, u64),
    /// Somebody left a group, or was put out: group and member.
    MemberGone(u64, u64),
    /// The own account is in a group less.
    GroupGone(u64),
    /// Somebody became an admin of a group, or is one no more: group, member, whether it is one now.
    Admin(u64, u64, bool),
    /// Somebody is called something else in a group.
    Card {
        /// The group.
        group: u64,
        /// The member.
        member: u64,
        /// What it was called.
        old: String,
        /// What it is called.
        new: String,
    },
    /// A group is called something else: group and name.
    Named(u64, String),
    /// The account is no longer online, and will not be by itself: why.
    Offline(String),
    /// A sign of life: when the next one follows, and whether the account is online.
    Heartbeat(Option<Duration>, Option<bool>),
    /// Something that the API has no word for.
    Other,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::client::onebot) struct Said {
    /// Where.
    pub place: Place,
    /// Who said it.
    pub by: u64,
    /// To whom, where the event says so: the own account's messages to one person.
    pub to: Option<u64>,
    /// Whether it is the own account's.
    pub own: bool,
    /// The implementation's number for it.
    pub number: Option<String>,
    /// When, in Unix seconds; none where the event does not say.
    pub time: Option<u64>,
    /// What its author is called, and what in this group, where the event says so.
    pub name: Option<String>,
    /// See `name`.
    pub card: Option<String>,
    /// What it says.
    pub content: Vec<Segment>,
}

/// Where a message was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::onebot) enum Place {
    /// Between two friends.
    Friend,
    /// Between two people of whom the event does not say what they are to each other.
    Private,
    /// Between two members of a group; which one, where the event says so.
    Session(Option<u64>),
    /// In a group.
    Group(u64),
}

impl Event {
    /// Reads an event.
    pub(super) fn read(event: &Value) -> Self {
        match text(&event["post_type"]) {
            "message" => said(event, is_own(event)),
            "message_sent" => said(event, true),
            "notice" => notice(event),
            "meta_event" if text(&event["meta_event_type"]) == "heartbeat" => {
                let interval = number(&event["interval"]).filter(|interval| *interval > 0);
                Some(Self::Heartbeat(interval.map(Duration::from_millis), flag(&event["status"]["online"])))
            }
            _ => None,
        }
        .unwrap_or(Self::Other)
    }
}

fn is_own(event: &Value) -> bool {
    id(&event["user_id"]).is_some_and(|user| id(&event["self_id"]) == Some(user))
}

fn said(event: &Value, own: bool) -> Option<Event> {
    let sub_type = text(&event["sub_type"]);
    let sender = &event["sender"];
    let group = || id(&event["group_id"]).or_else(|| id(&sender["group_id"]));
    let place = match (text(&event["message_type"]), sub_type) {
        // Nobody says them, so nobody can be answered.
        ("group", "anonymous" | "notice") => return None,
        ("group", _) => Place::Group(group()?),
        ("private", "friend") => Place::Friend,
        ("private", "group") => Place::Session(group()),
        ("private", _) => Place::Private,
        _ => return None,
    };
    let words = |key: &str| Some(text(&sender[key])).filter(|words| !words.is_empty()).map(str::to_owned);
    Some(Event::Said(Said {
        place,
        by: id(&event["user_id"]).or_else(|| id(&sender["user_id"]))?,
        to: id(&event["target_id"]),
        own,
        number: opaque(&event["message_id"]),
        time: number(&event["time"]).filter(|time| *time > 0),
        name: words("nickname"),
        card: words("card"),
        content: segment::read(&event["message"]),
    }))
}

fn notice(event: &Value) -> Option<Event> {
    let (group, user) = (|| id(&event["group_id"]), || id(&event["user_id"]));
    let sub_type = text(&event["sub_type"]);
    Some(match text(&event["notice_type"]) {
        "group_upload" => Event::Said(Said {
            place: Place::Group(group()?),
            by: user()?,
            to: None,
            own: is_own(event),
            number: None,
            time: number(&event["time"]).filter(|time| *time > 0),
            name: None,
            card: None,
            content: vec![Segment::Text(format!("共享文件 [{}]", text(&event["file"]["name"])))],
        }),
        "friend_add" => Event::FriendCame(user()?),
        "group_increase" => Event::MemberCame(group()?, user()?),
        "group_decrease" if matches!(sub_type, "kick_me" | "disband") || is_own(event) => {
            Event::GroupGone(group()?)
        }
        "group_decrease" => Event::MemberGone(group()?, user()?),
        "group_dismiss" => Event::GroupGone(group()?),
        "group_admin" => Event::Admin(group()?, user()?, sub_type == "set"),
        "group_card" => Event::Card {
            group: group()?,
            member: user()?,
            old: text(&event["card_old"]).to_owned(),
            new: text(&event["card_new"]).to_owned(),
        },
        "notify" if sub_type == "group_name" => {
            Event::Named(group()?, event["name_new"].as_str().filter(|name| !name.is_empty())?.to_owned())
        }
        "bot_offline" => {
            let why = ["message", "tag"].into_iter().map(|key| words(&event[key]));
            Event::Offline(
                why.into_iter().find(|why| !why.is_empty()).unwrap_or_else(|| "bot_offline".into()),
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut event: Value, more: Value) -> Event {
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        Event::read(&event)
    }

    fn message(more: Value) -> Event {
        let event = json!({
            "post_type": "message", "message_type": "private", "sub_type": "friend", "self_id": 1, "user_id": "7",
            "message_id": -3, "time": 9, "message": "x", "sender": { "nickname": "n" },
        });
        read(event, more)
    }

    fn notice(kind: &str, more: Value) -> Event {
        let event = json!({
            "post_type": "notice", "notice_type": kind, "self_id": "1", "group_id": 5, "user_id": 7, "time": 9,
        });
        read(event, more)
    }

    #[test]
    fn messages() {
        let Event::Said(said) = message(json!({})) else { panic!() };
        assert_eq!((said.place, said.by, said.own, said.time), (Place::Friend, 7, false, Some(9)));
        assert_eq!((said.number.as_deref(), said.name.as_deref(), said.card), (Some("-3"), Some("n"), None));
        for (more, place) in [
            (json!({ "sub_type": "group", "sender": { "group_id": "5" } }), Place::Session(Some(5))),
            (json!({ "sub_type": "group", "group_id": 5 }), Place::Session(Some(5))),
            (json!({ "sub_type": "group" }), Place::Session(None)),
            (json!({ "sub_type": "other" }), Place::Private),
            (json!({ "sub_type": null }), Place::Private),
            (json!({ "message_type": "group", "sub_type": "normal", "group_id": 5 }), Place::Group(5)),
            (json!({ "message_type": "group", "group_id": "5", "sub_type": null }), Place::Group(5)),
        ] {
            let Event::Said(said) = message(more.clone()) else { panic!("{more}") };
            assert_eq!(said.place, place, "{more}");
        }
        for more in [
            json!({ "message_type": "group", "group_id": 5, "sub_type": "anonymous" }),
            json!({ "message_type": "group", "group_id": 5, "sub_type": "notice" }),
            json!({ "message_type": "group" }),
            json!({ "message_type": "channel" }),
            json!({ "user_id": null, "sender": null }),
            json!({ "post_type": "request" }),
            json!({ "post_type": {} }),
        ] {
            assert_eq!(message(more.clone()), Event::Other, "{more}");
        }
        assert!(matches!(message(json!({ "user_id": 1 })), Event::Said(Said { own: true, .. })));
        let sent = message(json!({ "post_type": "message_sent", "target_id": 7, "user_id": 1 }));
        assert!(matches!(sent, Event::Said(Said { own: true, to: Some(7), .. })));
    }

    #[test]
    fn notices() {
        for (kind, more, event) in [
            ("friend_add", json!({}), Event::FriendCame(7)),
            ("group_increase", json!({}), Event::MemberCame(5, 7)),
            ("group_decrease", json!({ "sub_type": "leave" }), Event::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick" }), Event::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick_me" }), Event::GroupGone(5)),
            ("group_decrease", json!({ "sub_type": "leave", "user_id": 1 }), Event::GroupGone(5)),
            ("group_dismiss", json!({ "user_id": null }), Event::GroupGone(5)),
            ("group_admin", json!({ "sub_type": "set" }), Event::Admin(5, 7, true)),
            ("group_admin", json!({ "sub_type": "unset" }), Event::Admin(5, 7, false)),
            ("notify", json!({ "sub_type": "group_name", "name_new": "n" }), Event::Named(5, "n".into())),
            ("bot_offline", json!({ "tag": "t", "message": "m" }), Event::Offline("m".into())),
            ("bot_offline", json!({}), Event::Offline("bot_offline".into())),
            ("bot_offline", json!({ "message": "m\n".repeat(9999) }), Event::Offline("m".repeat(200))),
            ("notify", json!({ "sub_type": "group_name" }), Event::Other),
            ("notify", json!({ "sub_type": "poke" }), Event::Other),
            ("group_recall", json!({}), Event::Other),
            ("group_ban", json!({}), Event::Other),
            ("essence", json!({}), Event::Other),
            ("group_increase", json!({ "group_id": 0 }), Event::Other),
        ] {
            assert_eq!(notice(kind, more.clone()), event, "{kind} {more}");
        }
        let card = notice("group_card", json!({ "card_new": "b", "card_old": "a" }));
        assert_eq!(card, Event::Card { group: 5, member: 7, old: "a".into(), new: "b".into() });
        let Event::Said(said) = notice("group_upload", json!({ "file": { "name": "a.txt" } })) else {
            panic!()
        };
        assert_eq!(said.content, [Segment::Text("共享文件 [a.txt]".into())]);
    }

    #[test]
    fn signs_of_life() {
        let beat = |more| read(json!({ "post_type": "meta_event", "meta_event_type": "heartbeat" }), more);
        assert_eq!(beat(json!({})), Event::Heartbeat(None, None));
        let offline = beat(json!({ "interval": "30000", "status": { "online": false, "good": true } }));
        assert_eq!(offline, Event::Heartbeat(Some(Duration::from_secs(30)), Some(false)));
        assert_eq!(beat(json!({ "interval": 0, "status": null })), Event::Heartbeat(None, None));
        assert_eq!(beat(json!({ "meta_event_type": "lifecycle" })), Event::Other);
    }
}
