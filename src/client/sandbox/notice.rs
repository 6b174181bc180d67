//! Notices and requests in the words of OneBot v11 (onebot-11, `event/notice.md`, `event/request.md`). Pure. What the standard does
//! not have is written as NapCat and go-cqhttp write it, as programs know that.
//!
//! Time and own number are added when they are told.

use serde_json::{Value, json};

use super::view::changes::GroupFile;
use super::view::requests::{Request, RequestKind};

/// A uid as a number.
pub(super) fn uid(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// A member is muted for some seconds; none of them: no longer.
pub(super) fn ban(group: &str, by: &str, member: &str, seconds: u64) -> Value {
    json!({
        "notice_type": "group_ban", "sub_type": if seconds == 0 { "lift_ban" } else { "ban" },
        "group_id": uid(group), "operator_id": uid(by), "user_id": uid(member), "duration": seconds,
    })
}

/// Everybody is muted, or no longer.
pub(super) fn ban_all(group: &str, by: &str, on: bool) -> Value {
    json!({
        "notice_type": "group_ban", "sub_type": if on { "ban" } else { "lift_ban" },
        "group_id": uid(group), "operator_id": uid(by), "user_id": 0, "duration": if on { -1 } else { 0 },
    })
}

/// A member is gone: removed, or left by itself.
pub(super) fn decrease(group: &str, by: &str, member: &str, own: &str) -> Value {
    let sub_type = match (by == member, member == own) {
        (true, _) => "leave",
        (false, true) => "kick_me",
        (false, false) => "kick",
    };
    json!({
        "notice_type": "group_decrease", "sub_type": sub_type, "group_id": uid(group), "operator_id": uid(by),
        "user_id": uid(member),
    })
}

/// The group is no more.
pub(super) fn dismiss(group: &str, by: &str, own: &str) -> Value {
    json!({
        "notice_type": "group_decrease", "sub_type": "disband", "group_id": uid(group), "operator_id": uid(by),
        "user_id": uid(own),
    })
}

/// A member has come.
pub(super) fn increase(group: &str, by: &str, member: &str, is_invited: bool) -> Value {
    json!({
        "notice_type": "group_increase", "sub_type": if is_invited { "invite" } else { "approve" },
        "group_id": uid(group), "operator_id": uid(by), "user_id": uid(member),
    })
}

/// A member is an admin, or no longer.
pub(super) fn admin(group: &str, member: &str, on: bool) -> Value {
    json!({
        "notice_type": "group_admin", "sub_type": if on { "set" } else { "unset" }, "group_id": uid(group),
        "user_id": uid(member),
    })
}

/// The name of a member in a group has changed.
pub(super) fn card(group: &str, member: &str, old: &str, new: &str) -> Value {
    json!({
        "notice_type": "group_card", "group_id": uid(group), "user_id": uid(member), "card_old": old,
        "card_new": new,
    })
}

/// A member has another title.
pub(super) fn title(group: &str, member: &str, title: &str) -> Value {
    json!({
        "notice_type": "notify", "sub_type": "title", "group_id": uid(group), "user_id": uid(member),
        "title": title,
    })
}

/// The group has another name.
pub(super) fn group_name(group: &str, by: &str, name: &str) -> Value {
    json!({
        "notice_type": "notify", "sub_type": "group_name", "group_id": uid(group), "user_id": uid(by),
        "name_new": name,
    })
}

/// A message is one that the group honours, or no longer.
pub(super) fn essence(group: &str, by: &str, author: &str, message: i32, on: bool) -> Value {
    json!({
        "notice_type": "essence", "sub_type": if on { "add" } else { "delete" }, "group_id": uid(group),
        "sender_id": uid(author), "operator_id": uid(by), "user_id": uid(author), "message_id": message,
    })
}

/// A file was shared.
pub(super) fn upload(group: &str, by: &str, file: &GroupFile) -> Value {
    json!({
        "notice_type": "group_upload", "group_id": uid(group), "user_id": uid(by),
        "file": { "id": file.id, "name": file.name, "size": file.size, "busid": 102, "url": file.url },
    })
}

/// A message of a group was taken back.
pub(super) fn group_recall(group: &str, author: &str, by: &str, message: i32) -> Value {
    json!({
        "notice_type": "group_recall", "group_id": uid(group), "user_id": uid(author), "operator_id": uid(by),
        "message_id": message,
    })
}

/// A message between friends was taken back.
pub(super) fn friend_recall(friend: &str, message: i32) -> Value {
    json!({ "notice_type": "friend_recall", "user_id": uid(friend), "message_id": message })
}

/// Somebody was poked.
pub(super) fn poke(group: Option<&str>, by: &str, target: &str) -> Value {
    let mut notice = json!({
        "notice_type": "notify", "sub_type": "poke", "user_id": uid(by), "sender_id": uid(by),
        "target_id": uid(target),
    });
    if let Some(group) = group {
        notice["group_id"] = uid(group).into();
    }
    notice
}

/// A message got a reaction, or lost it. `count` is how many there are now.
pub(super) fn reaction(group: &str, by: &str, message: i32, emoji: &str, count: usize, on: bool) -> Value {
    json!({
        "notice_type": "group_msg_emoji_like", "group_id": uid(group), "user_id": uid(by), "message_id": message,
        "likes": [{ "emoji_id": emoji, "count": count }], "is_add": on,
    })
}

/// A friend was added.
pub(super) fn friend_add(friend: &str) -> Value {
    json!({ "notice_type": "friend_add", "user_id": uid(friend) })
}

/// Somebody asks for something that the account may grant.
pub(super) fn request(request: &Request) -> Value {
    let mut event = json!({
        "post_type": "request", "request_type": "friend", "user_id": uid(&request.by), "comment": request.comment,
        "flag": request.flag,
    });
    let (sub_type, group) = match &request.kind {
        RequestKind::Friend => return event,
        RequestKind::Join(group) => ("add", group),
        RequestKind::Invitation(group) => ("invite", group),
    };
    event["request_type"] = "group".into();
    event["sub_type"] = sub_type.into();
    event["group_id"] = uid(group).into();
    event
}
