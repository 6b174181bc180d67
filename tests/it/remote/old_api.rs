//! What the calls of the old API for today's networks become on the other side, and what is reported of its notices.

use serde_json::{Value, json};

use super::events::{notice, silent};
use super::implementation::{Manner, ok};
use super::running;
use super::server::Server;
use crate::client::process::{Client, request};

fn post(client: &Client, call: &str, params: &Value) -> Value {
    let json = "Content-Type: application/json\r\n";
    request(client.setup.port, &format!("POST /openqq/{call}"), json, &params.to_string()).unwrap().json()
}

#[test]
fn parts_go_to_both_networks_in_their_words() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let receiver = silent();
        let client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url), ("SEND_INTERVAL", "0")]);
        let parts = json!([{ "type": "image", "data": { "file": "base64://eA==" } }]);
        let params = json!({ "uid": 5, "at": "7", "content": "在", "segments": parts });
        let sent = post(&client, "send_group_message", &params);
        assert_eq!(sent["code"], 0, "{sent}");
        assert!(sent["message_id"].as_i64().is_some_and(|number| number != 0), "{sent}");
        let call = server.calls("send_group_msg").pop().unwrap();
        assert_eq!(call["group_id"], 5);
        let kinds: Vec<&str> =
            call["message"].as_array().unwrap().iter().map(|part| part["type"].as_str().unwrap()).collect();
        let at = if manner == Manner::Milky { "mention" } else { "at" };
        assert!(kinds == [at, "text", "image"] || kinds == ["at", "text", "image"], "{call}");
        assert!(call.to_string().contains("base64://eA=="), "{call}");
        let report = receiver.next_message();
        assert_eq!((&report["message_id"], &report["id"]), (&sent["message_id"], &sent["id"]));
        assert_eq!(report["segments"][2], json!({ "type": "image", "data": { "file": "base64://" } }));
        assert_eq!(server.calls("send_group_msg").len(), 1, "it is sent once");
        // What was never told can't be answered: Milky knows a message by its chat.
        if manner == Manner::Milky {
            let params = json!({ "uid": 5, "reply_to": 123_456, "content": "x" });
            let refused = post(&client, "send_group_message", &params);
            assert_eq!((&refused["code"], &refused["id"]), (&json!(-4), &Value::Null), "{refused}");
            assert_eq!(server.calls("send_group_msg").len(), 1);
        }
    }
}

#[test]
fn deeds_of_the_old_api_are_actions_of_the_implementation() {
    let server = Server::new(Manner::Strict);
    for action in
        ["delete_msg", "set_group_card", "set_group_leave", "set_group_whole_ban", "set_group_add_request"]
    {
        server.answer(action, |_| Some(ok(Value::Null)));
    }
    let client = running(&server, &[]);
    for (call, params, action, became) in [
        ("recall_message", json!({ "message_id": -7 }), "delete_msg", json!({ "message_id": -7 })),
        (
            "set_card",
            json!({ "group_uid": 5, "member_id": 7, "card": "新" }),
            "set_group_card",
            json!({ "group_id": 5, "user_id": 7, "card": "新" }),
        ),
        ("whole_mute", json!({ "uid": 5 }), "set_group_whole_ban", json!({ "group_id": 5, "enable": true })),
        ("leave_group", json!({ "id": 5 }), "set_group_leave", json!({ "group_id": 5, "is_dismiss": false })),
        (
            "approve_request",
            json!({ "flag": "invite:a:b", "approve": 0, "reason": "no" }),
            "set_group_add_request",
            json!({ "flag": "a:b", "approve": false, "reason": "no", "sub_type": "invite", "type": "invite" }),
        ),
    ] {
        assert_eq!(post(&client, call, &params), json!({ "code": 0, "status": "success" }), "{call}");
        assert_eq!(server.calls(action), [became], "{call}");
    }
    // An action of this implementation alone, which it refuses.
    server.answer("fly_away", |params| {
        let why = format!("no wings for {}", params["far"]);
        Some(json!({ "status": "failed", "retcode": 1404, "data": null, "wording": why }))
    });
    let refused = post(&client, "onebot", &json!({ "action": "fly_away", "params": { "far": [1] } }));
    assert_eq!((&refused["code"], &refused["status"]), (&json!(1404), &json!("failed")));
    assert!(refused["info"].as_str().unwrap().contains("no wings for [1]"), "{refused}");
}

#[test]
fn notices_are_reported_in_their_place() {
    let (server, receiver) = (Server::new(Manner::Strict), silent());
    let _client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    server.tell(notice("group_recall", json!({ "user_id": 7, "operator_id": 9, "message_id": -3 })));
    server.tell(notice("group_msg_emoji_like", json!({ "message_id": 1, "likes": [] })));
    server.tell(json!({ "post_type": "request", "request_type": "friend", "user_id": 99, "comment": "", "flag": "x" }));
    let recall = receiver.next_event("recall")[0].clone();
    let both = json!({ "message_id": -3, "group_id": "5", "group_uid": "5", "sender_id": "7", "sender_uid": "7",
                       "operator_id": "9", "operator_uid": "9" });
    assert_eq!(recall, both);
    let report = receiver.next().json;
    assert_eq!(
        (&report["event"], &report["params"][0]["flag"]),
        (&json!("friend_request"), &json!("friend:x"))
    );
}
