//! [`Server`]: the ways to an [`Implementation`], and all that can go wrong on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::implementation::{Implementation, Manner, OWN};
use super::until;

/// How a token that is not the right one is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// By this status.
    Http(u16),
    /// By a frame after the upgrade.
    Frame,
}

/// What a connection is told to do.
enum Order {
    Say(Message),
    /// Close after all that was said.
    Close,
    /// Neither read nor write any more.
    Freeze(Sender<()>),
}

/// An implementation that listens for WebSockets.
pub(super) struct Server {
    pub(super) url: String,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    implementation: Implementation,
    connection: Mutex<Option<Sender<Order>>>,
    pub(super) connected: AtomicUsize,
    token: Mutex<Option<(String, Refusal)>>,
    /// Events come by SSE alone.
    streams: AtomicBool,
    /// Calls by HTTP are not answered any more, until events are asked for anew.
    is_frozen: AtomicBool,
    /// Calls by HTTP are answered with status 500 and words.
    is_broken: AtomicBool,
}

impl Deref for Server {
    type Target = Implementation;

    fn deref(&self) -> &Implementation {
        &self.shared.implementation
    }
}

impl Server {
    /// One that listens and is logged in.
    pub(super) fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self::away(manner, listener.local_addr().unwrap().port());
        server.listen(listener);
        server
    }

    /// One that does not listen yet.
    pub(super) fn away(manner: Manner, port: u16) -> Self {
        let shared = Shared {
            implementation: Implementation::new(manner),
            connection: Mutex::default(),
            connected: AtomicUsize::new(0),
            token: Mutex::default(),
            streams: AtomicBool::new(false),
            is_frozen: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        };
        let scheme = if manner == Manner::Milky { "http" } else { "ws" };
        Self { url: format!("{scheme}://127.0.0.1:{port}/"), shared: Arc::new(shared) }
    }

    pub(super) fn listen(&self, listener: TcpListener) {
        let shared = Arc::downgrade(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // The test is over.
                let Some(shared) = shared.upgrade() else { return };
                std::thread::spawn(move || shared.accept(stream.unwrap()));
            }
        });
    }

    /// From now on this token is wanted.
    pub(super) fn want_token(&self, token: &str, refusal: Refusal) {
        *self.shared.token.lock().unwrap() = Some((token.to_owned(), refusal));
    }

    /// From now on events come by SSE, and there is no WebSocket.
    pub(super) fn have_no_web_socket(&self) {
        self.shared.streams.store(true, Ordering::SeqCst);
    }

    /// Whether calls by HTTP are answered with status 500 from now on.
    pub(super) fn break_down(&self, is_broken: bool) {
        self.shared.is_broken.store(is_broken, Ordering::SeqCst);
    }

    /// How many connections were let in.
    pub(super) fn connected(&self) -> usize {
        self.shared.connected.load(Ordering::SeqCst)
    }

    fn order(&self, order: Order) {
        let mut order = Some(order);
        until("a connection", || {
            let connection = self.shared.connection.lock().unwrap().clone()?;
            match connection.send(order.take()?) {
                Ok(()) => Some(()),
                Err(error) => {
                    order = Some(error.0);
                    None
                }
            }
        });
    }

    /// Says that something happened.
    pub(super) fn tell(&self, event: Value) {
        self.order(Order::Say(Message::text(self.event(event))));
    }

    /// Sends a frame as it is.
    pub(super) fn say(&self, frame: &str) {
        self.order(Order::Say(Message::text(frame)));
    }

    /// Sends these bytes, which need not be UTF-8, in a frame for bytes or one for text.
    pub(super) fn say_bytes(&self, bytes: Vec<u8>, binary: bool) {
        let opcode = OpCode::Data(if binary { Data::Binary } else { Data::Text });
        self.order(Order::Say(Message::Frame(Frame::message(bytes, opcode, true))));
    }

    /// Ends the connection, after all that was said.
    pub(super) fn hang_up(&self) {
        // What is ordered from now on is for the next one.
        let connection = until("a connection", || self.shared.connection.lock().unwrap().take());
        let _ = connection.send(Order::Close);
    }

    /// Leaves the connection open and does nothing with it any more.
    pub(super) fn freeze(&self) {
        let (sender, frozen) = mpsc::channel();
        self.shared.is_frozen.store(true, Ordering::SeqCst);
        self.order(Order::Freeze(sender));
        frozen.recv().unwrap();
    }

    /// Opens a WebSocket to the client that listens on `port`.
    pub(super) fn call_back(
        &self,
        port: u16,
        token: Option<&str>,
        role: &str,
    ) -> Result<(), tungstenite::Error> {
        self.call_back_as(port, token, role, Some(OWN))
    }

    /// The same, and says that it is this account's, or does not say whose it is.
    pub(super) fn call_back_as(
        &self,
        port: u16,
        token: Option<&str>,
        role: &str,
        account: Option<u64>,
    ) -> Result<(), tungstenite::Error> {
        let stream = until("the client's port", || TcpStream::connect(("127.0.0.1", port)).ok());
        let request = tungstenite::http::Request::builder()
            .uri(format!("ws://127.0.0.1:{port}/"))
            .header("Host", "x")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("X-Client-Role", role);
        let request = match account {
            Some(account) => request.header("X-Self-ID", account.to_string()),
            None => request,
        };
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let handshake = tungstenite::client(request.body(()).unwrap(), stream);
        let (socket, _) = handshake.map_err(|error| match error {
            tungstenite::HandshakeError::Failure(error) => error,
            tungstenite::HandshakeError::Interrupted(_) => panic!("interrupted"),
        })?;
        let shared = self.shared.clone();
        std::thread::spawn(move || shared.talk(socket));
        Ok(())
    }

    /// The same, until what is returned is called: then nothing listens there any more.
    pub(super) fn by_http_until_gone(&self) -> (String, impl FnOnce()) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, gone) = (Arc::downgrade(&self.shared), Arc::new(AtomicBool::new(false)));
        let (ended, ends) = mpsc::channel::<()>();
        let is_gone = gone.clone();
        std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if is_gone.load(Ordering::SeqCst) {
                    for stream in &streams {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                    break;
                }
                let Some(shared) = shared.upgrade() else { return };
                streams.push(stream.try_clone().unwrap());
                std::thread::spawn(move || shared.answer_posts(stream, None));
            }
            drop(listener);
            drop(ended);
        });
        let stop = move || {
            gone.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(address);
            assert!(ends.recv().is_err());
        };
        (format!("http://{address}/"), stop)
    }

    /// Answers calls by HTTP; the address of its API.
    pub(super) fn by_http(&self, token: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shared = Arc::downgrade(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(shared) = shared.upgrade() else { return };
                std::thread::spawn(move || shared.answer_posts(stream.unwrap(), token));
            }
        });
        url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.complaints(), Vec::<String>::new());
        }
    }
}

/// The head of the request that begins, which stays to be read; less where no more comes.
fn head(stream: &TcpStream) -> String {
    let mut begin = [0; 8192];
    loop {
        let read = stream.peek(&mut begin).unwrap_or(0);
        let head = &begin[..read];
        if read == 0 || read == begin.len() || head.windows(4).any(|end| end == b"\r\n\r\n") {
            return String::from_utf8_lossy(head).into_owned();
        }
        std::thread::yield_now();
    }
}

/// A header of a request.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    headers.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Answers the request that has begun with nothing but this status.
fn refuse(mut stream: TcpStream, status: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // A reset, which bytes not read cause, would take the answer back.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
}

impl Shared {
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    fn accept(&self, stream: TcpStream) {
        let wanted = self.token.lock().unwrap().clone();
        if self.implementation.manner == Manner::Milky {
            return self.accept_milky(stream, wanted.as_ref().map(|(token, _)| &**token));
        }
        let mut by_frame = false;
        let check = |request: &Request, response: Response| {
            let shown =
                request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            match &wanted {
                Some((token, refusal)) if shown != Some(format!("Bearer {token}")) => match refusal {
                    Refusal::Http(status) => {
                        let mut refused = ErrorResponse::new(None);
                        *refused.status_mut() = (*status).try_into().unwrap();
                        Err(refused)
                    }
                    Refusal::Frame => {
                        by_frame = true;
                        Ok(response)
                    }
                },
                _ => Ok(response),
            }
        };
        let Ok(mut socket) = tungstenite::accept_hdr(stream, check) else { return };
        if by_frame {
            let frame = r#"{"status":"failed","retcode":1403,"data":null,"message":"token verify failed","echo":null}"#;
            let _ = socket.send(Message::text(frame));
            let _ = socket.close(None);
            while socket.read().is_ok() {}
            return;
        }
        self.talk(socket);
    }

    /// Milky has its calls and its events on one port, and events by a WebSocket for who asks for one, by SSE for others.
    fn accept_milky(&self, stream: TcpStream, token: Option<&str>) {
        let head = head(&stream);
        if head.starts_with("POST ") {
            return self.answer_posts(stream, token);
        }
        let wants_socket = header(&head, "upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
        let (path, query) = {
            let target = head.split(' ').nth(1).unwrap_or_default();
            target.split_once('?').unwrap_or((target, ""))
        };
        let by_header = header(&head, "authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        let shown = by_header.or_else(|| query.strip_prefix("access_token="));
        if path != "/event" || wants_socket && self.streams.load(Ordering::SeqCst) {
            refuse(stream, "404 Not Found");
        } else if token.is_some() && shown != token {
            refuse(stream, "401 Unauthorized");
        } else if !wants_socket {
            match header(&head, "accept") {
                Some("text/event-stream" | "*/*") => self.stream_events(stream),
                _ => refuse(stream, "406 Not Acceptable"),
            }
        } else if let Ok(socket) = tungstenite::accept(stream) {
            self.talk(socket);
        }
    }

    /// Sends events as SSE, in the order in which the test asks for them.
    fn stream_events(&self, mut stream: TcpStream) {
        let begun = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n");
        let (sender, orders) = mpsc::channel();
        self.is_frozen.store(false, Ordering::SeqCst);
        *self.connection.lock().unwrap() = Some(sender);
        self.connected.fetch_add(1, Ordering::SeqCst);
        while let (Ok(()), Ok(Order::Say(message))) = (&begun, orders.recv()) {
            let event = format!("event: milky_event\ndata: {}\n\n", message.to_text().unwrap());
            if stream.write_all(event.as_bytes()).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }

    /// Answers calls, and says what it is told to, until one of both hangs up.
    fn talk(&self, mut socket: WebSocket<TcpStream>) {
        let (sender, orders) = mpsc::channel();
        socket.set_config(|config| *config = WebSocketConfig::default().max_write_buffer_size(usize::MAX));
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        socket.get_ref().set_nodelay(true).unwrap();
        self.is_frozen.store(false, Ordering::SeqCst);
        *self.connection.lock().unwrap() = Some(sender);
        self.connected.fetch_add(1, Ordering::SeqCst);
        while self.obey(&mut socket, &orders) {
            match socket.read() {
                Ok(Message::Text(text)) => {
                    if let Some(answer) = self.implementation.frame(&text)
                        && socket.send(Message::text(answer)).is_err()
                    {
                        return;
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return,
            }
        }
    }

    /// Does what waits to be done; false: it hangs up.
    fn obey(&self, socket: &mut WebSocket<TcpStream>, orders: &Receiver<Order>) -> bool {
        for turn in 0.. {
            match orders.try_recv() {
                Ok(Order::Say(message)) => {
                    if socket.write(message).is_err() {
                        return false;
                    }
                }
                Ok(Order::Close) => {
                    // The end of the stream behind all that was said, and no reset, which would take back what is on its way.
                    let _ = socket.flush();
                    socket.get_ref().set_read_timeout(None).unwrap();
                    let _ = socket.get_ref().shutdown(std::net::Shutdown::Write);
                    while socket.get_mut().read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
                    return false;
                }
                Ok(Order::Freeze(frozen)) => {
                    frozen.send(()).unwrap();
                    loop {
                        std::thread::park();
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    return turn == 0 || socket.flush().is_ok();
                }
            }
        }
        true
    }

    fn answer_posts(&self, stream: TcpStream, token: Option<&str>) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            loop {
                match reader.read_line(&mut head) {
                    Ok(0) | Err(_) => return,
                    Ok(2) => break,
                    Ok(_) => {}
                }
            }
            let mut body =
                vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let shown = header(&head, "authorization").and_then(|shown| shown.strip_prefix("Bearer "));
            let is_json =
                header(&head, "content-type").is_some_and(|kind| kind.starts_with("application/json"));
            let (status, answer) = if token.is_some() && shown != token {
                ("401 Unauthorized", String::new())
            } else if self.is_broken.load(Ordering::SeqCst) {
                ("500 Internal Server Error", "lateinit property has not been initialized".to_owned())
            } else if self.is_frozen.load(Ordering::SeqCst) {
                let _ = reader.read(&mut [0]);
                return;
            } else if self.implementation.manner == Manner::Milky && !is_json {
                ("415 Unsupported Media Type", String::new())
            } else {
                let params = serde_json::from_slice(&body).unwrap();
                // Never answered, the connection is held until the client gives up.
                let answer = match path.strip_prefix("/api/") {
                    Some(name) => self.implementation.milky_call(name, &params),
                    None => self.implementation.call(path.trim_start_matches('/'), &params),
                };
                let Some(answer) = answer else {
                    let _ = reader.read(&mut [0]);
                    return;
                };
                ("200 OK", self.implementation.written(&answer))
            };
            let length = answer.len();
            let whole = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{answer}"
            );
            if reader.get_mut().write_all(whole.as_bytes()).is_err() {
                return;
            }
        }
    }
}
