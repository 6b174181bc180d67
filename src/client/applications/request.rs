//! [`ActionCall`]: an action as an application writes it, by WebSocket or by HTTP.

use serde_json::{Map, Value};

use super::bounded_json;
use crate::client::backend::action::{Action, Answer, Refusal};

/// How a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// With its outcome.
    Wait,
    /// At once, as `NAME_async`.
    Async,
    /// At once, one after another with a pause, as `NAME_rate_limited`.
    RateLimited,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ActionCall {
    pub(super) action: Action,
    pub(super) pace: Pace,
    /// What its answer repeats.
    pub(super) echo: Option<Value>,
}

/// The suffixes of names (onebot-11, `api/README.md`); the dot is that of the standard's first draft.
const SUFFIXES: [(&str, Pace); 3] =
    [("_async", Pace::Async), (".async", Pace::Async), ("_rate_limited", Pace::RateLimited)];

impl ActionCall {
    /// A call by HTTP, whose name is in the path.
    pub(super) fn new(name: &str, params: Map<String, Value>) -> Self {
        let found = SUFFIXES.into_iter().find_map(|(suffix, pace)| Some((name.strip_suffix(suffix)?, pace)));
        let (name, pace) = found.unwrap_or((name, Pace::Wait));
        Self { action: Action { name: name.to_owned(), params }, pace, echo: None }
    }

    /// A frame of a WebSocket. None: it is an event or an answer, which is not answered. Two programs that answered each other's
    /// answers would never end, and this one may have been led to itself.
    ///
    /// # Errors
    /// The answer to one that can't be understood, as JSON.
    pub(super) fn read(frame: &[u8]) -> Result<Option<Self>, Value> {
        let bad = |why: &str, echo: Option<&Value>| Answer::refused(Refusal::BadRequest, why).to_json(echo);
        let read = bounded_json::read(frame);
        let mut value: Value = read.map_err(|error| bad(&format!("the frame is no JSON: {error}"), None))?;
        if value.get("action").is_none()
            && ["retcode", "post_type"].iter().any(|key| value.get(key).is_some())
        {
            return Ok(None);
        }
        let echo = value.get_mut("echo").map(Value::take);
        let Some(name) = value.get("action").and_then(Value::as_str) else {
            return Err(bad("the frame is no object with the name of an action", echo.as_ref()));
        };
        let name = name.to_owned();
        let params = match value.get_mut("params").map(Value::take) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(bad("params is no object", echo.as_ref())),
        };
        Ok(Some(Self { echo, ..Self::new(&name, params) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_read() {
        let call =
            ActionCall::read(br#"{"action":"send_msg_async","params":{"a":1},"echo":[1]}"#).unwrap().unwrap();
        assert_eq!((call.action.name.as_str(), call.pace), ("send_msg", Pace::Async));
        assert_eq!((&call.action.params["a"], call.echo), (&json!(1), Some(json!([1]))));
        let call = ActionCall::read(br#"{"action":"get_status"}"#).unwrap().unwrap();
        assert_eq!((call.pace, call.echo, call.action.params.len()), (Pace::Wait, None, 0));
        let limited = ActionCall::new("send_msg_rate_limited", Map::new());
        assert_eq!((limited.action.name.as_str(), limited.pace), ("send_msg", Pace::RateLimited));
    }

    #[test]
    fn answers_and_events_are_not_answered() {
        for frame in [
            Answer::Accepted.to_json(Some(&json!(1))),
            Answer::refused(Refusal::BadRequest, "x").to_json(None),
            json!({ "post_type": "message", "self_id": 1 }),
        ] {
            assert_eq!(ActionCall::read(frame.to_string().as_bytes()), Ok(None), "{frame}");
        }
        let odd = br#"{"action":"get_status","retcode":0,"post_type":"x"}"#;
        assert!(ActionCall::read(odd).unwrap().is_some());
    }

    #[test]
    fn broken_frames_are_answered() {
        for (frame, echo) in [
            (&b"{"[..], None),
            (b"[]", None),
            (b"7", None),
            (br#"{"echo":5}"#, Some(json!(5))),
            (br#"{"action":"a","params":[],"echo":"x"}"#, Some(json!("x"))),
            (br#"{"action":7}"#, None),
        ] {
            let answer = ActionCall::read(frame).unwrap_err();
            assert_eq!((&answer["retcode"], answer.get("echo")), (&json!(1400), echo.as_ref()));
        }
    }
}
