//! The events of Milky.

use serde_json::Value;

use super::{message_number, segment};
use crate::client::remote::event::{RemoteChat, RemoteEvent, RemoteMessage};
use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value::{flag, id, number, text, words};

/// Reads an event.
pub(crate) fn read(event: &Value) -> RemoteEvent {
    let (data, own) = (&event["data"], id(&event["self_id"]));
    let unclear = RemoteEvent::Unclear;
    match text(&event["event_type"]) {
        "message_receive" => said(data, own).unwrap_or(unclear("message_receive")),
        "group_file_upload" => uploaded(event, own).unwrap_or(unclear("group_file_upload")),
        "bot_offline" => {
            let why = words(&data["reason"]);
            RemoteEvent::Offline(if why.is_empty() { "bot_offline".into() } else { why })
        }
        kind @ ("group_admin_change"
        | "group_member_increase"
        | "group_member_decrease"
        | "group_name_change") => group_changed(kind, data, own).unwrap_or(unclear("group")),
        _ => RemoteEvent::Other,
    }
}

fn said(data: &Value, own: Option<u64>) -> Option<RemoteEvent> {
    let scene = text(&data["message_scene"]);
    let (peer, by) = (id(&data["peer_id"])?, id(&data["sender_id"])?);
    let place = match scene {
        "friend" => RemoteChat::Friend,
        "group" => RemoteChat::Group(peer),
        "temp" => RemoteChat::Session(id(&data["group"]["group_id"])),
        _ => return Some(RemoteEvent::Other),
    };
    let is_own = own == Some(by);
    let filled = |value: &Value| Some(text(value)).filter(|text| !text.is_empty()).map(str::to_owned);
    // A member, or a friend: an event has one of them. The friend is whom the chat is with, not who speaks there.
    let friend = &data["friend"]["nickname"];
    let name = filled(&data["group_member"]["nickname"]).or_else(|| filled(friend).filter(|_| !is_own));
    Some(RemoteEvent::Said(RemoteMessage {
        place,
        by,
        to: Some(peer).filter(|_| is_own && scene != "group"),
        own: is_own,
        number: number(&data["message_seq"]).and_then(|seq| message_number(scene, peer, seq)),
        time: number(&data["time"]).filter(|time| *time > 0),
        name,
        card: filled(&data["group_member"]["card"]),
        content: segment::read(&data["segments"]),
        as_said: Default::default(),
    }))
}

fn uploaded(event: &Value, own: Option<u64>) -> Option<RemoteEvent> {
    let data = &event["data"];
    let by = id(&data["user_id"])?;
    Some(RemoteEvent::Said(RemoteMessage {
        place: RemoteChat::Group(id(&data["group_id"])?),
        by,
        to: None,
        own: own == Some(by),
        // Uploads have no sequence number, but each file has an id.
        number: Some(format!("file {}", words(&data["file_id"]))),
        time: number(&event["time"]).filter(|time| *time > 0),
        name: None,
        card: None,
        content: vec![MessageSegment::Text(format!("共享文件 [{}]", text(&data["file_name"])))],
        as_said: Default::default(),
    }))
}

fn group_changed(kind: &str, data: &Value, own: Option<u64>) -> Option<RemoteEvent> {
    let group = id(&data["group_id"])?;
    if kind == "group_name_change" {
        return Some(RemoteEvent::Named(
            group,
            Some(text(&data["new_group_name"])).filter(|name| !name.is_empty())?.to_owned(),
        ));
    }
    let user = id(&data["user_id"])?;
    Some(match kind {
        "group_admin_change" => RemoteEvent::Admin(group, user, flag(&data["is_set"])?),
        "group_member_increase" => RemoteEvent::MemberCame(group, user),
        _ if own == Some(user) => RemoteEvent::GroupGone(group),
        _ => RemoteEvent::MemberGone(group, user),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, data: Value) -> RemoteEvent {
        read(&json!({ "time": 9, "self_id": 10001, "event_type": kind, "data": data }))
    }

    fn message(more: Value) -> RemoteEvent {
        let mut data = json!({
            "message_scene": "friend", "peer_id": 10007, "sender_id": 10007, "message_seq": 3, "time": 9,
            "segments": [{ "type": "text", "data": { "text": "x" } }], "friend": { "nickname": "n", "category": {} },
        });
        for (key, value) in more.as_object().unwrap() {
            data[key] = value.clone();
        }
        event("message_receive", data)
    }

    #[test]
    fn messages_are_read() {
        let RemoteEvent::Said(said) = message(json!({})) else { panic!() };
        assert_eq!((said.place, said.by, said.own, said.to), (RemoteChat::Friend, 10007, false, None));
        assert_eq!((said.number.as_deref(), said.name.as_deref()), (Some("friend:10007:3"), Some("n")));
        let RemoteEvent::Said(said) = message(json!({ "sender_id": 10001 })) else { panic!() };
        assert_eq!((said.own, said.to, said.name), (true, Some(10007), None));
        let group = json!({
            "message_scene": "group", "peer_id": 10005, "friend": null, "group": { "group_id": 10005 },
            "group_member": { "nickname": "n", "card": "c" },
        });
        let RemoteEvent::Said(said) = message(group) else { panic!() };
        assert_eq!((said.place, said.card.as_deref()), (RemoteChat::Group(10005), Some("c")));
        for (group, place) in [(json!({ "group_id": 10005 }), Some(10005)), (json!(null), None)] {
            let RemoteEvent::Said(said) = message(json!({ "message_scene": "temp", "group": group })) else {
                panic!()
            };
            assert_eq!(said.place, RemoteChat::Session(place));
        }
        assert_eq!(message(json!({ "message_scene": "guild" })), RemoteEvent::Other);
        assert_eq!(message(json!({ "sender_id": null })), RemoteEvent::Unclear("message_receive"));
    }

    #[test]
    fn other_events_are_read() {
        let in_group = |more: Value| {
            let mut data = json!({ "group_id": 10005, "user_id": 10007 });
            for (key, value) in more.as_object().unwrap() {
                data[key] = value.clone();
            }
            data
        };
        for (kind, data, expected) in [
            (
                "group_admin_change",
                in_group(json!({ "is_set": true })),
                RemoteEvent::Admin(10005, 10007, true),
            ),
            ("group_member_increase", in_group(json!({})), RemoteEvent::MemberCame(10005, 10007)),
            ("group_member_decrease", in_group(json!({})), RemoteEvent::MemberGone(10005, 10007)),
            ("group_member_decrease", in_group(json!({ "user_id": 10001 })), RemoteEvent::GroupGone(10005)),
            (
                "group_name_change",
                in_group(json!({ "new_group_name": "g" })),
                RemoteEvent::Named(10005, "g".into()),
            ),
            ("group_name_change", in_group(json!({})), RemoteEvent::Unclear("group")),
            ("bot_offline", json!({}), RemoteEvent::Offline("bot_offline".into())),
            ("bot_offline", json!({ "reason": "被挤下线" }), RemoteEvent::Offline("被挤下线".into())),
            ("friend_nudge", json!({}), RemoteEvent::Other),
            ("of_a_later_version", json!({}), RemoteEvent::Other),
        ] {
            assert_eq!(event(kind, data), expected, "{kind}");
        }
        let RemoteEvent::Said(said) =
            event("group_file_upload", in_group(json!({ "file_id": "/f", "file_name": "f.txt" })))
        else {
            panic!()
        };
        assert_eq!(said.content, [MessageSegment::Text("共享文件 [f.txt]".into())]);
    }
}
