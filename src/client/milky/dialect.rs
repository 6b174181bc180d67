//! [`Milky`]: the words of Milky (milky.ntqqrev.org; the types are those of `@saltify/milky-types`). Pure, but for the
//! clock.

use std::time::Duration;

use serde_json::{Value, json};

use super::{translation, wire};
use crate::client::backend::BackendError;
use crate::client::backend::action::{Action, Answer};
use crate::client::backend::message::Recipient;
use crate::client::process::unix_seconds;
use crate::client::remote::dialect::{Dialect, List, Request, number};
use crate::client::remote::frame::{FrameError, Parsed, RemoteFrame};
use crate::client::remote::message_ids::{MessageIds, Scene};
use crate::client::remote::plan::{Plan, PlanContext};
use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value;
use crate::model::lenient;

const NO_MEMBER_CHATS: &str = "Milky has no call that sends to a member of a group who is no friend";

/// Milky.
pub(crate) struct Milky;

impl Dialect for Milky {
    fn name(&self) -> &'static str {
        "Milky"
    }

    fn table(&self) -> &'static str {
        "milky"
    }

    fn read_frame(&self, bytes: &[u8]) -> Result<Parsed<RemoteFrame>, FrameError> {
        wire::read_frame(bytes)
    }

    fn application_event(&self, frame: &[u8], ids: &MessageIds) -> Option<String> {
        let read = lenient::read(frame).ok()?;
        Some(translation::event::told(&read.value, ids)?.to_string())
    }

    fn friend_added(&self, account: u64, friend: u64) -> Option<String> {
        Some(translation::event::friend_added(unix_seconds(), account, friend).to_string())
    }

    fn plan(&self, action: Action, context: &PlanContext) -> Result<Plan, Answer> {
        translation::action::plan(action, context)
    }

    fn own_uid(&self, login: &Value) -> Option<u64> {
        value::id(&login["uin"])
    }

    fn is_logged_out(&self, code: i64) -> bool {
        code == -403
    }

    fn lack_of_member_chats(&self) -> Option<&'static str> {
        Some(NO_MEMBER_CHATS)
    }

    fn profile(&self, uid: u64, _anew: bool) -> Request {
        ("get_user_profile", json!({ "user_id": uid }))
    }

    fn list<'a>(&self, data: &'a Value, list: List) -> &'a Value {
        &data[match list {
            List::Friends => "friends",
            List::Groups => "groups",
            List::Members => "members",
        }]
    }

    fn member<'a>(&self, data: &'a Value) -> &'a Value {
        &data["member"]
    }

    fn send(&self, to: &Recipient, content: &[MessageSegment]) -> Result<Request, BackendError> {
        let message = wire::segment::write(content);
        match to {
            Recipient::Friend(id) => {
                Ok(("send_private_message", json!({ "user_id": number(id)?, "message": message })))
            }
            Recipient::Group(id) => {
                Ok(("send_group_message", json!({ "group_id": number(id)?, "message": message })))
            }
            Recipient::GroupMember { .. } => Err(BackendError::Refused(NO_MEMBER_CHATS.to_owned())),
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => Err(BackendError::Gone),
        }
    }

    fn sent_number(&self, to: &Recipient, data: &Value) -> Option<String> {
        let seq = value::number(&data["message_seq"])?;
        match to {
            Recipient::Friend(id) => wire::message_number("friend", number(id).ok()?, seq),
            Recipient::Group(id) => wire::message_number("group", number(id).ok()?, seq),
            _ => None,
        }
    }

    fn sent_id(&self, account: u64, to: &Recipient, data: &Value, ids: &MessageIds) -> Option<i32> {
        let chat = match to {
            Recipient::Friend(id) => (Scene::Friend, number(id).ok()?),
            Recipient::Group(id) => (Scene::Group, number(id).ok()?),
            _ => return None,
        };
        let told = translation::answer::sent(account, chat, data, ids);
        i32::try_from(told["message_id"].as_i64()?).ok().filter(|id| *id != 0)
    }

    fn mute(&self, group: u64, member: u64, time: Duration) -> Request {
        ("set_group_member_mute", json!({ "group_id": group, "user_id": member, "duration": time.as_secs() }))
    }

    fn kick(&self, group: u64, member: u64) -> Request {
        ("kick_group_member", json!({ "group_id": group, "user_id": member, "reject_add_request": false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_those_of_the_standard() {
        let words = [MessageSegment::Text("x".into()), MessageSegment::Face(Some(14))];
        let message = json!([
            { "type": "text", "data": { "text": "x" } },
            { "type": "face", "data": { "face_id": "14" } },
        ]);
        let friend = Recipient::Friend("10007".into());
        assert_eq!(
            Milky.send(&friend, &words),
            Ok(("send_private_message", json!({ "user_id": 10007, "message": message })))
        );
        let group = Recipient::Group("10005".into());
        assert_eq!(
            Milky.send(&group, &words),
            Ok(("send_group_message", json!({ "group_id": 10005, "message": message })))
        );
        let member = Recipient::GroupMember { group: "10005".into(), member: "10007".into() };
        assert!(matches!(Milky.send(&member, &words), Err(BackendError::Refused(_))));
        let sent = json!({ "message_seq": 3, "time": 1 });
        assert_eq!(Milky.sent_number(&group, &sent).as_deref(), Some("group:10005:3"));
        assert_eq!(Milky.sent_number(&friend, &json!({})), None);
    }
}
