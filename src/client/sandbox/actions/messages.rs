//! Messages: sent, taken back, looked up.

use serde_json::{Value, json};

use super::{Params, bad, groups, not_found, refusal};
use crate::client::backend::action::Answer;
use crate::client::backend::segment::{self, Segment};
use crate::client::backend::{Backend, SendClaim};
use crate::client::sandbox::application_event::shown;
use crate::client::sandbox::notice::uid;
use crate::client::sandbox::sending::Destination;
use crate::client::sandbox::view::changes::{Change, GroupChange};
use crate::client::sandbox::view::messages::StoredMessage;
use crate::client::sandbox::view::{SandboxChat, View};
use crate::client::sandbox::{Sandbox, parts};

/// The most messages of a history that are answered at a time, and how many are without a wish.
const MAX_HISTORY: i64 = 200;
const HISTORY: i64 = 20;

/// The private chat that the parameters name: with a friend, or with a member of a group.
pub(super) fn person(sandbox: &Sandbox, params: &Params) -> Result<Destination, Answer> {
    let (who, group) = (params.uid("user_id")?, params.optional_uid("group_id")?);
    let view = sandbox.shared.view();
    if view.has_friend(&who) {
        return Ok((SandboxChat::Friend, Some(who)));
    }
    let Some(group) = group else { return Err(not_found("there is no such friend")) };
    Ok((SandboxChat::GroupSession(group), Some(who)))
}

pub(super) async fn send_private(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let to = person(sandbox, params)?;
    send(sandbox, params, to).await
}

pub(super) async fn send_group(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = groups::found(sandbox, params)?.uid;
    send(sandbox, params, (SandboxChat::Group(group), None)).await
}

pub(super) async fn send_any(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let to_group = match params.text("message_type").as_str() {
        "" => params.optional_uid("group_id")?.is_some(),
        "group" => true,
        "private" => false,
        _ => return Err(bad("message_type must be private or group")),
    };
    if to_group { send_group(sandbox, params).await } else { send_private(sandbox, params).await }
}

async fn send(sandbox: &Sandbox, params: &Params, to: Destination) -> Result<Value, Answer> {
    let segments = parts::prepare(sandbox, params.parts()?).await?;
    let id = sandbox.message_id();
    let forward = segments.iter().find(|part| part.kind == "forward").map(|part| part.get("id").to_owned());
    let sent = sandbox.send_parts(&id, Ok(to), segments, &SendClaim::default()).await.map_err(refusal)?;
    let mut answer = json!({ "message_id": sent.message.number });
    if let Some(forward) = forward {
        answer["forward_id"] = forward.as_str().into();
        answer["res_id"] = forward.into();
    }
    Ok(answer)
}

fn no_such_message() -> Answer {
    not_found("there is no such message; it may have been taken back, or be too old")
}

/// The message that the parameters name.
fn found(view: &View, params: &Params) -> Result<StoredMessage, Answer> {
    view.messages.get(params.message("message_id")?).cloned().ok_or_else(no_such_message)
}

/// A message as `get_msg` shows it.
fn as_answer(view: &View, message: &StoredMessage) -> Value {
    let parts = shown(&message.segments);
    let (author, group) = (&message.key.author, message.place.group());
    let mut answer = json!({
        "time": message.time, "message_type": if group.is_some() { "group" } else { "private" },
        "message_id": message.number, "real_id": message.number, "message_seq": message.number,
        "user_id": uid(author), "self_id": uid(view.own_uid()), "sender": view.sender(author, &message.place),
        "raw_message": segment::raw(&parts), "message": parts, "font": 0,
    });
    if let Some(group) = group {
        answer["group_id"] = uid(group).into();
    }
    if let Some(with) = message.with.as_ref().filter(|_| author == view.own_uid()) {
        answer["target_id"] = uid(with).into();
    }
    answer
}

pub(super) async fn get(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let view = sandbox.shared.view();
    Ok(as_answer(&view, &found(&view, params)?))
}

pub(super) async fn delete(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let message = found(&sandbox.shared.view(), params)?.key;
    sandbox.change(Change::Recall { message }).await.map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn get_forward(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let given = match params.text("id") {
        none if none.is_empty() => params.needed("message_id")?,
        given => given,
    };
    let view = sandbox.shared.view();
    let is_it = |part: &&Segment| part.kind == "forward" && part.get("id") == given;
    let by_id = view.messages.newest().find_map(|message| message.segments.iter().find(is_it));
    // A program may give the number of the message in which it is.
    let by_message = || {
        let message = view.messages.get(given.parse().ok()?)?;
        message.segments.iter().find(|part| part.kind == "forward")
    };
    let part = by_id.or_else(by_message).ok_or_else(|| not_found("there is no such forwarded message"))?;
    let nodes = part.data.get("content").and_then(Value::as_array).cloned().unwrap_or_default();
    let message = |node: &Value| {
        let data = &node["data"];
        let number = uid(data["user_id"].as_str().unwrap_or_default());
        json!({
            "sender": { "user_id": number, "nickname": data["nickname"] }, "user_id": number, "time": data["time"],
            "content": data["content"], "message": data["content"],
        })
    };
    let messages: Value = nodes.iter().map(message).collect();
    // The first is the standard's, the second what programs of today look for.
    Ok(json!({ "message": nodes, "messages": messages }))
}

fn history(view: &View, params: &Params, is_there: impl Fn(&StoredMessage) -> bool) -> Result<Value, Answer> {
    let count = params.number_or("count", HISTORY)?.clamp(1, MAX_HISTORY);
    let count = usize::try_from(count).unwrap_or_default();
    let from = match params.number_or("message_seq", 0)? {
        0 => params.number_or("message_id", 0)?,
        given => given,
    };
    let from = i32::try_from(from).ok().filter(|number| *number != 0);
    if from.is_some_and(|number| view.messages.get(number).is_none()) {
        return Err(no_such_message());
    }
    let mut found: Vec<Value> =
        view.messages.back_from(from, is_there).take(count).map(|message| as_answer(view, message)).collect();
    found.reverse();
    Ok(json!({ "messages": found }))
}

pub(super) async fn group_history(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = groups::found(sandbox, params)?.uid;
    history(&sandbox.shared.view(), params, |message| message.place.group() == Some(&group))
}

pub(super) async fn friend_history(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let who = params.uid("user_id")?;
    history(&sandbox.shared.view(), params, |message| message.with.as_ref() == Some(&who))
}

/// Nobody sees it.
pub(super) async fn mark_as_read(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    if params.get("message_id").is_some() {
        found(&sandbox.shared.view(), params)?;
    }
    Ok(Value::Null)
}

pub(super) async fn react(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let message = found(&sandbox.shared.view(), params)?.key;
    let (emoji, on) = (params.needed("emoji_id")?, params.flag("set", true)?);
    sandbox.change(Change::React { message, emoji, on }).await.map_err(refusal)?;
    Ok(Value::Null)
}

async fn honour(sandbox: &Sandbox, params: &Params, on: bool) -> Result<Value, Answer> {
    let message = found(&sandbox.shared.view(), params)?;
    let group = message.place.group().ok_or_else(|| bad("the message is in no group"))?.to_owned();
    let change = GroupChange::Essence { message: message.key, on };
    sandbox.change(Change::Group { group, change }).await.map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn set_essence(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    honour(sandbox, params, true).await
}

pub(super) async fn delete_essence(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    honour(sandbox, params, false).await
}

pub(super) async fn essence_list(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = groups::found(sandbox, params)?.uid;
    let view = sandbox.shared.view();
    let one = |message: &StoredMessage| {
        let author = &message.key.author;
        let nickname = view.sender(author, &message.place)["nickname"].clone();
        json!({
            "sender_id": uid(author), "sender_nick": nickname, "sender_time": message.time,
            "message_id": message.number, "content": shown(&message.segments),
        })
    };
    let known = view.essence(&group).iter().filter_map(|key| view.messages.find(key));
    Ok(known.map(one).collect())
}
