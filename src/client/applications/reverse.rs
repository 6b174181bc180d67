//! WebSockets that the client opens to applications (onebot-11, `communication/ws-reverse.md`).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tracing::{debug, info, warn};
use url::Url;

use super::Applications;
use super::conversation::{self, Ended};
use super::hub::{ApplicationKey, Attachment};
use super::secrets::Tokens;
use crate::client::backend::Backend;
use crate::client::backoff::{AttemptFailure, Backoff};
use crate::client::settings::{ApplicationToken, SocketUrl};
use crate::http_client::tls_connector;
use crate::model::error_chain::ErrorChain;
use crate::peers::PeerPolicy;

/// The timeout of each step of opening a connection.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// The first pause before another attempt, and the longest. A restart of the application is noticed well within the default hold.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A connection that lasts so long has worked: the next pause is the first one again.
const LASTING: Duration = Duration::from_secs(10);

/// What the client calls itself.
const OWN_NAME: &str = concat!("OneBot/11 wqcontroller/", env!("CARGO_PKG_VERSION"));

/// The stream below a WebSocket: TCP or TLS.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum NoConnection {
    #[error("no connection ({0}); is the application running?")]
    Unreachable(String),
    #[error("it is not called: {0}")]
    Foreign(String),
    #[error("no TLS connection: {0}")]
    Tls(String),
    #[error("token_file of [onebot_server]: {0}")]
    TokenFile(String),
    #[error("token_file of [onebot_server] has no token named {0:?}: write {0}=TOKEN there")]
    NoSuchToken(String),
    #[error(
        "it refuses the token (HTTP {0}): onebot_server_token must have the access token of the application, or token_file \
         of [onebot_server] for an address of that table, and the application must be set up for this account"
    )]
    TokenRefused(u16),
    #[error(
        "it refuses a connection without a token (HTTP {0}): give onebot_server_token, as token_file of [onebot_server] is for \
         the addresses of that table alone, and set the application up for this account"
    )]
    TokenNeeded(u16),
    #[error(
        "it has no WebSocket at the path {0} (HTTP 404): correct the path in onebot_server_connect; NoneBot has \
         /onebot/v11/ws, Koishi /onebot"
    )]
    NoPath(String),
    #[error("it answers HTTP {0} instead of opening a WebSocket: is this the port of the application?")]
    NoWebSocket(u16),
    #[error("it does not open a WebSocket: {0}")]
    Handshake(String),
    #[error("it does not answer")]
    TooSlow,
}

/// Keeps a connection to one application, as long as the client runs.
pub(super) struct ReverseConnection<B> {
    applications: Arc<Applications<B>>,
    url: SocketUrl,
    tokens: Arc<Tokens>,
    key: ApplicationKey,
    policy: Option<Arc<PeerPolicy>>,
    /// From the start on, so that the first events wait for the first connection.
    first: Option<Attachment>,
    backoff: Backoff,
    /// What is wrong, as it was logged: once, not at each attempt.
    trouble: Option<String>,
}

impl<B: Backend> ReverseConnection<B> {
    /// A connection that is not yet opened. `place` is that of the URL in the settings; `policy` tells whether another account
    /// has the port.
    pub(super) fn new(
        applications: Arc<Applications<B>>,
        (place, url): (usize, SocketUrl),
        tokens: Arc<Tokens>,
        policy: Option<Arc<PeerPolicy>>,
    ) -> Self {
        let key = ApplicationKey::Url(place, url.shown());
        let first = url.role.listens().then(|| applications.hub.attach(Some(key.clone())).ok()).flatten();
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self { applications, url, tokens, key, policy, first, backoff, trouble: None }
    }

    /// Connects, talks, and connects again, until the client ends.
    pub(super) async fn run(mut self) {
        let ending = self.applications.ending.clone();
        while let Some(number) = ending.run_until_cancelled(self.number()).await {
            // The time for which it may be away begins with the first attempt.
            self.first = None;
            let Some(lasted) = self.connect(number).await else { return };
            if lasted >= LASTING {
                self.backoff.reset();
            }
            let pause = self.backoff.next_pause(AttemptFailure::Unavailable);
            if ending.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// The account's number, which the request to the application carries. Waits for the first login.
    async fn number(&self) -> u64 {
        let mut status = self.applications.hub.status();
        loop {
            let known = status.borrow_and_update().number;
            match known {
                Some(number) => return number,
                // The hub, and with it the sender, lives as long as this.
                None => {
                    let _ = status.changed().await;
                }
            }
        }
    }

    /// One connection. Returns how long it lasted; none if the client ends.
    async fn connect(&mut self, number: u64) -> Option<Duration> {
        let ending = self.applications.ending.clone();
        let opening = async {
            let shown = shown(&self.url, &self.tokens)?;
            open(&self.url, number, shown, self.policy.as_deref()).await
        };
        let opened = ending.run_until_cancelled(opening).await?;
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                self.note(error.to_string());
                return Some(Duration::ZERO);
            }
        };
        let role = self.url.role;
        // Only now, as until now the application was away.
        let attached = role.listens().then(|| self.applications.hub.attach(Some(self.key.clone())));
        let Ok(attachment) = attached.transpose() else {
            self.note("too many applications are connected to this account".to_owned());
            return Some(Duration::ZERO);
        };
        self.trouble = None;
        let (key, since) = (&self.key, Instant::now());
        info!("connected to {key}");
        let (applications, whose) = (&self.applications, Some(number));
        let ended = conversation::run(socket, applications, (role, whose), attachment, &ending).await;
        match ended {
            Ended::Ending => return None,
            Ended::Closed(why) => info!("{key} closed the connection{why}; connecting again"),
            ended => warn!("the connection to {key} has ended: {ended}; connecting again"),
        }
        Some(since.elapsed())
    }

    /// Logs what is wrong, unless that is known.
    fn note(&mut self, trouble: String) {
        let key = &self.key;
        if self.trouble.as_ref() == Some(&trouble) {
            debug!("{key}: {trouble}");
        } else {
            let every = LONGEST_PAUSE.as_secs();
            warn!("cannot connect to {key}: {trouble}; trying again, at least every {every} s");
            self.trouble = Some(trouble);
        }
    }
}

/// Opens a connection for the account `number`.
async fn open(
    url: &SocketUrl,
    number: u64,
    shown: Option<String>,
    policy: Option<&PeerPolicy>,
) -> Result<WebSocketStream<Box<dyn Carrier>>, NoConnection> {
    let late = |_| NoConnection::TooSlow;
    let connecting = TcpStream::connect((url.host.as_str(), url.port));
    let stream = timeout(OPEN_TIME, connecting).await.map_err(late)?;
    let stream = stream.map_err(|error| NoConnection::Unreachable(error.to_string()))?;
    if let Some(policy) = policy {
        // Before the first byte: the token is in the request.
        let checked = policy.check_implementation(&stream).await;
        checked.map_err(|refusal| NoConnection::Foreign(refusal.to_string()))?;
    }
    // Each frame is written at once, so Nagle's algorithm would only delay it.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Carrier> = match url.is_secure() {
        true => Box::new(timeout(OPEN_TIME, secure(stream, &url.host)).await.map_err(late)??),
        false => Box::new(stream),
    };
    let shows = shown.is_some();
    let request = request(url, number, shown).map_err(NoConnection::Handshake)?;
    let config = Some(conversation::config());
    let opened = timeout(OPEN_TIME, client_async_with_config(request, stream, config)).await;
    match opened.map_err(late)? {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(match answer.status().as_u16() {
            status @ (401 | 403) if shows => NoConnection::TokenRefused(status),
            status @ (401 | 403) => NoConnection::TokenNeeded(status),
            404 => NoConnection::NoPath(url.path().to_owned()),
            status => NoConnection::NoWebSocket(status),
        }),
        Err(error) => Err(NoConnection::Handshake(error.to_string())),
    }
}

async fn secure(
    stream: TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, NoConnection> {
    let failed = |error: &dyn std::error::Error| NoConnection::Tls(ErrorChain(error).to_string());
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let connector = tls_connector().map_err(|error| failed(&error))?;
    connector.connect(name, stream).await.map_err(|error| failed(&error))
}

/// The request of the upgrade. The error is for people, and has no secret.
fn request(url: &SocketUrl, number: u64, shown: Option<String>) -> Result<Request, String> {
    let read = url.as_str().into_client_request();
    let mut request = read.map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert("x-self-id", number.into());
    headers.insert("x-client-role", HeaderValue::from_static(url.role.as_str()));
    headers.insert(USER_AGENT, HeaderValue::from_static(OWN_NAME));
    if let Some(shown) = shown {
        let value = HeaderValue::try_from(shown);
        let mut value = value.map_err(|_| "the token cannot be sent in a header".to_owned())?;
        // Debug output of the request then leaves it out.
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What the application is shown, as `Authorization` has it.
fn shown(url: &SocketUrl, tokens: &Tokens) -> Result<Option<String>, NoConnection> {
    if let Some(user) = basic(url.as_str()) {
        return Ok(Some(user));
    }
    let tokens = tokens.now().map_err(NoConnection::TokenFile)?;
    let bearer = |token: &ApplicationToken| format!("Bearer {}", token.secret());
    match &url.token_name {
        None => Ok(tokens.first().map(bearer)),
        Some(name) => {
            let named = tokens.iter().find(|token| token.name == *name);
            named.map(bearer).map(Some).ok_or_else(|| NoConnection::NoSuchToken(name.clone()))
        }
    }
}

/// What shows the user and the password of a URL, if it has any (RFC 7617). They are for this application alone, so they win over a
/// token.
fn basic(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let both = [decoded(user), b":".to_vec(), decoded(password)].concat();
    (both.len() > 1).then(|| format!("Basic {}", BASE64_STANDARD.encode(both)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::applications;
    use crate::client::applications::hub::{AccountStatus, Hub};
    use crate::client::sandbox::tests::sandbox;
    use crate::client::settings::{ApplicationSettings, ClientSettings};
    use futures_util::StreamExt;
    use serde_json::Value;
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server;
    use tokio_util::sync::CancellationToken;

    fn settings(token: &str, text: &str) -> ApplicationSettings {
        let vars = [
            ("ACCOUNT", "a"),
            ("PLUGIN_OPENQQ_PORT", "1"),
            ("ONEBOT_SERVER_TOKEN", token),
            ("ONEBOT_SERVER_CONNECT", text),
        ];
        let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
        ClientSettings::from_vars(vars).unwrap().applications
    }

    #[test]
    fn request_has_the_headers_of_the_standard() {
        let of = |token: &str, text: &str| {
            let url = SocketUrl::read(text).unwrap();
            let tokens = Tokens::from(&settings("hush", "").tokens);
            let tokens = if token.is_empty() { Tokens::Given([].into()) } else { tokens };
            let request = request(&url, 10001, shown(&url, &tokens).unwrap()).unwrap();
            assert!(!format!("{request:?}").contains("hush"));
            let header =
                |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (header("x-self-id"), header("x-client-role"), header("authorization"), header("host"))
        };
        let expected = |role: &str, shown: Option<&str>| {
            let some = |text: &str| Some(text.to_owned());
            (some("10001"), some(role), shown.map(str::to_owned), some("h:81"))
        };
        assert_eq!(of("hush", "ws://h:81/x"), expected("Universal", Some("Bearer hush")));
        assert_eq!(of("", "api+ws://h:81/x"), expected("API", None));
        assert_eq!(of("hush", "event+ws://me:a%20b@h:81/x"), expected("Event", Some("Basic bWU6YSBi")));
        let (named, none) = (SocketUrl::read("x=ws://h/").unwrap(), Tokens::Given([].into()));
        assert!(shown(&named, &none).err().unwrap().to_string().contains("has no token named \"x\""));
    }
    #[tokio::test]
    async fn another_account_gets_a_connection_of_its_own() {
        for role in ["", "api+"] {
            another_account_in(role).await;
        }
    }

    #[expect(clippy::result_large_err, reason = "the library's callback has this type")]
    async fn another_account_in(role: &str) {
        let (sandbox, _driver, _news, _folder) = sandbox();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = settings("", &format!("{role}ws://{}/", listener.local_addr().unwrap()));
        let (hub, ending) = (Hub::new(Duration::from_secs(60)), CancellationToken::new());
        let backend = Arc::new(sandbox);
        let (applications, _actions) = applications::open(&settings, backend, hub.clone(), ending.clone());
        let mut outgoing = applications::outgoing(&settings, &applications, || Ok(None));
        let running = tokio::spawn(outgoing.pop().unwrap());
        let first = |socket: Option<Result<Message, Error>>| {
            serde_json::from_str::<Value>(socket.unwrap().unwrap().to_text().unwrap()).unwrap()
        };
        for number in [1, 2] {
            hub.set_status(AccountStatus { number: Some(number), is_online: true });
            let (stream, _) = listener.accept().await.unwrap();
            let mut own = None;
            let seen = |request: &server::Request, response| {
                own = Some(request.headers()["x-self-id"].clone());
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, seen).await.unwrap();
            assert_eq!(own.unwrap(), number.to_string());
            if role.is_empty() {
                assert_eq!(first(socket.next().await)["self_id"], number);
            }
            hub.set_status(AccountStatus { number: Some(number + 1), is_online: true });
            let Some(Ok(Message::Close(Some(why)))) = socket.next().await else { panic!("not closed") };
            assert_eq!(why.reason.as_str(), "another account is logged in now");
        }
        ending.cancel();
        running.await.unwrap();
    }
}
