//! The API of the client, `/openqq/…`: routes calls, and applies the rules that they share.

mod call;
mod check_event;
mod compose;
mod reply;

// Each a family of calls.
mod deeds;
mod messages;
mod moderation;
mod people;
mod process;

// Calls to `poll_api`, for programs that cannot connect to this machine.
pub(super) mod polling;

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL,
    CONTENT_TYPE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::applications::{Applications, http_action};
use super::backend::action::Answer;
use super::backend::event::AccountEvent;
use super::backend::{Backend, Page};
use super::outbox::Outbox;
use super::reports::{RecentEvents, Reporter};
use crate::http::auth::Sites;
use crate::http::body::{Body, empty};
use crate::http::request::paths;
use crate::model::login::{LoginAnswer, LoginEvent, Said};
use crate::model::state::ClientState;
use crate::wire::calls::{self, CLIENT_CALLS, ClientCall, LOGIN_CHANGE};
use crate::wire::onebot;
use call::RequestParams;
pub(super) use process::ProcessInfo;
use reply::ApiReply;
pub(super) use reply::BAD_REQUEST;

/// The API. It owns no state: it reads from the backend, hands messages to the outbox, and requests the stop.
pub(crate) struct Api<B> {
    own: ProcessInfo,
    backend: Arc<B>,
    outbox: Outbox,
    recent: RecentEvents,
    reporter: Reporter,
    state: watch::Receiver<ClientState>,
    stop_asked: CancellationToken,
    relogin_asked: Arc<Notify>,
    applications: Arc<Applications<B>>,
}

/// Whether a call answers in every state.
fn works_always(call: ClientCall) -> bool {
    matches!(call, ClientCall::GetClientInfo | ClientCall::StopClient | ClientCall::Relogin)
}

/// Whether a call sends a message.
fn sends(call: ClientCall) -> bool {
    use ClientCall::{SendDiscussMessage, SendFriendMessage, SendGroupMessage, SendSessMessage};
    matches!(call, SendFriendMessage | SendGroupMessage | SendDiscussMessage | SendSessMessage)
}

/// What a call says of its answer, and not to an action.
const FORMAT: [&str; 3] = ["callback", "datatype", "_"];

impl<B: Backend> Api<B> {
    /// The API over `backend`. Messages go to `outbox`, what the controller reports to the second of `reports`, and what applications
    /// send to `applications`; `stop_asked` is cancelled to stop the client, `relogin_asked` is notified to log in again.
    pub(crate) fn new(
        own: ProcessInfo,
        backend: Arc<B>,
        outbox: Outbox,
        (recent, reporter): (RecentEvents, Reporter),
        state: watch::Receiver<ClientState>,
        (stop_asked, relogin_asked): (CancellationToken, Arc<Notify>),
        applications: Arc<Applications<B>>,
    ) -> Self {
        Self { own, backend, outbox, recent, reporter, state, stop_asked, relogin_asked, applications }
    }

    /// Answers any request.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        // Before any decision by path: each of them has to see the same spelling.
        paths::normalize(request.uri_mut());
        // Copied, since the request is consumed. Without the query, which may have the text of a message.
        let debugged =
            self.own.http_debug.then(|| (request.method().clone(), request.uri().path().to_owned()));
        // Browsers on this machine reach the port, too: no web page may write in the name of the account.
        let mut response = match Sites::default().check_direct(request.uri(), request.headers()) {
            Ok(()) => self.dispatch(request).await,
            Err(refusal) => reply::not_let_in(&refusal),
        };
        if let Some((method, path)) = debugged {
            info!("{method} {path:?}: {}", response.status().as_u16());
        }
        // As the original does. It opens nothing, because a page of another site was refused above.
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() == Method::OPTIONS {
            return preflight();
        }
        if onebot::is_own(request.uri().path()) {
            return self.applications.answer(request).await;
        }
        if self.backend.serves(request.uri().path()) {
            return self.backend.serve(request).await;
        }
        if let Some(page) = self.backend.page(request.method(), request.uri().path()) {
            return show(page);
        }
        if request.method() == Method::POST && request.uri().path() == LOGIN_CHANGE {
            return self.login_changed(request).await;
        }
        let Some(endpoint) = calls::find(&CLIENT_CALLS, request.method(), request.uri().path()) else {
            return reply::no_such_api();
        };
        let is_head = request.method() == Method::HEAD;
        if endpoint == ClientCall::Onebot {
            return self.any_action(request).await;
        }
        let call = if sends(endpoint) {
            RequestParams::read_message(request).await
        } else {
            RequestParams::read(request).await
        };
        let call = match call {
            Ok(call) => call,
            Err(error) => return error.answer(),
        };
        // Looked at after the body came, which may take long. A copy: the guard of a watch would block its sender during the
        // call.
        let state = self.state.borrow().clone();
        let reply = if state == ClientState::Running || works_always(endpoint) {
            match endpoint {
                // The answer has no body, so the events would be lost.
                ClientCall::CheckEvent if is_head => check_event::nothing(),
                _ => self.serve(endpoint, &call).await,
            }
        } else {
            ApiReply::not_running(&state)
        };
        call.wrap(reply)
    }

    /// `onebot`: carries out any action of OneBot v11, as applications have it done.
    async fn any_action(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let call = match RequestParams::of_query(parts.uri.query().unwrap_or_default()) {
            Ok(call) => call,
            Err(error) => return error.answer(),
        };
        let mut all = match http_action::parameters(&parts, body).await {
            Ok(all) => all,
            Err((status, Answer::Failed { why, .. })) => {
                return call.wrap(ApiReply::error(status, BAD_REQUEST, why));
            }
            Err((_, other)) => return call.wrap(ApiReply::of_action(&other)),
        };
        for name in FORMAT {
            all.remove(name);
        }
        let (name, params) = match deeds::any_action(all) {
            Ok(action) => action,
            Err(reply) => return call.wrap(reply),
        };
        let state = self.state.borrow().clone();
        if state != ClientState::Running {
            return call.wrap(ApiReply::not_running(&state));
        }
        call.wrap(ApiReply::of_action(&self.applications.act_for_api(&name, params).await))
    }

    /// Posts what the controller found out about the login. Any program of this machine that reaches the port can say so, as it
    /// can write messages; only known words are taken.
    async fn login_changed(&self, request: Request<Incoming>) -> Response<Body> {
        let call = match RequestParams::read(request).await {
            Ok(call) => call,
            Err(error) => return error.answer(),
        };
        let word = call.get("event").unwrap_or_default();
        let Some(event) = LoginEvent::ALL.into_iter().find(|event| event.as_str() == word) else {
            let why = "event is no change of a login";
            return ApiReply::error(StatusCode::BAD_REQUEST, BAD_REQUEST, why).into_response();
        };
        let reason = call.get("reason").filter(|reason| !reason.is_empty());
        let reason =
            reason.map(|reason| LoginAnswer::of(Said::Unknown).because(reason)).and_then(|told| told.reason);
        self.reporter.event(&AccountEvent::LoginChange(event, reason.as_deref().map(str::to_owned)));
        ApiReply::success().into_response()
    }

    async fn serve(&self, endpoint: ClientCall, call: &RequestParams) -> ApiReply {
        let (backend, outbox) = (&*self.backend, &self.outbox);
        let reply = match endpoint {
            ClientCall::GetUserInfo => people::user(backend).await,
            ClientCall::GetFriendInfo => people::friends(backend).await,
            ClientCall::GetGroupInfo => people::groups(self.backend.clone()).await,
            ClientCall::GetGroupBasicInfo => people::basic_groups(backend).await,
            ClientCall::GetDiscussInfo => people::discusses(backend).await,
            ClientCall::SearchFriend => people::search_friend(backend, call).await,
            ClientCall::SearchGroup => people::search_group(backend, call).await,
            ClientCall::SendFriendMessage => messages::to_friend(backend, outbox, call).await,
            ClientCall::SendGroupMessage => messages::to_group(backend, outbox, call).await,
            ClientCall::SendDiscussMessage => messages::to_discuss(backend, outbox, call).await,
            ClientCall::SendSessMessage => messages::to_member(backend, outbox, call).await,
            ClientCall::ShutupGroupMember => moderation::mute(backend, call).await,
            ClientCall::KickGroupMember => moderation::kick(backend, call).await,
            ClientCall::UnmuteGroupMember => moderation::unmute(backend, call).await,
            ClientCall::RecallMessage => deeds::recall(backend, call).await,
            ClientCall::SetCard => deeds::set_card(backend, call).await,
            ClientCall::LeaveGroup => deeds::leave(backend, call).await,
            ClientCall::WholeMute => deeds::whole_mute(backend, call).await,
            ClientCall::ApproveRequest => deeds::approve(backend, call).await,
            // `dispatch` takes it: its parameters are of any type.
            ClientCall::Onebot => Ok(ApiReply::object_not_found()),
            ClientCall::GetClientInfo => Ok(self.own.client_info()),
            ClientCall::StopClient => {
                // The stop itself follows after STOP_DELAY, so this answer still arrives.
                self.stop_asked.cancel();
                Ok(self.own.will_stop())
            }
            ClientCall::Relogin => {
                if process::forgets_account(call) {
                    self.backend.forget();
                }
                // Not done here: several calls in a row are merged into one login, which begins after the answer.
                self.relogin_asked.notify_one();
                Ok(self.own.will_relogin())
            }
            ClientCall::CheckEvent => Ok(check_event::wait(&self.recent, self.state.clone()).await),
        };
        reply.unwrap_or_else(|error| ApiReply::failure(&error))
    }
}

fn show(page: Page) -> Response<Body> {
    let status = if page.found { StatusCode::OK } else { StatusCode::GONE };
    let mut response = reply::text(status, page.html);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    // The page belongs to one code, which expires.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn preflight() -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("OPTIONS, HEAD, GET, POST");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = "X-Requested-With, X-Auth-Token, Content-Type, Content-Length, Authorization";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    response
}
