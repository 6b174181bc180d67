//! The API below `/v1`.
//!
//! - [`V1`]: from a request to its response
//! - `actions`: what is done with accounts
//! - `forget`: an account leaves the list, with what it kept on disk if that is asked for
//! - `accounts`: the list of accounts, and one of them
//! - `qrcode`: the login code of an account
//! - `log`: what an account and the controller said of it
//! - `events`: what changes, as it changes
//! - `explain`: why an account is as it is
//! - `moves`: an account goes to another machine; `kept`: what that is asked for then
//! - `machine`: how this machine is, for a door
//! - `scan`: links that show a login code elsewhere; `scan_elsewhere`: for an account of another machine
//! - `session`: signing in on the page
//! - `sandbox`: what is said of the paths that clients answer
//! - `specification`: OpenAPI, generated from the handlers and their types; `refusals`: what it says of refusals

mod accounts;
mod actions;
mod events;
mod explain;
mod forget;
mod kept;
mod log;
mod machine;
mod moves;
mod qrcode;
mod refusals;
mod sandbox;
mod scan;
mod scan_elsewhere;
mod session;
mod specification;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::accounts::{Accounts, Changes};
use crate::config::Settings;
use crate::http::auth::Guard;
use crate::http::body::{self, Body};
use crate::http::etag;
use crate::http::server::Downstream;
use crate::machines::Machines;
use crate::moves::Moves;
use crate::service::log::ReadableLog;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::routes::{self, Action, Route};
pub use events::Ends;

/// For each refusal because there is no token.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"wqcontroller\"");

/// What kind of JSON a problem is.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// How many streams there may be: each is a connection that stays.
const STREAMS: usize = 256;

/// What the API below `/v1` is made of.
#[derive(Debug)]
pub struct V1 {
    accounts: Accounts,
    machines: Machines,
    moves: Moves,
    settings: watch::Receiver<Arc<Settings>>,
    changes: Changes,
    log: ReadableLog,
    /// Who is let in. A stream ends when that changes.
    guard: watch::Receiver<Arc<Guard>>,
    /// The controller ends, and streams with it.
    ending: CancellationToken,
    streams: Arc<Semaphore>,
}

impl V1 {
    /// Joins its parts. `ending` is cancelled when the controller begins to end.
    pub fn new(
        (accounts, changes, log): (Accounts, Changes, ReadableLog),
        (machines, moves): (Machines, Moves),
        settings: watch::Receiver<Arc<Settings>>,
        guard: watch::Receiver<Arc<Guard>>,
        ending: CancellationToken,
    ) -> Self {
        Self {
            accounts,
            machines,
            moves,
            settings,
            changes,
            log,
            guard,
            ending,
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// Answers a request that was let in.
    pub async fn answer(
        self: Arc<Self>,
        request: Parts,
        body: Incoming,
        downstream: Arc<Downstream>,
    ) -> Response<Body> {
        let answered = match routes::find(&request.method, request.uri.path()) {
            Ok(route) => {
                let settings = self.settings.borrow().clone();
                let body = Some(body).filter(|body| !body.is_end_stream());
                Call { v1: self, settings, request, body, downstream }.answer(route).await
            }
            Err(problem) => Err(problem),
        };
        answered.unwrap_or_else(|problem| response_of(&problem))
    }

    /// What ends the answer to `request`, which was let in, if that goes on.
    pub fn ends(&self, request: &Parts) -> Ends {
        Ends::new(self, request)
    }

    /// Takes one of the places for streams.
    fn take_stream(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.streams.clone().try_acquire_owned();
        place.map_err(|_| Problem::busy(format!("there are {STREAMS} streams already")))
    }
}

/// A request that is being answered.
struct Call {
    v1: Arc<V1>,
    settings: Arc<Settings>,
    request: Parts,
    /// None where there is none, or it was read.
    body: Option<Incoming>,
    downstream: Arc<Downstream>,
}

impl Call {
    async fn answer(self, route: Route) -> Result<Response<Body>, Problem> {
        let (settings, request) = (&self.settings, &self.request);
        match route {
            Route::Accounts => accounts::list(&self.v1, settings, request),
            Route::Account(name) => accounts::one(&self.v1, settings, request, &name).await,
            Route::Events => events::follow(&self.v1, request),
            Route::Machine => Ok(machine::about(&self.v1, settings, request)),
            Route::ScanLink(name) => scan::link(&self, &name),
            Route::Explain(name) => explain::explanation(&self, &name),
            Route::Session => Ok(session::show(&self)),
            Route::SignIn => session::sign_in(self).await,
            Route::SignOut => Ok(session::sign_out(&self)),
            Route::Specification => Ok(unless_known(request, specification::text_of_all())),
            Route::Put(name) => actions::put(self, name).await,
            Route::Delete(name) => forget::delete(self, name).await,
            Route::Qrcode(name) => qrcode::qrcode(self, name).await,
            Route::Log(name) => log::log(self, name).await,
            Route::Move(name) => moves::move_account(self, name).await,
            Route::Parameters(name) => kept::parameters(&self, &name),
            Route::Keeps(name) => kept::keeps(&self, &name).await,
            Route::TakeOut(name, of) => kept::take_out(&self, &name, &of).await,
            Route::PutIn(name, of) => kept::put_in(self, &name, &of).await,
            Route::Act(name, Action::Start) => actions::start(self, name).await,
            Route::Act(name, Action::Stop) => actions::stop(self, name).await,
            Route::Act(name, Action::Restart) => actions::restart(self, name).await,
            Route::Act(name, Action::Relogin) => actions::relogin(self, name).await,
        }
    }
}

/// A problem as a response.
pub fn response_of(problem: &Problem) -> Response<Body> {
    // Every status is a constant in `wire`, so the fallback is never used.
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = body::json(status, text(problem));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM);
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(allow) = problem.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// JSON of our own types, which can't fail: no map of theirs has keys other than text.
fn text(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// The answer with this JSON, or 304 for a caller that has it already.
fn unless_known(request: &Parts, text: Bytes) -> Response<Body> {
    unless_tagged(request, &etag::of(&text), text)
}

/// The same where the tag is not that of the text.
fn unless_tagged(request: &Parts, tag: &HeaderValue, text: Bytes) -> Response<Body> {
    let mut response = match etag::is_known(&request.headers, tag) {
        true => body::empty(StatusCode::NOT_MODIFIED),
        false => body::json(StatusCode::OK, text),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
