//! Events of the sandbox in the words of OneBot v11 (onebot-11, `event/`).

use serde_json::{Value, json};

use crate::client::backend::BackendEvent;
use crate::client::backend::message::{Chat, ChatMessage, Direction};

/// What the applications of the account `own` are told; none for what they are not told.
pub(super) fn of(own: &str, event: &BackendEvent) -> Option<Value> {
    match event {
        BackendEvent::Message(message) if message.direction == Direction::Received => {
            Some(received(own.parse().ok()?, message))
        }
        _ => None,
    }
}

fn received(own: u64, message: &ChatMessage) -> Value {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let sender = number(&message.sender.uid);
    let (message_type, sub_type) = match &message.chat {
        Chat::Friend => ("private", "friend"),
        Chat::GroupSession(_) => ("private", "group"),
        Chat::DiscussSession(_) => ("private", "other"),
        Chat::Group(_) | Chat::Discuss(_) => ("group", "normal"),
    };
    let mut event = json!({
        "time": message.time, "self_id": own, "post_type": "message", "message_type": message_type,
        "sub_type": sub_type, "message_id": number(&message.id), "user_id": sender,
        "message": [{ "type": "text", "data": { "text": message.content } }],
        "raw_message": message.content, "font": 0,
        "sender": { "user_id": sender, "nickname": message.sender.displayname },
    });
    if let Chat::Group(group) | Chat::GroupSession(group) = &message.chat {
        event["group_id"] = number(&group.uid).into();
    }
    event
}
