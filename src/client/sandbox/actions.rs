//! Actions of applications, in the made-up world.

use serde_json::{Map, Value, json};

use super::Sandbox;
use crate::client::backend::action::{Action, Answer, Refusal};
use crate::client::backend::message::Recipient;
use crate::client::backend::objects::{Friend, Group, GroupMember};
use crate::client::backend::{Backend, BackendError, Draft, SendClaim};

/// Carries out an action.
pub(super) async fn act(sandbox: &Sandbox, Action { name, params }: Action) -> Answer {
    let done = match name.as_str() {
        "get_status" => {
            let is_online = sandbox.logged_in().is_ok();
            Ok(json!({ "online": is_online, "good": is_online }))
        }
        "get_version_info" => Ok(json!({
            "app_name": "wqcontroller-sandbox", "app_version": env!("CARGO_PKG_VERSION"), "protocol_version": "v11",
        })),
        _ if sandbox.logged_in().is_err() => {
            Err(Answer::refused(Refusal::LoggedOut, "the account is not logged in"))
        }
        "get_login_info" => {
            let user = sandbox.shared.view().snapshot().user;
            Ok(json!({ "user_id": number(&user.uid), "nickname": user.name }))
        }
        "get_friend_list" => Ok(sandbox.shared.view().snapshot().friends.iter().map(friend).collect()),
        "get_group_list" => Ok(sandbox.shared.view().snapshot().groups.iter().map(group).collect()),
        "get_group_member_list" => members(sandbox, &params),
        "send_private_msg" => send(sandbox, &params, false).await,
        "send_group_msg" => send(sandbox, &params, true).await,
        "send_msg" => {
            let to_group = match params.get("message_type").and_then(Value::as_str) {
                Some(kind) => kind == "group",
                None => params.contains_key("group_id"),
            };
            send(sandbox, &params, to_group).await
        }
        "can_send_image" | "can_send_record" => Ok(json!({ "yes": false })),
        _ => Err(Answer::no_such_action(&name)),
    };
    done.map_or_else(|failed| failed, Answer::Done)
}

fn number(uid: &str) -> u64 {
    uid.parse().unwrap_or(0)
}

/// A parameter that is a number, by WebSocket often written as a text.
fn id(params: &Map<String, Value>, name: &str) -> Result<String, Answer> {
    let found = match params.get(name) {
        Some(Value::Number(number)) => number.as_u64().map(|number| number.to_string()),
        Some(Value::String(text)) => text.trim().parse::<u64>().ok().map(|number| number.to_string()),
        _ => None,
    };
    found.ok_or_else(|| Answer::refused(Refusal::BadParameter, format!("{name} must be a number")))
}

fn friend(friend: &Friend) -> Value {
    json!({ "user_id": number(&friend.uid), "nickname": friend.name, "remark": friend.markname.as_deref().unwrap_or_default() })
}

fn group(group: &Group) -> Value {
    json!({
        "group_id": number(&group.uid), "group_name": group.name, "member_count": group.member.len(),
        "max_member_count": group.max_member,
    })
}

fn member(of: &Group, member: &GroupMember) -> Value {
    json!({
        "group_id": number(&of.uid), "user_id": number(&member.uid), "nickname": member.name,
        "card": member.card.as_deref().unwrap_or_default(), "sex": member.sex, "age": 0, "area": member.province,
        "join_time": member.join_time, "last_sent_time": member.last_speak_time, "level": member.level.to_string(),
        "role": member.role, "unfriendly": false, "title": "", "title_expire_time": 0, "card_changeable": true,
    })
}

fn members(sandbox: &Sandbox, params: &Map<String, Value>) -> Result<Value, Answer> {
    let uid = id(params, "group_id")?;
    let groups = sandbox.shared.view().snapshot().groups;
    let group = groups.iter().find(|group| group.uid == uid).ok_or_else(no_such_group)?;
    Ok(group.member.iter().map(|one| member(group, one)).collect())
}

fn no_such_group() -> Answer {
    Answer::refused(Refusal::NotFound, "there is no such group")
}

async fn send(sandbox: &Sandbox, params: &Map<String, Value>, to_group: bool) -> Result<Value, Answer> {
    let to = {
        let snapshot = sandbox.shared.view().snapshot();
        if to_group {
            let uid = id(params, "group_id")?;
            let group = snapshot.groups.into_iter().find(|group| group.uid == uid);
            Recipient::Group(group.ok_or_else(no_such_group)?.id)
        } else {
            let uid = id(params, "user_id")?;
            let friend = snapshot.friends.into_iter().find(|friend| friend.uid == uid);
            let missing = || Answer::refused(Refusal::NotFound, "there is no such friend");
            Recipient::Friend(friend.ok_or_else(missing)?.id)
        }
    };
    let content = text_of(params.get("message").unwrap_or(&Value::Null));
    if content.is_empty() {
        return Err(Answer::refused(Refusal::BadParameter, "message is empty"));
    }
    let draft = Draft { id: sandbox.message_id(), to, content, claim: SendClaim::default() };
    let sent = sandbox.send(&draft).await.map_err(|error| match &error {
        BackendError::LoggedOut => Answer::refused(Refusal::LoggedOut, error.to_string()),
        BackendError::Gone => Answer::refused(Refusal::NotFound, error.to_string()),
        BackendError::Muted(_) | BackendError::NotAllowed => {
            Answer::refused(Refusal::NotPermitted, error.to_string())
        }
        // It may have gone out.
        BackendError::NoAnswer => Answer::Accepted,
        BackendError::Code(code) => Answer::Failed { code: *code, why: error.to_string() },
        _ => Answer::refused(Refusal::NotPermitted, error.to_string()),
    })?;
    Ok(json!({ "message_id": number(&sent.message.id) }))
}

/// The text of a message, which is a text or a list of segments.
fn text_of(message: &Value) -> String {
    match message {
        Value::String(text) => text.clone(),
        Value::Array(segments) => segments.iter().map(text_of).collect(),
        Value::Object(segment) if segment.get("type").is_some_and(|kind| kind == "text") => {
            segment.get("data").and_then(|data| data["text"].as_str()).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}
