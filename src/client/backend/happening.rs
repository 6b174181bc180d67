//! [`Happening`]: what reports tell of the notices and requests of OneBot v11 (onebot-11, `event/notice.md`, `event/request.md`)
//! that the old API has no words for. Pure.

use serde_json::{Map, Value, json};

/// Something that happened, which programs of the old API ignore unless they know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// Its name on the wire.
    pub name: &'static str,
    /// The one parameter of its report.
    pub details: Value,
}

/// What a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberOf {
    /// A person.
    Person,
    /// A group.
    Group,
}

/// What stands in a report before the flag of a request, so that the answer needs nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestType {
    /// A friend request.
    Friend,
    /// Somebody wants to join a group.
    Add,
    /// The account is invited into a group.
    Invite,
}

impl RequestType {
    const ALL: [Self; 3] = [Self::Friend, Self::Add, Self::Invite];

    /// The word on the wire. Those of groups are `sub_type` in the standard.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Friend => "friend",
            Self::Add => "add",
            Self::Invite => "invite",
        }
    }

    /// Reads the word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The flag as reports tell it.
    fn mark(self, flag: &str) -> String {
        format!("{}:{flag}", self.as_str())
    }

    /// Reads a flag as reports tell it: what is asked for, and the flag of the network.
    pub(crate) fn of_flag(marked: &str) -> Option<(Self, &str)> {
        let (word, flag) = marked.split_once(':')?;
        Self::named(word).filter(|_| !flag.is_empty()).map(|kind| (kind, flag))
    }
}

impl Happening {
    /// Reads an event as applications are told it. `id_of` has the ids of this login for lasting numbers. None: it is no such
    /// event, or lacks what makes it one.
    pub(crate) fn of(event: &Value, id_of: impl Fn(NumberOf, &str) -> String) -> Option<Self> {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        // 0 is nobody; some implementations write numbers as texts.
        let uid = |key: &str| match &event[key] {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let uid = |key: &str| uid(key).filter(|uid| !uid.is_empty() && uid != "0");
        let mut details = Map::new();
        let mut party = |name: &str, what: NumberOf, uid: Option<String>| {
            if let Some(uid) = uid {
                details.insert(format!("{name}_id"), id_of(what, &uid).into());
                details.insert(format!("{name}_uid"), uid.into());
            }
        };
        let group = uid("group_id");
        let is_group = group.is_some();
        let (person, in_group) = (NumberOf::Person, NumberOf::Group);
        let sub_type = text("sub_type");
        let (name, more) = match (text("post_type"), text("notice_type"), text("request_type")) {
            ("notice", kind @ ("group_recall" | "friend_recall"), _) => {
                let author = uid("user_id")?;
                if kind == "group_recall" {
                    party("group", in_group, Some(group?));
                    party("operator", person, uid("operator_id"));
                } else {
                    party("friend", person, Some(author.clone()));
                }
                party("sender", person, Some(author));
                ("recall", json!({ "message_id": number(&event["message_id"])? }))
            }
            ("notice", "notify", _) if sub_type == "poke" => {
                // In a private chat some have only `sender_id` for who did it.
                let (by, target) = (uid("sender_id").or_else(|| uid("user_id"))?, uid("target_id")?);
                let other = if Some(&by) == uid("self_id").as_ref() { &target } else { &by };
                party("friend", person, Some(other.clone()).filter(|_| !is_group));
                party("group", in_group, group);
                party("sender", person, Some(by));
                party("target", person, Some(target));
                ("poke", json!({}))
            }
            ("notice", "group_msg_emoji_like", _) => {
                party("group", in_group, Some(group?));
                party("sender", person, uid("user_id"));
                let (message, likes) = (number(&event["message_id"])?, event["likes"].as_array()?);
                let likes = likes.iter().map(|like| {
                    let emoji = match &like["emoji_id"] {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    json!({ "emoji": emoji, "count": number(&like["count"]).unwrap_or(1) })
                });
                let likes: Vec<Value> = likes.collect();
                let on = u8::from(event["is_add"].as_bool().unwrap_or(true));
                ("reaction", json!({ "message_id": message, "likes": likes, "on": on }))
            }
            ("notice", "group_ban", _) => {
                let (on, member) = (sub_type != "lift_ban", uid("user_id"));
                let is_whole = member.is_none();
                party("group", in_group, Some(group?));
                party("operator", person, uid("operator_id"));
                party("member", person, member);
                // For everybody there is no end, which implementations write as -1 or 0.
                let time = number(&event["duration"]).filter(|time| *time > 0 && on && !is_whole);
                let time = time.unwrap_or(0);
                ("ban", json!({ "time": time, "whole": u8::from(is_whole), "on": u8::from(on) }))
            }
            ("request", _, kind @ ("friend" | "group")) => {
                let kind = match (kind, sub_type) {
                    ("friend", _) => RequestType::Friend,
                    (_, "invite") => RequestType::Invite,
                    _ => RequestType::Add,
                };
                let name = if kind == RequestType::Friend {
                    "friend_request"
                } else {
                    party("group", in_group, Some(group?));
                    "group_request"
                };
                party("sender", person, uid("user_id"));
                let flag = match &event["flag"] {
                    Value::Number(number) => number.to_string(),
                    other => other.as_str()?.to_owned(),
                };
                (name, json!({ "type": kind.as_str(), "flag": kind.mark(&flag), "comment": text("comment") }))
            }
            _ => return None,
        };
        // It is an object, as made above.
        if let Value::Object(more) = more {
            details.extend(more);
        }
        Some(Self { name, details: details.into() })
    }
}

/// A number, which may be written as a text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, more: Value) -> Option<(&'static str, Value)> {
        let mut event = json!({ "post_type": kind, "self_id": 1 });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id_of =
            |what, uid: &str| if what == NumberOf::Group { format!("g{uid}") } else { format!("p{uid}") };
        Happening::of(&event, id_of).map(|happening| (happening.name, happening.details))
    }

    #[test]
    fn notices_are_told_with_both_numbers() {
        for (notice, name, details) in [
            (
                json!({ "notice_type": "group_recall", "group_id": 5, "user_id": 7, "operator_id": 8, "message_id": -3 }),
                "recall",
                json!({ "message_id": -3, "group_id": "g5", "group_uid": "5", "sender_id": "p7", "sender_uid": "7",
                        "operator_id": "p8", "operator_uid": "8" }),
            ),
            (
                json!({ "notice_type": "friend_recall", "user_id": "7", "message_id": "4" }),
                "recall",
                json!({ "message_id": 4, "friend_id": "p7", "friend_uid": "7", "sender_id": "p7", "sender_uid": "7" }),
            ),
            (
                json!({ "notice_type": "notify", "sub_type": "poke", "user_id": 7, "target_id": 1, "group_id": 5 }),
                "poke",
                json!({ "group_id": "g5", "group_uid": "5", "sender_id": "p7", "sender_uid": "7",
                        "target_id": "p1", "target_uid": "1" }),
            ),
            (
                json!({ "notice_type": "notify", "sub_type": "poke", "user_id": 7, "sender_id": 1, "target_id": 7 }),
                "poke",
                json!({ "friend_id": "p7", "friend_uid": "7", "sender_id": "p1", "sender_uid": "1",
                        "target_id": "p7", "target_uid": "7" }),
            ),
            (
                json!({ "notice_type": "group_msg_emoji_like", "group_id": 5, "user_id": 7, "message_id": 3,
                        "likes": [{ "emoji_id": 76, "count": 2 }], "is_add": false }),
                "reaction",
                json!({ "message_id": 3, "group_id": "g5", "group_uid": "5", "sender_id": "p7", "sender_uid": "7",
                        "likes": [{ "emoji": "76", "count": 2 }], "on": 0 }),
            ),
            (
                json!({ "notice_type": "group_ban", "sub_type": "ban", "group_id": 5, "operator_id": 8, "user_id": 7,
                        "duration": 60 }),
                "ban",
                json!({ "group_id": "g5", "group_uid": "5", "operator_id": "p8", "operator_uid": "8",
                        "member_id": "p7", "member_uid": "7", "time": 60, "whole": 0, "on": 1 }),
            ),
            (
                json!({ "notice_type": "group_ban", "sub_type": "ban", "group_id": 5, "user_id": 0, "duration": -1 }),
                "ban",
                json!({ "group_id": "g5", "group_uid": "5", "time": 0, "whole": 1, "on": 1 }),
            ),
        ] {
            assert_eq!(told("notice", notice.clone()), Some((name, details)), "{notice}");
        }
        for other in [
            json!({ "notice_type": "group_recall", "group_id": 5, "user_id": 7 }),
            json!({ "notice_type": "friend_add", "user_id": 7 }),
            json!({ "notice_type": "notify", "sub_type": "title", "user_id": 7, "group_id": 5 }),
        ] {
            assert_eq!(told("notice", other.clone()), None, "{other}");
        }
        assert_eq!(told("message", json!({ "message_id": 1 })), None);
    }

    #[test]
    fn flag_of_a_request_says_what_is_asked_for() {
        let friend = json!({ "request_type": "friend", "user_id": 7, "comment": "c", "flag": "a:b" });
        let (name, details) = told("request", friend).unwrap();
        assert_eq!(
            (name, &details["flag"], &details["sender_uid"]),
            ("friend_request", &json!("friend:a:b"), &json!("7"))
        );
        assert_eq!(RequestType::of_flag("friend:a:b"), Some((RequestType::Friend, "a:b")));
        for (sub_type, kind) in [("add", RequestType::Add), ("invite", RequestType::Invite)] {
            let asked = json!({ "request_type": "group", "sub_type": sub_type, "user_id": 7, "group_id": 5, "flag": 9 });
            let (name, details) = told("request", asked).unwrap();
            assert_eq!(
                (name, &details["type"], &details["group_id"]),
                ("group_request", &json!(sub_type), &json!("g5"))
            );
            assert_eq!(RequestType::of_flag(details["flag"].as_str().unwrap()), Some((kind, "9")));
        }
        for wrong in ["", "9", "add:", "other:9"] {
            assert_eq!(RequestType::of_flag(wrong), None, "{wrong}");
        }
    }
}
