//! A WebSocket to an application, opened by either side.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::Applications;
use super::hub::{Attachment, Next};
use super::meta_event::{LifecycleKind, heartbeat, lifecycle};
use super::request::ActionCall;
use crate::client::backend::Backend;
use crate::client::process::unix_seconds;
use crate::client::settings::SocketRole;

/// The largest frame that is accepted: an image in base64.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// How many actions of one connection may be under way. Meanwhile no more are read.
const IN_FLIGHT: usize = 16;

/// How many bytes their frames may have. One frame is always taken.
const BYTES_IN_FLIGHT: usize = 2 * MAX_MESSAGE;

/// How many answers may wait to be written.
const UNWRITTEN: usize = IN_FLIGHT;

/// How long a frame may take to be written.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The time between pings.
const PING: Duration = Duration::from_secs(20);

/// How long nothing may come in. Every WebSocket answers pings.
const SILENCE: Duration = Duration::from_secs(60);

/// How long reading goes on when nothing can be written any more.
const LAST_READ: Duration = Duration::from_secs(1);

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The application closed it, and may have said why.
    #[error("it closed the connection{0}")]
    Closed(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(String),
    /// Nothing came any more.
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    /// It reads nothing.
    #[error("it takes longer than {} s to read a frame", WRITE_TIME.as_secs())]
    Hangs,
    /// Too many events wait for it.
    #[error("it reads too slowly: too many events wait for it")]
    TooSlow,
    /// Another account has logged in.
    #[error("another account is logged in now")]
    OtherAccount,
    /// The client ends.
    #[error("the client ends")]
    Ending,
}

/// The configuration of such a WebSocket.
pub(super) fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MAX_MESSAGE);
    config.max_frame_size = Some(MAX_MESSAGE);
    // The library's default is for large frames; ours are mostly small.
    config.read_buffer_size = 16 * 1024;
    config
}

/// Talks until the connection ends. `attachment` has the events, if they are for it; `whose` is the account that the request of the
/// connection has named.
pub(super) async fn run<B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    applications: &Applications<B>,
    (role, whose): (SocketRole, Option<u64>),
    attachment: Option<Attachment>,
    ending: &CancellationToken,
) -> Ended {
    let (sink, stream) = socket.split();
    let (answers, unwritten) = mpsc::channel(UNWRITTEN);
    let writer = Writer { sink, unwritten, applications, whose };
    let mut under_way = UnderWay::new();
    let ended = {
        // Independent of each other: if both ends only wrote, neither would read.
        let writing = pin!(writer.run(attachment, ending));
        let mut reading = pin!(read(stream, applications, role, answers, &mut under_way));
        tokio::select! {
            ended = &mut reading => ended,
            ended = writing => match ended {
                // A program may send a message and leave: what it wrote before is still to be read.
                Ended::Closed(_) | Ended::Broke(_) => timeout(LAST_READ, reading).await.unwrap_or(ended),
                ended => ended,
            },
        }
    };
    // And done.
    ending.run_until_cancelled(async { while under_way.next().await.is_some() {} }).await;
    ended
}

/// What an application says of why it closes the connection, for the log: Koishi, for one, does not take every account.
fn reason(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if !frame.reason.is_empty() => {
            format!(", saying {:?} ({})", frame.reason.as_str(), u16::from(frame.code))
        }
        _ => String::new(),
    }
}

/// The frames of a connection that are not yet answered: the answer of each, if it gets one, and its length in bytes.
type UnderWay<'a> = FuturesUnordered<BoxFuture<'a, (Option<Value>, usize)>>;

async fn read<'a, B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<S>>,
    applications: &'a Applications<B>,
    role: SocketRole,
    answers: mpsc::Sender<Value>,
    under_way: &mut UnderWay<'a>,
) -> Ended {
    let mut bytes = 0;
    let mut silent = Instant::now() + SILENCE;
    loop {
        let message = tokio::select! {
            message = timeout_at(silent, stream.next()),
                if under_way.len() < IN_FLIGHT && bytes < BYTES_IN_FLIGHT => message,
            Some((answer, length)) = under_way.next() => {
                bytes -= length;
                if let Some(answer) = answer {
                    // The writer ends this future with the connection.
                    let _ = answers.send(answer).await;
                }
                // While nothing could be read, nothing could come.
                silent = silent.max(Instant::now() + PING);
                continue;
            }
        };
        let frame = match message {
            Err(_) => return Ended::Silent,
            Ok(None) | Ok(Some(Err(Error::ConnectionClosed | Error::AlreadyClosed))) => {
                return Ended::Closed(String::new());
            }
            Ok(Some(Err(error))) => return Ended::Broke(error.to_string()),
            Ok(Some(Ok(Message::Text(text)))) => Some(Bytes::from(text)),
            Ok(Some(Ok(Message::Binary(bytes)))) => Some(bytes),
            Ok(Some(Ok(Message::Close(frame)))) => {
                // The library answers it as this reads on. Nothing follows it, but some leave the connection itself open.
                let _ = timeout(LAST_READ, stream.next()).await;
                return Ended::Closed(reason(frame.as_ref()));
            }
            // The library answers pings.
            Ok(Some(Ok(_))) => None,
        };
        silent = Instant::now() + SILENCE;
        let Some(frame) = frame.filter(|_| role.acts()) else { continue };
        bytes += frame.len();
        let answering = async move {
            let (read, length) = (ActionCall::read(&frame), frame.len());
            drop(frame);
            let answer = match read {
                Ok(Some(call)) => {
                    let echo = call.echo.clone();
                    Some(applications.call(call).await.to_json(echo.as_ref()))
                }
                Ok(None) => None,
                Err(answer) => Some(answer),
            };
            (answer, length)
        };
        under_way.push(answering.boxed());
    }
}

struct Writer<'a, B, S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    unwritten: mpsc::Receiver<Value>,
    applications: &'a Applications<B>,
    whose: Option<u64>,
}

impl<B: Backend, S: AsyncRead + AsyncWrite + Unpin> Writer<'_, B, S> {
    async fn run(mut self, attachment: Option<Attachment>, ending: &CancellationToken) -> Ended {
        match self.write(attachment, ending).await {
            Ok(never) => match never {},
            Err(ended) => {
                self.close(&ended).await;
                ended
            }
        }
    }

    async fn write(
        &mut self,
        attachment: Option<Attachment>,
        ending: &CancellationToken,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut status = self.applications.hub.status();
        let mut pings = interval_at(Instant::now() + PING, PING);
        let listens = attachment.is_some();
        // The first event tells an application which account it has, so none is sent before the number is known.
        let mut number = None;
        let mut beat = self.applications.heartbeat;
        if beat.is_zero() || !listens {
            beat = Duration::MAX;
        }
        let mut next_beat = far(Instant::now(), beat);
        loop {
            let now = *status.borrow_and_update();
            if self.whose.is_some() && now.number != self.whose {
                return Err(Ended::OtherAccount);
            }
            if listens && now.number != number {
                let (None, Some(account)) = (number, now.number) else { return Err(Ended::OtherAccount) };
                number = Some(account);
                self.send(lifecycle(account, LifecycleKind::Connect, unix_seconds())).await?;
                next_beat = far(Instant::now(), beat);
            }
            let event = async {
                match &attachment {
                    Some(attachment) if number.is_some() => attachment.next().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ending.cancelled() => return Err(Ended::Ending),
                Ok(()) = status.changed() => {}
                Some(answer) = self.unwritten.recv() => self.send(answer).await?,
                next = event => match (next, &attachment) {
                    (Next::Event(event, text), Some(attachment)) => {
                        self.send_message(Message::Text(text)).await?;
                        attachment.written(event);
                    }
                    _ => return Err(Ended::TooSlow),
                },
                () = tokio::time::sleep_until(next_beat), if number.is_some() => {
                    if let Some(account) = number {
                        self.send(heartbeat(account, now, beat, unix_seconds())).await?;
                    }
                    next_beat = far(Instant::now(), beat);
                }
                _ = pings.tick() => self.send_message(Message::Ping(Bytes::new())).await?,
            }
        }
    }

    async fn send(&mut self, value: Value) -> Result<(), Ended> {
        self.send_message(Message::text(value.to_string())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Ended> {
        // A peer that reads nothing keeps its window closed, and TCP would wait for it without end (RFC 9293, 3.8.6.1).
        match timeout(WRITE_TIME, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // The last one: the application has closed it, and the reader is about to notice why.
            Ok(Err(
                Error::ConnectionClosed
                | Error::AlreadyClosed
                | Error::Protocol(ProtocolError::SendAfterClosing),
            )) => Err(Ended::Closed(String::new())),
            Ok(Err(error)) => Err(Ended::Broke(error.to_string())),
            Err(_) => Err(Ended::Hangs),
        }
    }

    /// Says why, if the other end still reads.
    async fn close(&mut self, ended: &Ended) {
        let code = match ended {
            Ended::Ending | Ended::OtherAccount => CloseCode::Away,
            Ended::TooSlow => CloseCode::Again,
            Ended::Closed(_) | Ended::Broke(_) | Ended::Silent | Ended::Hangs => return,
        };
        let frame = CloseFrame { code, reason: Utf8Bytes::from(ended.to_string()) };
        // It may be gone, and ends anyway.
        let _ = timeout(Duration::from_secs(1), self.sink.send(Message::Close(Some(frame)))).await;
    }
}

/// So much later, as far as the clock can tell.
fn far(now: Instant, time: Duration) -> Instant {
    // A year is long enough, and can be added to any `Instant`.
    now + time.min(Duration::from_secs(365 * 86_400))
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
