//! Bodies and the few shapes of answers that everything here gives.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};

/// An error in the middle of a body. What it says is for the log: the peer only sees the body break off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every answer: whole, empty or streamed.
pub type Body = BoxBody<Bytes, BodyError>;

/// `Content-Type` of every JSON answer.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// No content.
pub fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Content that is there as a whole.
pub fn whole_body(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

/// An answer without content.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(no_body());
    *response.status_mut() = status;
    response
}

/// An answer with JSON text.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
