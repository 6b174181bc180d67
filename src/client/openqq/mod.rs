//! The API of the client, `/openqq/…`: which call goes where, and the rules that all calls share.

mod call;
mod check_event;
mod reply;

// A family of calls each.
mod messages;
mod moderation;
mod people;
mod process;

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

use super::backend::{Backend, Page};
use super::outbox::Outbox;
use super::reports::Recent;
use crate::http::answer::{Body, empty};
use crate::model::state::ClientState;
use call::Call;
pub(super) use process::Own;
use reply::Reply;

/// The API. It owns nothing: it reads from the backend, asks the outbox to send, and asks for the stop.
pub(super) struct Api<B> {
    own: Own,
    backend: Arc<B>,
    outbox: Outbox,
    recent: Recent,
    state: watch::Receiver<ClientState>,
    stop_asked: CancellationToken,
    relogin_asked: Arc<Notify>,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    UserInfo,
    FriendInfo,
    GroupInfo,
    GroupBasicInfo,
    DiscussInfo,
    SearchFriend,
    SearchGroup,
    SendFriendMessage,
    SendGroupMessage,
    SendDiscussMessage,
    SendSessMessage,
    ShutupGroupMember,
    KickGroupMember,
    ClientInfo,
    StopClient,
    Relogin,
    CheckEvent,
}

impl Endpoint {
    /// The endpoint at `path`, if it takes `method`. HEAD is a GET whose answer the server cuts.
    fn find(method: &Method, path: &str) -> Option<Self> {
        let (endpoint, posted) = match path.strip_prefix("/openqq/")? {
            "get_user_info" => (Self::UserInfo, false),
            "get_friend_info" => (Self::FriendInfo, false),
            "get_group_info" => (Self::GroupInfo, false),
            "get_group_basic_info" => (Self::GroupBasicInfo, false),
            "get_discuss_info" => (Self::DiscussInfo, false),
            "search_friend" => (Self::SearchFriend, true),
            "search_group" => (Self::SearchGroup, true),
            "send_friend_message" => (Self::SendFriendMessage, true),
            "send_group_message" => (Self::SendGroupMessage, true),
            "send_discuss_message" => (Self::SendDiscussMessage, true),
            "send_sess_message" => (Self::SendSessMessage, true),
            "shutup_group_member" => (Self::ShutupGroupMember, true),
            "kick_group_member" => (Self::KickGroupMember, true),
            "get_client_info" => (Self::ClientInfo, true),
            "stop_client" => (Self::StopClient, true),
            "relogin" => (Self::Relogin, false),
            "check_event" => (Self::CheckEvent, true),
            _ => return None,
        };
        match *method {
            Method::GET | Method::HEAD => Some(endpoint),
            Method::POST if posted => Some(endpoint),
            _ => None,
        }
    }

    /// Whether it answers in every state.
    fn works_always(self) -> bool {
        matches!(self, Self::ClientInfo | Self::StopClient)
    }
}

impl<B: Backend> Api<B> {
    /// The API over `backend`. Messages go to `outbox`; `stop_asked` is cancelled when the client shall stop,
    /// `relogin_asked` told when it shall log in anew.
    pub(super) fn new(
        own: Own,
        backend: Arc<B>,
        outbox: Outbox,
        recent: Recent,
        state: watch::Receiver<ClientState>,
        stop_asked: CancellationToken,
        relogin_asked: Arc<Notify>,
    ) -> Self {
        Self { own, backend, outbox, recent, state, stop_asked, relogin_asked }
    }

    /// Answers any request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let debugged =
            self.own.http_debug.then(|| (request.method().clone(), request.uri().path().to_owned()));
        let mut response = self.dispatch(request).await;
        if let Some((method, path)) = debugged {
            info!(%method, path = ?path, status = response.status().as_u16(), "A request was answered.");
        }
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() == Method::OPTIONS {
            return preflight();
        }
        if let Some(page) = self.backend.page(request.method(), request.uri().path()) {
            return show(page);
        }
        let Some(endpoint) = Endpoint::find(request.method(), request.uri().path()) else {
            return reply::no_such_api();
        };
        let is_head = request.method() == Method::HEAD;
        let call = match Call::read(request).await {
            Ok(call) => call,
            Err(error) => return error.answer(),
        };
        let state = self.state.borrow().clone();
        let reply = if state == ClientState::Running || endpoint.works_always() {
            match endpoint {
                // Nobody would see the events that it takes.
                Endpoint::CheckEvent if is_head => check_event::nothing(),
                _ => self.serve(endpoint, &call).await,
            }
        } else {
            Reply::not_running(&state)
        };
        call.wrap(reply)
    }

    async fn serve(&self, endpoint: Endpoint, call: &Call) -> Reply {
        let (backend, outbox) = (&*self.backend, &self.outbox);
        let reply = match endpoint {
            Endpoint::UserInfo => people::user(backend).await,
            Endpoint::FriendInfo => people::friends(backend).await,
            Endpoint::GroupInfo => people::groups(self.backend.clone()).await,
            Endpoint::GroupBasicInfo => people::basic_groups(backend).await,
            Endpoint::DiscussInfo => people::discusses(backend).await,
            Endpoint::SearchFriend => people::search_friend(backend, call).await,
            Endpoint::SearchGroup => people::search_group(backend, call).await,
            Endpoint::SendFriendMessage => messages::to_friend(backend, outbox, call).await,
            Endpoint::SendGroupMessage => messages::to_group(backend, outbox, call).await,
            Endpoint::SendDiscussMessage => messages::to_discuss(backend, outbox, call).await,
            Endpoint::SendSessMessage => messages::to_member(backend, outbox, call).await,
            Endpoint::ShutupGroupMember => moderation::mute(backend, call).await,
            Endpoint::KickGroupMember => moderation::kick(backend, call).await,
            Endpoint::ClientInfo => Ok(self.own.client_info()),
            Endpoint::StopClient => {
                self.stop_asked.cancel();
                Ok(self.own.will_stop())
            }
            Endpoint::Relogin => {
                self.relogin_asked.notify_one();
                Ok(self.own.will_relogin())
            }
            Endpoint::CheckEvent => Ok(check_event::wait(&self.recent, self.state.clone()).await),
        };
        reply.unwrap_or_else(|error| Reply::failure(&error))
    }
}

fn show(page: Page) -> Response<Body> {
    let status = if page.found { StatusCode::OK } else { StatusCode::GONE };
    let mut response = reply::text(status, page.html);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        use Endpoint::{ClientInfo, SendFriendMessage, UserInfo};
        for (method, path, endpoint) in [
            (Method::GET, "/openqq/get_user_info", Some(UserInfo)),
            (Method::HEAD, "/openqq/get_user_info", Some(UserInfo)),
            (Method::POST, "/openqq/get_user_info", None),
            (Method::POST, "/openqq/send_friend_message", Some(SendFriendMessage)),
            (Method::PUT, "/openqq/send_friend_message", None),
            (Method::POST, "/openqq/get_client_info", Some(ClientInfo)),
            (Method::GET, "/openqq/get_user_info/", None),
            (Method::GET, "/openqq/", None),
            (Method::GET, "/", None),
        ] {
            assert_eq!(Endpoint::find(&method, path), endpoint, "{method} {path}");
        }
    }
}
