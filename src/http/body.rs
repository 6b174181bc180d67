//! The body of every response, and the few shapes of responses.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

/// An error in the middle of a body. Its text is for the log: the peer only sees the body break off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response.
pub enum Body {
    /// All of it, until it is taken. Most responses are small and need nothing more, not even an allocation.
    Whole(Option<Bytes>),
    /// A stream.
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// A body that is streamed.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Stream(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(content) => content.is_none(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Self::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(content) => f.debug_tuple("Whole").field(&content.as_ref().map(Bytes::len)).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// `Connection: close`.
pub(super) const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// `Content-Type` of every JSON response.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An empty body.
pub fn no_body() -> Body {
    Body::Whole(None)
}

/// A body that is complete.
pub fn whole_body(content: impl Into<Bytes>) -> Body {
    let content = content.into();
    // An empty piece would not count as the end, and hyper would ask for a body that has nothing.
    Body::Whole(Some(content).filter(|content| !content.is_empty()))
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(no_body());
    *response.status_mut() = status;
    response
}

/// A response with JSON text.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
