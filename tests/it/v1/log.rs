//! The log of an account, from the controller's memory: these tests have no journal of their own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::problem;
use crate::fixture::{Builder, Controller, wait_until};

fn entries(controller: &Controller, path: &str) -> Vec<Value> {
    let answer = controller.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["entries"].as_array().unwrap().clone()
}

/// Who said what.
fn told(entries: &[Value]) -> Vec<(&str, &str)> {
    let text = |value: &'_ Value| value.as_str().unwrap().to_owned().leak() as &str;
    entries.iter().map(|entry| (text(&entry["from"]), text(&entry["message"]))).collect()
}

/// A controller whose clients print the lines of this script.
fn printing(script: &str) -> Controller {
    Builder::new().template(&format!("#!/bin/sh\n{script}\nexec sleep 3600\n")).start()
}

/// What a stream sends, line by line.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(controller: &Controller, path: &str, headers: &str) -> Self {
        let mut stream = controller.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut lines = Self(BufReader::new(stream));
        let status = lines.line();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !lines.line().is_empty() {}
        lines
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next entry; none where the stream ends.
    fn entry(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[test]
fn log_has_lines_of_the_account_and_of_the_controller_about_it() {
    let controller = printing(r"printf 'hello\n<3>broken \033[31m\n'; echo a b >&2");
    controller.start_client("bob");
    controller.start_client("other");
    let path = "/v1/clients/bob/log";
    wait_until("it has said all", || {
        // On two streams, so in any order.
        let all = entries(&controller, path);
        ["a b", "broken"].iter().all(|line| {
            all.iter().any(|entry| entry["message"].as_str().is_some_and(|message| message.starts_with(line)))
        })
    });
    let all = entries(&controller, path);
    let told = told(&all);
    for line in [("client", "hello"), ("client", "broken \\u{1b}[31m"), ("client", "a b")] {
        assert_eq!(told.iter().filter(|told| **told == line).count(), 1, "{line:?}: {told:?}");
    }
    assert!(
        told.iter().any(|(from, text)| *from == "controller" && text.starts_with("started (pid")),
        "{told:?}"
    );
    let broken = all.iter().find(|entry| entry["message"].as_str().unwrap().starts_with("broken")).unwrap();
    assert_eq!(broken["priority"], 3);
    let times: Vec<f64> = all.iter().map(|entry| entry["time"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > 1.7e9, "{times:?}");
    assert_eq!(entries(&controller, &format!("{path}?lines=1")), all[all.len() - 1..]);
    assert_eq!(controller.get(path).header("cache-control"), Some("no-store"));

    assert_eq!(problem(&controller.get("/v1/clients/none/log")), (404, "no_such_account".into()));
    for query in ["lines=0", "lines=1001", "lines=x", "follow=2", "from=client"] {
        assert_eq!(problem(&controller.get(&format!("{path}?{query}"))), (400, "invalid_parameter".into()));
    }
}

#[test]
fn log_is_bounded() {
    let controller = printing(
        "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf '%06000d\\n' 0; echo end",
    );
    controller.start_client("bob");
    let path = "/v1/clients/bob/log?lines=1000";
    wait_until("it has said all", || {
        entries(&controller, path).iter().any(|entry| entry["message"] == "end")
    });
    let all = entries(&controller, path);
    assert!((150..=200).contains(&all.len()), "{}", all.len());
    let longest = all.iter().map(|entry| entry["message"].as_str().unwrap().len()).max();
    assert_eq!(longest, Some(4096));
}

#[test]
fn log_is_followed_until_the_controller_ends() {
    let mut controller =
        printing("echo first; while read -r line < \"$MOJO_WEBQQ_TMPDIR/pipe\"; do echo \"$line\"; done");
    let pipe = controller.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    controller.start_client("bob");
    wait_until("it has said a line", || controller.get("/v1/clients/bob/log").text().contains("first"));
    let mut by_query = Stream::open(&controller, "/v1/clients/bob/log?follow=1", "");
    let mut by_header =
        Stream::open(&controller, "/v1/clients/bob/log?lines=1", "Accept: text/event-stream\r\n");
    std::fs::write(&pipe, "second\n").unwrap();
    // Of the one with a single line before, that may be the controller's.
    for (stream, awaited) in [(&mut by_query, &["first", "second"][..]), (&mut by_header, &["second"])] {
        for message in awaited {
            let mut seen = stream.entry().unwrap();
            while seen["from"] != "client" || awaited.len() == 1 && seen["message"] == "first" {
                seen = stream.entry().unwrap();
            }
            assert_eq!(json!([seen["message"], seen["priority"]]), json!([message, 6]));
        }
    }
    controller.end();
    while by_query.entry().is_some() {}
}

#[test]
fn log_that_is_followed_takes_a_place_of_the_streams() {
    let controller = printing("echo first");
    controller.start_client("bob");
    let path = "/v1/clients/bob/log?follow=1";
    let mut streams: Vec<_> = (0..256).map(|_| Stream::open(&controller, path, "")).collect();
    assert_eq!(problem(&controller.get(path)), (503, "busy".into()));
    streams.pop();
    wait_until("a place is free", || {
        let mut stream = controller.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).unwrap();
        status.starts_with("HTTP/1.1 200")
    });
}
