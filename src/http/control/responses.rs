//! Refusals and replies as responses.

use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::Api;
use crate::http::auth::{Refusal, open_to};
use crate::http::body::{self, Body, CLOSE};
use crate::http::v1;
use crate::wire::Reply;
use crate::wire::door::REFUSED;
use crate::wire::onebot;
use crate::wire::v1::problem::Problem;

/// Completes a response; pages of `origin` may read it.
pub(super) fn finish(
    origin: Option<HeaderValue>,
    answered: Result<Response<Body>, Reply>,
    api: Api,
) -> Response<Body> {
    let mut response = answered.unwrap_or_else(|reply| refusal_of(&reply, api));
    if let Some(origin) = origin {
        open_to(response.headers_mut(), origin);
    }
    response
}

/// The answer to one that is not let in. A door learns from it whether that is about the door itself.
pub(super) fn not_let_in(
    refusal: &Refusal,
    by_door: bool,
    origin: Option<HeaderValue>,
    api: Api,
) -> Response<Body> {
    let mut response = finish(origin, Err(refusal.reply()), api);
    if let Some(refused) = refusal.of_door().filter(|_| by_door) {
        let word = HeaderValue::from_static(refused.as_str());
        response.headers_mut().insert(HeaderName::from_static(REFUSED), word);
    }
    response
}

/// A refusal as the API says it that was called.
pub(super) fn refusal_of(reply: &Reply, api: Api) -> Response<Body> {
    match api {
        Api::Openqq => response_of(reply),
        Api::V1 => v1::response_of(&Problem::from(reply)),
        Api::OneBot => {
            let (status, body) = onebot::refusal(reply);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = body::json(status, body.to_string());
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(http::header::WWW_AUTHENTICATE, v1::CHALLENGE);
            }
            response
        }
    }
}

/// A reply as a response.
pub(super) fn response_of(reply: &Reply) -> Response<Body> {
    // Every status is a constant in `wire/reply.rs`, so the fallback is never used.
    let status = StatusCode::from_u16(reply.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::Value::from(reply.body.clone()).to_string();
    let mut response = body::json(status, text);
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, v1::CHALLENGE);
    }
    response
}

/// What a browser shows then; it tries again by itself.
const NOT_STARTED: &str = "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
    <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>wqcontroller</title>\
    <p>The controller can't start. <code>systemctl status wqcontroller</code> says why.</p>\
    <p lang=\"zh-CN\">控制器无法启动，原因见 <code>systemctl status wqcontroller</code>。</p>\n";

/// The response of a controller that can't start.
pub fn unavailable(headers: &HeaderMap) -> Response<Body> {
    let mut answer = response_of(&Reply::not_started());
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        *answer.body_mut() = body::whole_body(NOT_STARTED);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    answer.headers_mut().insert(CONNECTION, CLOSE);
    answer
}
