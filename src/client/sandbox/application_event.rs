//! Events of the sandbox in the words of OneBot v11 (onebot-11, `event/`). Those of changes are in `notice`.

use serde_json::{Value, json};

use super::notice::{self, uid};
use crate::client::backend::BackendEvent;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::message::{Chat, ChatMessage};
use crate::client::backend::segment::{self, Segment};

/// What the applications of the account `own` are told of an event that no change of the world led to, such as a client that came
/// or another file of the world; none for what they are not told.
pub(super) fn of(own: &str, event: &BackendEvent) -> Option<Value> {
    let BackendEvent::Account(event) = event else { return None };
    Some(match &**event {
        AccountEvent::NewFriend(friend) => notice::friend_add(&friend.uid),
        AccountEvent::NewGroup(group) => notice::increase(&group.uid, &group.owner_uid, own, false),
        AccountEvent::LoseGroup(group) => notice::decrease(&group.uid, own, own, own),
        AccountEvent::NewGroupMember(member, group) => {
            notice::increase(&group.uid, &group.owner_uid, &member.uid, false)
        }
        AccountEvent::LoseGroupMember(member, group) => {
            notice::decrease(&group.uid, &member.uid, &member.uid, own)
        }
        _ => return None,
    })
}

/// The event of a message from this sender.
pub(super) fn received(message: &ChatMessage, sender: Value) -> Value {
    let (message_type, sub_type) = match &message.chat {
        Chat::Friend => ("private", "friend"),
        Chat::GroupSession(_) => ("private", "group"),
        Chat::DiscussSession(_) => ("private", "other"),
        Chat::Group(_) | Chat::Discuss(_) => ("group", "normal"),
    };
    let shown = shown(&message.segments);
    let mut event = json!({
        "time": message.time, "post_type": "message", "message_type": message_type, "sub_type": sub_type,
        "message_id": message.number, "user_id": uid(&message.sender.uid), "raw_message": segment::raw(&shown),
        "message": shown, "font": 0, "sender": sender,
    });
    match &message.chat {
        Chat::Group(group) => {
            event["group_id"] = uid(&group.uid).into();
            event["anonymous"] = Value::Null;
        }
        Chat::GroupSession(group) => {
            // Where the standard does not say it, programs look for it in either place.
            event["group_id"] = uid(&group.uid).into();
            event["sender"]["group_id"] = uid(&group.uid).into();
        }
        // A discussion has no number; QQ has none of them any more.
        Chat::Discuss(discuss) => event["group_id"] = uid(&discuss.id).into(),
        _ => {}
    }
    event
}

/// The parts as programs see them: what a forwarded message has in it they ask for by its id.
pub(super) fn shown(segments: &[Segment]) -> Vec<Segment> {
    let mut shown = segments.to_vec();
    for part in shown.iter_mut().filter(|part| part.kind == "forward") {
        part.data.remove("content");
    }
    shown
}
