//! The world to try bots in, which a client serves below `/sandbox/`, at `/v1/clients/NAME/sandbox/…`: below `/v1`, because the cookie
//! of the page's session is sent nowhere else.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE, UPGRADE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{Request, Response};
use http_body::Frame;

use super::uris::named_in_query;
use crate::http::body::{Body, BodyError};
use crate::http::v1::Ends;
use crate::wire::v1::routes;

/// What a client answers comes from the page's own address. Opened as a page it must not act as ours does: no scripts, and an origin
/// of its own.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'");

/// The request as a client gets it, if it is for a sandbox. A session or a token opens the controller, and is none of a client's
/// business.
pub(super) fn to_client(request: &Parts) -> Option<Parts> {
    let (name, path) = routes::sandbox(request.uri.path())?;
    let uri = named_in_query(name, path, request.uri.query())?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method.clone();
    parts.uri = uri;
    parts.version = request.version;
    parts.headers = request.headers.clone();
    for kept_here in [COOKIE, AUTHORIZATION, UPGRADE] {
        parts.headers.remove(kept_here);
    }
    Some(parts)
}

/// A client's answer, which a browser must not take for a page of ours. Frames come for as long as their caller is let in.
pub(super) fn contained(mut response: Response<Body>, mut ends: Box<Ends>) -> Response<Body> {
    let goes_on = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if goes_on {
        let ended = Box::pin(async move { ends.wait().await });
        response = response.map(|body| Body::stream(EndingBody { body: Some(body), ended }));
    }
    let headers = response.headers_mut();
    headers.remove(SET_COOKIE);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// A stream of events that ends early. Without a body it has ended, and the connection to the client with it.
struct EndingBody<E> {
    body: Option<Body>,
    ended: Pin<Box<E>>,
}

impl<E: Future<Output = ()>> http_body::Body for EndingBody<E> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, ended } = &mut *self;
        let Some(frames) = body else { return Poll::Ready(None) };
        if ended.as_mut().poll(context).is_ready() {
            *body = None;
            return Poll::Ready(None);
        }
        Pin::new(frames).poll_frame(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_gets_its_own_path_and_no_session() {
        let request = |path: &str| {
            let request =
                Request::get(path).header(COOKIE, "session=hush").header(AUTHORIZATION, "Bearer hush");
            request.header("accept", "text/event-stream").body(()).unwrap().into_parts().0
        };
        let sent = to_client(&request("/v1/clients/a%20+b/sandbox/world?x=1")).unwrap();
        assert_eq!(sent.uri.to_string(), "/sandbox/world?client=a%20%2Bb&x=1");
        assert_eq!(sent.headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["accept"]);
        for path in ["/v1/clients/a", "/sandbox/world?client=a", "/clients/a/sandbox/world"] {
            assert!(to_client(&request(path)).is_none(), "{path}");
        }
    }
}
