//! Requests of people, and the answers to them.

use serde_json::{Value, json};

use super::{Params, bad, not_found, refusal};
use crate::client::backend::BackendError;
use crate::client::backend::action::Answer;
use crate::client::sandbox::Sandbox;
use crate::client::sandbox::notice::uid;
use crate::client::sandbox::view::requests::{Granted, Request, RequestKind};

async fn answer(
    sandbox: &Sandbox,
    params: &Params,
    is_it: impl Fn(&RequestKind) -> bool,
) -> Result<Value, Answer> {
    let (flag, approve) = (params.needed("flag")?, params.flag("approve", true)?);
    let granted = sandbox.shared.view().answer_request(&flag, is_it, approve, &params.text("remark"));
    let granted = granted.map_err(|error| match error {
        BackendError::Gone => not_found("there is no such request; it may have been answered"),
        other => refusal(other),
    });
    match granted? {
        Granted::Here(outcome) => sandbox.tell(outcome).await,
        Granted::ToDo(change) => sandbox.change_by(change).await,
    }
    .map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn answer_friend(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    answer(sandbox, params, |kind| matches!(kind, RequestKind::Friend)).await
}

pub(super) async fn answer_group(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let sub_type = match params.text("sub_type") {
        none if none.is_empty() => params.text("type"),
        given => given,
    };
    match sub_type.as_str() {
        "add" => answer(sandbox, params, |kind| matches!(kind, RequestKind::Join(_))).await,
        "invite" => answer(sandbox, params, |kind| matches!(kind, RequestKind::Invitation(_))).await,
        // Today's implementations know it by the flag.
        "" => answer(sandbox, params, |kind| !matches!(kind, RequestKind::Friend)).await,
        _ => Err(bad("sub_type must be add or invite")),
    }
}

pub(super) async fn pending(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    let view = sandbox.shared.view();
    let of = |wanted: fn(&RequestKind) -> Option<&String>| {
        let one = |request: &Request| {
            let group = wanted(&request.kind)?;
            Some(json!({
                "request_id": request.flag, "flag": request.flag, "group_id": uid(group), "checked": false,
                "requester_uin": uid(&request.by), "invitor_uin": uid(&request.by), "requester_nick": request.name,
                "message": request.comment,
            }))
        };
        view.requests().iter().filter_map(one).collect::<Value>()
    };
    Ok(json!({
        "invited_requests": of(|kind| match kind { RequestKind::Invitation(group) => Some(group), _ => None }),
        "join_requests": of(|kind| match kind { RequestKind::Join(group) => Some(group), _ => None }),
    }))
}
