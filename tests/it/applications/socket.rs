//! [`Socket`]: an application's end of a WebSocket, opened by either side.

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::said;
use crate::client::process::{Client, PATIENCE, until};

/// The next connection to a listener.
pub(super) fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream
}

/// A WebSocket.
pub(super) struct Socket {
    pub(super) inner: WebSocket<TcpStream>,
    /// Events that came before an answer.
    events: VecDeque<Value>,
    calls: u64,
}

impl Socket {
    fn new(inner: WebSocket<TcpStream>) -> Self {
        inner.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        inner.get_ref().set_write_timeout(Some(PATIENCE)).unwrap();
        Self { inner, events: VecDeque::new(), calls: 0 }
    }

    /// Opens one at a path of the client's.
    ///
    /// # Errors
    /// The status of the answer.
    pub(super) fn try_open(client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(("127.0.0.1", client.setup.port)).unwrap();
        let url = format!("ws://127.0.0.1:{}/onebot/v11{path}", client.setup.port);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self::new(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens one that is let in, and reads that it is connected.
    pub(super) fn open(client: &Client, path: &str) -> Self {
        let mut socket = Self::try_open(client, path, &[]).unwrap();
        let first = socket.read();
        assert_eq!(first["sub_type"], "connect", "{first}");
        socket
    }

    /// Takes one that the client opens; with its request.
    #[expect(clippy::result_large_err, reason = "the library's callback has this type")]
    pub(super) fn accept(listener: &TcpListener) -> (Self, Request) {
        let stream = accepted(listener);
        let mut seen = None;
        let keep = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            seen = Some(request.clone());
            Ok(response)
        };
        let socket = Self::new(tungstenite::accept_hdr(stream, keep).unwrap());
        (socket, seen.unwrap())
    }

    pub(super) fn send(&mut self, message: Message) {
        self.inner.send(message).unwrap();
    }

    /// The next frame of JSON; none once it is closed.
    pub(super) fn next(&mut self) -> Option<Value> {
        loop {
            match self.inner.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("waited in vain for a frame")
                }
                Err(_) => return None,
            }
        }
    }

    /// The next frame of JSON.
    pub(super) fn read(&mut self) -> Value {
        self.next().expect("the connection has ended")
    }

    /// Calls an action, and waits for its answer.
    pub(super) fn call(&mut self, action: &str, params: &Value) -> Value {
        self.calls += 1;
        let echo = json!({ "call": self.calls });
        let frame = json!({ "action": action, "params": params, "echo": echo });
        self.send(Message::text(frame.to_string()));
        self.answer_to(Some(&echo))
    }

    /// The next frame that is no event.
    pub(super) fn answer(&mut self) -> Value {
        self.answer_to(None)
    }

    /// Waits for the answer with this echo, or for any. Events come before it: messages, and on a slow machine heartbeats.
    fn answer_to(&mut self, echo: Option<&Value>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "waited in vain for the answer to {echo:?}");
            let frame = self.read();
            match echo {
                Some(_) if frame.get("echo") == echo => return frame,
                None if frame.get("post_type").is_none() => return frame,
                _ => self.events.push_back(frame),
            }
        }
    }

    /// The words of the next message.
    pub(super) fn hears(&mut self) -> String {
        // Heartbeats come for ever.
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "waited in vain for a message");
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.read(),
            };
            if let Some(words) = said(&event) {
                return words.to_owned();
            }
        }
    }

    /// The words of so many messages.
    pub(super) fn hears_all(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.hears()).collect()
    }

    /// Closes it, and waits until the client has.
    pub(super) fn close(mut self) {
        self.inner.close(None).unwrap();
        while self.next().is_some() {}
        // The client has answered the close. It has let go of the connection when it has ended that as well.
        while self.inner.read().is_ok() {}
    }
}
