//! What the account does by an action of OneBot v11 under a name of the old API: taking a message back, names in groups, leaving,
//! muting everybody, requests. And `onebot`, for any other action.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::RequestParams;
use super::messages::matches_all;
use super::moderation::{find_group, find_members};
use super::reply::{ApiReply, BAD_REQUEST};
use crate::client::backend::action::{Action, Answer};
use crate::client::backend::happening::RequestType;
use crate::client::backend::objects::Group;
use crate::client::backend::{Backend, BackendError};

/// A reply, or the error to answer with.
type ReplyResult = Result<ApiReply, BackendError>;

/// A call that can't be understood.
fn bad(why: impl Into<String>) -> ApiReply {
    ApiReply::error(StatusCode::BAD_REQUEST, BAD_REQUEST, why)
}

/// Carries an action out.
async fn act<B: Backend>(backend: &B, name: &str, params: Value) -> ApiReply {
    // All callers give an object.
    let params = match params {
        Value::Object(params) => params,
        _ => Map::new(),
    };
    match backend.act(Action { name: name.to_owned(), params }).await {
        Answer::Done(_) => ApiReply::success(),
        other => ApiReply::of_action(&other),
    }
}

/// A uid as OneBot has it: a number.
fn number(uid: &str) -> Value {
    uid.parse::<u64>().map_or_else(|_| uid.into(), Value::from)
}

/// A flag, or true without one. None: it is neither 1 nor 0.
fn flag(given: Option<&str>) -> Option<bool> {
    match given {
        None | Some("" | "1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(_) => None,
    }
}

/// `recall_message`.
pub(super) async fn recall<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let number = call.get("message_id").and_then(|number| number.parse::<i64>().ok());
    let Some(number) = number.filter(|number| *number != 0) else {
        return Ok(bad("message_id is missing, or no number: it is that of a report, not its id"));
    };
    Ok(act(backend, "delete_msg", json!({ "message_id": number })).await)
}

/// The group of a call that names nothing else, which may be by `id` and `uid` as well.
async fn own_group<B: Backend>(backend: &B, call: &RequestParams) -> Result<Option<Group>, BackendError> {
    let is_it = |group: &Group| {
        matches_all(
            call,
            [("id", &group.id), ("uid", &group.uid), ("group_id", &group.id), ("group_uid", &group.uid)],
        )
    };
    Ok(backend.groups().await?.into_iter().find(is_it))
}

/// `set_card`.
pub(super) async fn set_card<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let Some(card) = call.get("card") else { return Ok(bad("card is missing; an empty one takes it away")) };
    let Some(group) = find_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    let members = match find_members(backend, call, &group.id).await? {
        Ok(meant) => meant.members,
        Err(reply) => return Ok(reply),
    };
    let [member] = members.as_slice() else { return Ok(bad("set_card is for one member at a time")) };
    let (group, member) = (number(&group.uid), number(&member.uid));
    Ok(act(backend, "set_group_card", json!({ "group_id": group, "user_id": member, "card": card })).await)
}

/// `leave_group`. It never dismisses the group, which an owner may do by `onebot`.
pub(super) async fn leave<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let Some(group) = own_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    let params = json!({ "group_id": number(&group.uid), "is_dismiss": false });
    Ok(act(backend, "set_group_leave", params).await)
}

/// `whole_mute`.
pub(super) async fn whole_mute<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let Some(on) = flag(call.get("on")) else { return Ok(bad("on must be 1 or 0")) };
    let Some(group) = own_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    let params = json!({ "group_id": number(&group.uid), "enable": on });
    Ok(act(backend, "set_group_whole_ban", params).await)
}

/// `approve_request`.
pub(super) async fn approve<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let Some(approve) = flag(call.get("approve")) else { return Ok(bad("approve must be 1 or 0")) };
    let given = call.get("flag").filter(|flag| !flag.is_empty());
    let Some(given) = given else { return Ok(bad("flag is missing: it is that of the event")) };
    // With the type it is a flag as OneBot has it; else that of a report, which says the type itself.
    let meant = match call.get("type").filter(|kind| !kind.is_empty()) {
        Some(kind) => RequestType::named(kind).map(|kind| (kind, given)),
        None => RequestType::of_flag(given),
    };
    let Some((kind, flag)) = meant else {
        return Ok(bad(
            "flag is not that of an event friend_request or group_request; type must be friend, add or invite",
        ));
    };
    let [remark, reason] = [call.get("remark"), call.get("reason")].map(Option::unwrap_or_default);
    let (name, params) = if kind == RequestType::Friend {
        ("set_friend_add_request", json!({ "flag": flag, "approve": approve, "remark": remark }))
    } else {
        // Some implementations read the first, some the second.
        let word = kind.as_str();
        let params =
            json!({ "flag": flag, "approve": approve, "reason": reason, "sub_type": word, "type": word });
        ("set_group_add_request", params)
    };
    Ok(act(backend, name, params).await)
}

/// The name and the parameters of an action that `onebot` carries out: `all` of the call, of which `params` has more.
pub(super) fn any_action(mut all: Map<String, Value>) -> Result<(String, Map<String, Value>), ApiReply> {
    let name = match all.remove("action") {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => {
            return Err(bad(
                "action is missing: the name of an action of OneBot v11, such as get_group_list",
            ));
        }
    };
    let more = match all.remove("params") {
        // Where the parameters are a query or a form.
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
        None => json!({}),
        Some(params) => params,
    };
    let Value::Object(more) = more else { return Err(bad("params is no object of JSON")) };
    all.extend(more);
    Ok((name, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_has_the_parameters_of_the_call_and_of_params() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let both = object(
            json!({ "action": "send_msg", "group_id": 5, "message": "a", "params": "{\"message\":[1]}" }),
        );
        let (name, params) = any_action(both).unwrap_or_else(|_| panic!());
        assert_eq!(
            (name.as_str(), Value::Object(params)),
            ("send_msg", json!({ "group_id": 5, "message": [1] }))
        );
        let nested = object(json!({ "action": "x", "params": { "a": { "b": 1 } } }));
        assert_eq!(any_action(nested).unwrap_or_else(|_| panic!()).1, object(json!({ "a": { "b": 1 } })));
        for wrong in [
            json!({}),
            json!({ "action": "" }),
            json!({ "action": "x", "params": "[]" }),
            json!({ "action": 7 }),
        ] {
            let reply = any_action(object(wrong.clone())).err().unwrap();
            assert!(reply.json().contains("\"code\":-2"), "{wrong}");
        }
    }
}
