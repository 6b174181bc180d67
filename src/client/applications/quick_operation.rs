//! Quick operations (onebot-11, `event/` and `api/hidden.md`): what an application answers to an event, as actions. Pure.

use serde_json::{Map, Value, json};

use crate::client::backend::action::{Action, Answer, Refusal};

/// The action that carries one out.
const NAME: &str = ".handle_quick_operation";

/// How long a member is muted where the operation does not say it, in seconds.
const BAN_TIME: u64 = 30 * 60;

/// Whether a call answers an event of another account than `own`: done here, its answer would come from the wrong one.
pub(super) fn is_of_another(action: &Action, own: Option<u64>) -> bool {
    if action.name != NAME {
        return false;
    }
    let context = match action.params.get("context") {
        // By a form, which has only texts.
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(context) => context.clone(),
        None => Value::Null,
    };
    let its = context.get("self_id").and_then(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()));
    its.is_some_and(|its| own.is_some_and(|own| own != its))
}

/// The actions of a call of `.handle_quick_operation`. None for any other action.
pub(super) fn of_call(action: &Action) -> Option<Result<Vec<Action>, Answer>> {
    (action.name == NAME).then(|| {
        let bad = |why: String| Answer::refused(Refusal::BadParameter, why);
        let object = |name: &str| {
            let found = match action.params.get(name) {
                Some(Value::Object(object)) => Some(object.clone()),
                // By a form, which has only texts.
                Some(Value::String(text)) => serde_json::from_str(text).ok(),
                _ => None,
            };
            found.ok_or_else(|| bad(format!("{name} must be an object")))
        };
        actions(&object("context")?, &object("operation")?).map_err(bad)
    })
}

/// What `operation` asks for, as the answer to the event `context`. All are to be done, in this order, even where one fails.
///
/// # Errors
/// A field can't be used, or the event lacks what it needs. Nothing of the operation is to be done then.
pub(super) fn actions(
    context: &Map<String, Value>,
    operation: &Map<String, Value>,
) -> Result<Vec<Action>, String> {
    let event = Event(context);
    match (event.word("post_type"), event.word("message_type"), event.word("request_type")) {
        ("message", "private", _) => to_private_message(&event, operation),
        ("message", "group", _) => to_group_message(&event, operation),
        ("request", _, kind @ ("friend" | "group")) => to_request(&event, kind, operation),
        // The standard has none for other events, and what an application says to them has no meaning.
        _ => Ok(Vec::new()),
    }
}

fn to_private_message(event: &Event<'_>, operation: &Map<String, Value>) -> Result<Vec<Action>, String> {
    let Some(reply) = reply(operation)? else { return Ok(Vec::new()) };
    let mut params = reply.params();
    params.insert("user_id".to_owned(), event.needed("user_id")?);
    // A member of a group who is no friend is reached through the group. The standard has no word for that; implementations
    // of today take this one.
    if event.word("sub_type") == "group"
        && let Some(group) = event.0.get("group_id").or_else(|| event.0.get("sender")?.get("group_id"))
    {
        params.insert("group_id".to_owned(), group.clone());
    }
    Ok(vec![action("send_private_msg", params.into())])
}

fn to_group_message(event: &Event<'_>, operation: &Map<String, Value>) -> Result<Vec<Action>, String> {
    let mut all = Vec::new();
    let anonymous = event.0.get("anonymous").filter(|anonymous| anonymous.is_object());
    let is_anonymous = anonymous.is_some() || event.word("sub_type") == "anonymous";
    let at_sender = flag(operation, "at_sender")?.unwrap_or(true) && !is_anonymous;
    if let Some(reply) = reply(operation)? {
        let mut params = match at_sender {
            true => reply.at(&event.needed("user_id")?).params(),
            false => reply.params(),
        };
        params.insert("group_id".to_owned(), event.needed("group_id")?);
        all.push(action("send_group_msg", params.into()));
    }
    if flag(operation, "delete")? == Some(true) {
        all.push(action("delete_msg", json!({ "message_id": event.needed("message_id")? })));
    }
    // Before the kick: a member who has left can't be muted.
    if flag(operation, "ban")? == Some(true) {
        let duration = match operation.get("ban_duration") {
            None | Some(Value::Null) => BAN_TIME,
            Some(duration) => duration.as_u64().ok_or("ban_duration must be a number of seconds")?,
        };
        let group = event.needed("group_id")?;
        all.push(match anonymous {
            Some(anonymous) => action(
                "set_group_anonymous_ban",
                json!({ "group_id": group, "anonymous": anonymous, "duration": duration }),
            ),
            None => {
                let user = event.needed("user_id")?;
                action("set_group_ban", json!({ "group_id": group, "user_id": user, "duration": duration }))
            }
        });
    }
    if flag(operation, "kick")? == Some(true) && !is_anonymous {
        let (group, user) = (event.needed("group_id")?, event.needed("user_id")?);
        let params = json!({ "group_id": group, "user_id": user, "reject_add_request": false });
        all.push(action("set_group_kick", params));
    }
    Ok(all)
}

fn to_request(event: &Event<'_>, kind: &str, operation: &Map<String, Value>) -> Result<Vec<Action>, String> {
    let Some(approve) = flag(operation, "approve")? else { return Ok(Vec::new()) };
    let mut params = json!({ "flag": event.needed("flag")?, "approve": approve });
    let (name, note, with) = match kind {
        "friend" => ("set_friend_add_request", "remark", true),
        _ => ("set_group_add_request", "reason", false),
    };
    if name == "set_group_add_request" {
        params["sub_type"] = event.needed("sub_type")?;
    }
    if let Some(text) = operation.get(note).filter(|text| text.is_string() && approve == with) {
        params[note] = text.clone();
    }
    Ok(vec![action(name, params)])
}

fn action(name: &str, params: Value) -> Action {
    let params = match params {
        Value::Object(params) => params,
        _ => Map::new(),
    };
    Action { name: name.to_owned(), params }
}

/// The event that is answered.
struct Event<'a>(&'a Map<String, Value>);

impl Event<'_> {
    fn word(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn needed(&self, name: &str) -> Result<Value, String> {
        let found = self.0.get(name).filter(|value| value.is_number() || value.is_string());
        found.cloned().ok_or_else(|| format!("the event has no {name}"))
    }
}

fn flag(operation: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match operation.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("{name} must be true or false")),
    }
}

/// A message that answers another.
struct Reply {
    /// A text, or segments.
    message: Value,
    /// Whether a text is no CQ code.
    auto_escape: bool,
}

/// The reply that is asked for; none where it is empty.
fn reply(operation: &Map<String, Value>) -> Result<Option<Reply>, String> {
    let auto_escape = flag(operation, "auto_escape")?.unwrap_or(false);
    let message = match operation.get("reply") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::Array(segments)) if segments.is_empty() => return Ok(None),
        Some(message @ (Value::String(_) | Value::Array(_))) => message.clone(),
        // A quick operation may have one segment without a list around it.
        Some(segment @ Value::Object(_)) => Value::Array(vec![segment.clone()]),
        Some(_) => return Err("reply must be a text or segments".to_owned()),
    };
    Ok(Some(Reply { message, auto_escape }))
}

impl Reply {
    /// The same, after a mention of a member.
    fn at(self, user: &Value) -> Self {
        let user = match user {
            Value::String(user) => user.clone(),
            user => user.to_string(),
        };
        let at = json!({ "type": "at", "data": { "qq": user } });
        let text = |text: &str| json!({ "type": "text", "data": { "text": text } });
        let message = match self.message {
            // Its text stays plain only where the mention is a segment beside it.
            Value::String(plain) if self.auto_escape => json!([at, text(&format!(" {plain}"))]),
            Value::String(coded) => format!("[CQ:at,qq={user}] {coded}").into(),
            Value::Array(segments) => [at, text(" ")].into_iter().chain(segments).collect(),
            other => other,
        };
        Self { message, ..self }
    }

    fn params(self) -> Map<String, Value> {
        let mut params = Map::new();
        if self.auto_escape && self.message.is_string() {
            params.insert("auto_escape".to_owned(), true.into());
        }
        params.insert("message".to_owned(), self.message);
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn of(context: &Value, operation: Value) -> Result<Vec<(String, Value)>, String> {
        let actions = actions(&object(context.clone()), &object(operation))?;
        Ok(actions.into_iter().map(|action| (action.name, action.params.into())).collect())
    }

    fn group_message() -> Value {
        json!({ "post_type": "message", "message_type": "group", "sub_type": "normal", "group_id": 5, "user_id": 7,
                "message_id": 12, "anonymous": null })
    }

    #[test]
    fn private_messages_are_answered() {
        let friend =
            json!({ "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7 });
        let sent = |params| Ok(vec![("send_private_msg".to_owned(), params)]);
        assert_eq!(of(&friend, json!({ "reply": "hi" })), sent(json!({ "user_id": 7, "message": "hi" })));
        assert_eq!(
            of(&friend, json!({ "reply": "[a]", "auto_escape": true, "at_sender": true, "ban": true })),
            sent(json!({ "user_id": 7, "message": "[a]", "auto_escape": true }))
        );
        let segment = json!({ "type": "face", "data": { "id": "1" } });
        assert_eq!(
            of(&friend, json!({ "reply": segment })),
            sent(json!({ "user_id": 7, "message": [segment] }))
        );
        for nothing in [json!({}), json!({ "reply": null }), json!({ "reply": "" }), json!({ "reply": [] })] {
            assert_eq!(of(&friend, nothing), Ok(vec![]));
        }
        let member = json!({ "post_type": "message", "message_type": "private", "sub_type": "group", "user_id": 7,
                             "sender": { "group_id": 5 } });
        assert_eq!(
            of(&member, json!({ "reply": "x" })),
            sent(json!({ "user_id": 7, "group_id": 5, "message": "x" }))
        );
    }

    #[test]
    fn replies_in_groups_mention_the_sender_unless_told_not_to() {
        let replied =
            |operation: Value| of(&group_message(), operation).unwrap().remove(0).1["message"].clone();
        let at = json!({ "type": "at", "data": { "qq": "7" } });
        let text = |text: &str| json!({ "type": "text", "data": { "text": text } });
        assert_eq!(replied(json!({ "reply": "[CQ:face,id=1]" })), "[CQ:at,qq=7] [CQ:face,id=1]");
        assert_eq!(replied(json!({ "reply": "[a]", "auto_escape": true })), json!([at, text(" [a]")]));
        assert_eq!(replied(json!({ "reply": [text("b")] })), json!([at, text(" "), text("b")]));
        assert_eq!(replied(json!({ "reply": "c", "at_sender": false })), "c");
        let mut anonymous = group_message();
        anonymous["anonymous"] = json!({ "flag": "f", "id": 1, "name": "x" });
        assert_eq!(
            of(&anonymous, json!({ "reply": "d", "kick": true, "ban": true, "ban_duration": 60 })),
            Ok(vec![
                ("send_group_msg".into(), json!({ "group_id": 5, "message": "d" })),
                (
                    "set_group_anonymous_ban".into(),
                    json!({ "group_id": 5, "anonymous": anonymous["anonymous"], "duration": 60 })
                ),
            ])
        );
    }

    #[test]
    fn members_are_muted_before_they_are_removed() {
        let all = json!({ "reply": "x", "at_sender": false, "delete": true, "kick": true, "ban": true });
        assert_eq!(
            of(&group_message(), all),
            Ok(vec![
                ("send_group_msg".into(), json!({ "group_id": 5, "message": "x" })),
                ("delete_msg".into(), json!({ "message_id": 12 })),
                ("set_group_ban".into(), json!({ "group_id": 5, "user_id": 7, "duration": 1800 })),
                (
                    "set_group_kick".into(),
                    json!({ "group_id": 5, "user_id": 7, "reject_add_request": false })
                ),
            ])
        );
        let nothing = json!({ "delete": false, "kick": false, "ban": null, "ban_duration": 60 });
        assert_eq!(of(&group_message(), nothing), Ok(vec![]));
    }

    #[test]
    fn requests_are_answered() {
        let friend = json!({ "post_type": "request", "request_type": "friend", "user_id": 7, "flag": "f" });
        assert_eq!(
            of(&friend, json!({ "approve": true, "remark": "r", "reason": "x" })),
            Ok(vec![(
                "set_friend_add_request".into(),
                json!({ "flag": "f", "approve": true, "remark": "r" })
            )])
        );
        let group =
            json!({ "post_type": "request", "request_type": "group", "sub_type": "add", "flag": "f" });
        assert_eq!(
            of(&group, json!({ "approve": false, "remark": "r", "reason": "no" })),
            Ok(vec![(
                "set_group_add_request".into(),
                json!({ "flag": "f", "sub_type": "add", "approve": false, "reason": "no" })
            )])
        );
        assert_eq!(of(&group, json!({ "reason": "no" })), Ok(vec![]));
        let refused = of(&friend, json!({ "approve": false, "remark": "r" })).unwrap();
        assert_eq!(refused[0].1, json!({ "flag": "f", "approve": false }));
        let approved = of(&group, json!({ "approve": true, "reason": "no" })).unwrap();
        assert_eq!(approved[0].1, json!({ "flag": "f", "sub_type": "add", "approve": true }));
    }

    #[test]
    fn what_cannot_be_used_is_refused_whole() {
        for (operation, why) in [
            (json!({ "reply": "x", "ban": "yes" }), "ban must be true or false"),
            (json!({ "reply": 7 }), "reply must be"),
            (json!({ "ban": true, "ban_duration": -1 }), "ban_duration must be"),
        ] {
            assert!(of(&group_message(), operation).unwrap_err().contains(why));
        }
        let bare = json!({ "post_type": "message", "message_type": "group" });
        assert!(of(&bare, json!({ "delete": true })).unwrap_err().contains("no message_id"));
        let notice = json!({ "post_type": "notice", "notice_type": "group_recall" });
        assert_eq!(of(&notice, json!({ "reply": "x" })), Ok(vec![]));
        let call = |params: Value| Action { name: NAME.to_owned(), params: object(params) };
        let refused = of_call(&call(json!({ "context": 7 }))).unwrap();
        assert!(matches!(refused, Err(Answer::Failed { code: 100, .. })));
        // As a form has it.
        let texts = json!({ "context": group_message().to_string(), "operation": r#"{"delete":true}"# });
        assert_eq!(of_call(&call(texts)).unwrap().unwrap()[0].name, "delete_msg");
        assert!(of_call(&Action { name: "send_msg".into(), params: Map::new() }).is_none());
    }
}
