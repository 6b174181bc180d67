//! The events of OneBot.

use std::time::Duration;

use serde_json::Value;

use super::segment;
use crate::client::backend::segment::Segment;
use crate::client::remote::event::{AsSaid, RemoteChat, RemoteEvent, RemoteMessage};
use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value::{flag, id, message_number, number, text, words};

/// Reads an event.
pub(crate) fn read(event: &Value) -> RemoteEvent {
    match text(&event["post_type"]) {
        "message" => said(event, is_own(event)).unwrap_or(RemoteEvent::Unclear("message")),
        // Not in OneBot 11, which has no events for own messages; some implementations add it.
        "message_sent" => said(event, true).unwrap_or(RemoteEvent::Unclear("message_sent")),
        "notice" => notice(event).unwrap_or(RemoteEvent::Unclear("notice")),
        "meta_event" if text(&event["meta_event_type"]) == "heartbeat" => {
            let interval = number(&event["interval"]).filter(|interval| *interval > 0);
            RemoteEvent::Heartbeat(interval.map(Duration::from_millis), flag(&event["status"]["online"]))
        }
        _ => RemoteEvent::Other,
    }
}

fn is_own(event: &Value) -> bool {
    id(&event["user_id"]).is_some_and(|user| id(&event["self_id"]) == Some(user))
}

fn said(event: &Value, own: bool) -> Option<RemoteEvent> {
    let sub_type = text(&event["sub_type"]);
    let sender = &event["sender"];
    // For a temporary session some have it only in `sender`.
    let group = || id(&event["group_id"]).or_else(|| id(&sender["group_id"]));
    let place = match (text(&event["message_type"]), sub_type) {
        // They have no author who could be answered.
        ("group", "anonymous" | "notice") => return Some(RemoteEvent::Other),
        ("group", _) => RemoteChat::Group(group()?),
        ("private", "friend") => RemoteChat::Friend,
        ("private", "group") => RemoteChat::Session(group()),
        ("private", _) => RemoteChat::Private,
        // Guilds and the like, which the API does not have.
        _ => return Some(RemoteEvent::Other),
    };
    let words = |key: &str| Some(text(&sender[key])).filter(|words| !words.is_empty()).map(str::to_owned);
    Some(RemoteEvent::Said(RemoteMessage {
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
        as_said: AsSaid::of(event),
    }))
}

/// A file that was shared, as a part of a message.
fn shared(file: &Value) -> Segment {
    Segment::new("file", &[("name", text(&file["name"])), ("file_id", text(&file["id"]))])
}

fn notice(event: &Value) -> Option<RemoteEvent> {
    let (group, user) = (|| id(&event["group_id"]), || id(&event["user_id"]));
    let sub_type = text(&event["sub_type"]);
    Some(match text(&event["notice_type"]) {
        "group_upload" => RemoteEvent::Said(RemoteMessage {
            place: RemoteChat::Group(group()?),
            by: user()?,
            to: None,
            own: is_own(event),
            // Uploads have no message id, but each file has an id.
            number: message_number(&event["file"]["id"]).map(|id| format!("file {id}")),
            time: number(&event["time"]).filter(|time| *time > 0),
            name: None,
            card: None,
            content: vec![MessageSegment::Text(format!("共享文件 [{}]", text(&event["file"]["name"])))],
            as_said: AsSaid { segments: vec![shared(&event["file"])], number: None },
        }),
        "friend_add" => RemoteEvent::FriendCame(user()?),
        "group_increase" => RemoteEvent::MemberCame(group()?, user()?),
        // An account that leaves by itself is `leave` with its own number.
        "group_decrease" if matches!(sub_type, "kick_me" | "disband") || is_own(event) => {
            RemoteEvent::GroupGone(group()?)
        }
        "group_decrease" => RemoteEvent::MemberGone(group()?, user()?),
        "group_dismiss" => RemoteEvent::GroupGone(group()?),
        "group_admin" => RemoteEvent::Admin(group()?, user()?, sub_type == "set"),
        "group_card" => RemoteEvent::Card {
            group: group()?,
            member: user()?,
            old: text(&event["card_old"]).to_owned(),
            new: text(&event["card_new"]).to_owned(),
        },
        "notify" if sub_type == "group_name" => RemoteEvent::Named(
            group()?,
            event["name_new"].as_str().filter(|name| !name.is_empty())?.to_owned(),
        ),
        "bot_offline" => {
            let why = ["message", "tag"].into_iter().map(|key| words(&event[key]));
            RemoteEvent::Offline(
                why.into_iter().find(|why| !why.is_empty()).unwrap_or_else(|| "bot_offline".into()),
            )
        }
        _ => RemoteEvent::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut event: Value, more: Value) -> RemoteEvent {
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        super::read(&event)
    }

    fn message(more: Value) -> RemoteEvent {
        let event = json!({
            "post_type": "message", "message_type": "private", "sub_type": "friend", "self_id": 1, "user_id": "7",
            "message_id": -3, "time": 9, "message": "x", "sender": { "nickname": "n" },
        });
        read(event, more)
    }

    fn notice(kind: &str, more: Value) -> RemoteEvent {
        let event = json!({
            "post_type": "notice", "notice_type": kind, "self_id": "1", "group_id": 5, "user_id": 7, "time": 9,
        });
        read(event, more)
    }

    #[test]
    fn message_events_are_read() {
        let RemoteEvent::Said(said) = message(json!({})) else { panic!() };
        assert_eq!((said.place, said.by, said.own, said.time), (RemoteChat::Friend, 7, false, Some(9)));
        assert_eq!((said.number.as_deref(), said.name.as_deref(), said.card), (Some("-3"), Some("n"), None));
        for (more, place) in [
            (json!({ "sub_type": "group", "sender": { "group_id": "5" } }), RemoteChat::Session(Some(5))),
            (json!({ "sub_type": "group", "group_id": 5 }), RemoteChat::Session(Some(5))),
            (json!({ "sub_type": "group" }), RemoteChat::Session(None)),
            (json!({ "sub_type": "other" }), RemoteChat::Private),
            (json!({ "sub_type": null }), RemoteChat::Private),
            (json!({ "message_type": "group", "sub_type": "normal", "group_id": 5 }), RemoteChat::Group(5)),
            (json!({ "message_type": "group", "group_id": "5", "sub_type": null }), RemoteChat::Group(5)),
        ] {
            let RemoteEvent::Said(said) = message(more.clone()) else { panic!("{more}") };
            assert_eq!(said.place, place, "{more}");
        }
        for more in [
            json!({ "message_type": "group", "group_id": 5, "sub_type": "anonymous" }),
            json!({ "message_type": "group", "group_id": 5, "sub_type": "notice" }),
            json!({ "message_type": "channel" }),
            json!({ "post_type": "request" }),
            json!({ "post_type": {} }),
        ] {
            assert_eq!(message(more.clone()), RemoteEvent::Other, "{more}");
        }
        for more in [json!({ "message_type": "group" }), json!({ "user_id": null, "sender": null })] {
            assert_eq!(message(more.clone()), RemoteEvent::Unclear("message"), "{more}");
        }
        for unknown in [json!(0), json!("0"), json!(""), json!(null)] {
            let event = message(json!({ "message_id": unknown }));
            assert!(matches!(event, RemoteEvent::Said(RemoteMessage { number: None, .. })), "{unknown}");
        }
        assert!(matches!(
            message(json!({ "user_id": 1 })),
            RemoteEvent::Said(RemoteMessage { own: true, .. })
        ));
        let sent = message(json!({ "post_type": "message_sent", "target_id": 7, "user_id": 1 }));
        assert!(matches!(sent, RemoteEvent::Said(RemoteMessage { own: true, to: Some(7), .. })));
    }

    #[test]
    fn notice_events_are_read() {
        for (kind, more, event) in [
            ("friend_add", json!({}), RemoteEvent::FriendCame(7)),
            ("group_increase", json!({}), RemoteEvent::MemberCame(5, 7)),
            ("group_decrease", json!({ "sub_type": "leave" }), RemoteEvent::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick" }), RemoteEvent::MemberGone(5, 7)),
            ("group_decrease", json!({ "sub_type": "kick_me" }), RemoteEvent::GroupGone(5)),
            ("group_decrease", json!({ "sub_type": "leave", "user_id": 1 }), RemoteEvent::GroupGone(5)),
            ("group_dismiss", json!({ "user_id": null }), RemoteEvent::GroupGone(5)),
            ("group_admin", json!({ "sub_type": "set" }), RemoteEvent::Admin(5, 7, true)),
            ("group_admin", json!({ "sub_type": "unset" }), RemoteEvent::Admin(5, 7, false)),
            (
                "notify",
                json!({ "sub_type": "group_name", "name_new": "n" }),
                RemoteEvent::Named(5, "n".into()),
            ),
            ("bot_offline", json!({ "tag": "t", "message": "m" }), RemoteEvent::Offline("m".into())),
            ("bot_offline", json!({}), RemoteEvent::Offline("bot_offline".into())),
            ("bot_offline", json!({ "message": "m\n".repeat(9999) }), RemoteEvent::Offline("m".repeat(200))),
            ("notify", json!({ "sub_type": "group_name" }), RemoteEvent::Unclear("notice")),
            ("notify", json!({ "sub_type": "poke" }), RemoteEvent::Other),
            ("group_recall", json!({}), RemoteEvent::Other),
            ("group_ban", json!({}), RemoteEvent::Other),
            ("essence", json!({}), RemoteEvent::Other),
            ("group_increase", json!({ "group_id": 0 }), RemoteEvent::Unclear("notice")),
        ] {
            assert_eq!(notice(kind, more.clone()), event, "{kind} {more}");
        }
        let card = notice("group_card", json!({ "card_new": "b", "card_old": "a" }));
        assert_eq!(card, RemoteEvent::Card { group: 5, member: 7, old: "a".into(), new: "b".into() });
        let RemoteEvent::Said(said) = notice("group_upload", json!({ "file": { "name": "a.txt" } })) else {
            panic!()
        };
        assert_eq!(said.content, [MessageSegment::Text("共享文件 [a.txt]".into())]);
    }

    #[test]
    fn heartbeats_are_read() {
        let beat = |more| read(json!({ "post_type": "meta_event", "meta_event_type": "heartbeat" }), more);
        assert_eq!(beat(json!({})), RemoteEvent::Heartbeat(None, None));
        let offline = beat(json!({ "interval": "30000", "status": { "online": false, "good": true } }));
        assert_eq!(offline, RemoteEvent::Heartbeat(Some(Duration::from_secs(30)), Some(false)));
        assert_eq!(beat(json!({ "interval": 0, "status": null })), RemoteEvent::Heartbeat(None, None));
        assert_eq!(beat(json!({ "meta_event_type": "lifecycle" })), RemoteEvent::Other);
    }
}
