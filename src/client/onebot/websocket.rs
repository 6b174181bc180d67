//! A connection by WebSocket, whoever opened it.

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

use super::calls::Outgoing;
use super::inbox::{Inbox, Sign};
use super::link::{Ended, Token};
use crate::model::chain::Chain;
use crate::outbound::tls_connector;

/// The largest message that is taken: a list of members has under 1 MiB for 2,000.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// How long it may take to open a connection, each of its steps.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// How long a frame may take to be written.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The pause between pings.
const PING: Duration = Duration::from_secs(20);

/// How long nothing at all may come in: pings are answered by every WebSocket.
const SILENCE: Duration = Duration::from_secs(60);

/// How many signs of life in a row may be missing.
const MISSED: u32 = 3;

/// How long the next sign of life is waited for in any case, for we may not have read for a while. Less than between
/// pings, whose answers are no sign of life.
const GRACE: Duration = Duration::from_secs(5);

/// The settings of every connection.
pub(super) fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MAX_MESSAGE);
    config.max_frame_size = Some(MAX_MESSAGE);
    // Few are open for long, and most frames are small.
    config.read_buffer_size = 16 * 1024;
    config
}

/// What carries a WebSocket: TCP, or TLS on top of it.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carrier for S {}

/// Opens a connection to `url`, whose host and port are `address`.
///
/// # Errors
/// Why there is none.
pub(super) async fn open(
    url: &str,
    address: (&str, u16),
    token: Option<&Token>,
) -> Result<WebSocketStream<Box<dyn Carrier>>, Ended> {
    let late = |_| Ended::Lost("it took too long".into());
    let stream = timeout(OPEN_TIME, TcpStream::connect(address)).await.map_err(late)?;
    let stream = stream.map_err(|error| Ended::Unreachable(error.to_string()))?;
    // A frame is written as a whole, and somebody waits for its answer.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Carrier> = if url.starts_with("wss:") {
        Box::new(timeout(OPEN_TIME, secure(stream, address.0)).await.map_err(late)??)
    } else {
        Box::new(stream)
    };
    let mut request = url.into_client_request().map_err(|error| Ended::Lost(error.to_string()))?;
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))
            .map_err(|_| Ended::Token("the token cannot be sent in a header".into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let opened =
        timeout(OPEN_TIME, client_async_with_config(request, stream, Some(config()))).await.map_err(late)?;
    match opened {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) if matches!(answer.status().as_u16(), 401 | 403) => {
            Err(Ended::Token(format!("the answer was HTTP {}", answer.status().as_u16())))
        }
        Err(error) => Err(Ended::Lost(error.to_string())),
    }
}

async fn secure(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Ended> {
    let lost = |error: &dyn std::error::Error| Ended::Lost(format!("TLS: {}", Chain(error)));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| lost(&error))?;
    let connector = tls_connector().map_err(|error| lost(&error))?;
    connector.connect(name, stream).await.map_err(|error| lost(&error))
}

/// Carries frames both ways until the connection ends.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    outgoing: mpsc::Receiver<Outgoing>,
    inbox: &Inbox,
) -> Ended {
    let (sink, stream) = socket.split();
    // Apart, so that neither waits for the other: both ends might write, and nobody read.
    let mut writing = std::pin::pin!(write(sink, outgoing));
    let mut reading = std::pin::pin!(read(stream, inbox));
    tokio::select! {
        ended = &mut reading => ended,
        ended = &mut writing => {
            // What has come already is not lost because nothing can be written.
            match timeout(WRITE_TIME, reading).await {
                Ok(refused @ Ended::Token(_)) => refused,
                _ => ended,
            }
        }
    }
}

/// Takes what comes until the connection ends, and makes no calls on it.
pub(super) async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    inbox: &Inbox,
) -> Ended {
    let (_nothing, outgoing) = mpsc::channel(1);
    run(socket, outgoing, inbox).await
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<S>>,
    inbox: &Inbox,
) -> Ended {
    // When the next sign of life is overdue, of an implementation that gives any: one that gives none any more hangs, though
    // its WebSocket may still answer.
    let mut overdue: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let silent = now + SILENCE;
        let dead = overdue.map(|overdue| overdue.max(now + GRACE)).filter(|dead| *dead < silent);
        let Ok(message) = timeout_at(dead.unwrap_or(silent), stream.next()).await else {
            return Ended::Lost(match dead {
                Some(_) => "its heartbeat stopped".into(),
                None => format!("nothing came for {} s", SILENCE.as_secs()),
            });
        };
        let sign = match message {
            Some(Ok(Message::Text(text))) => inbox.take(text.as_bytes()).await,
            Some(Ok(Message::Binary(bytes))) => inbox.take(&bytes).await,
            // The pong is the library's.
            Some(Ok(_)) => Sign::None,
            Some(Err(error)) => return Ended::Lost(error.to_string()),
            None => return Ended::Lost("the other end closed it".into()),
        };
        match sign {
            Sign::None => {}
            Sign::Life(interval) => {
                // A year is never, and can be added to any time.
                let longest = Duration::from_secs(365 * 86_400);
                overdue = Some(Instant::now() + interval.saturating_mul(MISSED).clamp(SILENCE, longest));
            }
            Sign::TokenRefused => return Ended::Token("the answer was retcode 1403".into()),
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> Ended {
    let mut pings = interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            call = outgoing.recv() => match call {
                Some(call) if call.begin() => Message::text(call.frame()),
                // Withdrawn while it waited.
                Some(_) => continue,
                None => return Ended::Lost("it is not needed any more".into()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        match timeout(WRITE_TIME, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ended::Lost(error.to_string()),
            Err(_) => return Ended::Lost("the other end does not read".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::onebot::calls::Calls;
    use crate::client::onebot::inbox;
    use std::sync::Arc;
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (one, two) = duplex(64 * 1024);
        let ours = WebSocketStream::from_raw_socket(one, Role::Client, Some(config())).await;
        (ours, WebSocketStream::from_raw_socket(two, Role::Server, None).await)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_and_leaves_who_is_silent() {
        let (ours, mut theirs) = pair().await;
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, _events) = inbox::open(calls.clone());
        let begin = Instant::now();
        let ended = run(ours, calls.connect(), &inbox).await;
        assert_eq!((ended, begin.elapsed()), (Ended::Lost("nothing came for 60 s".into()), SILENCE));
        assert!(matches!(theirs.next().await, Some(Ok(Message::Ping(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_read_may_be_alive() {
        const BEAT: &str = r#"{"post_type":"meta_event","meta_event_type":"heartbeat","interval":5000}"#;
        const SAID: &str =
            r#"{"post_type":"message","message_type":"group","group_id":5,"user_id":7,"message":"x"}"#;
        let (ours, mut theirs) = pair().await;
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, mut events) = inbox::open(calls.clone());
        // Full, so that the next message has to wait.
        for _ in 0..20_000 {
            inbox.take(SAID.as_bytes()).await;
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
        assert_eq!(ended, Ended::Lost("its heartbeat stopped".into()));
        assert!(
            (late + SILENCE..=late + SILENCE + GRACE).contains(&begin.elapsed()),
            "{:?}",
            begin.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_expected_only_of_whom_one_was_heard() {
        for beats in [false, true] {
            let (ours, mut theirs) = pair().await;
            let calls = Arc::new(Calls::new(Duration::from_secs(30)));
            let (inbox, _events) = inbox::open(calls.clone());
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
            assert_eq!(ended, beats.then(|| Ended::Lost("its heartbeat stopped".into())));
        }
    }
}
