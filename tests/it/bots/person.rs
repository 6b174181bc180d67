//! [`Person`]: somebody of the made-up world, who talks with bots.

use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::{ACCOUNT_NUMBER, GROUP, of_account};
use crate::fixture::{Controller, PATIENCE};

/// An account of her own, which no bot has, by way of the controller's door.
pub(super) struct Person {
    socket: WebSocket<TcpStream>,
    calls: u64,
    events: std::collections::VecDeque<Value>,
}

/// What a person is told.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) by: u64,
    /// Not of a chat of two.
    pub(super) group: Option<u64>,
    pub(super) words: String,
}

impl Person {
    /// The name of the account.
    pub(super) const NAME: &str = "小红";

    pub(super) fn at(controller: &Controller) -> Self {
        let stream = controller.connect();
        let url = of_account(controller, "ws", Self::NAME) + "/ws";
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        Self { socket, calls: 0, events: std::collections::VecDeque::new() }
    }

    fn read(&mut self) -> Value {
        // Heartbeats come for ever.
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            assert!(std::time::Instant::now() < deadline, "the person waits in vain");
            match self.socket.read().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["post_type"] != "meta_event" {
                        return frame;
                    }
                }
                Message::Close(_) => panic!("the person's connection has ended"),
                _ => {}
            }
        }
    }

    fn call(&mut self, action: &str, params: &Value) {
        self.calls += 1;
        let call = json!({ "action": action, "params": params, "echo": self.calls });
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let frame = self.read();
            if frame["echo"] == self.calls {
                assert_eq!(frame["status"], "ok", "{frame}");
                return;
            }
            self.events.push_back(frame);
        }
    }

    /// Says something to the bots' account.
    pub(super) fn says(&mut self, words: &str) {
        self.says_to(ACCOUNT_NUMBER.parse().unwrap(), words);
    }

    pub(super) fn says_to(&mut self, number: u64, words: &str) {
        self.call("send_private_msg", &json!({ "user_id": number, "message": words }));
    }

    /// Shows a picture to the bots' account, with these words.
    pub(super) fn shows(&mut self, words: &str) {
        let picture = "base64://R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs=";
        let message = json!([
            { "type": "text", "data": { "text": words } }, { "type": "image", "data": { "file": picture } },
        ]);
        self.call("send_private_msg", &json!({ "user_id": ACCOUNT_NUMBER, "message": message }));
    }

    /// Says something in the group in which both are.
    pub(super) fn says_in_group(&mut self, words: &str) {
        self.call("send_group_msg", &json!({ "group_id": GROUP, "message": words }));
    }

    /// The next event of this `post_type`.
    fn next(&mut self, post_type: &str) -> Value {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.read(),
            };
            if event["post_type"] == post_type {
                return event;
            }
        }
    }

    /// The next that she is told.
    pub(super) fn hears(&mut self) -> Told {
        self.hears_parts().0
    }

    /// The next that she is told, and of what kinds its parts are.
    pub(super) fn hears_parts(&mut self) -> (Told, Vec<String>) {
        let event = self.next("message");
        let segments = event["message"].as_array().unwrap();
        let words: String = segments.iter().filter_map(|segment| segment["data"]["text"].as_str()).collect();
        let told = Told {
            by: event["user_id"].as_u64().unwrap(),
            group: event["group_id"].as_u64(),
            // Some put a space between whom they name and what they say.
            words: words.trim().to_owned(),
        };
        (told, segments.iter().map(|segment| segment["type"].as_str().unwrap().to_owned()).collect())
    }

    /// The kind of the next event that tells of no message.
    pub(super) fn notices(&mut self) -> String {
        self.next("notice")["notice_type"].as_str().unwrap().to_owned()
    }

    /// The next so many, in an order that does not depend on time.
    pub(super) fn hears_all(&mut self, count: usize) -> Vec<Told> {
        let mut told: Vec<_> = (0..count).map(|_| self.hears()).collect();
        told.sort();
        told
    }
}
