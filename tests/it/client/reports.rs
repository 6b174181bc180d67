//! Reports to `post_api`, and replies by response.

use std::net::TcpListener;

use base64::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::delivery::nobody;
use super::process::{Client, Setup, scan, until};
use super::receiver::Receiver;

const SEND: &str = "/openqq/send_friend_message?uid=10001&content=%E4%BD%A0%E5%A5%BD";

#[test]
fn everything_is_reported_in_order() {
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
    assert_eq!(client.until_exit().code(), Some(0));
}

#[test]
fn messages_alone_where_events_are_switched_off() {
    let receiver = Receiver::new(|_| String::new());
    let client =
        Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url), ("PLUGIN_OPENQQ_POST_EVENT", "0")]);
    client.get(SEND);
    assert_eq!(receiver.next().json["post_type"], "send_message");
    assert_eq!(receiver.next().json["post_type"], "receive_message");
}

#[test]
fn an_answer_may_be_a_reply() {
    // Replies to everything but its own replies, and to our own messages too, which must not count.
    let receiver = Receiver::new(|report: &Value| match report["content"].as_str() {
        Some("你好") => json!({ "reply": format!("to {}", report["class"].as_str().unwrap()) }).to_string(),
        _ => "[1,".to_owned(),
    });
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    client.get(SEND);
    assert_eq!(receiver.next_message()["class"], "send");
    assert_eq!(receiver.next_message()["class"], "recv");
    let reply = receiver.next_message();
    assert_eq!((&reply["class"], &reply["content"]), (&json!("send"), &json!("to recv")));
    assert_eq!(reply["receiver_uid"], "10001");
    let echo = receiver.next_message();
    assert_eq!((&echo["class"], &echo["content"]), (&json!("recv"), &json!("to recv")));
}

#[test]
fn a_receiver_that_hangs_is_nobodys_trouble() {
    // Takes connections, as the kernel does for it, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:hush@{}/?token=hush", hanging.local_addr().unwrap());
    let mut client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &url)]);
    for _ in 0..10 {
        assert_eq!(client.get(SEND).json()["code"], 0);
    }
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().code(), Some(0));
    assert!(client.setup.log().contains("The last reports were not posted in time;"));
}

#[test]
fn a_receiver_that_is_away_is_logged_without_secrets() {
    let away = nobody();
    let url = format!("http://me:hush@{away}/path?token=hush");
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &url)]);
    until("the log line", || client.setup.log().contains("A report could not be posted.").then_some(()));
    assert!(client.setup.log().contains(&format!("http://***@{away}/path?***")), "{}", client.setup.log());
    assert!(!client.setup.log().contains("hush"), "{}", client.setup.log());
}
