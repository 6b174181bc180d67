//! Data of answers: what Milky says as OneBot v11 has it (onebot-11, `api/public.md`).

use serde_json::{Value, json};

use super::message;
use super::segment;
use crate::client::backend::action::{Answer, Refusal};
use crate::client::remote::message_ids::{MessageIds, MessageKey, Scene};
use crate::client::remote::value::{id, number, opaque, text};

/// How many items of a list are told; more than the network has.
const MOST: usize = 100_000;

/// The answer to a question whose answer lacks what was asked for.
fn without_meaning(what: &str) -> Answer {
    Answer::refused(Refusal::NoAnswer, format!("the implementation answers without {what}"))
}

fn each(list: &Value, read: impl Fn(&Value) -> Option<Value>) -> Value {
    list.as_array().into_iter().flatten().take(MOST).filter_map(read).collect()
}

pub(super) fn login_info(data: &Value) -> Result<Value, Answer> {
    let uin = id(&data["uin"]).ok_or_else(|| without_meaning("the number of the account"))?;
    Ok(json!({ "user_id": uin, "nickname": text(&data["nickname"]) }))
}

pub(super) fn stranger(user: u64, data: &Value) -> Value {
    json!({
        "user_id": user, "nickname": text(&data["nickname"]), "sex": message::sex(&data["sex"]),
        "age": number(&data["age"]).unwrap_or(0), "qid": text(&data["qid"]), "level": number(&data["level"]).unwrap_or(0),
        "remark": text(&data["remark"]), "sign": text(&data["bio"]),
    })
}

pub(super) fn friends(data: &Value) -> Value {
    each(&data["friends"], |friend| {
        Some(json!({
            "user_id": id(&friend["user_id"])?, "nickname": text(&friend["nickname"]), "remark": text(&friend["remark"]),
            "sex": message::sex(&friend["sex"]),
        }))
    })
}

fn group_of(group: &Value) -> Option<Value> {
    let count = |key: &str| number(&group[key]).unwrap_or(0);
    // The three below the standard's are named as LLBot and NapCat do.
    Some(json!({
        "group_id": id(&group["group_id"])?, "group_name": text(&group["group_name"]),
        "member_count": count("member_count"), "max_member_count": count("max_member_count"),
        "group_remark": text(&group["remark"]), "group_memo": text(&group["description"]),
        "group_create_time": count("created_time"),
    }))
}

pub(super) fn group(data: &Value) -> Result<Value, Answer> {
    group_of(&data["group"]).ok_or_else(|| without_meaning("a group"))
}

pub(super) fn groups(data: &Value) -> Value {
    each(&data["groups"], group_of)
}

fn member_of(group: u64, member: &Value) -> Option<Value> {
    let time = |key: &str| number(&member[key]).unwrap_or(0);
    let role = Some(text(&member["role"])).filter(|role| !role.is_empty()).unwrap_or("member");
    Some(json!({
        "group_id": group, "user_id": id(&member["user_id"])?, "nickname": text(&member["nickname"]),
        "card": text(&member["card"]), "sex": message::sex(&member["sex"]), "age": 0, "area": "",
        "join_time": time("join_time"), "last_sent_time": time("last_sent_time"), "level": time("level").to_string(),
        "role": role, "unfriendly": false, "title": text(&member["title"]), "title_expire_time": 0, "card_changeable": true,
        // NapCat's and LLBot's.
        "shut_up_timestamp": time("shut_up_end_time"),
    }))
}

pub(super) fn member(group: u64, data: &Value) -> Result<Value, Answer> {
    member_of(group, &data["member"]).ok_or_else(|| without_meaning("a member"))
}

pub(super) fn members(group: u64, data: &Value) -> Value {
    each(&data["members"], |member| member_of(group, member))
}

/// A message that was asked for by its number.
pub(super) fn message(account: u64, data: &Value, ids: &MessageIds) -> Result<Value, Answer> {
    message::told(&data["message"], account, ids).ok_or_else(|| without_meaning("a message"))
}

/// Messages of a chat, oldest first.
pub(super) fn history(account: u64, data: &Value, ids: &MessageIds) -> Value {
    json!({ "messages": each(&data["messages"], |message| message::told(message, account, ids)) })
}

/// A forwarded message: nodes, as the standard has it, and `messages`, which bots of today read (go-cqhttp, NapCat).
pub(super) fn forwarded(data: &Value, ids: &MessageIds) -> Value {
    let content = |message: &Value| segment::read(&message["segments"], None, ids);
    // Milky does not say who an author is, but for the name.
    let nodes = each(&data["messages"], |message| {
        let data =
            json!({ "user_id": "0", "nickname": text(&message["sender_name"]), "content": content(message) });
        Some(json!({ "type": "node", "data": data }))
    });
    let messages = each(&data["messages"], |message| {
        let content = content(message);
        Some(json!({
            "sender": { "user_id": 0, "nickname": text(&message["sender_name"]) },
            "time": number(&message["time"]).unwrap_or(0), "content": content, "message": content,
            "message_format": "array", "message_type": "group",
        }))
    });
    json!({ "message": nodes, "messages": messages })
}

/// What was sent. Where the number is missing it is 0: the message went out, and nobody can refer to it.
pub(in crate::client::milky) fn sent(
    account: u64,
    chat: (Scene, u64),
    data: &Value,
    ids: &MessageIds,
) -> Value {
    let seq = number(&data["message_seq"]).filter(|seq| *seq > 0);
    let id = seq.map(|seq| ids.number(MessageKey { account, scene: chat.0, peer: chat.1, seq }));
    json!({ "message_id": id.unwrap_or(0) })
}

/// A file of a message. The standard has a path on the implementation's machine, which need not be this one.
pub(super) fn resource(name: &str, data: &Value) -> Result<Value, Answer> {
    let url = data["url"].as_str().filter(|url| !url.is_empty()).ok_or_else(|| without_meaning("a URL"))?;
    Ok(json!({ "file": url, "url": url, "file_name": name }))
}

/// A URL under the name that NapCat and go-cqhttp have for it.
pub(super) fn download(data: &Value) -> Result<Value, Answer> {
    let url = data["download_url"].as_str().filter(|url| !url.is_empty());
    Ok(json!({ "url": url.ok_or_else(|| without_meaning("a URL"))? }))
}

/// The standard has a number, Milky a text.
pub(super) fn csrf_token(data: &Value) -> Result<Value, Answer> {
    let token = opaque(&data["csrf_token"]).ok_or_else(|| without_meaning("a token"))?;
    Ok(token.trim().parse::<i64>().map_or_else(|_| token.into(), Value::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_those_of_the_standard() {
        let friends =
            friends(&json!({ "friends": [{ "user_id": 7, "nickname": "n", "category": {} }, {}, null] }));
        assert_eq!(friends, json!([{ "user_id": 7, "nickname": "n", "remark": "", "sex": "unknown" }]));
        let given = json!({ "group_id": 5, "group_name": "g", "member_count": 2, "max_member_count": 200, "remark": "r" });
        let told = json!({
            "group_id": 5, "group_name": "g", "member_count": 2, "max_member_count": 200, "group_remark": "r",
            "group_memo": "", "group_create_time": 0,
        });
        assert_eq!(groups(&json!({ "groups": [given, null] })), json!([told]));
        assert_eq!(group(&json!({ "group": given })), Ok(told));
        assert!(group(&json!({})).is_err());
        let given =
            json!({ "user_id": 7, "card": "c", "level": 3, "role": "owner", "shut_up_end_time": null });
        let told = json!({
            "group_id": 5, "user_id": 7, "nickname": "", "card": "c", "sex": "unknown", "age": 0, "area": "", "join_time": 0,
            "last_sent_time": 0, "level": "3", "role": "owner", "unfriendly": false, "title": "", "title_expire_time": 0,
            "card_changeable": true, "shut_up_timestamp": 0,
        });
        assert_eq!(members(5, &json!({ "members": [given, {}] })), json!([told]));
        assert_eq!(member(5, &json!({ "member": given })), Ok(told));
        for nothing in [json!(null), json!({}), json!([]), json!({ "friends": {} })] {
            assert_eq!((super::friends(&nothing), groups(&nothing)), (json!([]), json!([])));
        }
    }

    #[test]
    fn single_answers_become_those_of_the_standard() {
        assert_eq!(
            login_info(&json!({ "uin": "10001", "nickname": "n" })),
            Ok(json!({ "user_id": 10001, "nickname": "n" }))
        );
        assert_eq!(csrf_token(&json!({ "csrf_token": "12" })), Ok(json!(12)));
        assert_eq!(csrf_token(&json!({ "csrf_token": "x" })), Ok(json!("x")));
        assert_eq!(stranger(7, &json!({ "age": 9, "sex": "male" }))["age"], 9);
        for lacking in [
            login_info(&json!({})),
            csrf_token(&json!({})),
            resource("r", &json!({ "url": "" })),
            download(&json!({})),
            message(1, &json!({}), &MessageIds::in_memory()),
        ] {
            assert!(matches!(lacking, Err(Answer::Failed { code: 105, .. })));
        }
        let ids = MessageIds::in_memory();
        let sent_id =
            sent(1, (Scene::Friend, 7), &json!({ "message_seq": 3 }), &ids)["message_id"].as_i64().unwrap();
        let key = MessageKey { account: 1, scene: Scene::Friend, peer: 7, seq: 3 };
        assert_eq!(ids.find(i32::try_from(sent_id).unwrap(), 1), Some(key));
        assert_eq!(sent(1, (Scene::Friend, 7), &json!(null), &ids), json!({ "message_id": 0 }));
    }

    #[test]
    fn forwarded_messages_are_nodes() {
        let given = json!({ "messages": [{ "sender_name": "n", "time": 9, "segments": [{ "type": "text", "data": { "text": "x" } }] }] });
        let told = forwarded(&given, &MessageIds::in_memory());
        let content = json!([{ "type": "text", "data": { "text": "x" } }]);
        assert_eq!(
            told["message"],
            json!([{ "type": "node", "data": { "user_id": "0", "nickname": "n", "content": content } }])
        );
        assert_eq!((&told["messages"][0]["content"], &told["messages"][0]["time"]), (&content, &json!(9)));
    }
}
