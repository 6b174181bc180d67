//! Applications that break rules, and their neighbours, who must not notice.

use std::collections::BTreeSet;
use std::time::Instant;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::socket::Socket;
use super::{PERSON, act, hear};
use crate::client::process::{Client, PATIENCE};

#[test]
fn broken_frames_are_answered_and_the_connection_goes_on() {
    let client = Client::running(&[]);
    let mut socket = Socket::open(&client, "/ws");
    for frame in ["{", "", "[]", "7", r#"{"action":7}"#, r#"{"action":"get_status","params":[]}"#] {
        socket.send(Message::text(frame));
        let answer = socket.answer();
        assert_eq!((&answer["status"], &answer["retcode"]), (&json!("failed"), &json!(1400)), "{frame}");
    }
    socket.send(Message::binary(vec![0xff, 0, 0xfe]));
    assert_eq!(socket.answer()["retcode"], 1400);
    // Some programs send all frames as bytes.
    socket.send(Message::binary(r#"{"action":"get_login_info","echo":1}"#));
    let answer = socket.answer();
    assert_eq!((&answer["status"], &answer["echo"]), (&json!("ok"), &json!(1)));
    assert_eq!(socket.call("fly", &json!({}))["retcode"], 1404);
    let deep = format!(r#"{{"action":"get_status","params":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    socket.send(Message::text(deep));
    assert_eq!(socket.answer()["retcode"], 1400);
    assert_eq!(socket.call("get_status", &json!({}))["data"]["online"], true);
}

/// Reads until the connection is closed. On a slow machine heartbeats come before.
fn until_closed(socket: &mut Socket) {
    while let Some(event) = socket.next() {
        assert_eq!(event["post_type"], "meta_event", "{event}");
    }
}

#[test]
fn frame_that_is_too_large_ends_its_own_connection_only() {
    let client = Client::running(&[]);
    let mut other = Socket::open(&client, "/ws");
    let mut socket = Socket::open(&client, "/ws");
    // The largest that are taken hold an image in base64.
    let large = json!({ "action": "get_status", "params": { "x": "x".repeat(31 << 20) }, "echo": 7 });
    socket.send(Message::text(large.to_string()));
    assert_eq!(socket.answer()["echo"], 7);
    // The client closes before it has read all, which may fail the write.
    let _ = socket.inner.send(Message::text("x".repeat((32 << 20) + 1)));
    until_closed(&mut socket);
    let pieces: Vec<u8> = [&[0x01_u8, 0xff][..], &(33_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    let mut lying = Socket::open(&client, "/ws");
    std::io::Write::write_all(lying.inner.get_mut(), &pieces).unwrap();
    // A length alone is no reason to wait for so much.
    until_closed(&mut lying);
    assert_eq!(other.call("get_status", &json!({}))["status"], "ok");
}

#[test]
fn flood_of_actions_is_answered_without_holding_up_others() {
    const CALLS: usize = 20_000;
    let client = Client::running(&[]);
    let mut flooding = Socket::open(&client, "/ws");
    let mut other = Socket::open(&client, "/ws");
    // A writer beside the reader: who only writes is not read any more at some point.
    let stream = flooding.inner.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let mut writer = WebSocket::from_raw_socket(stream, Role::Client, None);
        for echo in 0..CALLS {
            let frame = json!({ "action": "get_group_list", "echo": echo });
            writer.send(Message::text(frame.to_string())).unwrap();
        }
    });
    // While nothing of it is read.
    for _ in 0..100 {
        assert_eq!(other.call("get_login_info", &json!({}))["status"], "ok");
    }
    let mut missing: BTreeSet<u64> = (0..CALLS as u64).collect();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{} actions have no answer", missing.len());
        let answer = flooding.read();
        if let Some(echo) = answer["echo"].as_u64() {
            assert_eq!(answer["status"], "ok");
            assert!(missing.remove(&echo), "{echo} is answered twice");
        }
    }
    writing.join().unwrap();
}

#[test]
fn application_that_never_reads_delays_no_other() {
    const EVENTS: usize = 2000;
    // Far fewer than may wait in the sandbox, which drops the rest.
    const AT_ONCE: usize = 50;
    let client = Client::running(&[("LOG_LEVEL", "info")]);
    let hanging = Socket::open(&client, "/ws?app=hanging");
    set_socket_recv_buffer_size(hanging.inner.get_ref(), 4096).unwrap();
    let mut readers = [Socket::open(&client, "/ws"), Socket::open(&client, "/event?app=b")];
    let filler = "哦".repeat(1000);
    for first in (0..EVENTS).step_by(AT_ONCE) {
        let words: Vec<String> = (first..first + AT_ONCE).map(|count| format!("{count} {filler}")).collect();
        for words in &words {
            let [speaker, _] = &mut readers;
            let sent = speaker.call("send_private_msg", &json!({ "user_id": PERSON, "message": words }));
            assert_eq!(sent["status"], "ok");
        }
        for reader in &mut readers {
            assert_eq!(reader.hears_all(AT_ONCE), words);
        }
    }
    drop(hanging);
}

#[test]
fn wrong_tokens_open_nothing_and_are_not_logged() {
    let client = Client::running(&[("ONEBOT_SERVER_TOKEN", "nonebot=hush1, koishi=hush2")]);
    let bearer = |token: &str| format!("Bearer {token}");
    for (path, token, status) in [
        ("/ws", None, 401),
        ("/event", None, 401),
        ("/ws", Some("hush"), 403),
        ("/api", Some("hush11"), 403),
        ("/ws?access_token=wrong", None, 403),
        ("/ws?access_token=hush1", Some("wrong"), 403),
    ] {
        let shown = token.map(bearer);
        let headers: Vec<_> = shown.iter().map(|shown| ("authorization", shown.as_str())).collect();
        assert_eq!(Socket::try_open(&client, path, &headers).err(), Some(status), "{path} {token:?}");
    }
    let by_http = |query: &str| client.get(&format!("/onebot/v11/get_login_info{query}")).status;
    assert_eq!(
        (by_http(""), by_http("?access_token=hush3"), by_http("?access_token=hush2")),
        (401, 403, 200)
    );
    let mut socket = Socket::try_open(&client, "/ws", &[("authorization", &bearer("hush2"))]).unwrap();
    assert_eq!(socket.call("get_status", &json!({}))["status"], "ok");
    assert!(!client.setup.log().contains("hush"), "{}", client.setup.log());
}

#[test]
fn same_echo_of_two_applications_comes_back_to_each() {
    let client = Client::running(&[]);
    let mut both = [Socket::open(&client, "/ws"), Socket::open(&client, "/ws")];
    for (socket, action) in both.iter_mut().zip(["get_friend_list", "get_status"]) {
        let frame = json!({ "action": action, "echo": "1" });
        socket.send(Message::text(frame.to_string()));
    }
    hear(&client, "你好");
    for (place, socket) in both.iter_mut().enumerate() {
        let answer = socket.answer();
        assert_eq!((&answer["echo"], answer["data"].is_array()), (&json!("1"), place == 0), "{answer}");
        assert_eq!(socket.hears(), "你好");
    }
    hear(&client, "再见");
    for socket in &mut both {
        assert_eq!(socket.hears(), "再见", "each event comes once, and no answer of the other");
    }
}

#[test]
fn quick_operation_is_an_action_of_every_application() {
    let client = Client::running(&[]);
    let mut socket = Socket::open(&client, "/ws");
    let context = json!({ "post_type": "message", "message_type": "private", "user_id": PERSON });
    let call = |reply: &str| json!({ "context": context, "operation": { "reply": reply } });
    let answer = socket.call(".handle_quick_operation", &call("a"));
    assert_eq!((&answer["status"], &answer["data"]), (&json!("ok"), &json!(null)), "{answer}");
    assert_eq!(socket.hears(), "a");
    assert_eq!(socket.call(".handle_quick_operation_async", &call("b"))["status"], "async");
    assert_eq!(socket.hears(), "b");
    let by_http = act(&client, ".handle_quick_operation", &call("c"));
    assert_eq!((&by_http["status"], socket.hears().as_str()), (&json!("ok"), "c"));
    // An event of another account is not answered by this one.
    let own = socket.call("get_login_info", &json!({}))["data"]["user_id"].as_u64().unwrap();
    for (whose, code) in
        [(json!(own), 0), (json!(own.to_string()), 0), (json!(own + 1), 100), (json!("1"), 100)]
    {
        let mut params = call("d");
        params["context"]["self_id"] = whose.clone();
        let answer = socket.call(".handle_quick_operation", &params);
        assert_eq!(answer["retcode"], code, "{whose} {answer}");
    }
    assert_eq!(socket.hears_all(2), ["d", "d"]);
    let wrong = socket.call(".handle_quick_operation", &json!({ "context": context, "operation": 7 }));
    assert_eq!((&wrong["status"], &wrong["retcode"]), (&json!("failed"), &json!(100)));
}
