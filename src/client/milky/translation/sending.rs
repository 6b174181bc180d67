//! The calls for a message to send: what it needs to be known first, then the message itself, once.

use serde_json::{Value, json};

use super::answer;
use super::outgoing::{self, Known, Wants};
use super::params::{Params, bad};
use crate::client::backend::action::{Answer, Refusal};
use crate::client::remote::message_ids::Scene;
use crate::client::remote::plan::{Plan, PlanContext};

/// Plans a message. `kind` is private or group, where the action says it.
pub(super) fn plan(params: Params, kind: Option<&str>, context: &PlanContext) -> Result<Plan, Answer> {
    let mut params = params;
    let chat = chat(&params, kind)?;
    let is_plain = params.flag("auto_escape", false)?;
    let message = params.take("message").ok_or_else(|| bad("message is missing"))?;
    send(outgoing::content(message, is_plain)?, chat, context)
}

/// Plans a message of others, by the names of go-cqhttp: `messages` are its nodes.
pub(super) fn plan_forward(
    params: Params,
    kind: Option<&str>,
    context: &PlanContext,
) -> Result<Plan, Answer> {
    let mut params = params;
    let chat = chat(&params, kind)?;
    let nodes = params.take("messages").or_else(|| params.take("message"));
    let nodes = outgoing::content(nodes.ok_or_else(|| bad("messages is missing"))?, false)?;
    if nodes.iter().any(|node| node["type"] != "node") {
        return Err(bad("messages must be segments of type node"));
    }
    send(nodes, chat, context)
}

/// The chat: what the action or `message_type` says, else what there is a number of.
fn chat(params: &Params, kind: Option<&str>) -> Result<(Scene, u64), Answer> {
    let said = params.text("message_type")?;
    let is_group = match kind.unwrap_or(&said) {
        "group" => true,
        "private" => false,
        "" => params.has("group_id"),
        _ => return Err(bad("message_type must be private or group")),
    };
    Ok(if is_group { (Scene::Group, params.id("group_id")?) } else { (Scene::Friend, params.id("user_id")?) })
}

fn send(parts: Vec<Value>, chat: (Scene, u64), context: &PlanContext) -> Result<Plan, Answer> {
    let (written, wants) = outgoing::write(&parts, chat, context, &Known::default())?;
    if wants == Wants::default() {
        return Ok(deed(written, chat, context));
    }
    let questions = outgoing::questions(&wants);
    let context = context.clone();
    let then = move |answers: Vec<Value>| {
        let (written, missing) = outgoing::write(&parts, chat, &context, &outgoing::learn(wants, answers))?;
        if missing != Wants::default() {
            let why = "a file of an earlier message is there no more; nothing was sent";
            return Err(Answer::refused(Refusal::NotFound, why));
        }
        Ok(deed(written, chat, &context))
    };
    Ok(Plan::Ask(questions, Box::new(then)))
}

fn deed(message: Vec<Value>, chat: (Scene, u64), context: &PlanContext) -> Plan {
    let request = match chat {
        (Scene::Group, group) => ("send_group_message", json!({ "group_id": group, "message": message })),
        (_, user) => ("send_private_message", json!({ "user_id": user, "message": message })),
    };
    let context = context.clone();
    Plan::Do(request, Box::new(move |data| answer::sent(context.account, chat, &data, &context.ids)))
}
