//! What plays the controller of a machine, and says what no controller does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fixture::{Builder, Controller};

/// A request as it came: its first line, and all of it.
pub struct Heard {
    pub line: String,
    pub whole: String,
}

/// What plays it. It ends with the tests.
pub struct Stub {
    pub url: String,
    pub heard: Arc<Mutex<Vec<Heard>>>,
}

impl Stub {
    /// One that answers each request, with its first line and its connection, on a thread of its own.
    pub fn new(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (hearing, answer) = (heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (hearing, answer) = (hearing.clone(), answer.clone());
                std::thread::spawn(move || {
                    while let Some(whole) = request(&mut stream) {
                        let line = whole.lines().next().unwrap_or_default().to_owned();
                        hearing.lock().unwrap().push(Heard { line: line.clone(), whole });
                        answer(&line, &mut stream);
                    }
                });
            }
        });
        Self { url, heard }
    }

    /// One that has these accounts, and answers everything else as `others` does.
    pub fn with(accounts: Value, others: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::new(move |line, stream| match path(line) {
            "/v1/machine" => json_answer(stream, &json!({ "free_memory": 1 }).to_string()),
            "/v1/events" => events(stream, ""),
            path if path.starts_with("/v1/clients?") => {
                json_answer(stream, &json!({ "accounts": accounts, "next": null }).to_string());
            }
            _ => others(line, stream),
        })
    }

    /// How many requests have come for a path that begins so.
    pub fn count(&self, start: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| path(&heard.line).starts_with(start)).count()
    }

    /// A door to it, which it is known to as tokyo.
    pub fn door(&self) -> Controller {
        self.door_with(Builder::new(), "")
    }

    pub fn door_with(&self, builder: Builder, more: &str) -> Controller {
        let token = builder.write_file("tokyo.token", "of-the-door-at-the-stub", 0o600);
        let machines = format!("[machines.tokyo]\nurl = '{}'\ntoken_file = {token:?}\n{more}", self.url);
        builder.config(&machines).built_in()
    }
}

/// The path of a first line, with its query.
pub fn path(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default()
}

/// A request with its body, if that has a length; none where the other side hung up.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    read.extend(body);
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Writes what a door may have hung up on.
pub fn write(stream: &mut TcpStream, text: &[u8]) -> bool {
    stream.write_all(text).is_ok()
}

pub fn json_answer(stream: &mut TcpStream, body: &str) {
    answer(stream, "200 OK", "Content-Type: application/json\r\n", body);
}

pub fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    write(stream, (head + body).as_bytes());
}

/// Begins a stream of events, which goes on until the door hangs up.
pub fn events(stream: &mut TcpStream, more: &str) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    write(stream, format!("{head}event: ready\nid: run-1\ndata: {{\"run\":\"run\"}}\n\n{more}").as_bytes());
    let _ = stream.read(&mut [0]);
}
