//! The service of the controller: who is let in, which calls it answers itself, and which go to a client.
//!
//! - [`ApiService`]: a request from its arrival to its response
//! - `handlers`: `start_client`, `stop_client`, `relogin_client` and `check_client`
//! - `qrcode`: `get_qrcode`
//! - `elsewhere`: the same where an account lives on another machine
//! - `responses`: refusals and replies as responses; `uris`: other URIs for requests
//! - `sandbox`: what of a client's sandbox the page reaches below `/v1`

mod elsewhere;
mod handlers;
mod qrcode;
mod responses;
mod sandbox;
mod uris;

use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::http::auth::{Guard, Lease, ListenerKind, RejectionLog, answer_preflight, is_preflight};
use crate::http::body::{self, Body, CLOSE};
use crate::http::metrics::Scraping;
use crate::http::page;
use crate::http::proxy::{Prepared, Proxy, Upgrade};
use crate::http::request::{framing, paths};
use crate::http::server::{Downstream, Peer};
use crate::http::v1::{self, Ends, V1};
use crate::wire::Reply;
use crate::wire::calls::{self, CONTROLLER_CALLS, ControllerCall, ROOT};
use crate::wire::door::DOOR;
use crate::wire::onebot;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::routes::{self, Health};
use elsewhere::PassedOn;
use handlers::CallContext;
pub use responses::unavailable;
use responses::{finish, not_let_in, refusal_of, response_of};
use uris::{name_in_query, set_path};

/// Which API a request is for, which decides how refusals look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Openqq,
    V1,
    OneBot,
}

impl Api {
    fn of(path: &str) -> Self {
        match path {
            path if routes::is_own(path) => Self::V1,
            path if onebot::is_own(path) => Self::OneBot,
            _ => Self::Openqq,
        }
    }
}

/// Where a request goes.
enum Dispatch {
    /// To a handler of the controller.
    Own(Pin<Box<dyn Future<Output = Result<Response<Body>, Reply>> + Send>>),
    /// It is answered already.
    Answered(Box<Response<Body>>),
    /// To a client. Most requests do.
    ToClient(Prepared),
    /// To the sandbox of a client or to another machine, whose answers a browser takes for the page's own. With what ends their streams.
    Contained(Prepared, Box<Ends>),
}

/// When it is known where a request goes.
enum Routed {
    Now(Result<Dispatch, Reply>),
    /// Once a machine has answered for the first time, or has not.
    Later(Pin<Box<dyn Future<Output = Result<Dispatch, Reply>> + Send>>),
}

/// The HTTP service of the controller.
#[derive(Clone, Debug)]
pub struct ApiService {
    /// Starts and stops accounts.
    pub accounts: Accounts,
    /// The API below `/v1`.
    pub v1: Arc<V1>,
    /// Passes requests on to clients.
    pub proxy: Proxy,
    /// Decides who is let in.
    pub guard: watch::Receiver<Arc<Guard>>,
    /// For each listener that is a Unix socket, whether a token is needed.
    pub require_token: Arc<[bool]>,
    /// Logs who is not let in.
    pub rejections: RejectionLog,
    /// Answers `/metrics`.
    pub scraping: Scraping,
}

impl ApiService {
    /// Answers a request. Pages of allowed sites may also read refusals.
    ///
    /// Everything that does not wait is done before the future is created, which keeps the future small. There
    /// is one for each request.
    pub fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        downstream: Arc<Downstream>,
    ) -> impl Future<Output = Response<Body>> + Send {
        // First of all: tokens, routes and clients have to see the same path.
        paths::normalize(request.uri_mut());
        name_in_query(request.uri_mut());
        let api = Api::of(request.uri().path());
        let admitted = self.admit(&mut request, downstream.peer, api);
        let upgrade = Upgrade::take(&mut request, &self.guard);
        let (parts, body) = request.into_parts();
        // For a refused request, too: what was not read of its body must not be taken for the next request.
        if !body.is_end_stream() {
            downstream.request_body_started();
        }
        let routed =
            admitted.map(|origin| (origin, self.route_when_known(parts, body, upgrade, &downstream)));
        async move {
            let (origin, dispatch) = match routed {
                Ok((origin, Routed::Now(dispatch))) => (origin, dispatch),
                Ok((origin, Routed::Later(routing))) => (origin, routing.await),
                Err(refusal) => return *refusal,
            };
            let (prepared, ends) = match dispatch {
                Ok(Dispatch::ToClient(prepared)) => (Ok(prepared), None),
                Ok(Dispatch::Contained(prepared, ends)) => (Ok(prepared), Some(ends)),
                Ok(Dispatch::Own(answering)) => return finish(origin, answering.await, api),
                Ok(Dispatch::Answered(response)) => return finish(origin, Ok(*response), api),
                Err(reply) => (Err(reply), None),
            };
            let proxied = match prepared {
                Ok(Prepared::Ready(proxied)) => Ok(proxied),
                Ok(Prepared::ReadsForm(reading)) => reading.await,
                Err(reply) => Err(reply),
            };
            let answered = match proxied {
                Ok(proxied) => self.proxy.forward(proxied, &downstream).await,
                Err(reply) => Err(reply),
            };
            let answered = match ends {
                Some(ends) => answered.map(|response| sandbox::contained(response, ends)),
                None => answered,
            };
            finish(origin, answered, api)
        }
    }

    /// Lets a request in, with the allowed web site it comes from, if any; else returns the response.
    fn admit(
        &self,
        request: &mut Request<Incoming>,
        peer: Peer,
        api: Api,
    ) -> Result<Option<HeaderValue>, Box<Response<Body>>> {
        if let Err(reply) = framing::check(request) {
            let mut refusal = refusal_of(&reply, api);
            refusal.headers_mut().insert(CONNECTION, CLOSE);
            return Err(Box::new(refusal));
        }
        // Its answer has no content, so it is nothing to a page that was led here by a name of its own.
        if routes::health(request.method(), request.uri().path()).is_some() {
            return Ok(None);
        }
        // Holds a lock that a reload waits for, and is released before anything is awaited.
        let guard = self.guard.borrow();
        let path = request.uri().path();
        if (page::is_own(path) || path.starts_with(routes::SCAN)) && guard.has_page() {
            return guard.admit_to_page(request, self.listener_kind(peer)).map(|()| None).map_err(
                |refusal| {
                    self.rejections.log(peer, &refusal);
                    Box::new(response_of(&refusal.reply()))
                },
            );
        }
        let origin = guard.sites().allowed_origin(request.headers());
        let by_door = request.headers().contains_key(DOOR);
        if api == Api::OneBot {
            // What only we may say.
            request.headers_mut().remove(onebot::DOOR);
        }
        if api == Api::OneBot && !(origin.is_some() && is_preflight(request)) {
            return match guard.admit_application(request, self.listener_kind(peer)) {
                Ok((vouch, lease)) => {
                    keep_for_tunnel(request, lease);
                    if let Some(vouch) = vouch {
                        let word = HeaderValue::from_static(vouch.as_str());
                        request.headers_mut().insert(onebot::DOOR, word);
                    }
                    Ok(origin)
                }
                Err(refusal) => {
                    self.rejections.log(peer, &refusal);
                    Err(Box::new(not_let_in(&refusal, by_door, origin, api)))
                }
            };
        }
        let answer = match guard.admit(request, self.listener_kind(peer)) {
            // Browsers send no token with a preflight.
            _ if origin.is_some() && is_preflight(request) => Ok(answer_preflight()),
            Ok(admission) => {
                if api == Api::V1 {
                    request.extensions_mut().insert(admission);
                }
                keep_for_tunnel(request, admission.lease);
                return Ok(origin);
            }
            Err(refusal) => {
                self.rejections.log(peer, &refusal);
                return Err(Box::new(not_let_in(&refusal, by_door, origin, api)));
            }
        };
        Err(Box::new(finish(origin, answer, api)))
    }

    fn listener_kind(&self, peer: Peer) -> ListenerKind {
        match peer {
            Peer::Tcp { .. } => ListenerKind::Tcp,
            // A socket that is not in the list needs a token.
            Peer::Unix { listener } => {
                ListenerKind::Unix { require_token: self.require_token.get(listener) != Some(&false) }
            }
        }
    }

    /// How the controller is. It is not ready while no start and no stop can be written to disk.
    fn health(&self, asked: Health) -> Response<Body> {
        let is_stuck = asked == Health::IsReady && self.accounts.clients.snapshot().write_error().is_some();
        body::empty(if is_stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK })
    }

    /// Routes a request once it is known whether the machine of its account can be reached.
    fn route_when_known(
        self: &Arc<Self>,
        request: Parts,
        body: Incoming,
        upgrade: Option<Upgrade>,
        downstream: &Arc<Downstream>,
    ) -> Routed {
        let Some(first_answer) = self.first_answer(&request) else {
            return Routed::Now(self.route(request, body, upgrade, downstream));
        };
        let (service, downstream) = (self.clone(), downstream.clone());
        Routed::Later(Box::pin(async move {
            first_answer.await;
            service.route(request, body, upgrade, &downstream)
        }))
    }

    /// The table of calls lists the controller's own; every other path goes to the client that the request
    /// names.
    fn route(
        self: &Arc<Self>,
        request: Parts,
        body: Incoming,
        upgrade: Option<Upgrade>,
        downstream: &Arc<Downstream>,
    ) -> Result<Dispatch, Reply> {
        let path = request.uri.path();
        if let Some(health) = routes::health(&request.method, path) {
            return Ok(Dispatch::Answered(Box::new(self.health(health))));
        }
        if page::is_own(path) && self.guard.borrow().has_page() {
            let file = page::answer(&request.method, path, &request.headers);
            return Ok(Dispatch::Answered(Box::new(file)));
        }
        if routes::asks_for_metrics(&request.method, path) {
            return Ok(Dispatch::Own(Box::pin(self.scraping.clone().answer(request.headers))));
        }
        if let Some(token) = path.strip_prefix(routes::SCAN)
            && self.guard.borrow().has_page()
        {
            let answering = self.v1.clone().scan(token.to_owned(), request);
            return Ok(Dispatch::Own(Box::pin(async move { Ok(answering.await) })));
        }
        let mut request = request;
        match self.elsewhere(&request) {
            Ok(None) => {}
            Ok(Some(PassedOn::Here(path))) => set_path(&mut request.uri, &path),
            Ok(Some(PassedOn::Known(text))) => {
                return Ok(Dispatch::Answered(Box::new(body::json(StatusCode::OK, text))));
            }
            Ok(Some(PassedOn::On { machine, target, name, path, reserved })) => {
                set_path(&mut request.uri, &path);
                let to = (machine, target, name, reserved);
                let prepared = self.proxy.prepare_for(to, &request, body, downstream)?;
                return Ok(Dispatch::Contained(prepared, Box::new(self.v1.ends(&request))));
            }
            Ok(Some(PassedOn::Link { machine, target, name })) => {
                let making = self.v1.clone().link_elsewhere(request, (machine, target, name));
                return Ok(Dispatch::Own(Box::pin(async move { Ok(making.await) })));
            }
            Ok(Some(PassedOn::New(reserved))) => {
                let answering = self.v1.clone().answer(request, body, downstream.clone());
                return Ok(Dispatch::Own(Box::pin(async move {
                    let answer = answering.await;
                    drop(reserved);
                    Ok(answer)
                })));
            }
            Err(refusal) => {
                return Ok(Dispatch::Answered(Box::new(v1::response_of(&Problem::from(&refusal)))));
            }
        }
        if let Some(to_client) = sandbox::to_client(&request) {
            if let Err(problem) = routes::check_sandbox(&request.method, to_client.uri.path()) {
                return Ok(Dispatch::Answered(Box::new(v1::response_of(&problem))));
            }
            let prepared = self.proxy.prepare(to_client, body, None, downstream)?;
            return Ok(Dispatch::Contained(prepared, Box::new(self.v1.ends(&request))));
        }
        if routes::is_own(request.uri.path()) {
            let answering = self.v1.clone().answer(request, body, downstream.clone());
            return Ok(Dispatch::Own(Box::pin(async move { Ok(answering.await) })));
        }
        let Some(call) = calls::find(&CONTROLLER_CALLS, &request.method, request.uri.path()) else {
            // The root alone names no call.
            let is_of_client = request.uri.path().len() > ROOT.len() && request.uri.path().starts_with(ROOT);
            if !is_of_client && !onebot::is_own(request.uri.path()) {
                return Err(Reply::no_such_path());
            }
            return self.proxy.prepare(request, body, upgrade, downstream).map(Dispatch::ToClient);
        };
        let arguments = CallContext { service: self.clone(), request, body, downstream: downstream.clone() };
        Ok(Dispatch::Own(match call {
            ControllerCall::StartClient => Box::pin(handlers::start_client(arguments)),
            ControllerCall::StopClient => Box::pin(handlers::stop_client(arguments)),
            ControllerCall::CheckClient => Box::pin(handlers::check_client(arguments)),
            ControllerCall::GetQrcode => Box::pin(qrcode::get_qrcode(arguments)),
            ControllerCall::ReloginClient => Box::pin(handlers::relogin_client(arguments)),
        }))
    }
}

/// Keeps by what a request is let in, if it may become a tunnel, which goes on.
fn keep_for_tunnel<B>(request: &mut Request<B>, lease: Lease) {
    if request.headers().contains_key(UPGRADE) {
        request.extensions_mut().insert(lease);
    }
}
