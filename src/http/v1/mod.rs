//! The API below `/v1`.
//!
//! - [`answer`]: a request and its response
//! - `accounts`: the list of accounts, and one of them
//! - `specification`: OpenAPI, generated from the handlers and their types

mod accounts;
mod specification;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::accounts::Accounts;
use crate::config::Settings;
use crate::http::body::{self, Body};
use crate::wire::v1::problem::Problem;
use crate::wire::v1::routes::{self, Route};

/// For each refusal because there is no token.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"wqcontroller\"");

/// Answers a request that was let in.
pub fn answer(accounts: &Accounts, settings: &Settings, request: &Parts) -> Response<Body> {
    let answered = routes::find(&request.method, request.uri.path()).and_then(|route| match route {
        Route::Accounts => accounts::list(accounts, settings, request),
        Route::Account(name) => accounts::one(accounts, settings, request, &name),
        Route::Specification => Ok(unless_known(request, specification::text_of_all())),
    });
    answered.unwrap_or_else(|problem| response_of(&problem))
}

/// A problem as a response.
pub fn response_of(problem: &Problem) -> Response<Body> {
    // Every status is a constant in `wire`, so the fallback is never used.
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = body::json(status, text(problem));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(allow) = problem.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// JSON of our own types, which can't fail: no map of theirs has keys other than text.
fn text(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// The answer with this JSON, or 304 for a caller that has it already (RFC 9110, 13.1.2).
fn unless_known(request: &Parts, text: Bytes) -> Response<Body> {
    let tag = tag(&text);
    let known = request.headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        known.to_str().is_ok_and(|known| {
            // A proxy that compresses makes it a weak one.
            known
                .split(',')
                .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag)
        })
    });
    let mut response = match known {
        true => body::empty(StatusCode::NOT_MODIFIED),
        false => body::json(StatusCode::OK, text),
    };
    let headers = response.headers_mut();
    // Hexadecimal digits in quotes are a header's value.
    headers.extend(HeaderValue::from_str(&tag).map(|tag| (ETAG, tag)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The entity tag of a text: its checksum and length.
fn tag(text: &[u8]) -> String {
    format!("\"{:08x}{:x}\"", crc32fast::hash(text), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn known_text_is_not_sent_again() {
        let text = Bytes::from_static(b"{}");
        let answer = |known: Option<&str>| {
            let mut request = Request::new(());
            if let Some(known) = known {
                request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
            }
            unless_known(&request.into_parts().0, text.clone())
        };
        let tag = answer(None).headers()[ETAG].to_str().unwrap().to_owned();
        for (known, status) in [
            (None, 200),
            (Some("\"x\"".to_owned()), 200),
            (Some(tag.clone()), 304),
            (Some(format!("\"x\", W/{tag}")), 304),
            (Some("*".to_owned()), 304),
        ] {
            let answer = answer(known.as_deref());
            assert_eq!(
                (answer.status().as_u16(), answer.headers()[ETAG].to_str().unwrap()),
                (status, &*tag),
                "{known:?}"
            );
        }
    }
}
