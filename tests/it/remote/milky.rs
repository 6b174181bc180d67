//! The words of Milky for what the tests say in those of OneBot: one suite is for both networks. Calls become OneBot's, and
//! answers and events become Milky's.

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

/// The answer to a call of OneBot, as Milky has it. `category` tells that of a friend.
pub(super) fn answer(action: &str, mut answer: Value, category: impl Fn(&Value) -> String) -> Value {
    let data = answer["data"].take();
    let renamed = |item: &Value, names: &[(&str, &str)]| {
        let mut item = item.clone();
        let object = item.as_object_mut().unwrap();
        for (onebot, milky) in names {
            if let Some(value) = object.remove(*onebot) {
                object.insert((*milky).to_owned(), value);
            }
        }
        item
    };
    let each = |change: &dyn Fn(&Value) -> Value| -> Value {
        data.as_array().into_iter().flatten().map(change).collect()
    };
    let numbers = |item: &Value| {
        let mut item = item.clone();
        // OneBot has the level as a text.
        if let Some(level) = item["level"].as_str().and_then(|level| level.parse::<u32>().ok()) {
            item["level"] = json!(level);
        }
        item
    };
    answer["data"] = match action {
        _ if answer["status"] != "ok" => Value::Null,
        "get_login_info" => json!({ "uin": data["user_id"], "nickname": data["nickname"] }),
        "get_friend_list" => json!({ "friends": each(&|friend| {
            let mut friend = friend.clone();
            friend["category"] = json!({ "category_id": 1, "category_name": category(&friend) });
            friend
        }) }),
        "get_group_list" => json!({ "groups": each(&|group| renamed(
            group,
            &[("group_remark", "remark"), ("group_memo", "description"), ("group_create_time", "created_time")],
        )) }),
        "get_group_member_list" => json!({ "members": each(&numbers) }),
        "get_group_member_info" => json!({ "member": numbers(&data) }),
        "send_private_msg" | "send_group_msg" => {
            let seq = data["message_id"].as_i64().unwrap_or(1).unsigned_abs();
            json!({ "message_seq": seq, "time": 1_700_000_000 })
        }
        "set_group_ban" | "set_group_kick" => json!({}),
        _ => data.clone(),
    };
    answer
}

/// An event of OneBot as Milky has it; none: Milky has none for that.
pub(super) fn event(event: &Value, own: u64) -> Option<Value> {
    let is_own = event["user_id"] == own;
    let (kind, data) = match (event["post_type"].as_str()?, event["notice_type"].as_str()) {
        ("message" | "message_sent", _) => ("message_receive", message(event, is_own)?),
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

fn message(event: &Value, is_own: bool) -> Option<Value> {
    let sender = &event["sender"];
    let group = [&event["group_id"], &sender["group_id"]].into_iter().find(|group| group.is_u64()).cloned();
    let mut data = json!({
        "sender_id": event["user_id"], "time": event["time"], "segments": to_milky(&event["message"]),
        "message_seq": sequence(&event["message_id"]),
    });
    let person = json!({ "user_id": event["user_id"], "nickname": sender["nickname"] });
    match (event["message_type"].as_str()?, event["sub_type"].as_str().unwrap_or_default()) {
        ("group", "anonymous" | "notice") => return None,
        ("group", _) => {
            data["message_scene"] = json!("group");
            data["peer_id"] = group.clone().unwrap_or_default();
            data["group"] = json!({ "group_id": group });
            data["group_member"] = person;
            data["group_member"]["card"] = sender["card"].clone();
        }
        ("private", "group") => {
            data["message_scene"] = json!("temp");
            data["peer_id"] = event["user_id"].clone();
            data["group"] = group.map_or(Value::Null, |group| json!({ "group_id": group }));
        }
        ("private", _) => {
            data["message_scene"] = json!("friend");
            data["peer_id"] = if is_own { event["target_id"].clone() } else { event["user_id"].clone() };
            data["friend"] = person;
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
            "face" => ("face", json!({ "face_id": data["id"], "is_large": false })),
            "at" if data["qq"] == "all" => ("mention_all", json!({})),
            "at" => {
                let id =
                    data["qq"].as_str().map_or(data["qq"].clone(), |id| json!(id.parse::<u64>().unwrap()));
                ("mention", json!({ "user_id": id, "name": data["name"] }))
            }
            "mface" => ("market_face", data.clone()),
            "json" => ("light_app", json!({})),
            kind @ ("text" | "image" | "record" | "reply") => (kind, data.clone()),
            _ => ("of_a_later_version", Value::Null),
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
