//! What goes wrong between the client and an implementation.

use std::sync::mpsc;

use serde_json::json;

use super::implementation::{Manner, ok};
use super::server::{Refusal, Server};
use super::{running, setup};
use crate::client::process::{Client, until};
use crate::client::receiver::Receiver;

fn friends(client: &Client) -> usize {
    client.get("/openqq/get_friend_info").json().as_array().map_or(0, Vec::len)
}

#[test]
fn a_connection_that_is_lost_is_a_login_anew() {
    let server = Server::new(Manner::Strict);
    let receiver = Receiver::new(|_| String::new());
    let client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    let next = |event: &str| loop {
        let report = receiver.next().json;
        if report["event"] == event {
            return report["params"].clone();
        }
    };
    assert_eq!(next("login"), json!([0]));
    server.friends().push(json!({ "user_id": 20, "nickname": "新" }));
    server.hang_up();
    assert_eq!(next("state_change"), json!(["running", "loading"]));
    assert_eq!(next("state_change"), json!(["loading", "updating"]));
    assert_eq!(next("login"), json!([0]));
    assert_eq!(next("new_friend")[0]["uid"], "20", "what happened meanwhile is told");
    assert_eq!(friends(&client), 3);
    let line = "The connection to the OneBot implementation was lost.";
    until("the log line", || client.setup.log().contains(line).then_some(()));
}

#[test]
fn a_frozen_implementation_can_be_left() {
    let server = Server::new(Manner::Strict);
    let client = running(&server, &[("ONEBOT_TIMEOUT", "2")]);
    server.freeze();
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
    assert_eq!(client.get("/openqq/relogin").json()["code"], 0);
    until("another connection", || (server.connected() == 2).then_some(()));
    client.setup.until_state("running");
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
}

#[test]
fn garbage_between_frames_is_no_harm() {
    let server = Server::new(Manner::Strict);
    let client = running(&server, &[]);
    for frame in
        ["", "{", "[]", "null", "\u{0}", &"[".repeat(100_000), r#"{"echo":{}}"#, r#"{"post_type":7}"#]
    {
        server.say(frame);
    }
    server.say(r#"{"echo":"wq1","status":"ok","retcode":0,"data":null}"#);
    server.say(r#"{"post_type":"message","message_type":"private","message":[[[{}]]],"user_id":{}}"#);
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
    assert_eq!((friends(&client), server.connected()), (2, 1));
}

#[test]
fn a_mute_implementation_costs_its_time_and_no_more() {
    let server = Server::new(Manner::Strict);
    server.answer("get_friends_with_category", |_| None);
    server.answer("get_stranger_info", |_| None);
    server.answer("get_group_member_info", |_| None);
    let client = running(&server, &[("ONEBOT_TIMEOUT", "1")]);
    assert_eq!(friends(&client), 2, "what is not necessary is not waited for");
    server.answer("get_group_member_list", |_| None);
    let groups = client.get("/openqq/get_group_info").json();
    assert_eq!((groups.as_array().unwrap().len(), &groups[0]["member"]), (2, &json!([])));
    assert_eq!(client.get("/openqq/search_group?uid=5").json()["code"], 201);
    assert_eq!(client.get("/openqq/send_group_message?uid=5&content=x").json()["code"], 0);
    // Without the lists there is no login.
    server.answer("get_friend_list", |_| None);
    server.hang_up();
    until("a second try", || (server.connected() >= 3).then_some(()));
    client.setup.until_state("updating");
    server.answer("get_friend_list", |_| Some(ok(json!([]))));
    client.setup.until_state("running");
}

#[test]
fn slow_answers_find_their_calls() {
    let server = Server::new(Manner::Sloppy);
    let client = running(&server, &[("ONEBOT_TIMEOUT", "2")]);
    let (go, gate) = mpsc::channel::<()>();
    server.answer("send_private_msg", move |_| {
        let _ = gate.recv();
        Some(ok(json!({ "message_id": 1 })))
    });
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
    drop(go);
    server.answer("send_private_msg", |_| Some(ok(json!({ "message_id": 2 }))));
    // The answer of the first comes first, and is nobody's.
    until("an answer", || {
        (client.get("/openqq/send_friend_message?uid=7&content=y").json()["code"] == 0).then_some(())
    });
    assert_eq!(server.connected(), 1);
}

#[test]
fn what_was_not_written_is_written_later_and_what_was_is_not() {
    let server = Server::new(Manner::Strict);
    let client = running(&server, &[]);
    server.answer("send_private_msg", |_| None);
    let port = client.setup.port;
    let send = move |content: &str| {
        let path = format!("GET /openqq/send_friend_message?uid=7&content={content}");
        crate::client::process::send_request(port, &path, "", "").unwrap()
    };
    let first = send("first");
    until("the first", || (server.calls("send_private_msg").len() == 1).then_some(()));
    // It waits in the outbox, and the connection is lost before its turn.
    let second = send("second");
    // The client has one thread and takes connections in order: when it has answered two later ones, it has read this.
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    server.answer("send_private_msg", |_| Some(ok(json!({ "message_id": 2 }))));
    server.hang_up();
    let answer = |stream| crate::client::process::read_answer(stream).json();
    assert_eq!(answer(first)["code"], -1);
    assert_eq!(answer(second)["code"], 0);
    let said: Vec<_> = server
        .calls("send_private_msg")
        .iter()
        .map(|params| params["message"][0]["data"]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, ["first", "second"]);
}

/// A client with a token in a file.
fn with_token(server: &Server, token: &str) -> Client {
    let mut setup = setup(server, &[]);
    let path = setup.path("token");
    write_token(&path, token);
    setup.set("ONEBOT_TOKEN_FILE", path.to_str().unwrap());
    setup.start()
}

fn write_token(path: &std::path::Path, token: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_token_is_shown() {
    let server = Server::new(Manner::Strict);
    server.want_token("geheim", Refusal::Http(401));
    let client = with_token(&server, "geheim\n");
    client.setup.until_state("running");
    assert!(!client.setup.log().contains("geheim"));
}

#[test]
fn a_wrong_token_is_somebodys_mistake_and_said() {
    for refusal in [Refusal::Http(401), Refusal::Http(403), Refusal::Frame] {
        let server = Server::new(Manner::Strict);
        server.want_token("geheim", refusal);
        let client = with_token(&server, "falsch");
        let reason = until("the reason", || {
            let report = client.setup.report()?;
            Some(report.fields().get("reason")?.as_str()?.to_owned())
        });
        assert!(reason.starts_with("the token is refused: "), "{reason}");
        let line = "There can be no login until somebody puts this right.";
        let log = until("the log line", || Some(client.setup.log()).filter(|log| log.contains(line)));
        assert!(!log.contains("falsch"), "{log}");
        assert_eq!(client.setup.report().unwrap().state.as_str(), "loading", "it tries again, slowly");
    }
}

#[test]
fn a_token_that_is_wanted_and_not_there_is_said() {
    let server = Server::new(Manner::Strict);
    server.want_token("geheim", Refusal::Frame);
    let client = setup(&server, &[]).start();
    let reason = until("the reason", || client.setup.report()?.fields().get("reason").cloned());
    let said = "the token is refused: the answer was retcode 1403; \
                none is named in [onebot] of the controller's configuration";
    assert_eq!(reason, said);
}

#[test]
fn a_token_that_is_no_good_is_said() {
    let server = Server::new(Manner::Strict);
    let mut setup = setup(&server, &[]);
    setup.set("ONEBOT_TOKEN_FILE", "/nonexistent/token");
    let client = setup.start();
    let reason = until("the reason", || {
        let report = client.setup.report()?;
        Some(report.fields().get("reason")?.as_str()?.to_owned())
    });
    assert!(reason.contains("/nonexistent/token"), "{reason}");
    assert_eq!(server.connected(), 0);
}

#[test]
fn settings_that_are_no_good_are_named() {
    let server = Server::new(Manner::Strict);
    for (name, value, said) in [
        ("BACKEND", "qq", "MOJO_WEBQQ_BACKEND must be sandbox or onebot"),
        ("ONEBOT_URL", "ws://x y/?token=hush", "MOJO_WEBQQ_ONEBOT_URL must be ws://"),
        ("ONEBOT_URL", "http://127.0.0.1:1/", "MOJO_WEBQQ_ONEBOT_URL must be ws://"),
        ("ONEBOT_URL", "", "MOJO_WEBQQ_ONEBOT_URL is not set"),
        ("ONEBOT_LISTEN", "here", "MOJO_WEBQQ_ONEBOT_LISTEN must be an IP address with a port"),
        ("ALLOW_MESSAGE_SYNC", "yes", "MOJO_WEBQQ_ALLOW_MESSAGE_SYNC must be 0 or 1"),
    ] {
        let (status, complaint) = setup(&server, &[(name, value)]).run();
        assert_eq!(status, Some(2), "{complaint}");
        assert!(complaint.contains(said) && !complaint.contains("hush"), "{complaint}");
    }
}
