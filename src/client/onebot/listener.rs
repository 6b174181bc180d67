//! What listens for the implementation: it opens WebSockets to us (reverse), or posts events by HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ring::hmac;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::inbox::Inbox;
use super::link::Token;
use super::websocket;
use crate::http::answer::{Body, empty};
use crate::http::caller::Caller;
use crate::http::listener::Listener;
use crate::http::serve::{Afterwards, Limits, serve};
use crate::locks::locked;

/// What whoever connects to us may take. It is one program.
const LIMITS: Limits = Limits {
    request_header_timeout: Duration::from_secs(15),
    write_timeout: Duration::from_secs(120),
    max_connections: 16,
    drain_timeout: Duration::from_secs(1),
    max_request_header: 16 * 1024,
};

/// The largest event that is taken.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// How long an event may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How long nothing is said of those who are not let in, once that was said.
const REFUSALS_PAUSE: Duration = Duration::from_secs(600);

/// A connection that the implementation opened.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What the listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// WebSockets.
    Reverse,
    /// Events by HTTP.
    Posts,
}

/// Who is let in.
#[derive(Clone)]
enum Admitted {
    /// Nobody: it is not known yet who.
    Nobody,
    /// Everybody who reaches us.
    Everybody,
    /// Who knows this token.
    Who(Token),
}

/// What an implementation opens a WebSocket for (`X-Client-Role`); some have one for each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Calls and events.
    Universal,
    /// Calls.
    Api,
    /// Events.
    Event,
}

impl Role {
    /// As the header says, or else the path.
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

/// What listens. Who is let in is set anew at each login.
pub(super) struct Door {
    purpose: Purpose,
    admitted: Mutex<Admitted>,
    inbox: Arc<Inbox>,
    sockets: mpsc::Sender<Socket>,
    /// Whether a connection for events alone was lost, and has not come again.
    is_deaf: AtomicBool,
    refusals: Mutex<Refusals>,
}

impl Door {
    /// A door that is shut until [`Door::expect`]. WebSockets for calls come out of the receiver.
    pub(super) fn new(purpose: Purpose, inbox: Arc<Inbox>) -> (Arc<Self>, mpsc::Receiver<Socket>) {
        let (sockets, receiver) = mpsc::channel(1);
        let door = Self {
            purpose,
            admitted: Mutex::new(Admitted::Nobody),
            inbox,
            sockets,
            is_deaf: AtomicBool::new(false),
            refusals: Mutex::default(),
        };
        (Arc::new(door), receiver)
    }

    /// From now on only who knows `token` is let in; without one, everybody.
    pub(super) fn expect(&self, token: Option<Token>) {
        let admitted = token.map_or(Admitted::Everybody, Admitted::Who);
        *locked(&self.admitted) = admitted;
    }

    fn admitted(&self) -> Admitted {
        locked(&self.admitted).clone()
    }

    /// Listens until it is dropped.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let door = self;
        let handler = move |request, caller: Arc<Caller>| {
            let door = door.clone();
            async move {
                let answer = door.answer(request).await;
                if answer.status().is_client_error() {
                    let status = answer.status().as_u16();
                    let unsaid = locked(&door.refusals).count(Instant::now());
                    if let Some(unsaid) = unsaid {
                        warn!(peer = %caller.peer, status, unsaid, "Somebody who is not the OneBot implementation, or does not show its token, was not let in.");
                    }
                }
                answer
            }
        };
        serve(vec![Listener::Tcp(listener)], LIMITS, stop, handler).await;
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let admitted = self.admitted();
        if let Admitted::Nobody = admitted {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        // A web page in somebody's browser on this machine. Implementations do not send it.
        if request.headers().contains_key(ORIGIN) {
            return empty(StatusCode::FORBIDDEN);
        }
        match self.purpose {
            Purpose::Reverse => self.upgrade(request, &admitted),
            Purpose::Posts => self.event(request, &admitted).await,
        }
    }

    fn upgrade(self: &Arc<Self>, mut request: Request<Incoming>, admitted: &Admitted) -> Response<Body> {
        let headers = request.headers();
        let has = |name, word: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|_| has(CONNECTION, "upgrade") && has(UPGRADE, "websocket"));
        let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
            return empty(StatusCode::UPGRADE_REQUIRED);
        };
        if let Admitted::Who(token) = admitted
            && !shows(headers, request.uri().query(), token)
        {
            let shown = headers.contains_key(AUTHORIZATION) || request.uri().query().is_some();
            return empty(if shown { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED });
        }
        let Some(role) = Role::of(&request) else { return empty(StatusCode::BAD_REQUEST) };
        let Some(afterwards) = request.extensions().get::<Afterwards>().cloned() else {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let (upgrade, door) = (hyper::upgrade::on(&mut request), self.clone());
        afterwards.set(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let io = TokioIo::new(upgraded);
            let socket =
                WebSocketStream::from_raw_socket(io, protocol::Role::Server, Some(websocket::config())).await;
            if role == Role::Event {
                return door.hear(socket).await;
            }
            // It waits where another has just come. The place among the connections is given back: the driver has it.
            let _ = door.sockets.send(socket).await;
        });
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::try_from(accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        info!(?role, "The OneBot implementation connected.");
        answer
    }

    /// Takes the events of a connection that is for nothing else, and no login ends with it.
    async fn hear(&self, socket: Socket) {
        if self.is_deaf.swap(false, Ordering::Relaxed) {
            self.inbox.has_gap();
        }
        let why = websocket::hear(socket, &self.inbox).await;
        self.is_deaf.store(true, Ordering::Relaxed);
        warn!(%why, "The connection on which the OneBot implementation tells events was lost: none come until it connects anew.");
    }

    async fn event(&self, request: Request<Incoming>, admitted: &Admitted) -> Response<Body> {
        if *request.method() != Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let signature = request.headers().get("x-signature").cloned();
        if matches!(admitted, Admitted::Who(_)) && signature.is_none() {
            return empty(StatusCode::UNAUTHORIZED);
        }
        let body =
            tokio::time::timeout(BODY_TIME, Limited::new(request.into_body(), MAX_BODY).collect()).await;
        let Ok(Ok(body)) = body else { return empty(StatusCode::BAD_REQUEST) };
        let body = body.to_bytes();
        if let Admitted::Who(token) = admitted
            && !signature.is_some_and(|signature| signs(signature.as_bytes(), &body, token))
        {
            return empty(StatusCode::FORBIDDEN);
        }
        self.inbox.take(&body).await;
        // Nothing is to be done at once.
        empty(StatusCode::NO_CONTENT)
    }
}

/// Those who were not let in: an implementation with a wrong token comes every few seconds, for as long as it takes.
#[derive(Default)]
struct Refusals {
    said: Option<Instant>,
    unsaid: u32,
}

impl Refusals {
    /// One more. Whether it is to be said now, and of how many nothing was said since the last time.
    fn count(&mut self, now: Instant) -> Option<u32> {
        if self.said.is_some_and(|said| now - said < REFUSALS_PAUSE) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Whether a request shows the token: `Authorization: Bearer TOKEN` (some write `Token`), or `access_token` of the query.
fn shows(headers: &HeaderMap, query: Option<&str>, token: &Token) -> bool {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_header = header.and_then(|value| {
        let (scheme, shown) = value.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
            .then_some(shown.trim())
    });
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let in_query =
        pairs.into_iter().find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned());
    let is_it = |shown: &str| bool::from(shown.as_bytes().ct_eq(token.as_str().as_bytes()));
    in_header.is_some_and(is_it) || in_query.is_some_and(|shown| is_it(&shown))
}

/// Whether `X-Signature: sha1=HMAC` is that of `body`.
fn signs(signature: &[u8], body: &[u8], token: &Token) -> bool {
    let Some(hex) = signature.strip_prefix(b"sha1=") else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_str().as_bytes());
    let digits = hex.as_chunks::<2>().0.iter().map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = if hex.len() == 40 { digits.collect() } else { None };
    bytes.is_some_and(|bytes| hmac::verify(&key, body, &bytes).is_ok())
}

/// Listens on `address`.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        // RFC 2202, test case 2 of HMAC-SHA1.
        let (token, body) = (Token::of("Jefe"), b"what do ya want for nothing?");
        let right = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
        assert!(
            signs(right.as_bytes(), body, &token)
                && signs(right.to_uppercase().replace("SHA1", "sha1").as_bytes(), body, &token)
        );
        for wrong in [
            "",
            "sha1=",
            "sha256=00",
            &right[5..],
            &right[..43],
            "sha1=zzfcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "sha1=+ffcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ] {
            assert!(!signs(wrong.as_bytes(), body, &token), "{wrong}");
        }
        assert!(!signs(right.as_bytes(), b"something else", &token));
    }

    #[test]
    fn roles() {
        let role = |path: &str, header: Option<&str>| {
            let mut request = Request::get(path);
            if let Some(header) = header {
                request = request.header("X-Client-Role", header);
            }
            Role::of(&request.body(()).unwrap())
        };
        assert_eq!(role("/", None), Some(Role::Universal));
        assert_eq!(role("/onebot/api", None), Some(Role::Api));
        assert_eq!(role("/event/?access_token=x", None), Some(Role::Event));
        assert_eq!(role("/api", Some("Universal")), Some(Role::Universal));
        assert_eq!(role("/", Some("API")), Some(Role::Api));
        assert_eq!(role("/", Some("Event")), Some(Role::Event));
        assert_eq!(role("/", Some("Something")), None);
    }

    #[test]
    fn who_is_not_let_in_is_said_now_and_then() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.count(begin), Some(0));
        assert_eq!((refusals.count(begin), refusals.count(begin + REFUSALS_PAUSE / 2)), (None, None));
        assert_eq!(refusals.count(begin + REFUSALS_PAUSE), Some(2));
        assert_eq!(refusals.count(begin + REFUSALS_PAUSE * 2), Some(0));
    }

    #[test]
    fn tokens() {
        let token = Token::of("geheim");
        let shown = |header: Option<&'static str>, query| {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|value| (AUTHORIZATION, HeaderValue::from_static(value))));
            shows(&headers, query, &token)
        };
        assert!(shown(Some("Bearer geheim"), None) && shown(Some("token geheim"), None));
        assert!(shown(None, Some("a=b&access_token=geheim")));
        assert!(!shown(None, None) && !shown(Some("Bearer geheimer"), None) && !shown(Some("geheim"), None));
        assert!(!shown(Some("Basic geheim"), Some("access_token=")));
    }
}
