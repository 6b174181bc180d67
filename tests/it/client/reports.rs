//! Reports to `post_api`, and replies by response.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;

use base64::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::delivery::nobody;
use super::process::{Client, Setup, scan, until};
use super::receiver::Receiver;

const SEND: &str = "/openqq/send_friend_message?uid=10001&content=%E4%BD%A0%E5%A5%BD";

#[test]
fn reports_come_in_order() {
    let receiver = Receiver::new(|_| String::new());
    let mut client = Setup::new(&[("PLUGIN_OPENQQ_POST_API", &receiver.url)]).start();
    let change =
        |old: &str, new: &str| json!({ "post_type": "event", "event": "state_change", "params": [old, new] });
    let first = receiver.next();
    assert!(first.head.starts_with("POST /post?client=x&token=hush HTTP/1.1\r\n"), "{}", first.head);
    assert!(first.head.contains("content-type: application/json\r\n"), "{}", first.head);
    assert_eq!(first.json, change("init", "loading"));
    assert_eq!(receiver.next().json, change("loading", "scaning"));

    let code = receiver.next().json;
    assert_eq!(code["event"], "input_qrcode");
    assert_eq!(code["params"][0], client.setup.image().to_str().unwrap());
    let image =
        base64::engine::general_purpose::STANDARD.decode(code["params"][1].as_str().unwrap()).unwrap();
    assert!(scan(&image).contains("/sandbox/"));

    assert_eq!(receiver.next().json, change("scaning", "confirming"));
    assert_eq!(receiver.next().json, change("confirming", "updating"));
    assert_eq!(receiver.next().json, change("updating", "running"));
    assert_eq!(receiver.next().json, json!({ "post_type": "event", "event": "login", "params": [1] }));

    let id = client.get(SEND).json()["id"].clone();
    let sent = receiver.next().json;
    assert_eq!(
        (&sent["post_type"], &sent["class"], &sent["id"]),
        (&json!("send_message"), &json!("send"), &id)
    );
    let echo = receiver.next().json;
    assert_eq!((&echo["post_type"], &echo["class"]), (&json!("receive_message"), &json!("recv")));
    for (mine, theirs) in
        [("sender", "receiver"), ("sender_id", "receiver_id"), ("sender_uid", "receiver_uid")]
    {
        assert_eq!((&sent[mine], &sent[theirs]), (&echo[theirs], &echo[mine]));
    }
    for message in [&sent, &echo] {
        assert_eq!((&message["type"], &message["content"]), (&json!("friend_message"), &json!("你好")));
        assert!(message["time"].as_u64().unwrap() > 1_700_000_000);
    }
    assert_eq!((&echo["sender"], &echo["sender_uid"]), (&json!("红红"), &json!("10001")));

    client.signal(Signal::TERM);
    assert_eq!(receiver.next().json, change("running", "stop"));
    assert_eq!(receiver.next().json, json!({ "post_type": "event", "event": "stop", "params": [] }));
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn post_event_0_reports_messages_only() {
    let receiver = Receiver::new(|_| String::new());
    let client =
        Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url), ("PLUGIN_OPENQQ_POST_EVENT", "0")]);
    client.get(SEND);
    assert_eq!(receiver.next().json["post_type"], "send_message");
    assert_eq!(receiver.next().json["post_type"], "receive_message");
}

#[test]
fn reply_goes_to_the_chat_of_the_message() {
    // As text/html with JSON in it, to everything but to what it asked for itself.
    let receiver = Receiver::new(|report: &Value| match report["content"].as_str() {
        Some("你好") => json!({ "reply": format!("to {}", report["class"].as_str().unwrap()) }).to_string(),
        _ => "ok".to_owned(),
    });
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    client.get(SEND);
    let mut replies = Vec::new();
    while replies.len() < 2 {
        let message = receiver.next_message();
        if message["class"] == "send" && message["content"] != "你好" {
            assert_eq!(message["receiver_uid"], "10001");
            replies.push(message["content"].as_str().unwrap().to_owned());
        }
    }
    replies.sort();
    assert_eq!(replies, ["to recv", "to send"]);
}

#[test]
fn reply_to_a_reply_is_ignored() {
    let receiver = Receiver::new(|report: &Value| {
        let is_event = report["post_type"] == "event";
        let is_own = report["class"] == "send";
        if is_event || is_own { json!({ "reply": 7 }).to_string() } else { "{".to_owned() }
    });
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    for _ in 0..2 {
        client.get(SEND);
    }
    // Two messages, a reply to each, and what comes back to all four.
    let messages: Vec<_> = (0..8).map(|_| receiver.next_message()).collect();
    let replies = messages.iter().filter(|message| message["class"] == "send" && message["content"] == "7");
    assert_eq!(replies.count(), 2, "{messages:?}");
    client.get("/openqq/send_friend_message?uid=10001&content=end");
    let said = |why: &str| client.setup.log().matches(why).count();
    until("the last reply to be dropped", || (receiver.next_message()["content"] == "end").then_some(()));
    for why in ["such a reply itself", "is about an event", "begins like a JSON object"] {
        assert_eq!(said(why), 1, "{why}: {}", client.setup.log());
    }
}

#[test]
fn hanging_receiver_delays_nothing_else() {
    // Takes connections, as the kernel does for it, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:hush@{}/?token=hush", hanging.local_addr().unwrap());
    let mut client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &url)]);
    for _ in 0..10 {
        assert_eq!(client.get(SEND).json()["code"], 0);
    }
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    let said = " are left on disk; the next start delivers them";
    until("the log line", || client.setup.log().contains(said).then_some(()));
}

#[test]
fn absent_receiver_is_logged_without_secrets() {
    let away = nobody();
    let url = format!("http://me:hush@{away}/path?token=hush");
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &url)]);
    until("the log line", || client.setup.log().contains("cannot deliver reports to ").then_some(()));
    assert!(client.setup.log().contains(&format!("http://***@{away}/path?***")), "{}", client.setup.log());
    assert!(!client.setup.log().contains("hush"), "{}", client.setup.log());
}
