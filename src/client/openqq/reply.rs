//! [`ApiReply`]: the codes, status texts and JSON of the API. They are the original's where it has one; the
//! other negative codes are ours.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::backend::action::Answer;
use crate::client::backend::{BackendError, Sent};
use crate::client::outbox::SendError;
use crate::http::auth::Refusal;
use crate::http::body::{Body, BodyError, JSON, whole_body};
use crate::model::state::ClientState;

/// Success.
pub(crate) const OK: i32 = 0;
/// It may have been done.
const UNDER_WAY: i32 = 1;
/// No object has all the given properties.
const OBJECT_NOT_FOUND: i32 = 100;
/// No member was named.
const NO_MEMBER_ID: i32 = 200;
/// The network refused.
const FAILURE: i32 = 201;
/// The duration of a mute is missing or not a number of minutes.
const NO_SHUTUP_TIME: i32 = 400;
/// The request cannot be read.
pub(crate) const BAD_REQUEST: i32 = -2;
/// The client is not in the state `running`.
const NOT_RUNNING: i32 = -7;

/// A browser sends the request for another web site.
const FOREIGN_SITE: i32 = 403;
/// The host that the request is for is not ours.
const FOREIGN_HOST: i32 = 421;

/// From this size on a list is sent in parts, in bytes.
const LARGE_LIST: usize = 1024 * 1024;

/// The answer to a call: JSON, nearly always with status 200, also for errors, as in the original.
pub(crate) struct ApiReply {
    status: StatusCode,
    content: ReplyBody,
    retry: bool,
}

/// JSON text in parts.
type BodyParts = Pin<Box<dyn Stream<Item = Result<String, BodyError>> + Send>>;

enum ReplyBody {
    Whole(String),
    Parts(BodyParts),
}

/// The missing recipient of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotFound {
    Friend,
    Group,
    Discuss,
    GroupMember,
    DiscussMember,
    /// Neither a group nor a discussion was named.
    AnyMember,
}

impl ApiReply {
    /// `value`, as it is.
    pub(crate) fn ok(value: Value) -> Self {
        Self { status: StatusCode::OK, content: ReplyBody::Whole(value.to_string()), retry: false }
    }

    /// An object of the API.
    pub(crate) fn of(object: &impl Serialize) -> Self {
        // Serialization of our own types with string keys cannot fail.
        Self::array(serde_json::to_string(object).unwrap_or_default())
    }

    /// A list of items that come one after another as JSON text. A large list is sent in parts, so that only
    /// one part is in memory.
    ///
    /// # Errors
    /// The first failing item, as long as nothing was sent. A later one breaks the answer off.
    pub(crate) async fn list(
        items: impl Stream<Item = Result<String, BackendError>> + Send + 'static,
    ) -> Result<Self, BackendError> {
        let (mut items, mut first) = (Box::pin(items), String::from("["));
        while let Some(item) = items.next().await {
            if first.len() > 1 {
                first.push(',');
            }
            first.push_str(&item?);
            if first.len() > LARGE_LIST {
                // `first` ends with an item, so each further one brings its comma.
                let rest = items.map(|item| Ok(format!(",{}", item?)));
                let end = |text: String| stream::iter([Ok(text)]);
                let all = end(first).chain(rest).chain(end("]".to_owned()));
                return Ok(Self {
                    status: StatusCode::OK,
                    content: ReplyBody::Parts(Box::pin(all)),
                    retry: false,
                });
            }
        }
        first.push(']');
        Ok(Self::array(first))
    }

    /// An array that is JSON already.
    pub(crate) fn array(json: String) -> Self {
        Self { status: StatusCode::OK, content: ReplyBody::Whole(json), retry: false }
    }

    /// An error of the whole call.
    pub(crate) fn error(status: StatusCode, code: i32, text: impl Into<String>) -> Self {
        Self { status, ..Self::ok(json!({ "code": code, "status": text.into() })) }
    }

    /// The client cannot serve the call in this state. The original let such a caller wait without an answer.
    pub(crate) fn not_running(state: &ClientState) -> Self {
        let text = json!({ "code": NOT_RUNNING, "status": "client not running", "state": state });
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry: true, ..Self::ok(text) }
    }

    /// The message is queued. Its outcome is reported with this id.
    pub(crate) fn queued(id: &str) -> Self {
        Self::ok(json!({ "id": id, "code": OK, "status": "request already in execution" }))
    }

    /// The message was sent.
    pub(crate) fn sent(sent: &Sent) -> Self {
        let info = sent.remark.map_or_else(|| "发送正常".to_owned(), |code| format!("忽略返回值: {code}"));
        let mut reply = json!({ "id": sent.message.id, "code": OK, "status": "发送成功", "info": info });
        if let Some(number) = sent.message.number {
            reply["message_id"] = number.into();
        }
        Self::ok(reply)
    }

    /// The message was not sent, or may have been; `info` says why.
    pub(crate) fn not_sent(error: &SendError) -> Self {
        let mut reply =
            json!({ "id": null, "code": error.code(), "status": "发送失败", "info": error.to_string() });
        if let SendError::TooMany { retry_after } = error {
            reply["retry_after"] = json!(retry_after);
        }
        Self::ok(reply)
    }

    /// The recipient does not exist.
    pub(crate) fn not_found(what: NotFound) -> Self {
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

    /// The network has no way to send to a member of a group.
    pub(crate) fn no_member_chats(why: &str) -> Self {
        Self::ok(json!({ "id": null, "code": 103, "status": "group member not found", "info": why }))
    }

    /// Nothing has all the properties that were given.
    pub(crate) fn object_not_found() -> Self {
        Self::ok(json!({ "code": OBJECT_NOT_FOUND, "status": "object not found" }))
    }

    /// A member that is not in the group; `given` as the caller named it.
    pub(crate) fn member_not_found(given: &str) -> Self {
        Self::ok(json!({ "code": OBJECT_NOT_FOUND, "status": format!("member {given} not found") }))
    }

    /// No member was named.
    pub(crate) fn no_member_id() -> Self {
        Self::ok(json!({ "code": NO_MEMBER_ID, "status": "member id empty" }))
    }

    /// The duration of a mute is missing or not a number of minutes.
    pub(crate) fn no_shutup_time() -> Self {
        Self::ok(json!({ "code": NO_SHUTUP_TIME, "status": "shutup time missing or error" }))
    }

    /// Success.
    pub(crate) fn success() -> Self {
        Self::ok(json!({ "code": OK, "status": "success" }))
    }

    /// The network refused; `info` says why.
    pub(crate) fn failure(error: &BackendError) -> Self {
        Self::ok(json!({ "code": FAILURE, "status": "failure", "info": error.to_string() }))
    }

    /// What became of an action of OneBot v11, with its code there.
    pub(crate) fn of_action(answer: &Answer) -> Self {
        Self::ok(match answer {
            Answer::Done(data) => json!({ "code": OK, "status": "ok", "data": data }),
            Answer::Accepted => {
                let info = "it is under way, or was; its outcome will not be told";
                json!({ "code": UNDER_WAY, "status": "async", "data": null, "info": info })
            }
            Answer::Failed { code, why } => {
                // A network that fails with the code of a success.
                let code = if *code == i64::from(OK) { i64::from(FAILURE) } else { *code };
                json!({ "code": code, "status": "failed", "data": null, "info": why })
            }
        })
    }

    /// The JSON text.
    #[cfg(test)]
    pub(crate) fn json(&self) -> &str {
        match &self.content {
            ReplyBody::Whole(json) => json,
            ReplyBody::Parts(_) => panic!("it comes in parts"),
        }
    }

    /// Transforms each part of the text with `change`, and adds text before and after.
    pub(crate) fn wrapped(
        self,
        before: String,
        change: impl Fn(&str) -> String + Send + 'static,
        after: String,
    ) -> Self {
        let content = match self.content {
            ReplyBody::Whole(json) => ReplyBody::Whole(before + &change(&json) + &after),
            ReplyBody::Parts(parts) => {
                let all = parts.map(move |part| Ok(change(&part?)));
                let end = |text| stream::iter([Ok(text)]);
                ReplyBody::Parts(Box::pin(end(before).chain(all).chain(end(after))))
            }
        };
        Self { content, ..self }
    }

    /// The HTTP answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let body = match self.content {
            ReplyBody::Whole(json) => whole_body(json),
            ReplyBody::Parts(parts) => {
                // An error breaks the body off, by which the caller sees that the list is incomplete: the status is sent
                // already.
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

/// The answer to an unknown path or method.
pub(crate) fn no_such_api() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "api not found")
}

/// What a web page is answered that may not call.
pub(crate) fn not_let_in(refusal: &Refusal) -> Response<Body> {
    match refusal {
        Refusal::Host(host) => {
            let why = format!(
                "the host {host:?} is not known here: call localhost or 127.0.0.1, or go through the controller"
            );
            ApiReply::error(StatusCode::MISDIRECTED_REQUEST, FOREIGN_HOST, why).into_response()
        }
        // The client knows no tokens, so only the site is left.
        _ => {
            let why = "a browser sent this for another web site: go through the controller, which can allow the site";
            ApiReply::error(StatusCode::FORBIDDEN, FOREIGN_SITE, why.to_owned()).into_response()
        }
    }
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(whole_body(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
