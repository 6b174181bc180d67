//! [`Receiver`]: a program that receives reports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, channel};

use serde_json::Value;

use super::process::PATIENCE;

/// Takes reports, one after another, until the test ends.
pub(crate) struct Receiver {
    /// Where to post to. It has a query, as the controller's have.
    pub(crate) url: String,
    reports: mpsc::Receiver<Report>,
}

/// One report, as it came.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) head: String,
    pub(crate) json: Value,
}

impl Receiver {
    /// A receiver that answers each report with what `answer` makes of it.
    pub(crate) fn new(answer: impl Fn(&Value) -> String + Send + 'static) -> Self {
        Self::on(([127, 0, 0, 1], 0).into(), answer)
    }

    /// A receiver on `address`.
    pub(crate) fn on(address: SocketAddr, answer: impl Fn(&Value) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}/post?client=x&token=hush", listener.local_addr().unwrap());
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut head = String::new();
                // Empty when the client has hung up.
                while reader.read_line(&mut head).unwrap() > 2 {}
                let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
                    continue;
                };
                let mut body = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                // What is no JSON is shown as a text.
                let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
                let json = serde_json::from_slice(&body).unwrap_or_else(|_| text());
                let answer = answer(&json);
                let length = answer.len();
                let head_back =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                let _ = reader.get_mut().write_all((head_back + &answer).as_bytes());
                if sender.send(Report { head, json }).is_err() {
                    return;
                }
            }
        });
        Self { url, reports }
    }

    /// The next report.
    pub(crate) fn next(&self) -> Report {
        self.reports.recv_timeout(PATIENCE).expect("waited in vain for a report")
    }

    /// Whether no more reports have come.
    pub(crate) fn is_quiet(&self) -> bool {
        self.reports.try_recv().is_err()
    }

    /// The parameters of the next event of this name.
    pub(crate) fn next_event(&self, name: &str) -> Value {
        loop {
            let report = self.next().json;
            if report["event"] == name {
                return report["params"].clone();
            }
        }
    }

    /// The next report of a message.
    pub(crate) fn next_message(&self) -> Value {
        loop {
            let report = self.next().json;
            if report["post_type"] != "event" {
                return report;
            }
        }
    }
}
