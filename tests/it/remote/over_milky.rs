//! Tests of Milky alone: the event stream, a missing login, and whether another client understands the tests' server.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use super::events::{notice, reporting, silent};
use super::implementation::{Manner, OWN, failed, ok};
use super::server::{Refusal, Server};
use super::{reason, running, say_not_run, schemas, setup};
use crate::client::process::until;

/// What Milky answers before a login.
fn logged_out(_: &Value) -> Option<Value> {
    Some(failed(-403))
}

fn message(content: &str) -> Value {
    json!({
        "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message_id": content,
        "message": content, "sender": { "nickname": "小红" },
    })
}

#[test]
fn events_come_by_sse_where_there_is_no_web_socket() {
    let (server, receiver) = (Server::new(Manner::Milky), silent());
    server.have_no_web_socket();
    let client = reporting(&server, &receiver, &[]);
    server.tell(message("一"));
    assert_eq!(receiver.next_message()["content"], "一");
    server.hang_up();
    client.setup.until_state("loading");
    server.tell(message("二"));
    assert_eq!(receiver.next_message()["content"], "二");
    assert_eq!(server.connected(), 2);
}

#[test]
fn broken_and_unknown_events_lose_no_message() {
    for streams in [false, true] {
        let (server, receiver) = (Server::new(Manner::Milky), silent());
        if streams {
            server.have_no_web_socket();
        }
        let client = reporting(&server, &receiver, &[]);
        let message = |number: u32, segments: &str| {
            format!(
                r#"{{"time":9,"self_id":10000,"event_type":"message_receive","data":{{"message_scene":"friend","peer_id":7,
                "sender_id":7,"message_seq":{number},"time":9,"segments":{segments}}}}}"#
            )
            .replace('\n', "")
        };
        let deep = format!(r#"[{{"type":"x","data":{}{}}}]"#, "[".repeat(5000), "]".repeat(5000));
        for (number, (segments, content)) in [
            (r#"[{"type":"text","data":{"text":"a\ud83d"}}]"#, "a\u{fffd}"),
            ("[{\"type\":\"text\",\"data\":{\"text\":\"a\u{1}\tb\"}}]", "a\u{1}\tb"),
            (r#"[{"type":"text","data":{"text":"n"}},{"type":"of_a_later_version","data":{"x":1e999,"y":NaN}}]"#, "n[未识别内容]"),
            (&deep, "[未识别内容]"),
            (r#"[null,7,{"type":7},{"type":"text"}]"#, "[未识别内容][未识别内容][未识别内容]"),
        ]
        .into_iter()
        .enumerate()
        {
            for other in ["", "{", "[]", "null", r#"{"event_type":"of_a_later_version","self_id":10000,"data":null}"#,
                r#"{"event_type":"message_receive","self_id":10000,"data":null}"#, r#"{"event_type":"message_receive","self_id":10000,"data":{"message_scene":"guild"}}"#] {
                server.say(other);
            }
            server.say(&message(u32::try_from(number).unwrap() + 1, segments));
            assert_eq!(receiver.next_message()["content"], content);
        }
        assert_eq!((server.connected(), client.setup.report().unwrap().state.as_str()), (1, "running"));
        let log = client.setup.log();
        assert_eq!(
            log.matches("<4>dropped ").count(),
            2,
            "unreadable bytes and an incomplete event, each once: {log}"
        );
    }
}

#[test]
fn flood_of_events_is_bounded_and_loses_no_message() {
    const EVENTS: u32 = 20_000;
    for streams in [false, true] {
        let (server, receiver) = (Server::new(Manner::Milky), silent());
        if streams {
            server.have_no_web_socket();
        }
        let client = reporting(&server, &receiver, &[]);
        let nudge = json!({ "post_type": "notice", "notice_type": "nudge", "text": "x".repeat(1000) });
        for event in 0..EVENTS {
            server.tell(nudge.clone());
            if event % 1000 == 0 {
                server.tell(message(&event.to_string()));
            }
        }
        for event in (0..EVENTS).step_by(1000) {
            assert_eq!(receiver.next_message()["content"], event.to_string());
        }
        let peak = super::lasting::peak(client.pid());
        assert!(peak < 60.0, "{peak} MiB");
    }
}

#[test]
fn missing_login_is_told_and_its_coming_and_going_noticed() {
    let server = Server::new(Manner::Milky);
    server.answer("get_login_info", logged_out);
    let client = setup(&server, &[]).start();
    assert_eq!(reason(&client, "logged in"), "the account is not logged in in its implementation");
    assert_eq!(client.get("/openqq/get_friend_info").json()["code"], -7);
    server.answer("get_login_info", |_| Some(ok(json!({ "user_id": OWN, "nickname": "机器人" }))));
    client.setup.until_state("running");
    server.answer("get_login_info", logged_out);
    assert_eq!(reason(&client, "logged in"), "the account is not logged in in its implementation");
}

#[test]
fn server_error_at_the_start_is_no_warning() {
    let server = Server::new(Manner::Milky);
    server.break_down(true);
    let client = setup(&server, &[]).start();
    let told = "get_login_info: the answer is HTTP 500; the implementation is not ready yet";
    assert_eq!(reason(&client, "HTTP 500"), told);
    server.break_down(false);
    client.setup.until_state("running");
    let log = client.setup.log();
    assert!(log.contains(told) && !log.contains("<4>"), "{log}");
    // Of a message it is not known whether it went out.
    server.break_down(true);
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
}

#[test]
fn missing_token_is_told() {
    let server = Server::new(Manner::Milky);
    server.want_token("geheim", Refusal::Http(401));
    let client = setup(&server, &[]).start();
    let told = reason(&client, "token");
    assert!(told.contains("none is named in [milky]"), "{told}");
}

#[test]
fn implementation_that_goes_and_comes_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Server::away(Manner::Milky, port);
    let client = setup(&server, &[]).start();
    reason(&client, "is not running there, or not logged in yet");
    server.listen(TcpListener::bind(("127.0.0.1", port)).unwrap());
    client.setup.until_state("running");
    // A message is sent once, and what has no answer in time is not sent again.
    server.answer("send_private_msg", |_| None);
    let client = running(&server, &[("MILKY_TIMEOUT", "0.5")]);
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
    until("the call, once", || (server.calls("send_private_msg").len() == 1).then_some(()));
}

/// Every kind of event that the server has.
fn events() -> Vec<Value> {
    let mut friend = message("x");
    friend["message"] = json!([
        { "type": "reply", "data": { "id": "1" } },
        { "type": "at", "data": { "qq": "8", "name": "李雷" } },
        { "type": "at", "data": { "qq": "all" } },
        { "type": "face", "data": { "id": "14" } },
        { "type": "text", "data": { "text": "x" } },
    ]);
    let mut group = message("一");
    (group["message_type"], group["sub_type"]) = (json!("group"), json!("normal"));
    (group["group_id"], group["user_id"], group["sender"]) = (json!(5), json!(9), json!({}));
    let mut temporary = message("二");
    (temporary["sub_type"], temporary["group_id"], temporary["user_id"]) =
        (json!("group"), json!(5), json!(12));
    let file = json!({ "file": { "id": "/f", "name": "f.txt" } });
    vec![
        friend,
        group,
        temporary,
        notice("group_increase", json!({})),
        notice("group_decrease", json!({})),
        notice("group_admin", json!({ "sub_type": "set" })),
        notice("notify", json!({ "sub_type": "group_name", "name_new": "新名" })),
        notice("group_upload", file),
        notice("bot_offline", json!({ "message": "被挤下线" })),
    ]
}

/// tests/milky/sdk.py has what it looks at.
#[test]
fn another_client_of_milky_understands_the_server() {
    let Some(packages) = std::env::var_os("WQCONTROLLER_MILKY_SDK") else {
        return say_not_run(
            "WQCONTROLLER_MILKY_SDK names no folder with milky-python-sdk; tests/run fetches it with CI=true",
        );
    };
    let server = Server::new(Manner::Milky);
    server.want_token("geheim", Refusal::Http(401));
    let mut program = Command::new("/usr/bin/python3");
    program.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milky/sdk.py"), &server.url, "geheim"]);
    // Without proxies.
    program.env_clear().env("PYTHONPATH", packages);
    let ended = std::thread::spawn(move || program.output().unwrap());
    for way in 1..=3 {
        until("a connection for events", || (ended.is_finished() || server.connected() == way).then_some(()));
        if ended.is_finished() {
            break;
        }
        events().into_iter().for_each(|event| server.tell(event));
    }
    let output = ended.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.connected(), 3);
    let content =
        json!([{ "type": "text", "data": { "text": "你好" } }, { "type": "face", "data": { "id": "14" } }]);
    for (call, key, to) in [("send_private_msg", "user_id", 7), ("send_group_msg", "group_id", 5)] {
        let sent = &server.calls(call)[0];
        assert_eq!((&sent[key], &sent["message"]), (&json!(to), &content));
    }
    let of_member = |call: &str, key: &str, value: Value| {
        let call = &server.calls(call)[0];
        assert_eq!((&call["group_id"], &call["user_id"], &call[key]), (&json!(5), &json!(12), &value));
    };
    of_member("set_group_ban", "duration", json!(600));
    of_member("set_group_kick", "reject_add_request", json!(true));
}

/// Each call, answer and event of each test is held against them; this one shows that it is done, and that it would be seen.
#[test]
fn schemas_of_milky_are_what_the_server_is_held_against() {
    if !schemas::are_there() {
        return say_not_run(
            "WQCONTROLLER_MILKY_TYPES names no folder with schemas of Milky; tests/run fetches them with CI=true",
        );
    }
    let server = Server::new(Manner::Milky);
    for event in events() {
        let mut event: Value = serde_json::from_str(&server.event(event)).unwrap();
        let mismatch = |event: &Value| schemas::mismatch("event", "x", event);
        assert_eq!(mismatch(&event), None);
        let keys: Vec<String> = event["data"].as_object().unwrap().keys().cloned().collect();
        for key in keys {
            // The schemas leave it open who let a member in or removed one, and which group a temporary chat is from.
            let is_open = ["group_member_increase", "group_member_decrease"]
                .contains(&event["event_type"].as_str().unwrap())
                && key == "operator_id"
                || event["data"]["message_scene"] == "temp" && key == "group";
            let value = event["data"].as_object_mut().unwrap().remove(&key).unwrap();
            assert_eq!(mismatch(&event).is_none(), is_open, "{key} of {event}");
            event["data"][key] = value;
        }
        if event["event_type"] == "message_receive" {
            event["data"]["segments"][0]["data"] = json!({});
            assert!(mismatch(&event).unwrap().contains("segments.0.data"));
        }
    }
    for (kind, name, value) in [
        ("answer", "get_login_info", json!({ "uin": OWN })),
        ("answer", "get_friend_list", json!({ "friends": [{ "user_id": 7 }] })),
        ("answer", "kick_group_member", json!(null)),
        ("answer", "get_friend", json!({})),
        ("call", "get_group_member_list", json!({ "group_id": "5" })),
        ("call", "send_group_message", json!({ "group_id": 5, "message": "x" })),
    ] {
        assert!(schemas::mismatch(kind, name, &value).is_some(), "{kind} {name}");
    }
}
