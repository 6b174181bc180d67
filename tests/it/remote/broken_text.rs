//! JSON as programs write it that cut texts in the middle of a character, or worse.

use serde_json::{Value, json};

use super::events::{reporting, silent};
use super::implementation::{Manner, ok};
use super::server::Server;
use super::{running, setup};
use crate::client::process::until;
use crate::client::receiver::Receiver;

/// As an answer to a call has it: this text becomes half a character where the frame is written.
pub(super) const HALF: &str = "<half>";

#[test]
fn half_a_character_in_a_list_is_replaced() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        server.write_badly();
        let friends = json!([{ "user_id": 7, "nickname": format!("小{HALF}"), "remark": "" }, { "user_id": 8, "nickname": "李雷" }]);
        server.answer("get_friend_list", move |_| Some(ok(friends.clone())));
        let client = running(&server, &[]);
        let friends = client.get("/openqq/get_friend_info").json();
        assert_eq!((&friends[0]["name"], &friends[1]["name"]), (&json!("小\u{fffd}"), &json!("李雷")));
        let members = json!([{ "group_id": 5, "user_id": 9, "nickname": "x", "card": HALF, "role": "owner", "level": 1 }]);
        server.answer("get_group_member_list", move |_| Some(ok(members.clone())));
        let groups = client.get("/openqq/get_group_info").json();
        assert_eq!(groups[0]["member"][0]["card"], "\u{fffd}");
        let line = "sends invalid JSON";
        until("the log line", || client.setup.log().contains(line).then_some(()));
        assert_eq!(client.setup.log().matches(line).count(), 1, "once");
    }
}

#[test]
fn broken_text_in_an_http_answer_is_replaced() {
    let server = Server::away(Manner::Strict, 1);
    server.write_badly();
    server.answer("get_login_info", |_| Some(ok(json!({ "user_id": 10_000, "nickname": HALF }))));
    let url = server.by_http(None);
    let listen = format!("127.0.0.1:{}", crate::fixture::free_port());
    let client = setup(&server, &[("ONEBOT_URL", &url), ("ONEBOT_LISTEN", &listen)]).start();
    client.setup.until_state("running");
    assert_eq!(client.get("/openqq/get_user_info").json()["name"], "\u{fffd}");
}

#[test]
fn broken_text_in_messages_is_replaced() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let client = reporting(&server, &receiver, &[]);
    let message = |number: u32, more: &str| {
        let head = r#""post_type":"message","message_type":"private","sub_type":"friend","self_id":10000,"user_id":7"#;
        format!(r#"{{{head},"message_id":{number},{more}}}"#)
    };
    let deep = format!("\"message\":\"deep\",\"raw\":{}{}", "[".repeat(5000), "]".repeat(5000));
    for (number, (more, content)) in [
        (r#""message":"a\ud83d""#, "a\u{fffd}"),
        ("\"message\":\"a\u{1}\tb\"", "a\u{1}\tb"),
        (r#""message":"n","time":1e999,"font":-1e999,"x":NaN"#, "n"),
        (&deep, "deep"),
        (r#""message":[{"type":"text","data":{"text":"\ude00x"}}]"#, "\u{fffd}x"),
    ]
    .into_iter()
    .enumerate()
    {
        server.say(&message(u32::try_from(number).unwrap() + 1, more));
        assert_eq!(receiver.next().json["content"], content);
    }
    server.say(&format!("\u{feff}{}", message(90, r#""message":"mark""#)));
    assert_eq!(receiver.next().json["content"], "mark");
    // Text that is not UTF-8, in the frames for text and for bytes.
    for (number, binary) in [(91, true), (92, false)] {
        let mut frame = message(number, r#""message":"bytes?""#).into_bytes();
        let at = frame.iter().position(|byte| *byte == b'?').unwrap();
        frame[at] = 0xe5;
        server.say_bytes(frame, binary);
        assert_eq!(receiver.next().json["content"], "bytes\u{fffd}");
    }
    assert_eq!((server.connected(), client.setup.report().unwrap().state.as_str()), (1, "running"));
}

#[test]
fn unreadable_frames_are_logged_once() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let client = reporting(&server, &receiver, &[]);
    for _ in 0..3 {
        server.say(r#"{"post_type":"message","message":"geheim""#);
        server.say(r#"{"post_type":"message","message_type":"private","user_id":1e999,"message":"geheim"}"#);
    }
    server.say(
        r#"{"post_type":"message","message_type":"private","self_id":10000,"user_id":7,"message":"mark"}"#,
    );
    assert_eq!(receiver.next().json["content"], "mark");
    // The lines are in order, but a report may come before its own.
    let log =
        until("the last line", || Some(client.setup.log()).filter(|log| log.contains("received from 7")));
    for line in ["<4>dropped 41 unreadable bytes", "dropped an incomplete event (message) of"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    assert!(!log.contains("geheim"), "{log}");
}

#[test]
fn messages_with_id_0_are_all_reported() {
    for manner in Manner::NETWORKS {
        let (server, receiver) = (Server::new(manner), silent());
        let _client = reporting(&server, &receiver, &[]);
        let said = ["a", "b", "a", "a"];
        let message = |content: &str| {
            json!({
                "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message_id": 0,
                "time": 1_700_000_000, "message": content,
            })
        };
        for content in said {
            server.tell(message(content));
        }
        for content in said {
            assert_eq!(receiver.next().json["content"], content);
        }
        // One that is not sure whether the last one arrived repeats it on the next connection.
        server.hang_up();
        server.tell(message("a"));
        server.tell(message("c"));
        let next_message = |receiver: &Receiver| -> Value { receiver.next_message()["content"].clone() };
        assert_eq!(next_message(&receiver), "c");
    }
}
