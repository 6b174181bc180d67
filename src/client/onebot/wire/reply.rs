//! [`Reply`]: what a call was answered.

use serde_json::Value;

use super::value::{number, text, words};

/// What a call was answered.
#[derive(Debug, PartialEq)]
pub(in crate::client::onebot) enum Reply {
    /// Done. The data may be null.
    Done(Value),
    /// It goes on, and nobody will say what becomes of it (retcode 1).
    Accepted,
    /// Not done.
    Refused {
        /// The retcode: 1400, 1401, 1403 and 1404 are the standard's, the rest is each implementation's own.
        code: i64,
        /// Why, in the implementation's words.
        why: String,
    },
    /// Neither `status` nor `retcode` says what it is.
    Unclear,
}

impl Reply {
    /// Reads an answer. Only `status` and the retcodes 0 and 1 mean the same everywhere.
    pub(super) fn read(value: &Value) -> Self {
        let status = text(&value["status"]);
        let code = value["retcode"].as_i64().or_else(|| text(&value["retcode"]).trim().parse().ok());
        match (status, code) {
            ("failed", code) => {
                Self::Refused { code: code.filter(|code| *code != 0).unwrap_or(-1), why: why(value) }
            }
            ("async", _) | (_, Some(1)) => Self::Accepted,
            ("ok", _) | (_, Some(0)) => Self::Done(value["data"].clone()),
            (_, Some(code)) => Self::Refused { code, why: why(value) },
            (_, None) => Self::Unclear,
        }
    }

    /// Reads the body of an answer by HTTP; none where it is no object of JSON.
    pub(in crate::client::onebot) fn of_body(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        value.is_object().then(|| Self::read(&value))
    }

    /// Whether it says that the token is not the right one.
    pub(in crate::client::onebot) fn refuses_token(&self) -> bool {
        matches!(self, Self::Refused { code: 1401 | 1403, .. })
    }
}

/// The words, from where implementations put them.
fn why(value: &Value) -> String {
    let why = ["message", "wording", "msg"].into_iter().map(|key| words(&value[key]));
    why.into_iter().find(|why| !why.is_empty()).unwrap_or_default()
}

/// The number of a message that was sent, from the data of the answer.
pub(in crate::client::onebot) fn message_id(data: &Value) -> Option<String> {
    super::value::opaque(&data["message_id"]).or_else(|| number(data).map(|id| id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_as_they_come() {
        for (answer, reply) in [
            (json!({ "status": "ok", "retcode": 0, "data": { "a": 1 } }), Reply::Done(json!({ "a": 1 }))),
            (json!({ "status": "ok", "retcode": 0, "data": null }), Reply::Done(Value::Null)),
            (json!({ "status": "ok" }), Reply::Done(Value::Null)),
            (json!({ "retcode": "0", "data": {} }), Reply::Done(json!({}))),
            (json!({ "status": "async", "retcode": 1 }), Reply::Accepted),
            (json!({ "status": "async" }), Reply::Accepted),
            (
                json!({ "status": "failed", "retcode": 1403 }),
                Reply::Refused { code: 1403, why: String::new() },
            ),
            (
                json!({ "status": "failed", "retcode": 1200, "message": "", "wording": "no\n such" }),
                Reply::Refused { code: 1200, why: "no such".into() },
            ),
            (json!({ "status": "failed", "retcode": 0 }), Reply::Refused { code: -1, why: String::new() }),
            (json!({ "status": "failed" }), Reply::Refused { code: -1, why: String::new() }),
            (json!({ "status": "failed", "retcode": 1 }), Reply::Refused { code: 1, why: String::new() }),
            (json!({ "status": "ok", "retcode": 200, "data": [] }), Reply::Done(json!([]))),
            (json!({ "retcode": 100 }), Reply::Refused { code: 100, why: String::new() }),
            (json!({}), Reply::Unclear),
            (json!({ "status": 7, "retcode": {} }), Reply::Unclear),
        ] {
            assert_eq!(Reply::read(&answer), reply, "{answer}");
        }
        assert!(Reply::read(&json!({ "retcode": 1403 })).refuses_token());
        assert_eq!(message_id(&json!({ "message_id": -7 })).as_deref(), Some("-7"));
        assert_eq!(message_id(&json!(null)), None);
    }
}
