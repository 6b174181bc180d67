//! Messages that wait for their turn: who is refused, who gives up, and what is lost at the end of the client.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::delivery::{anywhere, next, receive};
use super::process::{Client, Setup, send_request, until};

const TO_ONE: &str = "/openqq/send_friend_message?uid=10001&content=";
const TO_ANOTHER: &str = "/openqq/send_friend_message?uid=10002&content=";

fn sent(answer: &Value) {
    assert_eq!((&answer["code"], &answer["status"]), (&json!(0), &json!("发送成功")), "{answer}");
}

#[test]
fn late_turn_is_refused_at_once_with_retry_after() {
    let client = Client::running(&[("SEND_INTERVAL", "3600")]);
    sent(&client.get(&format!("{TO_ONE}1")).json());
    let refused = client.get(&format!("{TO_ONE}2")).json();
    assert_eq!((&refused["code"], &refused["status"]), (&json!(-8), &json!("发送失败")), "{refused}");
    let wait = refused["retry_after"].as_u64().unwrap();
    assert!((3000..3600).contains(&wait), "{refused}");
    assert!(refused["info"].as_str().unwrap().contains(&format!("try again in {wait} s")), "{refused}");
}

#[test]
fn hang_up_before_the_turn_withdraws_the_message() {
    let client = Client::running(&[("SEND_INTERVAL", "2")]);
    sent(&client.get(&format!("{TO_ONE}first")).json());
    let waiting = send_request(client.setup.port, &format!("GET {TO_ONE}given-up"), "", "").unwrap();
    // Its one thread reads connections in order, so the message is queued by the second answer.
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    drop(waiting);
    sent(&client.get(&format!("{TO_ONE}second")).json());
    let events = until("echoes", || {
        let events = client.get("/openqq/check_event").body;
        events.contains("second").then_some(events)
    });
    assert!(!events.contains("given-up"), "{events}");
}

/// The `send_failed` events that come, by content, with their codes.
fn lost(
    deliveries: &std::sync::mpsc::Receiver<super::delivery::Delivery>,
    count: usize,
) -> Vec<(String, String, i64)> {
    let events =
        std::iter::repeat_with(|| next(deliveries).json).filter(|json| json["event"] == "send_failed");
    let read = |event: Value| {
        let message = &event["params"][0];
        let text = |key: &str| message[key].as_str().unwrap().to_owned();
        assert_eq!(message["type"], "friend_message", "{event}");
        (text("content"), text("id"), event["params"][1].as_i64().unwrap())
    };
    events.take(count).map(read).collect()
}

#[test]
fn queued_messages_are_reported_as_failed_after_stop_and_kill() {
    let (address, deliveries) = receive(anywhere(), |_, _| Some(("200 OK", String::new())));
    let mut setup = Setup::new(&[("SEND_INTERVAL", "3600")]);
    setup.set("POST_API", &format!("http://{address}/"));
    let mut client = setup.start();
    for (signal, code) in [(Signal::TERM, -3), (Signal::KILL, -3)] {
        client.setup.until_state("running");
        sent(&client.get(&format!("{TO_ONE}sent")).json());
        let queue = |content: &str| {
            let answer = client.get(&format!("{TO_ANOTHER}{content}&async=1")).json();
            assert_eq!(answer["status"], "request already in execution");
            (content.to_owned(), answer["id"].as_str().unwrap().to_owned(), code)
        };
        let queued = [queue("a"), queue("b")];
        client.signal(signal);
        client.until_exit();
        client.start_again();
        assert_eq!(lost(&deliveries, 2), queued);
        for (_, id, _) in queued {
            assert!(client.setup.log().contains(&id), "the log names it");
        }
    }
}
