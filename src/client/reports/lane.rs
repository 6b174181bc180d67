//! [`Lane`]: the conversation that a report belongs to. Reports of one lane are delivered in order; different lanes do
//! not wait for each other.
//!
//! A conversation has the messages both ways and what happens to it: changes of the group's members, of the friend's
//! name, and messages that could not be sent. Everything about the account itself is one more lane.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// A conversation. Two may share a lane when their hashes collide, which only makes one wait for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane(u64);

impl Lane {
    /// The lane of a report, from its JSON text. Lanes are not stored: each run computes those of the reports that it finds.
    pub(crate) fn of_text(text: &str) -> Self {
        serde_json::from_str(text).map_or_else(|_| Self::new("", &[]), |report| Self::of(&report))
    }

    /// The lane of a report.
    pub(crate) fn of(report: &Value) -> Self {
        let is_sent = text(report, "class") == Some("send");
        Self::of_message(report, is_sent).unwrap_or_else(|| Self::of_event(report))
    }

    /// The lane of a message, or none where `message` is not one.
    fn of_message(message: &Value, is_sent: bool) -> Option<Self> {
        let other_party = || match is_sent {
            true => id_of(message, "receiver_id", "receiver_uid"),
            false => id_of(message, "sender_id", "sender_uid"),
        };
        let group = || id_of(message, "group_id", "group_uid");
        Some(match text(message, "type")? {
            "friend_message" => Self::new("friend", &[other_party()]),
            "group_message" => Self::new("group", &[group()]),
            "discuss_message" => Self::new("discuss", &[text(message, "discuss_id")]),
            "sess_message" => Self::new("sess", &[group(), text(message, "discuss_id"), other_party()]),
            _ => return None,
        })
    }

    fn of_event(report: &Value) -> Self {
        let event = text(report, "event").unwrap_or_default();
        let object = |at: usize| {
            let object = report.get("params")?.get(at)?;
            id_of(object, "id", "uid")
        };
        match event {
            "new_friend" | "lose_friend" | "friend_property_change" => Self::new("friend", &[object(0)]),
            "new_group" | "lose_group" | "group_property_change" => Self::new("group", &[object(0)]),
            "new_group_member" | "lose_group_member" => Self::new("group", &[object(1)]),
            "new_discuss" | "lose_discuss" => Self::new("discuss", &[object(0)]),
            "new_discuss_member" | "lose_discuss_member" => Self::new("discuss", &[object(1)]),
            "recall" | "poke" | "reaction" | "ban" | "group_request" | "friend_request" => {
                let told = report.pointer("/params/0");
                let party = |id, uid| told.and_then(|told| id_of(told, id, uid));
                match (party("group_id", "group_uid"), event) {
                    (Some(group), _) => Self::new("group", &[Some(group)]),
                    (None, "friend_request") => Self::new("friend", &[party("sender_id", "sender_uid")]),
                    (None, _) => Self::new("friend", &[party("friend_id", "friend_uid")]),
                }
            }
            // The message that failed, not the account, is what its conversation has to hear of in order.
            "send_failed" => report
                .pointer("/params/0")
                .and_then(|message| Self::of_message(message, true))
                .unwrap_or_else(|| Self::new("", &[])),
            // Its report does not say which group.
            "group_member_property_change" => Self::new("member", &[object(0)]),
            _ => Self::new("", &[]),
        }
    }

    fn new(kind: &str, ids: &[Option<&str>]) -> Self {
        // Its keys are fixed, and hashes are compared within one run only, so an algorithm that changes does not matter.
        let mut hasher = DefaultHasher::new();
        (kind, ids).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The id of this login, or the lasting number where there is no id. A message that failed is known by ids alone, so the
/// id comes first: it must share the lane of the messages around it.
fn id_of<'a>(object: &'a Value, id: &str, uid: &str) -> Option<&'a str> {
    text(object, id).filter(|id| !id.is_empty()).or_else(|| text(object, uid))
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reports_of_one_conversation_share_a_lane_and_no_others_do() {
        let conversations = [
            vec![
                json!({ "type": "friend_message", "class": "recv", "sender_uid": "1", "receiver_uid": "9" }),
                json!({ "type": "friend_message", "class": "send", "sender_uid": "9", "receiver_uid": "1" }),
                json!({ "event": "friend_property_change", "params": [{ "uid": "1" }, "name", "a", "b"] }),
                json!({ "event": "lose_friend", "params": [{ "id": "1", "uid": "8" }] }),
                json!({ "event": "recall", "params": [{ "friend_id": "1", "friend_uid": "8", "sender_id": "1" }] }),
                json!({ "event": "poke", "params": [{ "friend_id": "1", "sender_id": "9", "target_id": "1" }] }),
                json!({ "event": "friend_request", "params": [{ "sender_id": "1", "sender_uid": "8" }] }),
                json!({ "event": "send_failed", "params": [{ "type": "friend_message", "receiver_id": "1" }, -3, ""] }),
            ],
            vec![json!({ "type": "friend_message", "class": "recv", "sender_uid": "2" })],
            vec![
                json!({ "type": "group_message", "class": "recv", "sender_uid": "1", "group_uid": "1" }),
                json!({ "type": "group_message", "class": "send", "sender_uid": "9", "group_uid": "1" }),
                json!({ "event": "new_group", "params": [{ "uid": "1", "member": [] }] }),
                json!({ "event": "lose_group_member", "params": [{ "uid": "7" }, { "uid": "1" }] }),
                json!({ "event": "recall", "params": [{ "group_id": "1", "group_uid": "8", "sender_id": "7" }] }),
                json!({ "event": "ban", "params": [{ "group_id": "1", "member_id": "7" }] }),
                json!({ "event": "group_request", "params": [{ "group_id": "1", "sender_id": "7" }] }),
            ],
            vec![
                json!({ "type": "group_message", "class": "recv", "group_uid": "", "group_id": "5" }),
                json!({ "event": "send_failed", "params": [{ "type": "group_message", "group_id": "5" }, -3, ""] }),
            ],
            vec![
                json!({ "type": "sess_message", "via": "group", "class": "recv", "sender_uid": "1", "group_uid": "1" }),
                json!({ "type": "sess_message", "via": "group", "class": "send", "receiver_uid": "1", "group_uid": "1" }),
                json!({ "event": "send_failed",
                        "params": [{ "type": "sess_message", "group_id": "1", "receiver_id": "1" }, -3, ""] }),
            ],
            vec![
                json!({ "type": "sess_message", "via": "group", "class": "recv", "sender_uid": "2", "group_uid": "1" }),
            ],
            vec![
                json!({ "type": "sess_message", "via": "discuss", "class": "recv", "sender_uid": "1", "discuss_id": "1" }),
            ],
            vec![
                json!({ "type": "discuss_message", "class": "recv", "sender_uid": "1", "discuss_id": "1" }),
                json!({ "event": "new_discuss_member", "params": [{ "uid": "7" }, { "id": "1" }] }),
                json!({ "event": "lose_discuss", "params": [{ "id": "1" }] }),
                json!({ "event": "send_failed", "params": [{ "type": "discuss_message", "discuss_id": "1" }, -3, ""] }),
            ],
            vec![
                json!({ "event": "group_member_property_change", "params": [{ "uid": "7" }, "card", "", "x"] }),
            ],
            vec![
                json!({ "event": "login", "params": [1] }),
                json!({ "event": "stop", "params": [] }),
                json!({ "event": "input_qrcode", "params": ["path", "image"] }),
                json!({ "event": "user_property_change", "params": [{ "uid": "9" }, "name", "a", "b"] }),
                json!({}),
            ],
        ];
        let mut lanes = Vec::new();
        for reports in &conversations {
            let lane = Lane::of(&reports[0]);
            for report in reports {
                assert_eq!(Lane::of(report), lane, "{report}");
                assert_eq!(Lane::of_text(&report.to_string()), lane, "{report}");
            }
            assert!(!lanes.contains(&lane), "{reports:?}");
            lanes.push(lane);
        }
        assert_eq!(Lane::of_text("no JSON"), *lanes.last().unwrap());
    }

    /// The ids of a sandbox account differ from its lasting numbers, and a message that failed has ids alone.
    #[test]
    fn failed_send_shares_the_lane_of_its_conversation() {
        use crate::client::backend::event::{AccountEvent, UnsentMessage};
        use crate::client::backend::message::{Chat, ChatMessage, Direction, GroupRef, Party};
        let party = |id: &str| Party { id: id.into(), uid: format!("uid {id}"), displayname: String::new() };
        let group = GroupRef { id: "5".into(), uid: "uid 5".into(), displayname: String::new() };
        for (chat, receiver) in [
            (Chat::Friend, Some(party("7"))),
            (Chat::Group(group.clone()), None),
            (Chat::GroupSession(group), Some(party("7"))),
        ] {
            let sent = ChatMessage {
                direction: Direction::Sent,
                chat,
                id: "1".into(),
                time: 1,
                content: "x".into(),
                segments: Vec::new(),
                number: None,
                sender: party("9"),
                receiver,
            };
            let to = sent.reply_to().unwrap();
            let failed = UnsentMessage {
                id: "2".into(),
                to,
                content: "x".into(),
                segments: Vec::new(),
                code: -3,
                info: String::new(),
            };
            let failed = AccountEvent::SendFailed(Box::new(failed)).to_json();
            assert_eq!(Lane::of(&failed), Lane::of(&sent.to_json()));
        }
    }
}
