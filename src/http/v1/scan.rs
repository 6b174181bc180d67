//! A way to scan for a person who is not at the machine: a link that shows one login code and nothing else.
//!
//! Chat programs open links to show previews, so the page of a link shows the code after a press only, which is a POST.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, HOST, HeaderValue, ORIGIN, VARY};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::qrcode::Qrcode;
use super::refusals::{Changing, OneAccount};
use super::{Call, V1, response_of, text};
use crate::accounts::{Linked, LoginCode, ScanLink, ScanLinkError};
use crate::config::Settings;
use crate::http::body::{self, Body};
use crate::http::page;
use crate::model::name::ClientName;
use crate::wire::door::DOOR;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::routes;

/// A link for scanning.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// The link.
    #[schema(example = "https://bots.example.org/scan/...")]
    url: String,
    /// Until when it holds, in Unix seconds.
    expires: u64,
}

/// What the page of a link shows before the press.
#[derive(Debug, Serialize)]
struct Introduction<'a> {
    name: &'a str,
}

/// What it shows after.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shown {
    state: String,
    pub(super) image: Option<String>,
    expires: Option<u64>,
}

/// Makes a link for scanning.
///
/// It shows the login code of this account for five minutes, to each person who has it, and nothing else. A new login ends it.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/scan-link",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The link", body = Link),
        (status = 409, description = "It is not known by what name the controller is reached", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
    )
)]
pub(super) fn link(call: &Call, name: &ClientName) -> Result<Response<Body>, Problem> {
    let view = call.v1.accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
    let root = root(&call.settings, &call.request.headers)?;
    Ok(answer(&root, &call.v1.accounts.scan_link(&view, now())))
}

/// The answer with a link.
pub(super) fn answer(root: &str, link: &ScanLink) -> Response<Body> {
    let url = routes::scan_url(root, &link.token);
    let mut response = body::json(StatusCode::OK, text(&Link { url, expires: link.expires }));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where links lead.
///
/// # Errors
/// That is not known.
pub(super) fn root(settings: &Settings, headers: &HeaderMap) -> Result<String, Problem> {
    match &settings.http.public_url {
        Some(url) => Ok(url.clone()),
        None => root_of(headers).ok_or_else(Problem::no_public_url),
    }
}

/// By what name the caller reached us.
fn root_of(headers: &HeaderMap) -> Option<String> {
    // A browser says with a POST whether its page was reached by TLS.
    if let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok())
        && origin.starts_with("http")
    {
        return Some(origin.to_owned());
    }
    let host = headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty())?;
    Some(format!("http://{host}"))
}

impl V1 {
    /// Answers at a link for scanning, whose token was cut off the path.
    pub async fn scan(self: Arc<Self>, token: String, request: Parts) -> Response<Body> {
        let answered = self.scanned(&token, &request).await.unwrap_or_else(|problem| response_of(&problem));
        let (mut parts, body) = answered.into_parts();
        parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        parts.headers.insert(VARY, HeaderValue::from_static("Accept"));
        Response::from_parts(parts, body)
    }

    async fn scanned(&self, token: &str, request: &Parts) -> Result<Response<Body>, Problem> {
        let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let wants_json = accept.contains("application/json");
        // The page itself says why a link shows nothing.
        if matches!(request.method, Method::GET | Method::HEAD) && !wants_json {
            return Ok(page::scan_page(&request.headers));
        }
        let linked = self.accounts.by_scan_link(token, now()).map_err(|error| match error {
            ScanLinkError::Unknown => Problem::no_such_link(),
            ScanLinkError::Ended => Problem::link_ended(),
        })?;
        let view = match linked {
            Linked::Here(view) => view,
            // One of a door leads to this machine's own accounts.
            Linked::Elsewhere(_) if request.headers.contains_key(DOOR) => return Err(Problem::no_such_link()),
            Linked::Elsewhere(link) => return self.scanned_elsewhere(&link, &request.method).await,
        };
        match request.method {
            Method::GET | Method::HEAD => {
                let introduction = Introduction { name: view.record.spec.name.as_str() };
                Ok(body::json(StatusCode::OK, text(&introduction)))
            }
            Method::POST => {
                let settings = self.settings.borrow().clone();
                let code = self.accounts.login_code(&view, &settings).await;
                let account = self.accounts.account(&view, &settings);
                let state = account.login.map_or(account.state, |login| login.state.as_str().to_owned());
                let code = code.as_ref().map(|code: &LoginCode| Qrcode::from(code));
                let expires = code.as_ref().map(|code| code.expires);
                let shown = Shown { state, image: code.map(|code| code.image), expires };
                Ok(body::json(StatusCode::OK, text(&shown)))
            }
            _ => Ok(wrong_method()),
        }
    }
}

/// The answer to another method than those of a link.
pub(super) fn wrong_method() -> Response<Body> {
    let mut refused = body::empty(StatusCode::METHOD_NOT_ALLOWED);
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    refused
}

/// The time, in Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_leads_where_the_caller_came_to() {
        let root = |headers: &[(http::HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            root_of(&headers.collect())
        };
        assert_eq!(root(&[(HOST, "127.0.0.1:4000")]).as_deref(), Some("http://127.0.0.1:4000"));
        let behind_a_proxy = [(HOST, "10.0.0.1"), (ORIGIN, "https://bots.example.org")];
        assert_eq!(root(&behind_a_proxy).as_deref(), Some("https://bots.example.org"));
        assert_eq!(root(&[(ORIGIN, "null"), (HOST, "h")]).as_deref(), Some("http://h"));
        assert_eq!(root(&[]), None);
    }
}
