//! WebSocket connections, in either direction.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::SessionEnd;
use super::calls::PendingCall;
use super::inbox::{ConnectionSignal, Inbox};
use super::text_frames::TextAsBinary;
use super::token::AccessToken;
use crate::http_client::tls_connector;
use crate::model::error_chain::ErrorChain;
use crate::peers::PeerPolicy;

/// The largest message that is accepted. A list of 2,000 members has less than 1 MiB.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// The timeout of each step of opening a connection.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// The timeout for writing a frame.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The time between pings.
const PING: Duration = Duration::from_secs(20);

/// How long nothing may come in. Every WebSocket answers pings.
const SILENCE: Duration = Duration::from_secs(60);

/// How many heartbeats in a row may be missing.
const MISSED: u32 = 3;

/// How long the next heartbeat is awaited in any case, as reading may have paused. Shorter than the time
/// between pings, whose answers are no heartbeats.
const GRACE: Duration = Duration::from_secs(5);

/// The configuration of every connection.
pub(crate) fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MAX_MESSAGE);
    // The library's default is 16 MiB, and some implementations send a list as one frame.
    config.max_frame_size = Some(MAX_MESSAGE);
    // The library's default is for large frames; ours are mostly small.
    config.read_buffer_size = 16 * 1024;
    config
}

/// The stream below a WebSocket: TCP or TLS.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for S {}

/// Opens a connection to `url`, whose host and port are `address`. `table` has the option with the URL; `policy` tells whether
/// another account has the port.
///
/// # Errors
/// Why there is none.
pub(crate) async fn open(
    table: &str,
    url: &str,
    address: (&str, u16),
    token: Option<&AccessToken>,
    policy: Option<&PeerPolicy>,
) -> Result<WebSocketStream<Box<dyn Carrier>>, SessionEnd> {
    let late = |_| SessionEnd::Lost("it took too long".into());
    let stream = timeout(OPEN_TIME, TcpStream::connect(address)).await.map_err(late)?;
    let stream = stream.map_err(|error| unreachable(address, &error))?;
    if let Some(policy) = policy {
        // Before the first byte: the token is in the request.
        let checked = policy.check_implementation(&stream).await;
        checked.map_err(|refusal| SessionEnd::foreign(&refusal))?;
    }
    // Each frame is written at once and awaits an answer, so Nagle's algorithm only delays it.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Carrier> = if url.starts_with("wss:") {
        Box::new(TextAsBinary::after_handshake(
            timeout(OPEN_TIME, secure(stream, address.0)).await.map_err(late)??,
        ))
    } else {
        Box::new(TextAsBinary::after_handshake(stream))
    };
    let mut request = url.into_client_request().map_err(|error| SessionEnd::Lost(error.to_string()))?;
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))
            .map_err(|_| SessionEnd::TokenRefused("the token cannot be sent in a header".into()))?;
        // Debug output of the request then leaves it out.
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let opened =
        timeout(OPEN_TIME, client_async_with_config(request, stream, Some(config()))).await.map_err(late)?;
    match opened {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) if matches!(answer.status().as_u16(), 401 | 403) => {
            Err(SessionEnd::TokenRefused(format!("the answer was HTTP {}", answer.status().as_u16())))
        }
        Err(Error::Http(answer)) => {
            // The path alone: the query may have a token, and the authority a password.
            let (status, path) = (answer.status(), Url::parse(url).map(|url| url.path().to_owned()));
            let path = path.unwrap_or_default();
            Err(SessionEnd::NoWebSocket(format!(
                "the answer was HTTP {status} instead of a WebSocket at the path {path}: the port or the path of {table}_url \
                 is not the one of the implementation's WebSocket"
            )))
        }
        Err(error) => Err(lost(error)),
    }
}

fn unreachable((host, port): (&str, u16), error: &std::io::Error) -> SessionEnd {
    SessionEnd::Unreachable(format!(
        "no connection to {host} port {port} ({error}): the implementation is not running there, or not logged in yet"
    ))
}

/// Why the library ended the connection.
fn lost(error: Error) -> SessionEnd {
    SessionEnd::Lost(match error {
        Error::Capacity(error) => {
            format!(
                "it sends more at once than the {} MiB that are taken ({error})",
                MAX_MESSAGE / (1024 * 1024)
            )
        }
        error => error.to_string(),
    })
}

async fn secure(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, SessionEnd> {
    let lost = |error: &dyn std::error::Error| SessionEnd::Lost(format!("TLS: {}", ErrorChain(error)));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| lost(&error))?;
    let connector = tls_connector().map_err(|error| lost(&error))?;
    connector.connect(name, stream).await.map_err(|error| lost(&error))
}

/// Transfers frames both ways until the connection ends.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    outgoing: mpsc::Receiver<PendingCall>,
    inbox: &Inbox,
) -> SessionEnd {
    let (sink, stream) = socket.split();
    // Independent of each other: if both ends only wrote, neither would read.
    let mut writing = std::pin::pin!(write(sink, outgoing));
    let mut reading = std::pin::pin!(read(stream, inbox));
    tokio::select! {
        ended = &mut reading => ended,
        ended = &mut writing => {
            // Frames that have arrived are still read after a failed write.
            match timeout(WRITE_TIME, reading).await {
                Ok(refused @ (SessionEnd::TokenRefused(_) | SessionEnd::OtherAccount(_))) => refused,
                _ => ended,
            }
        }
    }
}

/// Receives frames until the connection ends, and makes no calls.
pub(crate) async fn receive_events<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    inbox: &Inbox,
) -> SessionEnd {
    // Held open, so that `write` goes on with its pings.
    let (_nothing, outgoing) = mpsc::channel(1);
    run(socket, outgoing, inbox).await
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<S>>,
    inbox: &Inbox,
) -> SessionEnd {
    // When the next heartbeat is overdue, once there was one. An implementation whose heartbeat stops hangs,
    // even if its WebSocket still answers pings.
    let mut overdue: Option<Instant> = None;
    let source = inbox.connection();
    loop {
        let now = Instant::now();
        let silent = now + SILENCE;
        // The earlier limit alone, as the message names the one that was exceeded.
        let dead = overdue.map(|overdue| overdue.max(now + GRACE)).filter(|dead| *dead < silent);
        let Ok(message) = timeout_at(dead.unwrap_or(silent), stream.next()).await else {
            return SessionEnd::Lost(match dead {
                Some(_) => "its heartbeat stopped".into(),
                None => format!("nothing came for {} s", SILENCE.as_secs()),
            });
        };
        let sign = match message {
            Some(Ok(Message::Text(text))) => inbox.take(text.as_bytes(), source).await,
            Some(Ok(Message::Binary(bytes))) => inbox.take(&bytes, source).await,
            // The library sends the pong.
            Some(Ok(_)) => ConnectionSignal::None,
            Some(Err(error)) => return lost(error),
            None => return SessionEnd::Lost("the other end closed it".into()),
        };
        match sign {
            ConnectionSignal::None => {}
            ConnectionSignal::Alive(interval) => {
                // A year is long enough, and can be added to any `Instant`.
                let longest = Duration::from_secs(365 * 86_400);
                overdue = Some(Instant::now() + interval.saturating_mul(MISSED).clamp(SILENCE, longest));
            }
            ConnectionSignal::TokenRefused => {
                return SessionEnd::TokenRefused("the answer was retcode 1403".into());
            }
            ConnectionSignal::OtherAccount(other) => return SessionEnd::OtherAccount(other.to_string()),
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut outgoing: mpsc::Receiver<PendingCall>,
) -> SessionEnd {
    let mut pings = interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            call = outgoing.recv() => match call {
                Some(call) if call.begin() => Message::text(call.frame()),
                // Withdrawn while it waited.
                Some(_) => continue,
                None => return SessionEnd::Lost("it is not needed any more".into()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        // A peer that reads nothing keeps its window closed, and TCP would wait for it without end (RFC 9293, 3.8.6.1).
        match timeout(WRITE_TIME, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return SessionEnd::Lost(error.to_string()),
            Err(_) => return SessionEnd::Lost("the other end does not read".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::account::binding::AccountBinding;
    use crate::client::remote::transport::calls::Calls;
    use crate::client::remote::transport::inbox;
    use std::sync::Arc;
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::Role;

    fn binding() -> Arc<AccountBinding> {
        Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None))
    }

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (one, two) = duplex(64 * 1024);
        let ours = WebSocketStream::from_raw_socket(one, Role::Client, Some(config())).await;
        (ours, WebSocketStream::from_raw_socket(two, Role::Server, None).await)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_websocket_is_pinged_and_closed() {
        let (ours, mut theirs) = pair().await;
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, _events) = inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding());
        let begin = Instant::now();
        let ended = run(ours, calls.connect(), &inbox).await;
        assert_eq!((ended, begin.elapsed()), (SessionEnd::Lost("nothing came for 60 s".into()), SILENCE));
        assert!(matches!(theirs.next().await, Some(Ok(Message::Ping(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeat_is_not_missed_while_reading_pauses() {
        const BEAT: &str = r#"{"post_type":"meta_event","meta_event_type":"heartbeat","interval":5000}"#;
        const SAID: &str =
            r#"{"post_type":"message","message_type":"group","group_id":5,"user_id":7,"message":"x"}"#;
        let (ours, mut theirs) = pair().await;
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, mut events) = inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding());
        // Full, so that the next message has to wait.
        for _ in 0..20_000 {
            inbox.take(SAID.as_bytes(), inbox::FrameSource::Post).await;
        }
        inbox.open();
        let outgoing = calls.connect();
        let mut carry = std::pin::pin!(run(ours, outgoing, &inbox));
        theirs.send(Message::text(BEAT)).await.unwrap();
        theirs.send(Message::text(SAID)).await.unwrap();
        let waits = Duration::from_secs(600);
        assert!(timeout(waits, &mut carry).await.is_err(), "it waits for room");
        assert!(events.next().await.is_some());
        let begin = Instant::now();
        let late = Duration::from_secs(1);
        let answer_pings = async {
            tokio::time::sleep(late).await;
            theirs.send(Message::text(BEAT)).await.unwrap();
            while let Some(Ok(_)) = theirs.next().await {}
        };
        let ended = tokio::select! { ended = carry => ended, () = answer_pings => panic!("closed") };
        assert_eq!(ended, SessionEnd::Lost("its heartbeat stopped".into()));
        assert!(
            (late + SILENCE..=late + SILENCE + GRACE).contains(&begin.elapsed()),
            "{:?}",
            begin.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeat_is_expected_only_after_the_first() {
        for beats in [false, true] {
            let (ours, mut theirs) = pair().await;
            let calls = Arc::new(Calls::new(Duration::from_secs(30)));
            let (inbox, _events) = inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding());
            if beats {
                let beat = r#"{"post_type":"meta_event","meta_event_type":"heartbeat","interval":30000}"#;
                theirs.send(Message::text(beat)).await.unwrap();
            }
            let outgoing = calls.connect();
            let carry = run(ours, outgoing, &inbox);
            // Reading is what answers pings.
            let answer_pings = async { while let Some(Ok(_)) = theirs.next().await {} };
            let both = async {
                tokio::select! { ended = carry => ended, () = answer_pings => panic!("closed") }
            };
            let ended = timeout(Duration::from_secs(600), both).await.ok();
            assert_eq!(ended, beats.then(|| SessionEnd::Lost("its heartbeat stopped".into())));
        }
    }
}
