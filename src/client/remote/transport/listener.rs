//! [`Acceptor`]: listens for the implementation, which opens WebSockets (reverse) or posts events by HTTP.

mod credentials;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::credentials::{account, has_valid_signature, presents_token};
use super::inbox::{ConnectionSignal, FrameSource, Inbox};
use super::text_frames::TextAsBinary;
use super::token::AccessToken;
use super::unverified::UnverifiedSocket;
use super::websocket;
use crate::http::body::{Body, empty};
use crate::http::request::body::collect;
use crate::http::server::Downstream;
use crate::http::server::Gate;
use crate::http::server::Listener;
use crate::http::server::{Limits, UpgradeTask, serve_behind};
use crate::locks::locked;

/// Limits of connections. There should be one program.
const LIMITS: Limits = Limits {
    request_header_timeout: Duration::from_secs(15),
    write_timeout: Duration::from_secs(120),
    max_connections: 16,
    drain_timeout: Duration::from_secs(1),
    max_request_header: 16 * 1024,
    // No OneBot implementation looks at it.
    unreadable_code: -1,
};

/// The largest event that is accepted.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The timeout for the body of an event.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The time between two log lines about refused connections.
const REFUSALS_PAUSE: Duration = Duration::from_secs(600);

/// A WebSocket that was accepted and may not be verified yet.
pub(crate) type AcceptedSocket = UnverifiedSocket<TextAsBinary<TokioIo<Upgraded>>>;

/// What the acceptor accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptorMode {
    /// WebSockets.
    Reverse,
    /// Events by HTTP.
    Posts,
}

/// Which connections are admitted.
#[derive(Clone)]
enum AdmissionPolicy {
    /// None: the token is not known yet.
    None,
    /// All of them.
    Everybody,
    /// Those with this token.
    Who(AccessToken),
}

/// The purpose of a WebSocket (`X-Client-Role`); some implementations open one for calls and one for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketRole {
    /// Calls and events.
    Universal,
    /// Calls.
    Api,
    /// Events.
    Event,
}

impl SocketRole {
    /// Read from the header, or from the path.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let role = match request.headers().get("x-client-role") {
            Some(role) => role.to_str().ok()?,
            None => match request.uri().path().trim_end_matches('/').rsplit('/').next() {
                Some("api") => "api",
                Some("event") => "event",
                _ => "universal",
            },
        };
        let roles = [("universal", Self::Universal), ("api", Self::Api), ("event", Self::Event)];
        roles.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(role)).map(|(_, role)| role)
    }
}

/// Why a connection was refused. For the log: it is not sent.
#[derive(Clone)]
struct RefusalReason(String);

/// Listens for the implementation. Each login sets which connections are admitted.
pub(crate) struct Acceptor {
    purpose: AcceptorMode,
    /// The address.
    address: SocketAddr,
    admitted: Mutex<AdmissionPolicy>,
    inbox: Arc<Inbox>,
    sockets: mpsc::Sender<AcceptedSocket>,
    /// Whether an event connection was lost and has not come back.
    events_lost: AtomicBool,
    refusals: Mutex<RefusalLog>,
    /// Why the last connection was refused.
    refused: watch::Sender<String>,
}

impl Acceptor {
    /// An acceptor that refuses all until [`Acceptor::admit`]. The receiver yields the WebSockets for calls.
    pub(crate) fn new(
        purpose: AcceptorMode,
        address: SocketAddr,
        inbox: Arc<Inbox>,
    ) -> (Arc<Self>, mpsc::Receiver<AcceptedSocket>) {
        let (sockets, receiver) = mpsc::channel(1);
        let acceptor = Self {
            purpose,
            address,
            admitted: Mutex::new(AdmissionPolicy::None),
            inbox,
            sockets,
            events_lost: AtomicBool::new(false),
            refusals: Mutex::default(),
            refused: watch::Sender::default(),
        };
        (Arc::new(acceptor), receiver)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Admits connections with `token`; without one, all.
    pub(crate) fn admit(&self, token: Option<AccessToken>) {
        let admitted = token.map_or(AdmissionPolicy::Everybody, AdmissionPolicy::Who);
        *locked(&self.admitted) = admitted;
    }

    /// Why the last connection was refused. Each refusal counts as a change.
    pub(crate) fn refused(&self) -> watch::Receiver<String> {
        self.refused.subscribe()
    }

    /// Admits no connections any more.
    pub(crate) fn admit_none(&self) {
        *locked(&self.admitted) = AdmissionPolicy::None;
    }

    /// Refuses the implementation. The reason is shown to the operator.
    fn refuse(&self, status: StatusCode, why: String) -> Response<Body> {
        self.refused.send_replace(why.clone());
        refusal(status, why)
    }

    /// Refuses requests about another account (`X-Self-ID`).
    fn reject_other_account(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let other = self.inbox.binding().check(account(headers)?).err()?;
        Some(self.refuse(StatusCode::FORBIDDEN, other.to_string()))
    }

    fn admitted(&self) -> AdmissionPolicy {
        locked(&self.admitted).clone()
    }

    /// Serves `listener` until dropped.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let stop = CancellationToken::new();
        // Connections are tasks of their own, and would outlive this future.
        let _stop = stop.clone().drop_guard();
        let acceptor = self;
        let handler = move |request, caller: Arc<Downstream>| {
            let acceptor = acceptor.clone();
            async move {
                let answer = acceptor.answer(request).await;
                if answer.status().is_client_error() {
                    let status = answer.status().as_u16();
                    let unsaid = locked(&acceptor.refusals).count(Instant::now());
                    if let Some(unsaid) = unsaid {
                        let why = answer.extensions().get().map_or("", |RefusalReason(why)| why.as_str());
                        warn!(
                            "refused a connection to onebot_listen from {} (HTTP {status}): {why} ({unsaid} more since the last such line)",
                            caller.peer
                        );
                    }
                }
                answer
            }
        };
        serve_behind(Gate::of_client(), vec![Listener::Tcp(listener)], LIMITS, stop, handler).await;
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        // A copy, as no lock is held while the body is read.
        let admitted = self.admitted();
        if let AdmissionPolicy::None = admitted {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        // Browsers send it for web pages; implementations do not.
        if request.headers().contains_key(ORIGIN) {
            return refusal(StatusCode::FORBIDDEN, "a browser sends it for a web page (it has an Origin)");
        }
        match self.purpose {
            AcceptorMode::Reverse => self.upgrade(request, &admitted),
            AcceptorMode::Posts => self.event(request, &admitted).await,
        }
    }

    fn upgrade(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        admitted: &AdmissionPolicy,
    ) -> Response<Body> {
        let headers = request.headers();
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|_| has_word(headers, CONNECTION, "upgrade") && has_word(headers, UPGRADE, "websocket"));
        let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
            return refusal(
                StatusCode::UPGRADE_REQUIRED,
                "it opens no WebSocket, as it must without onebot_url",
            );
        };
        // The token before the account: without it, the status does not show whose client this is.
        if let AdmissionPolicy::Who(token) = admitted
            && !presents_token(headers, request.uri().query(), token)
        {
            let shown = headers.contains_key(AUTHORIZATION) || request.uri().query().is_some();
            return if shown {
                self.refuse(StatusCode::FORBIDDEN, "its token is not the one of token_file".into())
            } else {
                self.refuse(StatusCode::UNAUTHORIZED, "it shows no token, and token_file has one".into())
            };
        }
        if let Some(refused) = self.reject_other_account(headers) {
            return refused;
        }
        let Some(role) = SocketRole::of(&request) else {
            return self.refuse(
                StatusCode::BAD_REQUEST,
                "its X-Client-Role is none of Universal, API and Event".into(),
            );
        };
        // The server adds it to each request with `Upgrade`, which was checked above.
        let Some(afterwards) = request.extensions().get::<UpgradeTask>().cloned() else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        // Checked above, so a named account is ours.
        let is_named = account(request.headers()).is_some();
        let (upgrade, acceptor) = (hyper::upgrade::on(&mut request), self.clone());
        afterwards.set(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let io = TextAsBinary::new(TokioIo::new(upgraded));
            let socket =
                WebSocketStream::from_raw_socket(io, protocol::Role::Server, Some(websocket::config())).await;
            if role == SocketRole::Event {
                return acceptor.receive_events(socket).await;
            }
            // Waits if another one has just come. The connection slot is released, as the session owns the
            // socket now.
            let _ = acceptor
                .sockets
                .send(UnverifiedSocket::new(acceptor.inbox.dialect(), socket, is_named))
                .await;
        });
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::try_from(accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        info!("the {} implementation connected ({role:?})", self.inbox.dialect().name());
        answer
    }

    /// Receives events on a connection for events alone. No login depends on it.
    async fn receive_events(&self, socket: WebSocketStream<TextAsBinary<TokioIo<Upgraded>>>) {
        // The first connection follows on a load of the lists; a later one may have missed events.
        if self.events_lost.swap(false, Ordering::Relaxed) {
            self.inbox.note_gap();
        }
        let why = websocket::receive_events(socket, &self.inbox).await;
        self.events_lost.store(true, Ordering::Relaxed);
        let name = self.inbox.dialect().name();
        warn!("lost the event connection of the {name} implementation: {why}; no events until it reconnects");
    }

    async fn event(&self, request: Request<Incoming>, admitted: &AdmissionPolicy) -> Response<Body> {
        if *request.method() != Method::POST {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "it is no POST, as events are beside onebot_url");
        }
        let headers = request.headers().clone();
        let signature = headers.get("x-signature").cloned();
        // Before the body is read, which may be large.
        if matches!(admitted, AdmissionPolicy::Who(_)) && signature.is_none() {
            return self
                .refuse(StatusCode::UNAUTHORIZED, "it signs nothing, and token_file has a token".into());
        }
        let body = collect(request.into_body(), MAX_BODY, BODY_TIME).await;
        let Ok(body) = body else {
            return refusal(StatusCode::BAD_REQUEST, "its body is too large, too slow or broken off");
        };
        if let AdmissionPolicy::Who(token) = admitted
            && !signature.is_some_and(|signature| has_valid_signature(signature.as_bytes(), &body, token))
        {
            return self.refuse(
                StatusCode::FORBIDDEN,
                "its signature is not made with the token of token_file".into(),
            );
        }
        if let Some(refused) = self.reject_other_account(&headers) {
            return refused;
        }
        // The other signals are about a connection that carries heartbeats or calls.
        if let ConnectionSignal::OtherAccount(other) = self.inbox.take(&body, FrameSource::Post).await {
            return self.refuse(StatusCode::FORBIDDEN, other.to_string());
        }
        // The standard's answer without a quick operation.
        empty(StatusCode::NO_CONTENT)
    }
}

/// An answer that refuses a request, with the reason for the log.
fn refusal(status: StatusCode, why: impl Into<String>) -> Response<Body> {
    let mut answer = empty(status);
    answer.extensions_mut().insert(RefusalReason(why.into()));
    answer
}

/// Whether a header that is a list has this word. The list may be spread over several lines (RFC 9110, 5.3).
fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// Limits the log lines about refusals: an implementation with a wrong token comes every few seconds, for as
/// long as it takes.
#[derive(Default)]
struct RefusalLog {
    said: Option<Instant>,
    unsaid: u32,
}

impl RefusalLog {
    /// Counts a refusal. Some: log it now, with the number of refusals that were not logged since the last
    /// line.
    fn count(&mut self, now: Instant) -> Option<u32> {
        if self.said.is_some_and(|said| now - said < REFUSALS_PAUSE) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Listens on `address`.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    // tokio's `bind` is asynchronous, for look-ups of names that an address does not need.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
