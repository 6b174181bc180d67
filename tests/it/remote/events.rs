//! What is said on the other side, and what is reported of it: with a strict and a sloppy implementation, and over Milky.

use serde_json::{Value, json};

use super::implementation::{Manner, OWN};
use super::running;
use super::server::Server;
use crate::client::process::{Client, until};
use crate::client::receiver::Receiver;

/// A client that reports everything.
pub(super) fn reporting(server: &Server, receiver: &Receiver, more: &[(&str, &str)]) -> Client {
    let all = "login,new_friend,lose_friend,new_group,lose_group,new_group_member,lose_group_member,\
               friend_property_change,group_property_change,group_member_property_change";
    let vars = [("PLUGIN_OPENQQ_POST_API", receiver.url.as_str()), ("PLUGIN_OPENQQ_POST_EVENT_LIST", all)];
    let client = running(server, &[&vars, more].concat());
    let login = receiver.next().json;
    assert_eq!((&login["event"], &login["params"]), (&json!("login"), &json!([0])));
    client
}

pub(super) fn silent() -> Receiver {
    Receiver::new(|_| String::new())
}

/// A private message; `more` changes it.
fn private(content: &str, more: Value) -> Value {
    let message = json!([{ "type": "text", "data": { "text": content } }]);
    let mut event = json!({
        "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7,
        "message_id": -1, "message": message, "sender": { "user_id": 7, "nickname": "小红" },
    });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

pub(super) fn notice(kind: &str, more: Value) -> Value {
    let mut event = json!({ "post_type": "notice", "notice_type": kind, "group_id": 5, "user_id": 12 });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

/// Has everything before it reported: what would have been is there when this is.
fn nothing_before(server: &Server, receiver: &Receiver, mark: &str) {
    server.tell(private(mark, json!({ "message_id": mark })));
    let report = receiver.next().json;
    assert_eq!(report["content"], mark, "{report}");
}

#[test]
fn messages_of_friends_and_members_are_reported() {
    for manner in Manner::ALL {
        let (server, receiver) = (Server::new(manner), silent());
        let _client = reporting(&server, &receiver, &[]);
        server.tell(private("你好\r\n!", json!({ "message_id": 77 })));
        let mut report = receiver.next().json;
        assert!(report["id"].take().as_str().unwrap().parse::<u64>().is_ok());
        // That of the implementation, or one of ours where it has none.
        assert!(report["message_id"].take().is_i64(), "{report} {manner:?}");
        assert_eq!(
            report,
            json!({
                "post_type": "receive_message", "class": "recv", "type": "friend_message", "id": null,
                "time": 1_700_000_000, "content": "你好\n!", "sender": "红红", "sender_id": "7", "sender_uid": "7",
                "receiver": "机器人", "receiver_id": "10000", "receiver_uid": "10000",
                "message_id": null, "raw": "你好\r\n!", "segments": [{ "type": "text", "data": { "text": "你好\r\n!" } }],
            })
        );
        let group = json!({
            "message_type": "group", "sub_type": "normal", "group_id": 5, "user_id": 12, "message_id": 2,
            "sender": { "nickname": "路人", "card": "路" },
        });
        server.tell(private("群里", group));
        let report = receiver.next().json;
        for (key, value) in [
            ("type", "group_message"),
            ("sender", "路"),
            ("sender_uid", "12"),
            ("group", "家"),
            ("group_id", "5"),
            ("group_uid", "5"),
            ("content", "群里"),
        ] {
            assert_eq!(report[key], value, "{key}");
        }
        for (n, session) in [
            json!({ "sub_type": "group", "user_id": 12, "group_id": 5 }),
            json!({ "sub_type": "group", "user_id": 12, "sender": { "nickname": "路人", "group_id": 5 } }),
        ]
        .into_iter()
        .enumerate()
        {
            let mut session = session;
            session["message_id"] = json!(100 + n);
            server.tell(private("悄悄", session));
            let report = receiver.next().json;
            assert_eq!((&report["type"], &report["via"]), (&json!("sess_message"), &json!("group")));
            assert_eq!((&report["group"], &report["sender_uid"]), (&json!("家"), &json!("12")));
        }
        server.tell(private("x", json!({ "sub_type": "other", "message_id": 5 })));
        assert_eq!(receiver.next().json["type"], "friend_message", "a friend, whatever the event calls it");
    }
}

#[test]
fn content_of_every_kind_is_shown() {
    for manner in Manner::ALL {
        show_every_kind_of_content(manner);
    }
}

fn show_every_kind_of_content(manner: Manner) {
    let (server, receiver) = (Server::new(manner), silent());
    let _client = reporting(&server, &receiver, &[]);
    let parts = json!([
        { "type": "reply", "data": { "id": "1" } },
        { "type": "at", "data": { "qq": "8" } },
        { "type": "at", "data": { "qq": 99, "name": "生人" } },
        { "type": "at", "data": { "qq": 98 } },
        { "type": "at", "data": { "qq": "all" } },
        { "type": "text", "data": { "text": "[CQ:face,id=1]" } },
        { "type": "face", "data": { "id": "14" } },
        { "type": "face", "data": { "id": "9999" } },
        { "type": "image", "data": { "file": "x" } },
        { "type": "mface", "data": { "emoji_id": "x" } },
        { "type": "record", "data": {} },
        { "type": "json", "data": null },
    ]);
    server.tell(private("", json!({ "message": parts })));
    let shown = "@李雷 @生人 @98 @全体成员 [CQ:face,id=1][微笑][表情][图片][图片][未识别内容][未识别内容]";
    assert_eq!(receiver.next().json["content"], shown);
    // Milky has no messages as text.
    if manner == Manner::Milky {
        return;
    }
    let coded = "[CQ:reply,id=1][CQ:at,qq=8][CQ:at,qq=99,name=生人][CQ:at,qq=98][CQ:at,qq=all]&#91;CQ:face&#44;id=1&#93;\
                 [CQ:face,id=14][CQ:face,id=9999][CQ:image,file=x][CQ:mface,emoji_id=x][CQ:record][CQ:json,data=&#91;&#93;]";
    server.tell(private("", json!({ "message": coded, "message_id": 2 })));
    assert_eq!(receiver.next().json["content"], shown);
}

#[test]
fn unknown_sender_is_looked_up_once_and_dropped() {
    for manner in Manner::ALL {
        look_for_the_unknown(manner);
    }
}

fn look_for_the_unknown(manner: Manner) {
    let (server, receiver) = (Server::new(manner), silent());
    let _client = reporting(&server, &receiver, &[]);
    let loaded = || server.calls("get_friend_list").len();
    let before = loaded();
    for n in 0..3 {
        server.tell(private("x", json!({ "user_id": 99, "sub_type": "other", "message_id": 10 + n })));
    }
    nothing_before(&server, &receiver, "m1");
    assert_eq!(loaded(), before + 1);
    server.friends().push(json!({ "user_id": 98, "nickname": "新友" }));
    server.tell(private("x", json!({ "user_id": 98, "message_id": 20 })));
    assert_eq!(receiver.next().json["event"], "new_friend");
    assert_eq!(receiver.next().json["sender"], "新友");
    for event in [
        json!({ "message_type": "group", "sub_type": "anonymous", "group_id": 5, "message_id": 30 }),
        json!({ "message_type": "group", "sub_type": "notice", "group_id": 5, "message_id": 31 }),
        json!({ "message_type": "group", "sub_type": "normal", "group_id": 99, "message_id": 32 }),
        json!({ "sub_type": "group", "user_id": 12, "message_id": 33 }),
        json!({ "sub_type": "group", "user_id": 12, "group_id": 98, "message_id": 34 }),
    ] {
        server.tell(private("x", event));
    }
    nothing_before(&server, &receiver, "m2");
    // Whom a group does not list may speak there, and is called what the event says.
    for (more, kind) in [
        (json!({ "message_type": "group", "sub_type": "normal", "message_id": 40 }), "group_message"),
        (json!({ "sub_type": "group", "message_id": 41 }), "sess_message"),
    ] {
        let mut event = private("x", more);
        (event["group_id"], event["user_id"], event["sender"]["nickname"]) =
            (json!(5), json!(77), json!("生人"));
        server.tell(event);
        let report = receiver.next().json;
        // Milky does not say who is in a temporary chat.
        let name = if manner == Manner::Milky && kind == "sess_message" { "77" } else { "生人" };
        assert_eq!((&report["type"], &report["sender"]), (&json!(kind), &json!(name)));
        assert_eq!((&report["sender_uid"], &report["group_uid"]), (&json!("77"), &json!("5")));
    }
}

#[test]
fn many_strangers_cost_few_lookups() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let _client = reporting(&server, &receiver, &[]);
    let before = server.calls("get_friend_list").len();
    for n in 0..200 {
        server.tell(private("x", json!({ "user_id": 1_000_000 + n, "sub_type": "other", "message_id": n })));
    }
    nothing_before(&server, &receiver, "m");
    assert_eq!(server.calls("get_friend_list").len(), before + 20);
}

#[test]
fn own_messages_from_elsewhere_are_reported() {
    let own = |id: i64, more: Value| {
        let mut event = private(
            "x",
            json!({ "post_type": "message_sent", "user_id": OWN, "target_id": 7, "message_id": id }),
        );
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    };
    for manner in Manner::ALL {
        let (server, receiver) = (Server::new(manner), silent());
        let client = reporting(&server, &receiver, &[("ALLOW_MESSAGE_SYNC", "1")]);
        server.tell(own(50, json!({})));
        let report = receiver.next().json;
        assert_eq!((&report["post_type"], &report["class"]), (&json!("send_message"), &json!("send")));
        assert_eq!((&report["sender"], &report["receiver"]), (&json!("机器人"), &json!("红红")));
        server.tell(own(51, json!({ "message_type": "group", "sub_type": "normal", "group_id": 5 })));
        assert_eq!(receiver.next().json["type"], "group_message");
        // What we send ourselves is told once, whether its report comes before the answer or after it.
        server.tell(own(
            -2_000_000_001,
            json!({ "message_type": "group", "sub_type": "normal", "group_id": 6 }),
        ));
        receiver.next();
        client.get("/openqq/send_friend_message?uid=7&content=mine");
        assert_eq!(receiver.next().json["content"], "mine");
        server.tell(own(-2_000_000_001, json!({ "time": 1_700_000_001 })));
        nothing_before(&server, &receiver, "m");
        drop(client);
        let _client = reporting(&server, &receiver, &[]);
        server.tell(own(52, json!({})));
        nothing_before(&server, &receiver, "m");
    }
}

#[test]
fn repeated_events_are_reported_once() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let _client = reporting(&server, &receiver, &[]);
    for _ in 0..3 {
        server.tell(notice("group_card", json!({ "card_new": "新", "card_old": "旧" })));
        server.tell(notice("group_upload", json!({ "file": { "id": "x", "name": "a.txt" } })));
        server.tell(private("x", json!({})));
    }
    // The same again, later.
    server.tell(notice("group_card", json!({ "card_new": "新", "card_old": "旧", "time": 1_700_000_001 })));
    let told: Vec<_> = (0..4).map(|_| receiver.next().json).collect();
    let told: Vec<_> =
        told.iter().map(|report| report["event"].as_str().or(report["content"].as_str()).unwrap()).collect();
    let card = "group_member_property_change";
    assert_eq!(told, [card, "共享文件 [a.txt]", "x", card]);
    nothing_before(&server, &receiver, "m");
}

#[test]
fn uploads_are_reported() {
    for manner in Manner::ALL {
        let (server, receiver) = (Server::new(manner), silent());
        let _client = reporting(&server, &receiver, &[]);
        server.tell(notice("group_upload", json!({ "file": { "id": "x", "name": "a.txt", "size": 1 } })));
        let report = receiver.next().json;
        assert_eq!(
            (&report["type"], &report["content"]),
            (&json!("group_message"), &json!("共享文件 [a.txt]"))
        );
    }
}

#[test]
fn unsupported_events_are_ignored() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let _client = reporting(&server, &receiver, &[]);
    for kind in ["group_recall", "friend_recall", "group_ban", "essence", "group_msg_emoji_like", "x"] {
        server.tell(notice(kind, json!({ "sub_type": "ban", "message_id": 1 })));
    }
    for sub_type in ["poke", "honor", "lucky_king", "input_status", "title"] {
        server.tell(notice("notify", json!({ "sub_type": sub_type })));
    }
    server.tell(json!({ "post_type": "request", "request_type": "friend", "user_id": 7, "flag": "x" }));
    server.tell(json!({ "post_type": "meta_event", "meta_event_type": "lifecycle", "sub_type": "connect" }));
    nothing_before(&server, &receiver, "m");
}

#[test]
fn replies_of_a_receiver_are_sent() {
    let server = Server::new(Manner::Strict);
    let receiver = Receiver::new(|report| match report["post_type"].as_str() {
        Some("receive_message") => r#"{"reply":"回","shutup":1,"shutup_time":120}"#.to_owned(),
        _ => String::new(),
    });
    let _client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    let sent = |action: &str, n: usize| until(action, || server.calls(action).get(n).cloned());
    server.tell(private("x", json!({})));
    assert_eq!(sent("send_private_msg", 0)["user_id"], 7);
    assert!(server.calls("set_group_ban").is_empty(), "only in a group");
    let group = json!({ "message_type": "group", "sub_type": "normal", "group_id": 5, "user_id": 12, "message_id": 2 });
    server.tell(private("x", group));
    assert_eq!(sent("send_group_msg", 0)["group_id"], 5);
    assert_eq!(sent("set_group_ban", 0), json!({ "group_id": 5, "user_id": 12, "duration": 120 }));
    server.tell(private("x", json!({ "sub_type": "group", "group_id": 5, "user_id": 12, "message_id": 3 })));
    let session = sent("send_private_msg", 1);
    assert_eq!((&session["user_id"], &session["group_id"]), (&json!(12), &json!(5)));
}
