//! [`Reply`]: the codes, status texts and JSON of the API. They are the original's where it has one; of the negative
//! codes those are ours that it has not.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::backend::{BackendError, Sent};
use crate::http::answer::{Body, BodyError, JSON, whole_body};
use crate::model::state::ClientState;

/// Success.
pub(super) const OK: i32 = 0;
/// Nothing has all the properties that were given.
const OBJECT_NOT_FOUND: i32 = 100;
/// No member was named.
const NO_MEMBER_ID: i32 = 200;
/// The network did not do it.
const FAILURE: i32 = 201;
/// How long somebody is to be muted is missing or no number of minutes.
const NO_SHUTUP_TIME: i32 = 400;
/// The network took the message and did not say what became of it.
const NO_ANSWER: i32 = -1;
/// The request cannot be read.
pub(super) const BAD_REQUEST: i32 = -2;
/// The client stopped before the message's turn.
const STOPPED: i32 = -3;
/// The backend did not take the message.
const NOT_DELIVERED: i32 = -4;
/// The network did not take the message, and gave a code.
const REFUSED: i32 = -5;
/// The message has no content.
const NO_CONTENT: i32 = -6;
/// The client is not in the state `running`.
const NOT_RUNNING: i32 = -7;
/// Too many messages wait to be sent.
const TOO_MANY: i32 = -8;

/// How many bytes of a list are gathered before it is sent in parts.
const LARGE_LIST: usize = 1024 * 1024;

/// What a call is answered: JSON, nearly always with status 200, errors included, as with the original.
pub(super) struct Reply {
    status: StatusCode,
    content: Content,
    retry: bool,
}

/// JSON text, a part at a time where it may be too much for the memory.
type Parts = Pin<Box<dyn Stream<Item = Result<String, BodyError>> + Send>>;

enum Content {
    Whole(String),
    Parts(Parts),
}

/// Why a message is not sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsent {
    /// See [`STOPPED`].
    Stopped,
    /// See [`NOT_DELIVERED`].
    NotDelivered,
    /// See [`REFUSED`].
    Code,
    /// See [`NO_ANSWER`].
    NoAnswer,
    /// See [`TOO_MANY`].
    TooMany,
    /// See [`NO_CONTENT`].
    NoContent,
}

/// Whom a message was for and who is not there.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotFound {
    Friend,
    Group,
    Discuss,
    GroupMember,
    DiscussMember,
    /// Neither a group nor a discussion was named.
    AnyMember,
}

impl Reply {
    /// `value`, as it is.
    pub(super) fn ok(value: Value) -> Self {
        Self { status: StatusCode::OK, content: Content::Whole(value.to_string()), retry: false }
    }

    /// An object of ours.
    pub(super) fn of(object: &impl Serialize) -> Self {
        // Objects of ours, with strings as keys: nothing in them can fail.
        Self::array(serde_json::to_string(object).unwrap_or_default())
    }

    /// A list, whose items come one after another as JSON text. A small one is an answer like any other; of a large one
    /// never more than a part is in memory.
    ///
    /// # Errors
    /// The first of an item, while nothing has been answered yet. Later ones break the answer off.
    pub(super) async fn list(
        items: impl Stream<Item = Result<String, BackendError>> + Send + 'static,
    ) -> Result<Self, BackendError> {
        let (mut items, mut first) = (Box::pin(items), String::from("["));
        while let Some(item) = items.next().await {
            if first.len() > 1 {
                first.push(',');
            }
            first.push_str(&item?);
            if first.len() > LARGE_LIST {
                let rest = items.map(|item| Ok(format!(",{}", item?)));
                let end = |text: String| stream::iter([Ok(text)]);
                let all = end(first).chain(rest).chain(end("]".to_owned()));
                return Ok(Self {
                    status: StatusCode::OK,
                    content: Content::Parts(Box::pin(all)),
                    retry: false,
                });
            }
        }
        first.push(']');
        Ok(Self::array(first))
    }

    /// An array that is JSON already.
    pub(super) fn array(json: String) -> Self {
        Self { status: StatusCode::OK, content: Content::Whole(json), retry: false }
    }

    /// An error of the whole call.
    pub(super) fn error(status: StatusCode, code: i32, text: impl Into<String>) -> Self {
        Self { status, ..Self::ok(json!({ "code": code, "status": text.into() })) }
    }

    /// The client is in a state in which it cannot do that. The original let such a caller wait without a word.
    pub(super) fn not_running(state: &ClientState) -> Self {
        let text = json!({ "code": NOT_RUNNING, "status": "client not running", "state": state });
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry: true, ..Self::ok(text) }
    }

    /// The message is queued; nobody waits for what becomes of it.
    pub(super) fn queued() -> Self {
        Self::ok(json!({ "code": OK, "status": "request already in execution" }))
    }

    /// The message was sent.
    pub(super) fn sent(sent: &Sent) -> Self {
        let info = sent.remark.map_or_else(|| "发送正常".to_owned(), |code| format!("忽略返回值: {code}"));
        Self::ok(json!({ "id": sent.message.id, "code": OK, "status": "发送成功", "info": info }))
    }

    /// The message was not sent; `info` says why.
    pub(super) fn not_sent(why: Unsent, info: impl Into<String>) -> Self {
        let code = match why {
            Unsent::Stopped => STOPPED,
            Unsent::NotDelivered => NOT_DELIVERED,
            Unsent::Code => REFUSED,
            Unsent::NoAnswer => NO_ANSWER,
            Unsent::TooMany => TOO_MANY,
            Unsent::NoContent => NO_CONTENT,
        };
        Self::ok(json!({ "id": null, "code": code, "status": "发送失败", "info": info.into() }))
    }

    /// Nobody to send to.
    pub(super) fn not_found(what: NotFound) -> Self {
        let (code, status) = match what {
            NotFound::Friend => (100, "friend not found"),
            NotFound::Group => (101, "group not found"),
            NotFound::Discuss => (102, "discuss not found"),
            NotFound::GroupMember => (103, "group member not found"),
            NotFound::DiscussMember => (104, "discuss member not found"),
            // The two spaces are the original's.
            NotFound::AnyMember => (105, "discuss member or group member  not found"),
        };
        Self::ok(json!({ "id": null, "code": code, "status": status }))
    }

    /// Nothing has all the properties that were given.
    pub(super) fn object_not_found() -> Self {
        Self::ok(json!({ "code": OBJECT_NOT_FOUND, "status": "object not found" }))
    }

    /// A member that is not in the group; `given` as the caller named it.
    pub(super) fn member_not_found(given: &str) -> Self {
        Self::ok(json!({ "code": OBJECT_NOT_FOUND, "status": format!("member {given} not found") }))
    }

    /// No member was named.
    pub(super) fn no_member_id() -> Self {
        Self::ok(json!({ "code": NO_MEMBER_ID, "status": "member id empty" }))
    }

    /// How long is missing, or no number of minutes.
    pub(super) fn no_shutup_time() -> Self {
        Self::ok(json!({ "code": NO_SHUTUP_TIME, "status": "shutup time missing or error" }))
    }

    /// It was done.
    pub(super) fn success() -> Self {
        Self::ok(json!({ "code": OK, "status": "success" }))
    }

    /// The network did not do it; `info` says why.
    pub(super) fn failure(error: &BackendError) -> Self {
        Self::ok(json!({ "code": FAILURE, "status": "failure", "info": error.to_string() }))
    }

    /// The JSON text.
    #[cfg(test)]
    pub(super) fn json(&self) -> &str {
        match &self.content {
            Content::Whole(json) => json,
            Content::Parts(_) => panic!("it comes in parts"),
        }
    }

    /// The same with every part of the text, and what goes before and after all of it, as `change` makes it.
    pub(super) fn wrapped(
        self,
        before: String,
        change: impl Fn(&str) -> String + Send + 'static,
        after: String,
    ) -> Self {
        let content = match self.content {
            Content::Whole(json) => Content::Whole(before + &change(&json) + &after),
            Content::Parts(parts) => {
                let all = parts.map(move |part| Ok(change(&part?)));
                let end = |text| stream::iter([Ok(text)]);
                Content::Parts(Box::pin(end(before).chain(all).chain(end(after))))
            }
        };
        Self { content, ..self }
    }

    /// The answer with it.
    pub(super) fn into_response(self) -> Response<Body> {
        let body = match self.content {
            Content::Whole(json) => whole_body(json),
            Content::Parts(parts) => {
                Body::stream(StreamBody::new(parts.map(|part| Ok(Frame::data(Bytes::from(part?))))))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        if self.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The answer to a path that is not ours, or a method that a path does not take.
pub(super) fn no_such_api() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "api not found")
}

/// An answer in plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(whole_body(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
