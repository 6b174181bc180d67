//! Actions by HTTP (onebot-11, `communication/http.md`): the path names the action, the parameters are a query, a form or JSON.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Map, Value};

use super::bounded_json;
use super::request::ActionCall;
use crate::client::backend::action::{Answer, Refusal};
use crate::http::body::{self, Body};
use crate::http::request::body::{CollectError, collect};
use crate::http::request::form::FormKind;
use crate::http::request::params::Params;

/// The largest body that is accepted: an image in base64.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// What a query says to this client and to the controller, not to an action.
const NOT_PARAMETERS: [&str; 3] = ["access_token", "app", "client"];

/// Parameters of the standard that are numbers. A query has only texts, and many implementations want numbers.
const NUMBERS: [&str; 10] = [
    "delay",
    "duration",
    "group_id",
    "invitor_id",
    "max_age",
    "message_id",
    "message_seq",
    "self_id",
    "times",
    "user_id",
];

/// Parameters of the standard that are true or false.
const FLAGS: [&str; 10] = [
    "approve",
    "auto_escape",
    "cache",
    "enable",
    "full",
    "is_dismiss",
    "no_cache",
    "no_cached",
    "reject_add_request",
    "block",
];

/// Reads a call.
///
/// # Errors
/// It can't be understood: its answer, with its status.
pub(super) async fn read(
    name: &str,
    request: &Parts,
    body: Incoming,
) -> Result<ActionCall, (StatusCode, Answer)> {
    Ok(ActionCall::new(name, parameters(request, body).await?))
}

/// Reads the parameters of a call, from its query and its body.
///
/// # Errors
/// They can't be understood: the answer, with its status.
pub(crate) async fn parameters(
    request: &Parts,
    body: Incoming,
) -> Result<Map<String, Value>, (StatusCode, Answer)> {
    let bad = |status, why: String| (status, Answer::refused(Refusal::BadRequest, why));
    let unreadable = |why: String| bad(StatusCode::BAD_REQUEST, why);
    let query = request.uri.query().unwrap_or_default();
    let mut params = Params::parse(query.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    for name in NOT_PARAMETERS {
        params.remove(name);
    }
    let mut all = typed(&params);
    if request.method == Method::POST {
        let body = collect(body, MAX_BODY, BODY_TIME).await.map_err(|error| match error {
            CollectError::TooLong => {
                bad(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MAX_BODY} bytes"))
            }
            CollectError::TimedOut => bad(StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
            CollectError::BrokeOff => unreadable("the body broke off".to_owned()),
        })?;
        let kind = FormKind::of(&request.headers);
        match kind {
            _ if body.is_empty() => {}
            Some(FormKind::Json) => {
                let json: Map<String, Value> = bounded_json::read(&body)
                    .map_err(|error| unreadable(format!("the body is no object of JSON: {error}")))?;
                all.extend(json);
            }
            Some(kind) => {
                let form = kind.parse(&body).map_err(|error| unreadable(error.to_string()))?;
                all.extend(typed(&form));
            }
            None => {
                let shown = request.headers.contains_key(CONTENT_TYPE);
                let why = if shown {
                    "the body is neither JSON nor a form"
                } else {
                    "the body has no Content-Type"
                };
                return Err(bad(StatusCode::NOT_ACCEPTABLE, why.to_owned()));
            }
        }
    }
    Ok(all)
}

/// The parameters of a query or a form, with the types that the standard gives them.
fn typed(params: &Params) -> Map<String, Value> {
    let typed = |name: &str, text: &str| {
        if NUMBERS.contains(&name)
            && let Ok(number) = text.parse::<i64>()
        {
            return number.into();
        }
        match (FLAGS.contains(&name), text) {
            (true, "true" | "1" | "yes") => true.into(),
            (true, "false" | "0" | "no") => false.into(),
            _ => text.into(),
        }
    };
    params.iter().map(|(name, text)| (name.to_owned(), typed(name, text))).collect()
}

/// The answer as a response. Refusals of the standard have statuses of HTTP (`communication/http.md`).
pub(super) fn respond(answer: &Answer) -> Response<Body> {
    let status = match answer {
        Answer::Failed { code: 1400, .. } => StatusCode::BAD_REQUEST,
        Answer::Failed { code: 1401, .. } => StatusCode::UNAUTHORIZED,
        Answer::Failed { code: 1403, .. } => StatusCode::FORBIDDEN,
        Answer::Failed { code: 1404, .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    respond_with(status, answer)
}

/// The answer with this status.
pub(super) fn respond_with(status: StatusCode, answer: &Answer) -> Response<Body> {
    body::json(status, answer.to_json(None).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_of_a_query_get_their_types() {
        let params = "user_id=10001&message=123&auto_escape=false&group_id=x&approve=1&note=true";
        assert_eq!(
            Value::Object(typed(&Params::parse(params.as_bytes()).unwrap())),
            json!({
                "user_id": 10001, "message": "123", "auto_escape": false, "group_id": "x", "approve": true,
                "note": "true",
            })
        );
    }
}
