//! The API of the client, `/openqq/…`: which call goes where, and the rules that all calls share.

mod call;
mod messages;
mod reply;

use std::sync::Arc;

use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::backend::Backend;
use super::endings::STOP_DELAY;
use super::events::unix_seconds;
use super::outbox::Outbox;
use super::settings::Settings;
use crate::http::answer::{Body, empty};
use crate::model::state::ClientState;
use call::Call;
use reply::Reply;

/// The API. It owns nothing: it reads from the backend, asks the outbox to send, and asks for the stop.
pub(super) struct Api<B> {
    own: Own,
    backend: Arc<B>,
    outbox: Outbox,
    state: watch::Receiver<ClientState>,
    stop_asked: CancellationToken,
}

/// What the API says about this process.
pub(super) struct Own {
    account: String,
    start_time: u64,
    http_debug: bool,
    log_encoding: Option<String>,
    log_path: Option<String>,
    log_level: &'static str,
}

impl Own {
    /// What `settings` say; `start_time` in Unix seconds.
    pub(super) fn new(settings: &Settings, start_time: u64) -> Self {
        Self {
            account: settings.account.to_string(),
            start_time,
            http_debug: settings.http_debug,
            log_encoding: settings.log.encoding.clone(),
            log_path: settings.log.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            log_level: settings.log.level.as_str(),
        }
    }

    fn runtime(&self) -> u64 {
        // The clock may have been set back.
        unix_seconds().saturating_sub(self.start_time)
    }
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    UserInfo,
    FriendInfo,
    SendFriendMessage,
    ClientInfo,
    StopClient,
}

impl Endpoint {
    /// The endpoint at `path`, if it takes `method`. HEAD is a GET whose answer the server cuts.
    fn find(method: &Method, path: &str) -> Option<Self> {
        let (endpoint, posted) = match path.strip_prefix("/openqq/")? {
            "get_user_info" => (Self::UserInfo, false),
            "get_friend_info" => (Self::FriendInfo, false),
            "send_friend_message" => (Self::SendFriendMessage, true),
            "get_client_info" => (Self::ClientInfo, true),
            "stop_client" => (Self::StopClient, true),
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
    /// The API over `backend`. Messages go to `outbox`; `stop_asked` is cancelled when the client shall stop.
    pub(super) fn new(
        own: Own,
        backend: Arc<B>,
        outbox: Outbox,
        state: watch::Receiver<ClientState>,
        stop_asked: CancellationToken,
    ) -> Self {
        Self { own, backend, outbox, state, stop_asked }
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
        let Some(endpoint) = Endpoint::find(request.method(), request.uri().path()) else {
            return reply::no_such_api();
        };
        let call = match Call::read(request).await {
            Ok(call) => call,
            Err(error) => return error.answer(),
        };
        let state = self.state.borrow().clone();
        let reply = if state == ClientState::Running || endpoint.works_always() {
            self.serve(endpoint, &call).await
        } else {
            Reply::not_running(&state)
        };
        call.wrap(reply)
    }

    async fn serve(&self, endpoint: Endpoint, call: &Call) -> Reply {
        match endpoint {
            Endpoint::UserInfo => Reply::ok(json!(self.backend.user())),
            Endpoint::FriendInfo => Reply::ok(json!(self.backend.friends())),
            Endpoint::SendFriendMessage => messages::to_friend(&*self.backend, &self.outbox, call).await,
            Endpoint::ClientInfo => self.client_info(),
            Endpoint::StopClient => self.stop_client(),
        }
    }

    fn client_info(&self) -> Reply {
        let own = &self.own;
        Reply::ok(json!({
            "code": reply::OK,
            "status": "success",
            "account": own.account,
            "pid": std::process::id(),
            "os": std::env::consts::OS,
            "version": env!("CARGO_PKG_VERSION"),
            "starttime": own.start_time,
            "runtime": own.runtime(),
            "http_debug": u8::from(own.http_debug).to_string(),
            "log_encoding": own.log_encoding,
            "log_path": own.log_path,
            "log_level": own.log_level,
        }))
    }

    fn stop_client(&self) -> Reply {
        self.stop_asked.cancel();
        let pid = std::process::id();
        Reply::ok(json!({
            "code": reply::OK,
            "status": format!("success, client({pid}) will stop in {} seconds", STOP_DELAY.as_secs()),
            "account": self.own.account,
            "pid": pid,
            "starttime": self.own.start_time,
            "runtime": self.own.runtime(),
        }))
    }
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
