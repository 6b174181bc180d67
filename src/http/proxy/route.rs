//! Which client a request is for, and the request without that name.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::request_writer::RequestBody;
use crate::config::HttpSettings;
use crate::http::request::body::{RequestBodyStream, read_form};
use crate::http::request::form::{FormKind, RemainingForm};
use crate::http::request::params::take;
use crate::http::server::Downstream;
use crate::model::name::ClientName;
use crate::wire::Reply;
use crate::wire::door::Said;
use crate::wire::onebot::{self, Vouch};

/// A request and its client.
pub(super) struct RoutedRequest<'a> {
    pub(super) client: ClientName,
    /// The query without the name, otherwise unchanged byte for byte.
    pub(super) query: Cow<'a, [u8]>,
    /// The body. If the name was in it, it is complete.
    pub(super) body: RequestBody,
}

/// Takes the name out of the query, if it is there and not empty.
pub(super) fn in_query(request: &Parts) -> Result<(Option<ClientName>, Cow<'_, [u8]>), Reply> {
    take_name(request.uri.query().unwrap_or_default().as_bytes())
}

/// The body of a request whose query names the client. It is not searched.
pub(super) fn body(body: Incoming, downstream: &Arc<Downstream>, settings: &HttpSettings) -> RequestBody {
    match body.is_end_stream() {
        true => RequestBody::Empty,
        false => RequestBody::Streaming(Box::new(RequestBodyStream::new(
            body,
            downstream.clone(),
            settings.inactivity_timeout,
        ))),
    }
}

/// Reads a form and takes the name out of it. Adapts `headers` if the rest is another kind of form.
pub(super) async fn in_form(
    kind: FormKind,
    headers: &mut HeaderMap,
    body: Incoming,
    downstream: &Arc<Downstream>,
    settings: &HttpSettings,
) -> Result<(ClientName, RequestBody), Reply> {
    let form = read_form(body, downstream, settings).await?;
    let (name, left) = kind.take(&form, CLIENT).map_err(|error| Reply::invalid(error.to_string()))?;
    let name = name.filter(|name| !name.is_empty()).map(Reply::client_name).transpose()?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let left = match left {
        RemainingForm::Same(left) => left.into_owned(),
        RemainingForm::UrlEncoded(left) => {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, kind);
            left.into_bytes()
        }
    };
    // In one piece, so that its new length can be declared.
    Ok((name, RequestBody::Whole(left.into())))
}

/// The parameter that names the client.
const CLIENT: &str = "client";

/// What the caller of a request may do, as far as that was found out here. For what is no application's a read-only token has opened only
/// what reads.
pub(super) fn said(request: &Parts) -> Said {
    let vouch = request.headers.get(onebot::DOOR).and_then(|word| word.to_str().ok()).map(Vouch::of);
    match vouch {
        Some(Vouch::Account) => Said::Account,
        Some(Vouch::ReadOnly) => Said::ReadOnly,
        None if onebot::is_own(request.uri.path()) => Said::Unasked,
        Some(Vouch::Full) | None => Said::Full,
    }
}

/// The query for the controller of another machine: with the name of the account, and with the token of the account that an application has
/// shown in its headers, which are needed for the machine's own. A parameter `token` opens controllers, and this one alone: it is not
/// passed on.
pub(super) fn for_machine(request: &Parts, name: &ClientName, query: &[u8], said: Said) -> Vec<u8> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut all = format!("{CLIENT}={}", encoded(name.as_str())).into_bytes();
    let mut left = without(query, TOKEN);
    let token = request.headers.get(AUTHORIZATION).filter(|_| matches!(said, Said::Account | Said::Unasked));
    if let Some((_, token)) = token.and_then(|token| token.to_str().ok()?.split_once(' ')) {
        all.extend_from_slice(format!("&{ACCESS_TOKEN}={}", encoded(token.trim())).as_bytes());
        // The header wins, as at a client.
        left = without(&left, ACCESS_TOKEN);
    }
    if !left.is_empty() {
        all.push(b'&');
        all.extend_from_slice(&left);
    }
    all
}

/// The parameter with the token of an application (onebot-11, `communication/authorization.md`).
const ACCESS_TOKEN: &str = "access_token";

/// The parameter with a token of a controller.
const TOKEN: &str = "token";

/// A query without every `name=…`.
pub(super) fn without(query: &[u8], name: &str) -> Vec<u8> {
    let is_named = |pair: &&[u8]| matches!(take(pair, name), Ok((Some(_), _)) | Err(_));
    let others: Vec<&[u8]> = query.split(|byte| *byte == b'&').filter(|pair| !is_named(pair)).collect();
    others.join(&b'&')
}

fn take_name(parameters: &[u8]) -> Result<(Option<ClientName>, Cow<'_, [u8]>), Reply> {
    let (name, left) = take(parameters, CLIENT).map_err(|error| Reply::invalid(error.to_string()))?;
    let name = name.filter(|name| !name.is_empty()).map(Reply::client_name).transpose()?;
    Ok((name, left))
}
