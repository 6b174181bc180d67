//! The events of an implementation that takes calls by HTTP: by a WebSocket, or by SSE where it has none. Nothing but events
//! comes by it.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::SessionEnd;
use super::http_calls::HttpCalls;
use super::inbox::{ConnectionSignal, Inbox};
use super::token::AccessToken;
use super::websocket;
use crate::client::settings::EventAddress;
use crate::model::error_chain::ErrorChain;
use crate::peers::PeerPolicy;

/// The largest event that is accepted.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// How long the answer may take to begin.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// An open stream.
pub(crate) enum EventStream {
    /// A WebSocket.
    WebSocket(Box<tokio_tungstenite::WebSocketStream<Box<dyn websocket::Carrier>>>),
    /// The body of an answer of SSE (html.spec.whatwg.org/multipage/server-sent-events.html).
    Sse(Box<reqwest::Response>),
}

impl EventStream {
    /// Opens it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn open(
        inbox: &Inbox,
        address: &EventAddress,
        http: &HttpCalls,
        token: Option<&AccessToken>,
        policy: Option<&PeerPolicy>,
    ) -> Result<Self, SessionEnd> {
        let EventAddress { web_socket, sse, host, port } = address;
        let table = inbox.dialect().table();
        match websocket::open(table, web_socket, (host, *port), token, policy).await {
            Ok(socket) => Ok(Self::WebSocket(Box::new(socket))),
            Err(SessionEnd::NoWebSocket(_)) => {
                let late = |_| SessionEnd::Lost("its event stream took too long".into());
                let answer = timeout(OPEN_TIME, http.stream(sse)).await.map_err(late)??;
                let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                match answer.status().as_u16() {
                    200 if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) => {
                        Ok(Self::Sse(Box::new(answer)))
                    }
                    code @ (401 | 403) => {
                        Err(SessionEnd::TokenRefused(format!("the answer was HTTP {code}")))
                    }
                    code => Err(SessionEnd::Lost(format!(
                        "its event stream is neither a WebSocket nor SSE (HTTP {code}): the path of {table}_url is not that of the implementation"
                    ))),
                }
            }
            Err(ended) => Err(ended),
        }
    }

    /// Receives events until the stream ends.
    pub(crate) async fn run(self, inbox: &Arc<Inbox>) -> SessionEnd {
        match self {
            Self::WebSocket(socket) => websocket::receive_events(*socket, inbox).await,
            Self::Sse(answer) => receive(*answer, inbox).await,
        }
    }
}

/// Receives events of SSE. No silence ends it: calls show whether the implementation is still there.
async fn receive(mut answer: reqwest::Response, inbox: &Arc<Inbox>) -> SessionEnd {
    let source = inbox.connection();
    let mut lines = SseLines::default();
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return SessionEnd::Lost("the other end closed the event stream".into()),
            Err(error) => return SessionEnd::Lost(ErrorChain(&error.without_url()).to_string()),
        };
        let Ok(events) = lines.push(&chunk) else {
            return SessionEnd::Lost(format!("it sent an event of more than {} MiB", MAX_EVENT >> 20));
        };
        for event in events {
            match inbox.take(&event, source).await {
                ConnectionSignal::None | ConnectionSignal::Alive(_) => {}
                ConnectionSignal::TokenRefused => {
                    return SessionEnd::TokenRefused("the event stream says so".into());
                }
                ConnectionSignal::OtherAccount(other) => return SessionEnd::OtherAccount(other.to_string()),
            }
        }
    }
}

/// Splits a stream into events. Only `data` counts.
#[derive(Default)]
struct SseLines {
    line: Vec<u8>,
    data: Vec<u8>,
}

/// An event is too large.
#[derive(Debug)]
struct TooLarge;

impl SseLines {
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut events = Vec::new();
        for byte in chunk {
            // A carriage return before the line feed is white space at the end of JSON.
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > MAX_EVENT {
                    return Err(TooLarge);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() && !self.data.is_empty() {
                events.push(std::mem::take(&mut self.data));
            } else if let Some(data) = line.strip_prefix(b"data:") {
                // Several lines of data are one text with line feeds.
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_of_any_chunks() {
        let stream = b": hello\n\nevent: milky_event\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\ndata:{}\n\ndata: unfinished\n";
        for size in [1, 2, 3, 7, 1000] {
            let mut lines = SseLines::default();
            let events: Vec<Vec<u8>> =
                stream.chunks(size).flat_map(|chunk| lines.push(chunk).unwrap()).collect();
            assert_eq!(events, [b"{\"a\":\n1}".to_vec(), b"{}".to_vec()], "{size}");
        }
        let mut lines = SseLines::default();
        assert!((0..MAX_EVENT / 1024 + 2).any(|_| lines.push(&[b'x'; 1024]).is_err()));
    }
}
