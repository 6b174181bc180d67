//! Whom a request is for, and what remains of it without that name.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::body::Arriving;
use super::outgoing::RequestBody;
use crate::config::HttpSettings;
use crate::http::control::client_name;
use crate::http::params::{ParamError, take};
use crate::http::serve::Caller;
use crate::model::name::ClientName;
use crate::model::reply::Reply;

/// A request as it goes on.
pub(super) struct Route<'a> {
    /// For whom it is.
    pub(super) client: ClientName,
    /// The query as it came, byte for byte, but without the name.
    pub(super) query: Cow<'a, [u8]>,
    /// The body. Where the name was in it, all of it was read.
    pub(super) body: RequestBody,
}

/// Takes the name out of the query, else out of a form body.
pub(super) async fn find<'a>(
    request: &'a Parts,
    body: Incoming,
    caller: &Arc<Caller>,
    settings: &HttpSettings,
) -> Result<Route<'a>, Reply> {
    let invalid = |error: ParamError| Reply::invalid(error.to_string());
    let given = |name: Option<String>| name.filter(|name| !name.is_empty());
    let arriving = |body| Arriving::new(body, caller.clone(), settings.inactivity_timeout);
    let query = request.uri.query().unwrap_or_default().as_bytes();
    let (name, left) = take(query, "client").map_err(invalid)?;
    if let Some(name) = given(name) {
        let body = match body.is_end_stream() {
            true => RequestBody::Empty,
            false => RequestBody::Arriving(Box::new(arriving(body))),
        };
        return Ok(Route { client: client_name(name)?, query: left, body });
    }
    if !is_form(&request.headers) || matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Reply::no_client_given());
    }
    // Most requests have none, and need no room for it.
    let form = Box::pin(read_form(arriving(body), settings.max_form_body)).await?;
    let (name, rest) = take(&form, "client").map_err(invalid)?;
    let name = given(name).ok_or_else(Reply::no_client_given)?;
    let body = RequestBody::Whole(rest.into_owned().into());
    Ok(Route { client: client_name(name)?, query: left, body })
}

async fn read_form(body: Arriving, limit: usize) -> Result<Bytes, Reply> {
    let too_large = || Reply::form_too_large(limit);
    // One that says so itself need not be sent first.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let form = Limited::new(body, limit).collect().await.map_err(|error| {
        match error.downcast::<LengthLimitError>() {
            Ok(_) => too_large(),
            Err(_) => Reply::bad_request("the request broke off"),
        }
    })?;
    Ok(form.to_bytes())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
