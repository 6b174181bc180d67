//! The stream of what changes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use super::without_usage;
use crate::fixture::{Builder, Controller, wait_until};

/// Listens to events.
pub struct Listener(BufReader<TcpStream>);

/// An event: its kind, its ID and its data.
#[derive(Debug)]
pub struct Event {
    pub kind: String,
    pub id: String,
    pub data: Value,
}

impl Listener {
    /// Listens at a path, from where an earlier event was.
    pub fn at(controller: &Controller, path: &str, last: Option<&str>) -> Self {
        let mut socket = controller.connect();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        // In version 1.0 there are no chunks in between.
        write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{last}\r\n").unwrap();
        let mut listener = Self(BufReader::new(socket));
        let head = listener.block().unwrap();
        assert!(
            head[0].contains(" 200 ") && head.iter().any(|line| line.ends_with("text/event-stream")),
            "{head:?}"
        );
        listener
    }

    pub fn new(controller: &Controller, last: Option<&str>) -> Self {
        Self::at(controller, "/v1/events", last)
    }

    /// The lines before the next empty one; none at the end.
    fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end() {
                "" => return Some(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// The next event; none at the end.
    pub fn next(&mut self) -> Option<Event> {
        let lines = self.block()?;
        let field = |name: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name}: {lines:?}")).to_owned()
        };
        Some(Event {
            kind: field("event"),
            id: field("id"),
            data: serde_json::from_str(&field("data")).unwrap(),
        })
    }

    /// The events up to the first one that is so.
    pub fn until(&mut self, is_so: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("it ended after {all:?}"));
            let is_last = is_so(&event);
            all.push(event);
            if is_last {
                return all;
            }
        }
    }
}

fn is_state(name: &str, state: &str) -> impl Fn(&Event) -> bool {
    move |event| event.kind == "account" && event.data["name"] == name && event.data["state"] == state
}

fn number(event: &Event) -> u64 {
    event.id.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[test]
fn every_change_is_told_with_the_account_as_it_is() {
    let controller = Builder::new().built_in();
    let mut listener = Listener::new(&controller, None);
    assert_eq!(listener.next().unwrap().kind, "ready");
    controller.start_client_with("bot", "sandbox_login_time=0");
    let started = listener.until(is_state("bot", "running"));
    let phases: Vec<_> =
        started.iter().map(|event| event.data["client"]["phase"].as_str().unwrap()).collect();
    assert_eq!(phases.first(), Some(&"reserved"), "{phases:?}");
    let account = without_usage(controller.get("/v1/clients/bot").json());
    assert_eq!(started.last().unwrap().data, account);
    controller.stop_client("bot");
    let gone = listener.until(|event| event.kind == "gone");
    assert_eq!(gone.last().unwrap().data["name"], "bot");
    let numbers: Vec<_> = started.iter().chain(&gone).map(number).collect();
    assert!(numbers.iter().zip(&numbers[1..]).all(|(one, next)| one + 1 == *next), "{numbers:?}");
}

#[test]
fn listener_goes_on_where_it_was() {
    let mut controller = Builder::new().built_in();
    let mut listener = Listener::new(&controller, None);
    listener.next();
    controller.start_client_with("a", "sandbox_login_time=0");
    let last = listener.until(is_state("a", "running")).pop().unwrap();
    drop(listener);
    controller.start_client_with("b", "sandbox_login_time=0");
    controller.wait_for_state("b", "running");

    let mut again = Listener::new(&controller, Some(&last.id));
    let ready = again.next().unwrap();
    assert_eq!((ready.kind.as_str(), &ready.id), ("ready", &last.id));
    let missed = again.until(is_state("b", "running"));
    assert_eq!(number(&missed[0]), number(&last) + 1);
    assert!(missed.iter().all(|event| event.kind == "account" && event.data["name"] == "b"), "{missed:?}");

    // IDs of another run, of the future, and what is none.
    let future = format!("{}9", last.id);
    controller.end();
    controller.start_again();
    for id in [last.id.as_str(), &future, "x", ""] {
        let mut after = Listener::new(&controller, Some(id));
        let kinds: Vec<_> = std::iter::repeat_with(|| after.next().unwrap().kind).take(2).collect();
        assert_eq!(kinds, ["ready", "missed"], "{id}");
    }
}

#[test]
fn stream_ends_with_the_controller_and_at_a_reload() {
    let mut controller = Builder::new().config("[http]\ndrain_timeout = 3600").built_in();
    let mut listener = Listener::new(&controller, None);
    listener.next();
    controller.reload();
    assert!(listener.next().is_none(), "its token may not be valid any more");
    let mut listener = Listener::new(&controller, None);
    listener.next();
    controller.signal(Signal::TERM);
    assert!(listener.next().is_none());
    assert_eq!(controller.wait().code(), Some(0));
}

#[test]
fn listeners_are_limited_and_leave_their_places() {
    let controller = Builder::new().built_in();
    let listeners: Vec<_> = (0..256).map(|_| Listener::new(&controller, None)).collect();
    let refused = controller.get("/v1/events");
    assert_eq!(super::problem(&refused), (503, "busy".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Those who read nothing delay no other one.
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    drop(listeners);
    wait_until("there is a place", || {
        let mut socket = controller.connect();
        socket.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        line.contains(" 200 ")
    });
}
