//! Bad input to every call: missing, doubled, not UTF-8, too long. Each has a clear answer, and none ends the client.

use serde_json::json;

use super::process::{Client, Setup};

const GET_ONLY: [&str; 6] = [
    "get_user_info",
    "get_friend_info",
    "get_group_info",
    "get_group_basic_info",
    "get_discuss_info",
    "relogin",
];

const BOTH: [&str; 9] = [
    "search_friend",
    "search_group",
    "send_friend_message",
    "send_group_message",
    "send_discuss_message",
    "send_sess_message",
    "shutup_group_member",
    "kick_group_member",
    "get_client_info",
];

#[test]
fn methods_are_as_documented() {
    let client = Client::running(&[]);
    for name in GET_ONLY {
        let path = format!("/openqq/{name}");
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(client.call(method, &path).status, 403, "{method} {name}");
        }
        assert_eq!(client.call("HEAD", &path).status, 200, "{name}");
    }
    for name in BOTH {
        let path = format!("/openqq/{name}");
        assert_eq!(client.get(&path).status, 200, "{name}");
        assert_eq!(client.post(&path, "").status, 200, "{name}");
        assert_eq!(client.call("PUT", &path).status, 403, "{name}");
    }
}

#[test]
fn unreadable_requests_are_refused_with_a_reason() {
    let client = Client::running(&[]);
    for name in GET_ONLY.into_iter().chain(BOTH).chain(["check_event", "stop_client"]) {
        for (query, what) in [("x=1&x=2", "\"x\" is given twice"), ("x=%ff", "\"x\" is not UTF-8")] {
            let answer = client.get(&format!("/openqq/{name}?{query}"));
            assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(-2)), "{name}");
            assert!(answer.json()["status"].as_str().unwrap().contains(what), "{name}: {answer:?}");
        }
    }
    let long = format!("content={}", "x".repeat(7 << 20));
    for name in BOTH {
        let answer = client.post(&format!("/openqq/{name}"), &long);
        assert_eq!((answer.status, &answer.json()["code"]), (413, &json!(-2)), "{name}");
    }
    assert_eq!(client.get("/openqq/get_client_info").json()["code"], 0);
}

#[test]
fn message_without_content_is_refused_at_once() {
    // A queued message would wait for an hour.
    let client = Setup::new(&[("SEND_INTERVAL", "3600")]).account("小红").start();
    client.setup.until_state("running");
    let discuss = client.get("/openqq/get_discuss_info").json()[0]["id"].as_str().unwrap().to_owned();
    for call in [
        "send_friend_message?uid=10002".to_owned(),
        "send_group_message?uid=305432198".to_owned(),
        format!("send_discuss_message?id={discuss}"),
        "send_sess_message?group_uid=305432198&uid=10002".to_owned(),
    ] {
        for content in ["", "&content=", "&content=&async=1"] {
            let answer = client.get(&format!("/openqq/{call}{content}")).json();
            assert_eq!((&answer["id"], &answer["code"]), (&json!(null), &json!(-6)), "{call}{content}");
            assert_eq!(answer["status"], "发送失败", "{call}{content}");
        }
    }
}
