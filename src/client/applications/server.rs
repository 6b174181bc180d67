//! `/onebot/v11/` on the client's port: WebSockets that applications open, and actions by HTTP.

use std::sync::Arc;

use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{info, warn};

use super::Applications;
use super::admission::{Admission, AppAccess, NotAdmitted};
use super::conversation::{self, Ended};
use super::http_action;
use crate::client::backend::Backend;
use crate::client::backend::action::{Answer, Refusal};
use crate::client::settings::SocketRole;
use crate::http::body::{Body, empty};
use crate::http::server::UpgradeTask;
use crate::wire::onebot::{ROOT, is_read};

impl<B: Backend> Applications<B> {
    /// Answers a request below [`ROOT`].
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let admission = match self.guard.admit(&parts) {
            Ok(admission) => admission,
            Err(refused) => {
                if refused == NotAdmitted::TokenWrong
                    && let Some(suppressed) = self.refusals.allow()
                {
                    warn!("an application was refused: its token does not open this account{suppressed}");
                }
                return not_admitted(refused);
            }
        };
        // Only implementations say whose account they have: this is one that takes the address of another for that of an application.
        // What it sends are events, and their answers would come back as more of them.
        if parts.headers.contains_key("x-self-id") {
            let why = "this is the address of an account, not of an application; onebot_server_connect and onebot_server_post lead \
                       to applications";
            return refuse(StatusCode::BAD_REQUEST, Refusal::BadRequest, why);
        }
        let name = parts.uri.path().strip_prefix(ROOT).unwrap_or_default().trim_matches('/').to_owned();
        let role = match name.as_str() {
            "" | "ws" => Some(SocketRole::Universal),
            "api" => Some(SocketRole::Api),
            "event" => Some(SocketRole::Event),
            _ => None,
        };
        match role {
            Some(role) if has_word(&parts.headers, UPGRADE, "websocket") => {
                self.open(&mut parts, admission, role)
            }
            Some(_) => {
                let mut refused = refuse(
                    StatusCode::UPGRADE_REQUIRED,
                    Refusal::BadRequest,
                    "this path is for a WebSocket; an action by HTTP is a path of its own, such as /onebot/v11/get_login_info",
                );
                refused.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                refused
            }
            None => self.act(&name, &parts, body, admission.access).await,
        }
    }

    fn open(self: &Arc<Self>, parts: &mut Parts, admission: Admission, role: SocketRole) -> Response<Body> {
        if admission.access == AppAccess::ReadOnly {
            let why = "a read-only token opens no WebSocket, as any action can be called on it; get_* by GET it does";
            return refuse(StatusCode::FORBIDDEN, Refusal::NotAllowed, why);
        }
        let headers = &parts.headers;
        let is_upgrade = parts.method == Method::GET
            && has_word(headers, CONNECTION, "upgrade")
            && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade);
        let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
            return refuse(
                StatusCode::BAD_REQUEST,
                Refusal::BadRequest,
                "this is no WebSocket of version 13",
            );
        };
        // The server adds it to each request with `Upgrade`.
        let Some(afterwards) = parts.extensions.get::<UpgradeTask>().cloned() else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let Admission { key, .. } = admission;
        let attachment = match role.listens().then(|| self.hub.attach(key.clone())).transpose() {
            Ok(attachment) => attachment,
            Err(_) => {
                let why = "too many applications are connected to this account";
                return refuse(StatusCode::SERVICE_UNAVAILABLE, Refusal::Busy, why);
            }
        };
        let who = match key {
            Some(key) => key.to_string(),
            None => "an application".to_owned(),
        };
        let upgrade = hyper::upgrade::on(Request::from_parts(parts.clone(), ()));
        let shared = self.clone();
        afterwards.set(async move {
            let Ok(upgraded) = upgrade.await else { return };
            info!("{who} connected ({})", role.as_str());
            let io = TokioIo::new(upgraded);
            let config = Some(conversation::config());
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
            match conversation::run(socket, &shared, (role, None), attachment, &shared.ending).await {
                Ended::Closed(why) => info!("{who} closed its connection{why} ({})", role.as_str()),
                Ended::Ending => {}
                ended => warn!("the connection of {who} ({}) has ended: {ended}", role.as_str()),
            }
        });
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.extend(HeaderValue::try_from(accept).map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        answer
    }

    async fn act(&self, name: &str, parts: &Parts, body: Incoming, access: AppAccess) -> Response<Body> {
        if !matches!(parts.method, Method::GET | Method::POST) {
            let why = "actions are called by GET or POST";
            return refuse(StatusCode::METHOD_NOT_ALLOWED, Refusal::BadRequest, why);
        }
        let reads = parts.method == Method::GET && is_read(name);
        if access == AppAccess::ReadOnly && !reads {
            let why = "a read-only token calls get_* by GET only, and none that gives cookies or keys of the account";
            return refuse(StatusCode::FORBIDDEN, Refusal::NotAllowed, why);
        }
        match http_action::read(name, parts, body).await {
            Ok(call) => http_action::respond(&self.call(call).await),
            Err((status, answer)) => http_action::respond_with(status, &answer),
        }
    }
}

fn not_admitted(refused: NotAdmitted) -> Response<Body> {
    match refused {
        NotAdmitted::TokenNeeded => {
            let why = "this account is open to its applications' tokens: send Authorization: Bearer TOKEN";
            let mut refused = refuse(StatusCode::UNAUTHORIZED, Refusal::TokenNeeded, why);
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            refused
        }
        NotAdmitted::TokenWrong => {
            let why = "the token is none of those that open this account";
            refuse(StatusCode::FORBIDDEN, Refusal::NotAllowed, why)
        }
        NotAdmitted::NoTokens => {
            let why = "the file with the tokens of this account can't be used; the account's log says why";
            refuse(StatusCode::SERVICE_UNAVAILABLE, Refusal::NotAllowed, why)
        }
        NotAdmitted::BadName => {
            let why = "app must be a name of 1 to 64 bytes";
            refuse(StatusCode::BAD_REQUEST, Refusal::BadRequest, why)
        }
    }
}

fn refuse(status: StatusCode, refusal: Refusal, why: &str) -> Response<Body> {
    http_action::respond_with(status, &Answer::refused(refusal, why))
}

/// Whether a header that is a list has this word. The list may be spread over several lines (RFC 9110, 5.3).
fn has_word(headers: &HeaderMap, name: http::header::HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}
