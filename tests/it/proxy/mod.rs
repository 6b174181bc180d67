//! What the proxy promises: every request reaches its client as it came, every answer its caller, and what goes wrong
//! is said.

mod connections;
mod crowds;
mod failures;
mod forms;
mod framing;
mod messages;
mod requests;
mod streams;
mod upgrades;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::fixture::{Builder, Controller, wait_until};

/// For answers after which the client closes without a word: between the two its next request could still be written,
/// which is then lost and must be.
const NO_REUSE: &str = "[http]\nidle_timeout = 0";

/// A controller with a client `a` that listens.
fn with_client(config: &str) -> Controller {
    let controller = Builder::new().config(config).start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    controller
}

/// A client that does nothing but be there; its port is this test's own.
const IDLER: &str = "#!/bin/sh\nexec sleep 3600\n";

/// A server on the port of the client `a`: `answer` gets each connection, by its number.
fn upstream(
    controller: &Controller,
    answer: impl Fn(usize, BufReader<TcpStream>) + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
    let (connections, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            std::thread::spawn(move || answer(number, BufReader::new(stream.unwrap())));
        }
    });
    connections
}

/// Reads a request up to its empty line; none when the connection ends.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A controller with a client `a` whose port is free.
fn idler(config: &str) -> Controller {
    let controller = Builder::new().template(IDLER).config(config).start();
    controller.start_client("a");
    controller
}

/// A connection that reads answers as they come over the wire.
struct Caller(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
struct Wire {
    /// Up to the empty line; every byte a character.
    head: String,
    body: Vec<u8>,
    /// Whether it came to its end, by its own account.
    complete: bool,
}

impl Caller {
    fn new(controller: &Controller) -> Self {
        Self(BufReader::new(controller.connect()))
    }

    fn with(controller: &Controller, request: impl AsRef<[u8]>) -> Self {
        let mut caller = Self::new(controller);
        caller.write(request);
        caller
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Another way to write, for another thread.
    fn writer(&self) -> TcpStream {
        self.0.get_ref().try_clone().unwrap()
    }

    fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && self.0.read_until(b'\n', &mut head).unwrap() > 0 {}
        head.into_iter().map(char::from).collect()
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// The answer to a request other than HEAD.
    fn answer(&mut self) -> Wire {
        let head = self.read_head();
        let mut body = Vec::new();
        let mut exactly = |size: u64, body: &mut Vec<u8>| match (&mut self.0).take(size).read_to_end(body) {
            Ok(read) => read as u64 == size,
            // What breaks off is not whole, but what stands still did not break off.
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing comes any more: {head}");
                false
            }
        };
        let complete = if let Some(length) = header(&head, "content-length") {
            exactly(length.parse().unwrap(), &mut body)
        } else if header(&head, "transfer-encoding").is_some() {
            loop {
                let mut size = Vec::new();
                while !size.ends_with(b"\n") && exactly(1, &mut size) {}
                let Ok(size) = u64::from_str_radix(String::from_utf8(size).unwrap().trim(), 16) else {
                    break false;
                };
                if !exactly(size, &mut body) || !exactly(2, &mut Vec::new()) {
                    break false;
                }
                if size == 0 {
                    break true;
                }
            }
        } else {
            head.starts_with("HTTP/1.1 204 ") || head.starts_with("HTTP/1.1 304 ")
        };
        Wire { head, body, complete }
    }
}

impl Wire {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The line with the status, which must be that of a whole answer.
    fn status(&self) -> &str {
        assert!(self.complete, "{self:?}");
        self.head.lines().next().unwrap()
    }

    /// The controller's own answer about its client.
    fn is_refused(&self, status: &str, why: &str) {
        let code: u16 = status.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(self.status(), format!("HTTP/1.1 {status}"), "{}", self.text());
        assert_eq!(header(&self.head, "content-type"), Some("application/json"));
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body, json!({"code": code, "status": why, "client": "a"}));
    }
}

/// The value of the first header of that name.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    headers(head, name).next()
}

/// The values of all headers of that name.
fn headers<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    pairs.filter(move |(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// One request on a connection of its own.
fn ask(controller: &Controller, request: impl AsRef<[u8]>) -> Wire {
    Caller::with(controller, request).answer()
}

/// A request without body; `target` without host.
fn get(controller: &Controller, target: &str) -> Wire {
    ask(controller, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// The request as the client saw it, whose answer must be one of `/openqq/echo`: its head and its body.
fn seen(controller: &Controller, request: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    let answer = ask(controller, request);
    assert_eq!(answer.status(), "HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&answer.body));
    let end = answer.body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (answer.body[..end].iter().copied().map(char::from).collect(), answer.body[end..].to_vec())
}

/// A request with a form body of known length.
fn form(method: &str, target: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What the client `a` says when it is asked directly: through the controller a question takes a place, and has its time.
fn ask_client(controller: &Controller, what: &str) -> String {
    let url = format!("http://127.0.0.1:{}/openqq/{what}", controller.first_port);
    controller.send(ureq::http::Request::get(url).body(()).unwrap()).text()
}

/// What the client `a` answers about itself.
fn count(controller: &Controller, what: &str) -> usize {
    ask_client(controller, what).parse().unwrap()
}

fn wait_for_count(controller: &Controller, what: &str, is_so: impl Fn(usize) -> bool) {
    wait_until(what, || is_so(count(controller, what)));
}

/// The answer that the client is to give, as a target.
fn answer_target(raw: &str) -> String {
    let raw: String = url::form_urlencoded::byte_serialize(raw.as_bytes()).collect();
    format!("/openqq/answer?client=a&raw={}", raw.replace('+', "%20"))
}
