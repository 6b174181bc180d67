//! HTTP: the accept loop shared by controller and client, parameters, and the controller's own door.

pub mod answer;
pub mod control;
mod framing;
pub mod params;
pub mod proxy;
pub mod serve;

use std::path::Path;
use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::config::Settings;
use crate::model::reply::Reply;
use crate::registry::Registry;
use answer::Body;
use serve::Peer;

/// What every path of the API begins with.
const ROOT: &str = "/openqq/";

/// `Connection: close`.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The one door to all clients.
#[derive(Clone, Debug)]
pub struct Door {
    /// Knows the clients.
    pub registry: Registry,
    /// The settings of now.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where clients keep their files unless told otherwise.
    pub tmpdir: Arc<Path>,
    /// What the proxy knows of clients.
    pub upstreams: proxy::Upstreams,
}

impl Door {
    /// Answers one request. Only GET and HEAD on the four paths are for the controller; all else below `/openqq/` is
    /// for the client that it names.
    pub async fn answer(self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        if let Err(reply) = framing::check(&request) {
            let mut refusal = reply_response(&reply);
            refusal.headers_mut().insert(CONNECTION, CLOSE);
            return refusal;
        }
        let own = matches!(*request.method(), Method::GET | Method::HEAD);
        let answered = match request.uri().path().strip_prefix(ROOT) {
            Some("start_client") if own => control::start_client(&self, &request).await,
            Some("stop_client") if own => control::stop_client(&self, &request).await,
            Some("check_client") if own => control::check_client(&self, &request),
            Some("get_qrcode") if own => control::get_qrcode(&self, &request).await,
            Some(path) if !path.is_empty() => proxy::forward(&self, request, peer).await,
            _ => Err(Reply::no_such_path()),
        };
        answered.unwrap_or_else(|reply| reply_response(&reply))
    }
}

/// A [`Reply`] as an answer.
fn reply_response(reply: &Reply) -> Response<Body> {
    // Every status of a reply is a constant of model/reply.rs, so this is never the fallback.
    let status = StatusCode::from_u16(reply.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::Value::from(reply.body.clone()).to_string();
    let mut response = answer::json(status, text);
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}
