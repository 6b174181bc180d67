//! Applications that speak OneBot v11 to the client of an account over Milky: what they hear, and what becomes of their actions.

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::implementation::{Manner, OWN, failed, ok};
use super::running;
use super::server::Server;
use crate::client::process::{Client, PATIENCE, request, until};

/// A WebSocket of an application.
struct Application(WebSocket<TcpStream>);

impl Application {
    fn connect(client: &Client) -> Self {
        let port = client.setup.port;
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) =
            tungstenite::client(format!("ws://127.0.0.1:{port}/onebot/v11/ws?app=test"), stream).unwrap();
        let mut application = Self(socket);
        assert_eq!(application.next()["meta_event_type"], "lifecycle");
        application
    }

    fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["meta_event_type"] != "heartbeat" {
                    return frame;
                }
            }
        }
    }

    fn act(&mut self, action: &str, params: &Value) -> Value {
        let call = json!({ "action": action, "params": params, "echo": action });
        self.0.send(Message::text(call.to_string())).unwrap();
        let answer = self.next();
        assert_eq!(answer["echo"], action);
        answer
    }
}

/// Carries out an action by HTTP.
fn act(client: &Client, action: &str, params: &Value) -> Value {
    let what = format!("POST /onebot/v11/{action}");
    request(client.setup.port, &what, "Content-Type: application/json\r\n", &params.to_string())
        .unwrap()
        .json()
}

/// A group as Milky has it.
fn group() -> Value {
    json!({
        "group_id": 5, "group_name": "五群", "member_count": 5, "max_member_count": 200, "remark": "", "created_time": 1,
        "description": "", "question": "", "announcement": "",
    })
}

/// A message of group 5 as Milky has it.
fn message(seq: u64, segments: &Value) -> Value {
    json!({
        "message_scene": "group", "peer_id": 5, "message_seq": seq, "sender_id": 7, "time": 1_700_000_000,
        "segments": segments, "group": group(),
        "group_member": {
            "user_id": 7, "nickname": "小红", "sex": "female", "group_id": 5, "card": "红", "title": "", "level": 3,
            "role": "member", "join_time": 1, "last_sent_time": 2,
        },
    })
}

fn say(server: &Server, kind: &str, data: &Value) {
    let event = json!({ "time": 1_700_000_000, "self_id": OWN, "event_type": kind, "data": data });
    server.say(&event.to_string());
}

fn words(text: &str) -> Value {
    json!([{ "type": "text", "data": { "text": text } }])
}

#[test]
fn messages_come_to_applications_and_can_be_answered_taken_back_and_asked_for() {
    let server = Server::new(Manner::Milky);
    server.answer_milky("recall_group_message", |_| Some(ok(json!({}))));
    server.answer_milky("get_message", |params| {
        let seq = params["message_seq"].as_u64().unwrap();
        Some(ok(json!({ "message": message(seq, &words("[二]")) })))
    });
    let mut client = running(&server, &[]);
    let mut application = Application::connect(&client);
    say(&server, "message_receive", &message(77, &words("[一]")));
    let event = application.next();
    assert_eq!(
        (&event["post_type"], &event["group_id"], &event["user_id"]),
        (&json!("message"), &json!(5), &json!(7))
    );
    assert_eq!((&event["raw_message"], &event["sender"]["card"]), (&json!("&#91;一&#93;"), &json!("红")));
    let id = event["message_id"].as_i64().unwrap();
    assert!((1..=i64::from(i32::MAX)).contains(&id));
    // The answer quotes it.
    let answer = json!({ "group_id": 5, "message": format!("[CQ:reply,id={id}]好") });
    let sent = application.act("send_group_msg", &answer);
    assert_eq!(sent["status"], "ok", "{sent}");
    assert_ne!(sent["data"]["message_id"], id);
    let told = &server.calls("send_group_msg")[0]["message"];
    assert_eq!(told[0], json!({ "type": "reply", "data": { "message_seq": 77 } }));
    // Its recall has the same number.
    let recall = json!({
        "message_scene": "group", "peer_id": 5, "message_seq": 77, "sender_id": 7, "operator_id": 9, "display_suffix": "",
    });
    say(&server, "message_recall", &recall);
    let event = application.next();
    assert_eq!((&event["notice_type"], &event["message_id"]), (&json!("group_recall"), &json!(id)));
    assert_eq!(
        application.act("delete_msg", &json!({ "message_id": sent["data"]["message_id"] }))["status"],
        "ok"
    );
    // That of the tests' server for each message.
    assert_eq!(
        server.calls("recall_group_message"),
        [json!({ "group_id": 5, "message_seq": 2_000_000_001_u64 })]
    );
    // The next run knows it, too, even if this one is killed.
    until("the numbers on disk", || {
        let name = format!("mojo_webqq_message_ids_{}", crate::client::process::ACCOUNT);
        let kept = std::fs::read_to_string(client.setup.path(&name)).unwrap_or_default();
        kept.lines().any(|line| line.starts_with(&format!("{id} "))).then_some(())
    });
    client.signal(Signal::KILL);
    client.until_exit();
    client.start_again();
    client.setup.until_state("running");
    let got = act(&client, "get_msg", &json!({ "message_id": id }));
    assert_eq!(
        (&got["data"]["message_id"], &got["data"]["raw_message"]),
        (&json!(id), &json!("&#91;二&#93;")),
        "{got}"
    );
    assert_eq!(server.calls("get_message")[0]["message_seq"], 77);
}

#[test]
fn each_event_of_milky_that_has_a_word_comes_once() {
    let server = Server::new(Manner::Milky);
    let client = running(&server, &[]);
    let mut application = Application::connect(&client);
    for (kind, data, expected) in [
        (
            "friend_request",
            json!({ "initiator_id": 99, "initiator_uid": "u_99", "comment": "hi", "via": "" }),
            ("request_type", "friend"),
        ),
        (
            "group_join_request",
            json!({ "group_id": 5, "notification_seq": 3, "is_filtered": false, "initiator_id": 99, "comment": "" }),
            ("sub_type", "add"),
        ),
        (
            "group_invitation",
            json!({ "group_id": 55, "invitation_seq": 3, "initiator_id": 7 }),
            ("sub_type", "invite"),
        ),
        (
            "group_mute",
            json!({ "group_id": 5, "user_id": 7, "operator_id": 9, "duration": 60 }),
            ("notice_type", "group_ban"),
        ),
        ("group_nudge", json!({ "group_id": 5, "sender_id": 7, "receiver_id": OWN }), ("sub_type", "poke")),
        ("peer_pin_change", json!({ "message_scene": "group", "peer_id": 5, "is_pinned": true }), ("", "")),
        ("of_a_later_version", json!({}), ("", "")),
        (
            "group_message_reaction",
            json!({ "group_id": 5, "user_id": 7, "message_seq": 3, "face_id": "76", "reaction_type": "face", "is_add": true }),
            ("notice_type", "group_msg_emoji_like"),
        ),
    ] {
        say(&server, kind, &data);
        let (key, value) = expected;
        // What nobody has a word for is followed by the next.
        if !key.is_empty() {
            let event = application.next();
            assert_eq!((&event[key], &event["self_id"]), (&json!(value), &json!(OWN)), "{kind}");
        }
    }
}

#[test]
fn each_action_becomes_calls_that_milky_has() {
    let server = Server::new(Manner::Milky);
    for name in [
        "recall_group_message",
        "send_profile_like",
        "set_group_whole_mute",
        "set_group_member_admin",
        "set_group_member_card",
        "set_group_name",
        "quit_group",
        "set_group_member_special_title",
        "accept_friend_request",
        "reject_group_request",
        "mark_message_as_read",
        "send_group_nudge",
        "send_friend_nudge",
        "set_group_essence_message",
        "send_group_message_reaction",
        "delete_friend",
    ] {
        server.answer_milky(name, |_| Some(ok(json!({}))));
    }
    let data = |name: &str, data: Value| server.answer_milky(name, move |_| Some(ok(data.clone())));
    data("get_group_info", json!({ "group": group() }));
    data("get_message", json!({ "message": message(3, &words("x")) }));
    data("get_history_messages", json!({ "messages": [message(3, &words("x"))] }));
    data("get_forwarded_messages", json!({ "messages": [] }));
    data("get_resource_temp_url", json!({ "url": "http://127.0.0.1/r" }));
    data("get_cookies", json!({ "cookies": "c" }));
    data("get_csrf_token", json!({ "csrf_token": "7" }));
    data("upload_group_file", json!({ "file_id": "/f" }));
    data("upload_private_file", json!({ "file_id": "/f" }));
    data("get_group_file_download_url", json!({ "download_url": "http://127.0.0.1/f" }));
    let client = running(&server, &[]);
    let mut application = Application::connect(&client);
    say(&server, "message_receive", &message(3, &words("x")));
    let id = application.next()["message_id"].clone();
    let content = "x[CQ:at,qq=7][CQ:at,qq=all][CQ:face,id=14][CQ:image,file=base64://AA==][CQ:image,file=r.jpg]\
                   [CQ:record,file=http://127.0.0.1/r][CQ:video,file=file:///v][CQ:json,data={}]";
    let node = json!([{ "type": "node", "data": { "id": id } }, { "type": "node", "data": { "uin": 7, "name": "n", "content": "x" } }]);
    for (action, params) in [
        ("send_private_msg", json!({ "user_id": 7, "message": content })),
        ("send_group_msg", json!({ "group_id": 5, "message": content })),
        ("send_msg", json!({ "message_type": "group", "group_id": 5, "message": words("x") })),
        ("send_group_forward_msg", json!({ "group_id": 5, "messages": node })),
        ("delete_msg", json!({ "message_id": id })),
        ("get_msg", json!({ "message_id": id })),
        ("get_forward_msg", json!({ "id": "w" })),
        ("send_like", json!({ "user_id": 7, "times": 10 })),
        ("set_group_kick", json!({ "group_id": 5, "user_id": 7 })),
        ("set_group_ban", json!({ "group_id": 5, "user_id": 7 })),
        ("set_group_whole_ban", json!({ "group_id": 5 })),
        ("set_group_admin", json!({ "group_id": 5, "user_id": 7 })),
        ("set_group_card", json!({ "group_id": 5, "user_id": 7 })),
        ("set_group_name", json!({ "group_id": 5, "group_name": "g" })),
        ("set_group_leave", json!({ "group_id": 5 })),
        ("set_group_special_title", json!({ "group_id": 5, "user_id": 7, "special_title": "t" })),
        ("set_friend_add_request", json!({ "flag": "friend:u_99" })),
        ("set_group_add_request", json!({ "flag": "join:5:3:0", "approve": false, "reason": "r" })),
        ("get_login_info", json!({})),
        ("get_stranger_info", json!({ "user_id": 99 })),
        ("get_friend_list", json!({})),
        ("get_group_info", json!({ "group_id": 5 })),
        ("get_group_list", json!({})),
        ("get_group_member_info", json!({ "group_id": 5, "user_id": 7 })),
        ("get_group_member_list", json!({ "group_id": 5 })),
        ("get_credentials", json!({ "domain": "qq.com" })),
        ("get_cookies", json!({ "domain": "qq.com" })),
        ("get_csrf_token", json!({})),
        ("get_image", json!({ "file": "r" })),
        ("get_record", json!({ "file": "r", "out_format": "mp3" })),
        ("get_status", json!({})),
        ("get_version_info", json!({})),
        ("can_send_image", json!({})),
        ("clean_cache", json!({})),
        ("get_group_msg_history", json!({ "group_id": 5, "message_seq": id })),
        ("get_friend_msg_history", json!({ "user_id": 7 })),
        ("mark_msg_as_read", json!({ "message_id": id })),
        ("send_poke", json!({ "user_id": 7, "group_id": 5 })),
        ("friend_poke", json!({ "user_id": 7 })),
        ("set_essence_msg", json!({ "message_id": id })),
        ("delete_essence_msg", json!({ "message_id": id })),
        ("set_msg_emoji_like", json!({ "message_id": id, "emoji_id": "128077" })),
        ("upload_group_file", json!({ "group_id": 5, "file": "/f", "name": "f" })),
        ("upload_private_file", json!({ "user_id": 7, "file": "/f", "name": "f" })),
        ("get_group_file_url", json!({ "group_id": 5, "file_id": "/f" })),
        ("delete_friend", json!({ "user_id": 7 })),
    ] {
        // Each call and its answer is held against the schemas of Milky, where there are any.
        let answer = act(&client, action, &params);
        assert_eq!((&answer["status"], &answer["retcode"]), (&json!("ok"), &json!(0)), "{action}: {answer}");
    }
    let forwarded = server.calls("send_group_msg")[2]["message"][0]["data"]["messages"].clone();
    assert_eq!(forwarded[0]["segments"], words("x"));
    assert_eq!(act(&client, "set_group_anonymous", &json!({ "group_id": 5 }))["retcode"], 1404);
    assert_eq!(
        act(&client, "get_group_honor_info", &json!({ "group_id": 5, "type": "all" }))["retcode"],
        1404
    );
    assert_eq!(act(&client, "get_status", &json!({}))["data"], json!({ "online": true, "good": true }));
}

#[test]
fn what_may_have_gone_out_is_not_said_to_have_failed_and_what_did_not_is() {
    let server = Server::new(Manner::Milky);
    let client = running(&server, &[("MILKY_TIMEOUT", "0.5")]);
    let send = json!({ "user_id": 7, "message": "x" });
    server.answer("send_private_msg", |_| None);
    let answer = act(&client, "send_private_msg", &send);
    assert_eq!((&answer["status"], &answer["retcode"]), (&json!("async"), &json!(1)));
    assert_eq!(server.calls("send_private_msg").len(), 1);
    // A question without an answer is one.
    server.answer_milky("get_group_info", |_| None);
    assert_eq!(act(&client, "get_group_info", &json!({ "group_id": 5 }))["retcode"], 105);
    // Without the file nothing is sent.
    server.answer_milky("get_resource_temp_url", |_| None);
    let image = json!({ "group_id": 5, "message": "[CQ:image,file=r.jpg]" });
    assert_eq!(act(&client, "send_group_msg", &image)["retcode"], 105);
    assert_eq!(server.calls("send_group_msg").len(), 0);
    // The implementation's own refusals pass, but for one that has a code here.
    server.answer("send_private_msg", |_| Some(failed(-500)));
    let answer = act(&client, "send_private_msg", &send);
    assert_eq!((&answer["retcode"], &answer["wording"]), (&json!(-500), &json!("no")));
    server.answer("send_private_msg", |_| Some(failed(-403)));
    assert_eq!(act(&client, "send_private_msg", &send)["retcode"], 103);
    server.answer("send_private_msg", |_| Some(ok(json!({ "message_id": 0 }))));
    let answer = act(&client, "send_private_msg", &send);
    assert_eq!((&answer["status"], &answer["data"]["message_id"]), (&json!("ok"), &json!(0)));
}

#[test]
fn new_friend_is_told_although_milky_has_no_event_for_it() {
    let server = Server::new(Manner::Milky);
    let client = running(&server, &[("MILKY_REFRESH", "0.1")]);
    let mut application = Application::connect(&client);
    server.friends().push(json!({ "user_id": 99, "nickname": "新", "remark": "" }));
    let event = application.next();
    assert_eq!(
        (&event["post_type"], &event["notice_type"], &event["user_id"], &event["self_id"]),
        (&json!("notice"), &json!("friend_add"), &json!(99), &json!(OWN))
    );
}
