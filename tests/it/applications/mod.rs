//! Applications that speak OneBot v11 to the built-in client, well and badly.

mod abuse;
mod away;
mod configured;
mod door;
mod hostile;
mod post;
mod reverse;
mod rules;
mod socket;

use serde_json::{Value, json};

use crate::client::process::{Client, request};

/// A person of the sandbox's world without a client: who echoes what is said.
const PERSON: u64 = 10_004;

/// Calls an action by HTTP, as one more application.
fn act(client: &Client, name: &str, params: &Value) -> Value {
    let kind = "Content-Type: application/json\r\n";
    let path = format!("POST /onebot/v11/{name}");
    let body = params.to_string();
    // The length is counted in bytes.
    let answer = request(client.setup.port, &path, kind, &body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Has the account hear these words from a person.
fn hear(client: &Client, words: &str) {
    let sent = act(client, "send_private_msg", &json!({ "user_id": PERSON, "message": words }));
    assert_eq!(sent["status"], "ok", "{sent}");
}

/// What was said in an event of a message; none for another one.
fn said(event: &Value) -> Option<&str> {
    event["raw_message"].as_str().filter(|_| event["post_type"] == "message")
}
