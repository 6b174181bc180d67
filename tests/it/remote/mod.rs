//! The built-in client with the OneBot and the Milky backend, against an implementation of the tests' own.

mod accounts;
mod actions;
mod broken_text;
mod changes;
mod controller;
mod events;
mod faults;
mod implementation;
mod lasting;
mod login;
mod milky;
mod milky_applications;
mod old_api;
mod over_milky;
mod reasons;
mod schemas;
mod server;
mod start;
pub(crate) mod tls;
mod ways;

use std::io::Write;
use std::net::TcpStream;

use crate::client::process::{Client, send_request, until};
use server::Server;
use start::{running, setup, variable};

/// Says that the test does not run and why.
fn say_not_run(why: &str) {
    // Not by a macro, whose words are shown only when a test fails.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr().lock(), "NOT RUN: {test}, with what others say Milky is: {why}").unwrap();
}

/// Waits until check_client shows a reason with this part, in the state `loading`.
fn reason(client: &Client, part: &str) -> String {
    until(part, || {
        let report = client.setup.report().filter(|report| report.state.as_str() == "loading")?;
        let reason = report.fields().get("reason")?.as_str()?.to_owned();
        reason.contains(part).then_some(reason)
    })
}

/// Two messages to one friend: the first is written and has no answer, the second waits behind it in the outbox. From now on
/// the server answers.
fn unanswered_and_waiting(server: &Server, client: &Client) -> (TcpStream, TcpStream) {
    server.answer("send_private_msg", |_| None);
    let send = |content: &str| {
        let path = format!("GET /openqq/send_friend_message?uid=7&content={content}");
        send_request(client.setup.port, &path, "", "").unwrap()
    };
    let first = send("first");
    until("the first", || (server.calls("send_private_msg").len() == 1).then_some(()));
    let second = send("second");
    // The client has one thread and takes connections in order: when it has answered two later ones, it has read this.
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    server.answer("send_private_msg", |_| Some(implementation::ok(serde_json::json!({ "message_id": 2 }))));
    (first, second)
}
