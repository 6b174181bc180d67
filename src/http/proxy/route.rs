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
use crate::http::caller::Caller;
use crate::http::control::client_name;
use crate::http::params::take;
use crate::model::name::ClientName;
use crate::model::reply::Reply;

/// Whom a request is for, and what remains of it.
pub(super) struct Route<'a> {
    pub(super) client: ClientName,
    /// The query as it came, byte for byte, but without the name.
    pub(super) query: Cow<'a, [u8]>,
    /// The body. Where the name was in it, all of it was read.
    pub(super) body: RequestBody,
}

/// Takes the name out of the query, if it is there and not empty.
pub(super) fn in_query(request: &Parts) -> Result<(Option<ClientName>, Cow<'_, [u8]>), Reply> {
    take_name(request.uri.query().unwrap_or_default().as_bytes())
}

/// The body of a request whose query has named the client: it is not looked into.
pub(super) fn body(body: Incoming, caller: &Arc<Caller>, settings: &HttpSettings) -> RequestBody {
    match body.is_end_stream() {
        true => RequestBody::Empty,
        false => RequestBody::Arriving(Box::new(arriving(body, caller, settings))),
    }
}

/// Whether the name may be in the body.
pub(super) fn may_have_form(request: &Parts) -> bool {
    is_form(&request.headers) && !matches!(request.method, Method::GET | Method::HEAD)
}

/// Reads a form and takes the name out of that.
pub(super) async fn in_form(
    body: Incoming,
    caller: &Arc<Caller>,
    settings: &HttpSettings,
) -> Result<(ClientName, RequestBody), Reply> {
    let form = read_form(arriving(body, caller, settings), settings.max_form_body).await?;
    let (name, left) = take_name(&form)?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    Ok((name, RequestBody::Whole(left.into_owned().into())))
}

fn take_name(parameters: &[u8]) -> Result<(Option<ClientName>, Cow<'_, [u8]>), Reply> {
    let (name, left) = take(parameters, "client").map_err(|error| Reply::invalid(error.to_string()))?;
    let name = name.filter(|name| !name.is_empty()).map(client_name).transpose()?;
    Ok((name, left))
}

fn arriving(body: Incoming, caller: &Arc<Caller>, settings: &HttpSettings) -> Arriving {
    Arriving::new(body, caller.clone(), settings.inactivity_timeout)
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
