//! Friends and other people.

use serde_json::{Value, json};

use super::{Params, bad, not_found, refusal};
use crate::client::backend::action::Answer;
use crate::client::backend::objects::Friend;
use crate::client::sandbox::Sandbox;
use crate::client::sandbox::notice::uid;
use crate::client::sandbox::view::SandboxChat;
use crate::client::sandbox::view::changes::Change;

pub(super) async fn login_info(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    let user = sandbox.shared.view().snapshot().user;
    Ok(json!({ "user_id": uid(&user.uid), "nickname": user.name }))
}

pub(super) async fn stranger_info(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let who = params.uid("user_id")?;
    let view = sandbox.shared.view();
    if !view.knows(&who) {
        return Err(not_found("there is no such person"));
    }
    Ok(view.sender(&who, &SandboxChat::Friend))
}

pub(super) async fn friend_list(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    let one = |friend: &Friend| {
        let remark = friend.markname.as_deref().unwrap_or_default();
        json!({ "user_id": uid(&friend.uid), "nickname": friend.name, "remark": remark })
    };
    Ok(sandbox.shared.view().snapshot().friends.iter().map(one).collect())
}

/// Nobody sees it, as the API has no event for it.
pub(super) async fn like(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let who = params.uid("user_id")?;
    if !(1..=10).contains(&params.number_or("times", 1)?) {
        return Err(bad("times must be 1 to 10"));
    }
    if !sandbox.shared.view().knows(&who) {
        return Err(not_found("there is no such person"));
    }
    Ok(Value::Null)
}

pub(super) async fn poke(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = params.optional_uid("group_id")?;
    // NapCat pokes `target_id` in the chat with `user_id`.
    let target = params.optional_uid("target_id")?.map_or_else(|| params.uid("user_id"), Ok)?;
    sandbox.change(Change::Poke { group, target }).await.map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn delete_friend(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let who = params.uid("user_id")?;
    let outcome = sandbox.shared.view().unfriend(&who).map_err(refusal)?;
    sandbox.tell(outcome).await.map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn set_remark(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let who = params.uid("user_id")?;
    let outcome = sandbox.shared.view().set_remark(&who, &params.text("remark")).map_err(refusal)?;
    sandbox.tell(outcome).await.map_err(refusal)?;
    Ok(Value::Null)
}
