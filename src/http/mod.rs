//! HTTP: what controller and client serve with, and the controller's own door.
//!
//! Shared by both:
//!
//! - `listener`, `serve`, `caller`: connections in, with their limits, and a drain at the end. Around each connection: `clocked` (is
//!   somebody there who takes what he asked for), `lengths` (was a length said twice), `interim` (announcements of an answer),
//!   `alarm` (timers), `ending` (is it time to end)
//! - `answer`, `params`: bodies out, parameters in
//!
//! The door:
//!
//! - `framing`, `auth`: what is no sound request, and who is not let in
//! - `control`: the controller's own four calls
//! - `proxy`: all others, which go to clients
//! - `sparing`: what is logged of troubles that come by the thousand

mod alarm;
pub mod answer;
pub mod auth;
pub mod caller;
mod clocked;
pub mod control;
mod ending;
pub mod framing;
mod interim;
mod lengths;
pub mod listener;
pub mod params;
pub mod proxy;
pub mod serve;
mod sparing;

use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::config::Settings;
use crate::homes::Homes;
use crate::model::reply::Reply;
use crate::registry::Registry;
use answer::Body;
use auth::{Complaints, Entrance, Guard, answer_preflight, is_preflight, open_to};
use caller::Caller;
use listener::Peer;

/// What every path of the API begins with.
const ROOT: &str = "/openqq/";

/// `Connection: close`.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// How a request comes to its answer.
enum Way {
    /// That is here.
    Done(Response<Body>),
    /// Something has to be waited for.
    Waits(Pin<Box<dyn Future<Output = Result<Response<Body>, Reply>> + Send>>),
    /// A client gives it. Most requests go this way.
    ToClient(Box<proxy::Order>),
}

/// The one door to all clients.
#[derive(Clone, Debug)]
pub struct Door {
    /// Knows the clients.
    pub registry: Registry,
    /// The settings of now.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where clients keep their files unless told otherwise.
    pub homes: Arc<Homes>,
    /// What the proxy knows of clients.
    pub upstreams: proxy::Upstreams,
    /// Decides who is let in.
    pub guard: watch::Receiver<Arc<Guard>>,
    /// Which of the listeners ask for a token where the permissions of a file would do.
    pub require_token: Arc<[bool]>,
    /// Logs who is not let in.
    pub complaints: Complaints,
}

impl Door {
    /// Answers one request, if its caller is let in. What is refused is told to the pages of allowed web sites too.
    ///
    /// All that needs no waiting is done before there is a future, which is so kept small: one is made for every request.
    pub fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        caller: Arc<Caller>,
    ) -> impl Future<Output = Response<Body>> + Send {
        let admitted = self.admit(&mut request, caller.peer);
        let upgrade = proxy::Upgrade::take(&mut request);
        let (parts, body) = request.into_parts();
        if !body.is_end_stream() {
            caller.expect_end();
        }
        let way = admitted.map(|origin| (origin, self.route(parts, body, upgrade, &caller)));
        async move {
            let (origin, way) = match way {
                Ok(way) => way,
                Err(refusal) => return *refusal,
            };
            let answered = match way {
                Ok(Way::ToClient(order)) => proxy::forward(&self, order, &caller).await,
                Ok(Way::Waits(answering)) => answering.await,
                Ok(Way::Done(answer)) => Ok(answer),
                Err(reply) => Err(reply),
            };
            answer_to(origin, answered)
        }
    }

    /// The web site whose page asks, if any; or else the answer.
    fn admit(
        &self,
        request: &mut Request<Incoming>,
        peer: Peer,
    ) -> Result<Option<HeaderValue>, Box<Response<Body>>> {
        if let Err(reply) = framing::check(request) {
            let mut refusal = reply_response(&reply);
            refusal.headers_mut().insert(CONNECTION, CLOSE);
            return Err(Box::new(refusal));
        }
        let guard = self.guard.borrow();
        let origin = guard.sites().allowed_origin(request.headers());
        let answer = match guard.admit(request, self.entrance(peer)) {
            // A browser shows no token when it asks whether it may.
            _ if origin.is_some() && is_preflight(request) => Ok(answer_preflight()),
            Ok(()) => return Ok(origin),
            Err(refusal) => {
                self.complaints.note(peer, &refusal);
                Err(refusal.reply())
            }
        };
        Err(Box::new(answer_to(origin, answer)))
    }

    fn entrance(&self, peer: Peer) -> Entrance {
        match peer {
            Peer::Tcp { local, .. } => Entrance::Tcp { local: local.ip() },
            // One that is not in the list is none that was made open.
            Peer::Unix { listener } => {
                Entrance::Unix { require_token: self.require_token.get(listener) != Some(&false) }
            }
        }
    }

    /// Only GET and HEAD on the four paths are for the controller; all else below `/openqq/` is
    /// for the client that it names.
    fn route(
        self: &Arc<Self>,
        request: Parts,
        body: Incoming,
        upgrade: Option<proxy::Upgrade>,
        caller: &Arc<Caller>,
    ) -> Result<Way, Reply> {
        let own = matches!(request.method, Method::GET | Method::HEAD);
        let path = request.uri.path().strip_prefix(ROOT).unwrap_or_default();
        Ok(match path {
            "" => return Err(Reply::no_such_path()),
            "start_client" if own => Way::Waits(Box::pin(control::start_client(self.clone(), request))),
            "stop_client" if own => Way::Waits(Box::pin(control::stop_client(self.clone(), request))),
            "get_qrcode" if own => Way::Waits(Box::pin(control::get_qrcode(self.clone(), request))),
            "check_client" if own => Way::Done(control::check_client(self, &request)?),
            _ => proxy::order(self, request, body, upgrade, caller)?,
        })
    }
}

/// What all are told while there is no controller behind the door, because it can't start.
pub fn not_started() -> Response<Body> {
    let mut answer = reply_response(&Reply::not_started());
    answer.headers_mut().insert(CONNECTION, CLOSE);
    answer
}

/// What goes back to a caller, whose page of the web site `origin` may see it.
fn answer_to(origin: Option<HeaderValue>, answered: Result<Response<Body>, Reply>) -> Response<Body> {
    let mut response = answered.unwrap_or_else(|reply| reply_response(&reply));
    if let Some(origin) = origin {
        open_to(response.headers_mut(), origin);
    }
    response
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
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"wqcontroller\"");
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
    }
    response
}
