//! Signing in on the page: a token is shown once, and a cookie stands for it from then on.

use http::header::{CACHE_CONTROL, HeaderValue, ORIGIN, SET_COOKIE};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::refusals::{Reading, WithBody};
use super::{Call, text};
use crate::config::Access;
use crate::http::auth::{Admission, SignInError};
use crate::http::body::{self, Body};
use crate::wire::v1::problem::Problem;

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// `full`, or `read-only`.
    #[schema(example = "full")]
    access: &'static str,
    /// Whether it signed in, so that it can sign out.
    login: bool,
}

/// A sign-in.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// A token of the configuration.
    token: String,
}

/// Tells who the caller is.
///
/// With that, the page knows whether to ask for a token, and which buttons to show.
#[utoipa::path(
    get,
    path = "/v1/session",
    responses(
        (status = 200, description = "What the caller may do", body = Session),
        Reading,
    )
)]
pub(super) fn show(call: &Call) -> Response<Body> {
    let admission = call.request.extensions.get::<Admission>();
    let access = match admission.map(|admission| admission.access) {
        Some(Access::ReadWrite) => "full",
        // Also where it is not known, so that no button is shown that does nothing.
        Some(Access::ReadOnly) | None => "read-only",
    };
    let login = admission.is_some_and(|admission| admission.by_session);
    private(body::json(StatusCode::OK, text(&Session { access, login })))
}

/// Signs in with a token.
///
/// The answer has a cookie, which opens the API below `/v1` for twelve hours, as long as the token is in the configuration.
#[utoipa::path(
    post,
    path = "/v1/session",
    request_body = SignIn,
    responses(
        (status = 204, description = "The cookie is set"),
        (status = 401, description = "The token is not known", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Just now this can't be done", body = Problem, content_type = "application/problem+json"),
        WithBody,
    )
)]
pub(super) async fn sign_in(call: Call) -> Result<Response<Body>, Problem> {
    let (call, SignIn { token }) = call.json::<SignIn>().await?;
    // By what the browser says of its page: a proxy in between may speak TLS for us.
    let origin = call.request.headers.get(ORIGIN);
    let over_tls = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let cookie = call.v1.guard.borrow().sign_in(&token, over_tls).map_err(|error| match error {
        SignInError::UnknownToken => Problem::token_wrong(),
        SignInError::NoRandom => Problem::busy("the kernel gives no random bytes"),
    })?;
    Ok(with_cookie(&cookie))
}

/// Signs out.
#[utoipa::path(delete, path = "/v1/session", responses((status = 204, description = "The cookie is removed")))]
pub(super) fn sign_out(call: &Call) -> Response<Body> {
    let sessions = call.v1.guard.borrow().sessions();
    with_cookie(&sessions.close(&call.request.headers))
}

fn with_cookie(cookie: &str) -> Response<Body> {
    let mut response = private(body::empty(StatusCode::NO_CONTENT));
    // Visible ASCII only, so it is a header's value.
    response.headers_mut().extend(HeaderValue::from_str(cookie).map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// No cache keeps it.
fn private(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
