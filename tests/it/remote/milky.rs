//! The words of Milky for what the tests say in those of OneBot: one suite is for both networks. Calls become OneBot's, and
//! answers and events become Milky's.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// A call of Milky as the one of OneBot: its name and its parameters. None: Milky has no such call.
pub(super) fn call(name: &str, params: &Value) -> Option<(&'static str, Value)> {
    let with = |more: Value| {
        let mut all = params.clone();
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    let content = || json!({ "message": to_onebot(&params["message"]), "auto_escape": false });
    Some(match name {
        "get_login_info" => ("get_login_info", params.clone()),
        "get_user_profile" => ("get_stranger_info", with(json!({ "no_cache": false }))),
        "get_friend_list" => ("get_friend_list", params.clone()),
        "get_group_list" => ("get_group_list", params.clone()),
        "get_group_member_list" => ("get_group_member_list", params.clone()),
        "get_group_member_info" => ("get_group_member_info", params.clone()),
        "send_private_message" => ("send_private_msg", with(content())),
        "send_group_message" => ("send_group_msg", with(content())),
        "set_group_member_mute" => ("set_group_ban", params.clone()),
        "kick_group_member" => ("set_group_kick", params.clone()),
        _ => return None,
    })
}

/// The people and groups that an implementation knows, in the words of OneBot.
pub(super) struct Known<'a> {
    pub(super) friends: &'a [Value],
    pub(super) groups: &'a [Value],
    pub(super) members: &'a HashMap<u64, Vec<Value>>,
}

/// The value, or a default where there is none: Milky requires every field.
fn or(value: &Value, usual: impl Into<Value>) -> Value {
    if value.is_null() { usual.into() } else { value.clone() }
}

fn friend(it: &Value) -> Value {
    let category = if it["user_id"] == 8 { "同学" } else { "我的好友" };
    json!({
        "user_id": it["user_id"], "nickname": or(&it["nickname"], ""), "sex": or(&it["sex"], "unknown"), "qid": "",
        "remark": or(&it["remark"], ""), "category": { "category_id": 1, "category_name": category },
    })
}

fn group(it: &Value) -> Value {
    json!({
        "group_id": it["group_id"], "group_name": or(&it["group_name"], ""), "member_count": or(&it["member_count"], 1),
        "max_member_count": or(&it["max_member_count"], 200), "remark": or(&it["group_remark"], ""),
        "created_time": or(&it["group_create_time"], 0), "description": or(&it["group_memo"], ""), "question": "",
        "announcement": "",
    })
}

fn member(it: &Value) -> Value {
    // OneBot has the level as a text.
    let level = it["level"].as_str().and_then(|level| level.parse::<u32>().ok());
    json!({
        "user_id": it["user_id"], "nickname": or(&it["nickname"], ""), "sex": or(&it["sex"], "unknown"),
        "group_id": it["group_id"], "card": or(&it["card"], ""), "title": or(&it["title"], ""),
        "level": level.map_or_else(|| or(&it["level"], 1), Value::from), "role": or(&it["role"], "member"),
        "join_time": or(&it["join_time"], 0), "last_sent_time": or(&it["last_sent_time"], 0),
        "shut_up_end_time": it["shut_up_timestamp"],
    })
}

/// The answer to a call of OneBot, as Milky has it.
pub(super) fn answer(action: &str, answer: &Value) -> Value {
    if answer["status"] != "ok" {
        return json!({ "status": "failed", "retcode": answer["retcode"], "message": or(&answer["message"], "no") });
    }
    let data = &answer["data"];
    let each = |change: fn(&Value) -> Value| -> Value {
        data.as_array().into_iter().flatten().map(change).collect()
    };
    let data = match action {
        "get_login_info" => json!({ "uin": data["user_id"], "nickname": data["nickname"] }),
        "get_stranger_info" => json!({
            "nickname": data["nickname"], "qid": "", "age": or(&data["age"], 0), "sex": or(&data["sex"], "unknown"),
            "remark": or(&data["remark"], ""), "bio": or(&data["sign"], ""), "level": or(&data["level"], 1), "country": "",
            "city": "", "school": "",
        }),
        "get_friend_list" => json!({ "friends": each(friend) }),
        "get_group_list" => json!({ "groups": each(group) }),
        "get_group_member_list" => json!({ "members": each(member) }),
        "get_group_member_info" => json!({ "member": member(data) }),
        "send_private_msg" | "send_group_msg" => {
            let seq = data["message_id"].as_i64().unwrap_or(1).unsigned_abs();
            json!({ "message_seq": seq, "time": 1_700_000_000 })
        }
        _ => json!({}),
    };
    json!({ "status": "ok", "retcode": 0, "data": data })
}

/// An event of OneBot as Milky has it; none: Milky has none for that.
pub(super) fn event(event: &Value, own: u64, known: &Known<'_>) -> Option<Value> {
    let (kind, data) = match (event["post_type"].as_str()?, event["notice_type"].as_str()) {
        ("message" | "message_sent", _) => ("message_receive", message(event, own, known)?),
        (_, Some("group_upload")) => (
            "group_file_upload",
            json!({
                "group_id": event["group_id"], "user_id": event["user_id"], "file_id": event["file"]["id"],
                "file_name": event["file"]["name"], "file_size": 1,
            }),
        ),
        (_, Some("group_increase")) => ("group_member_increase", of_member(event)),
        (_, Some("group_decrease")) => ("group_member_decrease", of_member(event)),
        (_, Some("group_admin")) => {
            let mut data = of_member(event);
            data["is_set"] = json!(event["sub_type"] == "set");
            ("group_admin_change", data)
        }
        (_, Some("notify")) if event["sub_type"] == "group_name" => (
            "group_name_change",
            json!({ "group_id": event["group_id"], "new_group_name": event["name_new"], "operator_id": event["user_id"] }),
        ),
        (_, Some("bot_offline")) => ("bot_offline", json!({ "reason": event["message"] })),
        _ => return None,
    };
    Some(json!({ "time": event["time"], "self_id": event["self_id"], "event_type": kind, "data": data }))
}

fn of_member(event: &Value) -> Value {
    json!({ "group_id": event["group_id"], "user_id": event["user_id"], "operator_id": 9 })
}

fn message(event: &Value, own: u64, known: &Known<'_>) -> Option<Value> {
    let sender = &event["sender"];
    let id = [&event["group_id"], &sender["group_id"]].into_iter().find(|group| group.is_u64());
    let in_list = |list: &[Value], key: &str, id: &Value| {
        list.iter().find(|it| &it[key] == id).cloned().unwrap_or_else(|| json!({ key: id }))
    };
    let whole_group = |id: &Value| group(&in_list(known.groups, "group_id", id));
    let mut data = json!({
        "sender_id": event["user_id"], "time": event["time"], "segments": to_milky(&event["message"]),
        "message_seq": sequence(&event["message_id"]),
    });
    match (event["message_type"].as_str()?, event["sub_type"].as_str().unwrap_or_default()) {
        ("group", "anonymous" | "notice") => return None,
        ("group", _) => {
            let id = id?;
            let members = id.as_u64().and_then(|id| known.members.get(&id)).map_or(&[][..], Vec::as_slice);
            let mut by = in_list(members, "user_id", &event["user_id"]);
            by["group_id"] = id.clone();
            for key in ["nickname", "card"] {
                by[key] = or(&sender[key], by[key].clone());
            }
            data["message_scene"] = json!("group");
            data["peer_id"] = id.clone();
            data["group"] = whole_group(id);
            data["group_member"] = member(&by);
        }
        ("private", "group") => {
            data["message_scene"] = json!("temp");
            data["peer_id"] = event["user_id"].clone();
            data["group"] = id.map_or(Value::Null, whole_group);
        }
        ("private", _) => {
            // The chat's other side, also where the account itself has written there.
            let is_own = event["user_id"] == own;
            let peer = &event[if is_own { "target_id" } else { "user_id" }];
            let mut with = in_list(known.friends, "user_id", peer);
            if !is_own {
                with["nickname"] = or(&sender["nickname"], with["nickname"].clone());
            }
            data["message_scene"] = json!("friend");
            data["peer_id"] = peer.clone();
            data["friend"] = friend(&with);
        }
        _ => return None,
    }
    Some(data)
}

/// A sequence number for any id of OneBot.
fn sequence(id: &Value) -> u64 {
    match id {
        Value::String(text) => text.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)),
        id => id.as_i64().unwrap_or(0).unsigned_abs(),
    }
}

/// Segments of OneBot as Milky has them.
fn to_milky(segments: &Value) -> Value {
    let part = |part: &Value| {
        let data = &part["data"];
        let (kind, data) = match part["type"].as_str().unwrap_or_default() {
            "text" => ("text", json!({ "text": data["text"] })),
            "face" => {
                let id = data["id"].as_str().map_or_else(|| data["id"].to_string(), str::to_owned);
                ("face", json!({ "face_id": id, "is_large": false }))
            }
            "at" if data["qq"] == "all" => ("mention_all", json!({})),
            "at" => {
                let id =
                    data["qq"].as_str().map_or(data["qq"].clone(), |id| json!(id.parse::<u64>().unwrap()));
                ("mention", json!({ "user_id": id, "name": or(&data["name"], "") }))
            }
            "image" => (
                "image",
                json!({
                    "resource_id": "r", "temp_url": "http://127.0.0.1/r", "width": 1, "height": 1, "summary": "[图片]",
                    "sub_type": "normal",
                }),
            ),
            "record" => {
                ("record", json!({ "resource_id": "r", "temp_url": "http://127.0.0.1/r", "duration": 1 }))
            }
            "mface" => (
                "market_face",
                json!({ "emoji_package_id": 1, "emoji_id": "e", "key": "k", "summary": "[表情]", "url": "http://127.0.0.1/e" }),
            ),
            "reply" => {
                let seq = sequence(&data["id"]);
                (
                    "reply",
                    json!({ "message_seq": seq, "sender_id": 7, "time": 1_700_000_000, "segments": [] }),
                )
            }
            "json" => ("light_app", json!({ "app_name": "a", "json_payload": "{}" })),
            // None of the rest is known to the client.
            kind => ("xml", json!({ "service_id": 1, "xml_payload": format!("<{kind}/>") })),
        };
        json!({ "type": kind, "data": data })
    };
    match segments {
        Value::Array(parts) => parts.iter().map(part).collect(),
        Value::String(text) => json!([{ "type": "text", "data": { "text": text } }]),
        _ => json!([]),
    }
}

/// Segments of Milky as OneBot has them.
fn to_onebot(segments: &Value) -> Value {
    let part = |part: &Value| {
        let mut part = part.clone();
        if part["type"] == "face" {
            let data: Map<String, Value> =
                [("id".to_owned(), part["data"]["face_id"].clone())].into_iter().collect();
            part["data"] = Value::Object(data);
        }
        part
    };
    segments.as_array().into_iter().flatten().map(part).collect()
}
