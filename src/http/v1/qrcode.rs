//! The login code of an account: as the image that it is, as text for a terminal, or as JSON with its age.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::Reading;
use super::{Call, text};
use crate::accounts::LoginCode;
use crate::http::body::{self, Body};
use crate::model::name::ClientName;
use crate::wire::v1::problem::Problem;

/// A login code.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Qrcode {
    /// When it was made, in Unix seconds.
    since: u64,
    /// Until when it can be scanned, in Unix seconds. Most accounts show a new one then.
    pub(super) expires: u64,
    /// The image, as a `data:` URL.
    #[schema(example = "data:image/png;base64,...")]
    pub(super) image: String,
}

/// What a caller wants to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Image,
    Text,
    Json,
}

impl Form {
    /// The form that `Accept` prefers (RFC 9110, 12.5.1); an image where it does not say.
    fn of(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Image);
        let lists = headers.get_all(ACCEPT).iter().filter_map(|list| list.to_str().ok());
        for wanted in lists.flat_map(|list| list.split(',')) {
            let mut parts = wanted.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/json" | "application/*" => Self::Json,
                "text/plain" | "text/*" => Self::Text,
                kind if kind == "*/*" || kind.starts_with("image/") => Self::Image,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0_f32), str::parse);
            // Of two with the same weight the first one counts.
            if let Ok(weight) = weight
                && weight > best.0
            {
                best = (weight, form);
            }
        }
        best.1
    }
}

/// Shows the login code of an account.
///
/// As an image, or, where `Accept` asks for it, as text for a terminal (`text/plain`) or as JSON with its age.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/qrcode",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The code", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (String = "text/plain"), (Qrcode = "application/json"),
        )),
        (status = 404, description = "There is no such account, or no code waits to be scanned", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "The image can't be shown as text", body = Problem, content_type = "application/problem+json"),
        Reading,
    )
)]
pub(super) async fn qrcode(call: Call, name: ClientName) -> Result<Response<Body>, Problem> {
    let form = Form::of(&call.request.headers);
    let accounts = &call.v1.accounts;
    let view = accounts.clients.client(&name).ok_or_else(Problem::no_such_account)?;
    let code = accounts.login_code(&view, &call.settings).await.ok_or_else(Problem::no_code)?;
    let mut response = match form {
        Form::Json => body::json(StatusCode::OK, text(&Qrcode::from(&code))),
        Form::Image => with_type(HeaderValue::from_static(code.kind), code.image),
        Form::Text => {
            let drawn = accounts.drawn(code).await.ok_or_else(Problem::no_text)?;
            with_type(HeaderValue::from_static("text/plain; charset=utf-8"), drawn.into_bytes())
        }
    };
    let headers = response.headers_mut();
    // It lets people in, and is another one soon.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn with_type(kind: HeaderValue, content: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(body::whole_body(content));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

impl From<&LoginCode> for Qrcode {
    fn from(code: &LoginCode) -> Self {
        Self {
            since: code.since,
            expires: code.since.saturating_add(code.lifetime.as_secs()),
            image: format!("data:{};base64,{}", code.kind, STANDARD.encode(&code.image)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_the_one_that_is_preferred() {
        let form = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            Form::of(&headers)
        };
        for (accept, expected) in [
            ("*/*", Form::Image),
            ("image/avif,image/webp,*/*;q=0.8", Form::Image),
            ("text/plain", Form::Text),
            ("application/json, text/plain", Form::Json),
            ("application/json;q=0.1, text/plain;q=0.9", Form::Text),
            ("text/html", Form::Image),
            ("text/plain;q=0", Form::Image),
            ("text/plain;q=x", Form::Image),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Image);
    }
}
