//! [`OneBot11`]: the words of OneBot v11, with the extensions that implementations share. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use super::wire;
use crate::client::backend::BackendError;
use crate::client::backend::message::Recipient;
use crate::client::remote::dialect::{Dialect, List, Request, number};
use crate::client::remote::frame::{FrameError, Parsed, RemoteFrame};
use crate::client::remote::message_ids::MessageIds;
use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value;

/// OneBot v11.
pub(crate) struct OneBot11;

impl Dialect for OneBot11 {
    fn name(&self) -> &'static str {
        "OneBot"
    }

    fn table(&self) -> &'static str {
        "onebot"
    }

    fn application_event(&self, frame: &[u8], _ids: &MessageIds) -> Option<String> {
        wire::application_event(frame)
    }

    fn passes_actions(&self) -> bool {
        true
    }

    fn read_frame(&self, bytes: &[u8]) -> Result<Parsed<RemoteFrame>, FrameError> {
        wire::read_frame(bytes)
    }

    fn own_uid(&self, login: &Value) -> Option<u64> {
        value::id(&login["user_id"])
    }

    fn profile(&self, uid: u64, anew: bool) -> Request {
        ("get_stranger_info", json!({ "user_id": uid, "no_cache": anew }))
    }

    // Not in the standard; NapCat and LLBot have it.
    fn categories(&self) -> Option<Request> {
        Some(("get_friends_with_category", json!({})))
    }

    fn list<'a>(&self, data: &'a Value, _list: List) -> &'a Value {
        data
    }

    fn member<'a>(&self, data: &'a Value) -> &'a Value {
        data
    }

    // Strict implementations require every parameter, numeric ids, and an array for the content.
    fn send(&self, to: &Recipient, content: &[MessageSegment]) -> Result<Request, BackendError> {
        let message = wire::segment::write(content);
        Ok(match to {
            Recipient::Friend(id) => (
                "send_private_msg",
                json!({ "user_id": number(id)?, "message": message, "auto_escape": false }),
            ),
            Recipient::Group(id) => (
                "send_group_msg",
                json!({ "group_id": number(id)?, "message": message, "auto_escape": false }),
            ),
            Recipient::GroupMember { group, member } => {
                // With `group_id` it is a temporary session by way of that group. OneBot 11 has none; this is go-cqhttp's
                // extension.
                let (group, member) = (number(group)?, number(member)?);
                let params =
                    json!({ "user_id": member, "group_id": group, "message": message, "auto_escape": false });
                ("send_private_msg", params)
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => return Err(BackendError::Gone),
        })
    }

    fn sent_number(&self, _to: &Recipient, data: &Value) -> Option<String> {
        value::message_number(&data["message_id"])
            // Some have the bare number as their data.
            .or_else(|| value::number(data).filter(|id| *id > 0).map(|id| id.to_string()))
    }

    fn mute(&self, group: u64, member: u64, time: Duration) -> Request {
        ("set_group_ban", json!({ "group_id": group, "user_id": member, "duration": time.as_secs() }))
    }

    fn kick(&self, group: u64, member: u64) -> Request {
        ("set_group_kick", json!({ "group_id": group, "user_id": member, "reject_add_request": false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_a_sent_message_is_read() {
        let sent = |data| OneBot11.sent_number(&Recipient::Friend("7".into()), &data);
        assert_eq!(sent(json!({ "message_id": -7 })).as_deref(), Some("-7"));
        assert_eq!((sent(json!(null)), sent(json!({ "message_id": 0 }))), (None, None));
    }

    #[test]
    fn send_calls_have_every_parameter() {
        let words = |text: &str| [MessageSegment::Text(text.into())];
        let parts = json!([{ "type": "text", "data": { "text": "[CQ:face,id=1]" } }]);
        let (action, params) =
            OneBot11.send(&Recipient::Friend("7".into()), &words("[CQ:face,id=1]")).unwrap();
        assert_eq!(action, "send_private_msg");
        assert_eq!(params, json!({ "user_id": 7, "message": parts, "auto_escape": false }));
        let member = Recipient::GroupMember { group: "5".into(), member: "7".into() };
        let (action, params) = OneBot11.send(&member, &words("[CQ:face,id=1]")).unwrap();
        assert_eq!(action, "send_private_msg");
        assert_eq!(params, json!({ "user_id": 7, "group_id": 5, "message": parts, "auto_escape": false }));
        let (action, params) =
            OneBot11.send(&Recipient::Group("5".into()), &words("[CQ:face,id=1]")).unwrap();
        assert_eq!(action, "send_group_msg");
        assert_eq!(params, json!({ "group_id": 5, "message": parts, "auto_escape": false }));
        assert_eq!(OneBot11.send(&Recipient::Discuss("5".into()), &words("x")), Err(BackendError::Gone));
        assert_eq!(OneBot11.send(&Recipient::Friend("x".into()), &words("x")), Err(BackendError::Gone));
    }
}
