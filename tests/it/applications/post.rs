//! Events that the client posts.

use std::sync::mpsc::channel;
use std::time::Instant;

use ring::hmac;
use serde_json::{Value, json};

use super::socket::Socket;
use super::{hear, said};
use crate::client::process::{Client, PATIENCE, until};
use crate::client::receiver::{Receiver, Report};
use crate::fixture::free_port;
use crate::server::{self, Request, Server};

fn running(urls: &str, more: &[(&str, &str)]) -> Client {
    let vars = [("ONEBOT_SERVER_POST", urls), ("ONEBOT_SERVER_HOLD", "3600")];
    Client::running(&[&vars[..], more].concat())
}

/// The next message that is posted.
fn message(receiver: &Receiver) -> Report {
    // Heartbeats come for ever.
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain for a message");
        let report = receiver.next();
        if said(&report.json).is_some() {
            return report;
        }
    }
}

fn words(receiver: &Receiver) -> String {
    said(&message(receiver).json).unwrap().to_owned()
}

#[test]
fn events_are_posted_signed_and_answered_by_quick_operations() {
    let receiver = Receiver::new(|event| match said(event) {
        Some("1") => json!({ "reply": "[CQ:a]", "auto_escape": true }).to_string(),
        Some("2") => "ok".to_owned(),
        Some("3") => json!({ "reply": 7 }).to_string(),
        _ => String::new(),
    });
    let more = [("ONEBOT_SERVER_SECRET", "hush"), ("ONEBOT_SERVER_HEARTBEAT", "0.05")];
    let client = running(&receiver.url, &more);
    let first = receiver.next();
    assert_eq!(
        (&first.json["meta_event_type"], &first.json["sub_type"]),
        (&json!("lifecycle"), &json!("enable"))
    );
    assert!(first.head.starts_with("POST /post?client=x&token=hush HTTP/1.1"), "{}", first.head);
    let own = first.json["self_id"].as_u64().unwrap();
    let header = |name: &str| {
        let found = first.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("{name}: {}", first.head)).to_owned()
    };
    assert_eq!((header("x-self-id"), header("content-type").as_str()), (own.to_string(), "application/json"));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"hush");
    let tag = hmac::sign(&key, first.json.to_string().as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-signature"), format!("sha1={hex}"));
    let beat = receiver.next().json;
    assert_eq!((&beat["meta_event_type"], &beat["interval"]), (&json!("heartbeat"), &json!(50)));
    for (heard, then) in [("1", Some("&#91;CQ:a&#93;")), ("2", None), ("3", None), ("4", None)] {
        hear(&client, heard);
        assert_eq!(words(&receiver), heard);
        if let Some(then) = then {
            assert_eq!(words(&receiver), then, "the person echoes the reply");
        }
    }
    let log = client.setup.log();
    assert!(log.contains("reply must be a text or segments") && !log.contains("hush"), "{log}");
}

#[test]
fn events_that_found_no_connection_wait_in_order() {
    let address = format!("127.0.0.1:{}", free_port());
    let client = running(&format!("http://{address}/"), &[]);
    let mut witness = Socket::open(&client, "/ws");
    for heard in ["1", "2"] {
        hear(&client, heard);
        assert_eq!(witness.hears(), heard);
    }
    until("the trouble", || client.setup.log().contains("events wait").then_some(()));
    let receiver = Receiver::on(address.parse().unwrap(), |_| String::new());
    assert_eq!(receiver.next().json["sub_type"], "enable");
    hear(&client, "3");
    assert_eq!([(); 3].map(|()| words(&receiver)), ["1", "2", "3"]);
    let log = client.setup.log();
    let warnings = log.lines().filter(|line| line.starts_with("<4>") && line.contains("events wait"));
    assert_eq!(warnings.count(), 1, "{log}");
}

/// The words of the messages among these requests.
fn posted(requests: &[Request]) -> Vec<String> {
    let events = requests.iter().map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    events.filter_map(|event| said(&event).map(str::to_owned)).collect()
}

#[test]
fn event_that_may_have_arrived_is_not_posted_again() {
    let failing =
        Server::new(|_, request| match posted(std::slice::from_ref(request)).first().map(String::as_str) {
            Some("1") => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
            // The connection is closed.
            Some("2") => String::new(),
            _ => server::OK.to_owned(),
        });
    let client = running(&failing.url("/"), &[("ONEBOT_SERVER_HEARTBEAT", "0")]);
    for (count, heard) in ["1", "2", "3"].into_iter().enumerate() {
        hear(&client, heard);
        // The first request says that the account is there.
        failing.wait_for(count + 2);
    }
    assert_eq!(posted(&failing.wait_for(4)), ["1", "2", "3"]);
    assert!(client.setup.log().contains("it answers HTTP 500; the event is not posted again"));
}

#[test]
fn end_is_told_by_the_last_post_and_by_no_websocket() {
    let receiver = Receiver::new(|_| String::new());
    let mut client =
        running(&receiver.url, &[("ONEBOT_SERVER_HEARTBEAT", "0"), ("ONEBOT_SERVER_SECRET", "hush")]);
    let mut socket = Socket::open(&client, "/ws");
    let first = receiver.next().json;
    assert_eq!(first["sub_type"], "enable");
    hear(&client, "1");
    assert_eq!((words(&receiver), socket.hears()), ("1".into(), "1".into()));
    client.signal(rustix::process::Signal::TERM);
    let last = receiver.next();
    assert_eq!(
        (&last.json["meta_event_type"], &last.json["sub_type"], &last.json["self_id"]),
        (&json!("lifecycle"), &json!("disable"), &first["self_id"])
    );
    assert!(last.head.contains("x-signature: sha1="), "{}", last.head);
    assert_eq!(socket.next(), None, "it is closed");
    client.until_exit();
    assert!(receiver.is_quiet());
}

#[test]
fn receiver_that_takes_no_goodbye_does_not_hold_up_the_end() {
    let (goes_on, waits) = channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let hanging = Server::new(move |_, request| {
        if String::from_utf8_lossy(&request.body).contains("\"disable\"") {
            let _ = waits.lock().unwrap().recv();
        }
        server::OK.to_owned()
    });
    let mut client = running(&hanging.url("/"), &[("ONEBOT_SERVER_HEARTBEAT", "0")]);
    assert_eq!(hanging.wait_for(1).len(), 1);
    client.signal(rustix::process::Signal::TERM);
    client.until_exit();
    let log = client.setup.log();
    assert!(!log.contains("aborted tasks") && !log.contains("did not reach"), "{log}");
    drop(goes_on);
}

#[test]
fn receiver_that_hangs_holds_up_neither_others_nor_the_end() {
    let (goes_on, waits) = channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let hanging = Server::new(move |_, request| {
        if posted(std::slice::from_ref(request)) == ["1"] {
            let _ = waits.lock().unwrap().recv();
        }
        server::OK.to_owned()
    });
    let well = Receiver::new(|_| String::new());
    let urls = format!("{},{}", hanging.url("/"), well.url);
    let mut client = running(&urls, &[("ONEBOT_SERVER_HEARTBEAT", "0")]);
    for heard in ["1", "2"] {
        hear(&client, heard);
        assert_eq!(words(&well), heard);
    }
    assert_eq!(posted(&hanging.wait_for(2)), ["1"]);
    goes_on.send(()).unwrap();
    // It was late, but not lost, and the next one follows.
    assert_eq!(posted(&hanging.wait_for(3)), ["1", "2"]);
    hear(&client, "1");
    hanging.wait_for(4);
    client.signal(rustix::process::Signal::TERM);
    client.until_exit();
    assert!(!client.setup.log().contains("aborted tasks"), "{}", client.setup.log());
}
