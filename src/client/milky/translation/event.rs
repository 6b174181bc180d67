//! Events of Milky as those of OneBot v11 (onebot-11, `event/`).
//!
//! Where the standard has no notice it is NapCat's (`src/onebot/event/notice`): `essence`, `group_msg_emoji_like`, `notify` with
//! `group_name` and with `poke` between friends, `bot_offline`; a whole ban is one of user 0 (`src/onebot/api/group.ts`). A file of
//! a friend is go-cqhttp's `offline_file`.

use serde_json::{Map, Value, json};

use super::message;
use super::request_flag::RequestFlag;
use crate::client::remote::message_ids::{MessageIds, MessageKey, Scene};
use crate::client::remote::value::{flag, id, number, text};

/// What applications are told of an event. None: nothing, as nobody has a word for it, or as it lacks what it is about.
pub(in crate::client::milky) fn told(event: &Value, ids: &MessageIds) -> Option<Value> {
    let own = id(&event["self_id"])?;
    let (kind, data) = (text(&event["event_type"]), &event["data"]);
    if kind == "message_receive" {
        return message::told(data, own, ids);
    }
    let what = of_friend(kind, data, own)
        .or_else(|| of_request(kind, data))
        .or_else(|| of_member(kind, data, own))
        .or_else(|| of_group(kind, data, own, ids))?;
    let mut told = Map::new();
    told.insert("time".into(), number(&event["time"]).unwrap_or(0).into());
    told.insert("self_id".into(), own.into());
    let post_type = if what.get("request_type").is_some() { "request" } else { "notice" };
    told.insert("post_type".into(), post_type.into());
    if let Value::Object(what) = what {
        told.extend(what);
    }
    Some(Value::Object(told))
}

/// What applications are told of a new friend, for which Milky has no event.
pub(in crate::client::milky) fn friend_added(time: u64, account: u64, friend: u64) -> Value {
    json!({
        "time": time, "self_id": account, "post_type": "notice", "notice_type": "friend_add", "user_id": friend,
    })
}

/// A friend, or the account itself.
fn of_friend(kind: &str, data: &Value, own: u64) -> Option<Value> {
    Some(match kind {
        "bot_offline" => json!({
            "notice_type": "bot_offline", "user_id": own, "tag": "BotOfflineEvent", "message": text(&data["reason"]),
        }),
        "friend_nudge" => {
            let friend = id(&data["user_id"])?;
            let who = |is_own: &Value| if flag(is_own) == Some(true) { own } else { friend };
            json!({
                "notice_type": "notify", "sub_type": "poke", "user_id": who(&data["is_self_send"]),
                "target_id": who(&data["is_self_receive"]),
            })
        }
        // What the account sends is no news to it.
        "friend_file_upload" if flag(&data["is_self"]) != Some(true) => json!({
            "notice_type": "offline_file", "user_id": id(&data["user_id"])?,
            "file": {
                "id": text(&data["file_id"]), "name": text(&data["file_name"]), "url": "",
                "size": number(&data["file_size"]).unwrap_or(0), "hash": text(&data["file_hash"]),
            },
        }),
        _ => return None,
    })
}

fn of_request(kind: &str, data: &Value) -> Option<Value> {
    if kind == "friend_request" {
        let flag = RequestFlag::Friend(text(&data["initiator_uid"]).to_owned()).write();
        return Some(json!({
            "request_type": "friend", "user_id": id(&data["initiator_id"])?, "comment": text(&data["comment"]),
            "flag": flag, "via": text(&data["via"]),
        }));
    }
    let group = id(&data["group_id"]);
    let seq = |name: &str| number(&data[name]);
    let is_filtered = flag(&data["is_filtered"]).unwrap_or(false);
    let join = |is_of_member| {
        let seq = seq("notification_seq")?;
        Some(RequestFlag::Join { is_of_member, group: group?, seq, is_filtered }.write())
    };
    Some(match kind {
        "group_join_request" => json!({
            "request_type": "group", "sub_type": "add", "group_id": group?, "user_id": id(&data["initiator_id"])?,
            "comment": text(&data["comment"]), "flag": join(false)?,
        }),
        // Who is to join is asked about; who invites is LLBot's extra key.
        "group_invited_join_request" => json!({
            "request_type": "group", "sub_type": "add", "group_id": group?, "user_id": id(&data["target_user_id"])?,
            "invitor_id": id(&data["initiator_id"])?, "comment": "", "flag": join(true)?,
        }),
        "group_invitation" => {
            let flag = RequestFlag::Invitation { group: group?, seq: seq("invitation_seq")? }.write();
            json!({
                "request_type": "group", "sub_type": "invite", "group_id": group?, "user_id": id(&data["initiator_id"])?,
                "comment": "", "flag": flag,
            })
        }
        _ => return None,
    })
}

/// Something about one member of a group.
fn of_member(kind: &str, data: &Value, own: u64) -> Option<Value> {
    let mut told = match kind {
        "group_admin_change" => {
            let sub_type = if flag(&data["is_set"])? { "set" } else { "unset" };
            json!({ "notice_type": "group_admin", "sub_type": sub_type })
        }
        "group_member_increase" => {
            let (approved, invited) = (id(&data["operator_id"]), id(&data["invitor_id"]));
            let sub_type = if approved.is_none() && invited.is_some() { "invite" } else { "approve" };
            json!({
                "notice_type": "group_increase", "sub_type": sub_type, "operator_id": approved.or(invited).unwrap_or(0),
            })
        }
        "group_member_decrease" => {
            let user = id(&data["user_id"])?;
            let by = id(&data["operator_id"]).filter(|by| *by != user);
            let sub_type = match by {
                None => "leave",
                Some(_) if user == own => "kick_me",
                Some(_) => "kick",
            };
            json!({ "notice_type": "group_decrease", "sub_type": sub_type, "operator_id": by.unwrap_or(user) })
        }
        "group_mute" => {
            let duration = number(&data["duration"])?;
            let sub_type = if duration == 0 { "lift_ban" } else { "ban" };
            let by = id(&data["operator_id"]).unwrap_or(0);
            json!({ "notice_type": "group_ban", "sub_type": sub_type, "operator_id": by, "duration": duration })
        }
        "group_file_upload" => json!({
            "notice_type": "group_upload",
            "file": {
                "id": text(&data["file_id"]), "name": text(&data["file_name"]), "busid": 0,
                "size": number(&data["file_size"]).unwrap_or(0),
            },
        }),
        _ => return None,
    };
    told["group_id"] = id(&data["group_id"])?.into();
    told["user_id"] = id(&data["user_id"])?.into();
    Some(told)
}

/// Something about a message or the whole of a group.
fn of_group(kind: &str, data: &Value, own: u64, ids: &MessageIds) -> Option<Value> {
    let group = || id(&data["group_id"]);
    let by = id(&data["operator_id"]).unwrap_or(0);
    let message = || {
        let seq = number(&data["message_seq"]).filter(|seq| *seq > 0)?;
        Some(ids.number(MessageKey { account: own, scene: Scene::Group, peer: group()?, seq }))
    };
    Some(match kind {
        "message_recall" => {
            let key = message::key(data, own)?;
            let message_id = ids.number(key);
            match key.scene {
                Scene::Group => json!({
                    "notice_type": "group_recall", "group_id": key.peer, "user_id": id(&data["sender_id"]).unwrap_or(0),
                    "operator_id": by, "message_id": message_id,
                }),
                Scene::Friend | Scene::Temporary => {
                    json!({ "notice_type": "friend_recall", "user_id": key.peer, "message_id": message_id })
                }
            }
        }
        "group_name_change" => json!({
            "notice_type": "notify", "sub_type": "group_name", "group_id": group()?, "user_id": by,
            "name_new": text(&data["new_group_name"]),
        }),
        // Milky does not say who wrote the message.
        "group_essence_message_change" => json!({
            "notice_type": "essence", "sub_type": if flag(&data["is_set"])? { "add" } else { "delete" },
            "group_id": group()?, "message_id": message()?, "sender_id": 0, "user_id": 0, "operator_id": by,
        }),
        "group_message_reaction" => json!({
            "notice_type": "group_msg_emoji_like", "group_id": group()?, "user_id": id(&data["user_id"])?,
            "message_id": message()?, "likes": [{ "emoji_id": text(&data["face_id"]), "count": 1 }],
            "is_add": flag(&data["is_add"]).unwrap_or(true),
        }),
        "group_whole_mute" => {
            let (sub_type, duration) = if flag(&data["is_mute"])? { ("ban", -1) } else { ("lift_ban", 0) };
            json!({
                "notice_type": "group_ban", "sub_type": sub_type, "group_id": group()?, "user_id": 0, "operator_id": by,
                "duration": duration,
            })
        }
        "group_nudge" => json!({
            "notice_type": "notify", "sub_type": "poke", "group_id": group()?, "user_id": id(&data["sender_id"])?,
            "target_id": id(&data["receiver_id"])?,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
