//! A message as OneBot v11 tells it (onebot-11, `event/message.md`), in an event as well as in answers.

use serde_json::{Value, json};

use super::segment;
use crate::client::applications::cq_code;
use crate::client::remote::message_ids::{MessageIds, MessageKey, Scene};
use crate::client::remote::value::{id, number, text};

/// The kind of a chat. None for one of a later version.
pub(super) fn scene(value: &Value) -> Option<Scene> {
    match text(value) {
        "friend" => Some(Scene::Friend),
        "group" => Some(Scene::Group),
        "temp" => Some(Scene::Temporary),
        _ => None,
    }
}

/// The name of a kind of chats.
pub(super) fn scene_name(scene: Scene) -> &'static str {
    match scene {
        Scene::Friend => "friend",
        Scene::Group => "group",
        Scene::Temporary => "temp",
    }
}

/// Which message `data` is about: one itself, or an event about one.
pub(super) fn key(data: &Value, account: u64) -> Option<MessageKey> {
    let seq = number(&data["message_seq"]).filter(|seq| *seq > 0)?;
    Some(MessageKey { account, scene: scene(&data["message_scene"])?, peer: id(&data["peer_id"])?, seq })
}

/// A message of Milky, `IncomingMessage`, as an event. None: it lacks what an event has to have.
pub(super) fn told(data: &Value, account: u64, ids: &MessageIds) -> Option<Value> {
    let scene = scene(&data["message_scene"])?;
    let (peer, by) = (id(&data["peer_id"])?, id(&data["sender_id"])?);
    // Implementations write 0 if they do not know the number. Then nobody can refer to the message.
    let key = key(data, account);
    let message_id = key.map_or(0, |key| ids.number(key));
    let message = segment::read(&data["segments"], key, ids);
    let is_own = by == account;
    let mut event = json!({
        "time": number(&data["time"]).unwrap_or(0), "self_id": account,
        // An event of an own message is no standard's; the word is go-cqhttp's, and NapCat's and LLBot's.
        "post_type": if is_own { "message_sent" } else { "message" },
        "message_id": message_id, "real_id": message_id, "message_seq": message_id,
        // NapCat's, as what the network counts may be of interest.
        "real_seq": key.map_or(0, |key| key.seq).to_string(),
        "user_id": by, "raw_message": cq_code::write(&message), "message": message, "message_format": "array", "font": 0,
    });
    match scene {
        Scene::Group => {
            event["message_type"] = "group".into();
            event["sub_type"] = "normal".into();
            event["group_id"] = peer.into();
            event["anonymous"] = Value::Null;
            event["sender"] = member_sender(by, &data["group_member"]);
            if let Some(name) = data["group"]["group_name"].as_str() {
                event["group_name"] = name.into();
            }
        }
        Scene::Friend | Scene::Temporary => {
            event["message_type"] = "private".into();
            event["sub_type"] = if scene == Scene::Friend { "friend" } else { "group" }.into();
            // The friend is whom the chat is with, not who speaks there.
            let friend = if is_own { &Value::Null } else { &data["friend"] };
            event["sender"] =
                json!({ "user_id": by, "nickname": text(&friend["nickname"]), "sex": sex(&friend["sex"]) });
            // Not beside it: a program that finds a group in an event may answer there.
            if let Some(group) = id(&data["group"]["group_id"]) {
                event["sender"]["group_id"] = group.into();
            }
            if is_own {
                event["target_id"] = peer.into();
            }
        }
    }
    Some(event)
}

fn member_sender(by: u64, member: &Value) -> Value {
    let role = Some(text(&member["role"])).filter(|role| !role.is_empty()).unwrap_or("member");
    json!({
        "user_id": by, "nickname": text(&member["nickname"]), "card": text(&member["card"]), "sex": sex(&member["sex"]),
        "age": 0, "area": "", "level": number(&member["level"]).unwrap_or(0).to_string(), "role": role,
        "title": text(&member["title"]),
    })
}

/// One of the standard's three words.
pub(super) fn sex(value: &Value) -> &'static str {
    match text(value) {
        "male" => "male",
        "female" => "female",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(more: Value) -> Value {
        let mut data = json!({
            "message_scene": "friend", "peer_id": 10007, "sender_id": 10007, "message_seq": 3, "time": 9,
            "segments": [{ "type": "text", "data": { "text": "[x]" } }, { "type": "face", "data": { "face_id": "14" } }],
            "friend": { "nickname": "n", "sex": "male" },
        });
        for (key, value) in more.as_object().unwrap() {
            data[key] = value.clone();
        }
        data
    }

    #[test]
    fn private_messages_are_told() {
        let ids = MessageIds::in_memory();
        let event = told(&message(json!({})), 10001, &ids).unwrap();
        let id = event["message_id"].as_i64().unwrap();
        assert_eq!(
            event,
            json!({
                "time": 9, "self_id": 10001, "post_type": "message", "message_type": "private", "sub_type": "friend",
                "message_id": id, "real_id": id, "message_seq": id, "real_seq": "3", "user_id": 10007,
                "message": [
                    { "type": "text", "data": { "text": "[x]" } }, { "type": "face", "data": { "id": "14" } },
                ],
                "raw_message": "&#91;x&#93;[CQ:face,id=14]", "message_format": "array", "font": 0,
                "sender": { "user_id": 10007, "nickname": "n", "sex": "male" },
            })
        );
        let found = ids.find(i32::try_from(id).unwrap(), 10001).unwrap();
        assert_eq!((found.scene, found.peer, found.seq), (Scene::Friend, 10007, 3));
        let own = told(&message(json!({ "sender_id": 10001 })), 10001, &ids).unwrap();
        assert_eq!((&own["post_type"], &own["target_id"]), (&json!("message_sent"), &json!(10007)));
        assert_eq!(own["sender"]["nickname"], "");
        let member =
            told(&message(json!({ "message_scene": "temp", "group": { "group_id": 5 } })), 10001, &ids)
                .unwrap();
        assert_eq!((&member["sub_type"], &member["sender"]["group_id"]), (&json!("group"), &json!(5)));
        assert!(member.get("group_id").is_none());
    }

    #[test]
    fn group_messages_are_told() {
        let ids = MessageIds::in_memory();
        let group = json!({
            "message_scene": "group", "peer_id": 5, "friend": null, "group": { "group_name": "g" },
            "group_member": { "nickname": "n", "card": "c", "role": "admin", "level": 3, "title": "t", "sex": "x" },
        });
        let event = told(&message(group), 10001, &ids).unwrap();
        assert_eq!((&event["message_type"], &event["sub_type"]), (&json!("group"), &json!("normal")));
        assert_eq!((&event["group_id"], &event["anonymous"]), (&json!(5), &Value::Null));
        assert_eq!(
            event["sender"],
            json!({
                "user_id": 10007, "nickname": "n", "card": "c", "sex": "unknown", "age": 0, "area": "", "level": "3",
                "role": "admin", "title": "t",
            })
        );
        // Without a number nothing can be referred to, and what is quoted is left out.
        let unknown = json!({ "message_scene": "group", "peer_id": 5, "message_seq": 0 });
        assert_eq!(told(&message(unknown), 10001, &ids).unwrap()["message_id"], 0);
        for broken in
            [json!({ "message_scene": "guild" }), json!({ "peer_id": null }), json!({ "sender_id": 0 })]
        {
            assert_eq!(told(&message(broken.clone()), 10001, &ids), None, "{broken}");
        }
    }
}
