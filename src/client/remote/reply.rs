//! [`ActionResponse`]: the answer to a call.

use serde_json::Value;

use super::frame::{FrameError, Parsed};
use super::value::{text, words};
use crate::model::lenient;

/// The answer to a call.
#[derive(Debug, PartialEq)]
pub(crate) enum ActionResponse {
    /// Done. The data may be null.
    Done(Value),
    /// Accepted; its outcome will not be reported (retcode 1).
    Accepted,
    /// Not done.
    Refused {
        /// The retcode: 1400, 1401, 1403 and 1404 are the standard's, the rest is each implementation's own.
        code: i64,
        /// Why, in the implementation's words.
        why: String,
    },
    /// Neither `status` nor `retcode` tells the outcome.
    Unclear,
}

impl ActionResponse {
    /// Reads an answer. Only `status` and the retcodes 0 and 1 mean the same everywhere.
    pub(crate) fn read(mut value: Value) -> Self {
        let is = |status: &str| text(&value["status"]) == status;
        let (is_failed, is_async, is_done) = (is("failed"), is("async"), is("ok"));
        let code = value["retcode"].as_i64().or_else(|| text(&value["retcode"]).trim().parse().ok());
        match code {
            code if is_failed => {
                // A failure must not reach callers with retcode 0, which means success.
                Self::Refused { code: code.filter(|code| *code != 0).unwrap_or(-1), why: why(&value) }
            }
            _ if is_async => Self::Accepted,
            Some(1) => Self::Accepted,
            // A list may be long, and is not copied.
            code if is_done || code == Some(0) => {
                Self::Done(value.get_mut("data").map(Value::take).unwrap_or_default())
            }
            Some(code) => Self::Refused { code, why: why(&value) },
            None => Self::Unclear,
        }
    }

    /// Reads the body of an answer by HTTP.
    ///
    /// # Errors
    /// It is no object of JSON.
    pub(crate) fn of_body(body: &[u8]) -> Result<Parsed<Self>, FrameError> {
        let read = lenient::read(body)?;
        if !read.value.is_object() {
            return Err(FrameError::Foreign);
        }
        let is_repaired = read.is_repaired();
        Ok(Parsed { what: Self::read(read.value), is_repaired })
    }

    /// Whether it refuses the token.
    pub(crate) fn refuses_token(&self) -> bool {
        matches!(self, Self::Refused { code: 1401 | 1403, .. })
    }
}

/// The reason, from the fields in which implementations put it.
fn why(value: &Value) -> String {
    let why = ["message", "wording", "msg"].into_iter().map(|key| words(&value[key]));
    why.into_iter().find(|why| !why.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn responses_are_read() {
        for (answer, reply) in [
            (
                json!({ "status": "ok", "retcode": 0, "data": { "a": 1 } }),
                ActionResponse::Done(json!({ "a": 1 })),
            ),
            (json!({ "status": "ok", "retcode": 0, "data": null }), ActionResponse::Done(Value::Null)),
            (json!({ "status": "ok" }), ActionResponse::Done(Value::Null)),
            (json!({ "retcode": "0", "data": {} }), ActionResponse::Done(json!({}))),
            (json!({ "status": "async", "retcode": 1 }), ActionResponse::Accepted),
            (json!({ "status": "async" }), ActionResponse::Accepted),
            (
                json!({ "status": "failed", "retcode": 1403 }),
                ActionResponse::Refused { code: 1403, why: String::new() },
            ),
            (
                json!({ "status": "failed", "retcode": 1200, "message": "", "wording": "no\n such" }),
                ActionResponse::Refused { code: 1200, why: "no such".into() },
            ),
            (
                json!({ "status": "failed", "retcode": 0 }),
                ActionResponse::Refused { code: -1, why: String::new() },
            ),
            (json!({ "status": "failed" }), ActionResponse::Refused { code: -1, why: String::new() }),
            (
                json!({ "status": "failed", "retcode": 1 }),
                ActionResponse::Refused { code: 1, why: String::new() },
            ),
            (json!({ "status": "ok", "retcode": 200, "data": [] }), ActionResponse::Done(json!([]))),
            (json!({ "retcode": 100 }), ActionResponse::Refused { code: 100, why: String::new() }),
            (json!({}), ActionResponse::Unclear),
            (json!({ "status": 7, "retcode": {} }), ActionResponse::Unclear),
        ] {
            assert_eq!(ActionResponse::read(answer.clone()), reply, "{answer}");
        }
        assert!(ActionResponse::read(json!({ "retcode": 1403 })).refuses_token());
    }
}
