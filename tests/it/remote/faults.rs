//! What goes wrong between the client and an implementation.

use std::sync::mpsc;

use serde_json::json;

use super::implementation::{Manner, ok};
use super::server::{Refusal, Server};
use super::{running, setup, unanswered_and_waiting};
use crate::client::process::{Client, until};
use crate::client::receiver::Receiver;

fn friends(client: &Client) -> usize {
    client.get("/openqq/get_friend_info").json().as_array().map_or(0, Vec::len)
}

#[test]
fn lost_connection_logs_in_again() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let receiver = Receiver::new(|_| String::new());
        let client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
        let next = |event: &str| receiver.next_event(event);
        assert_eq!(next("login"), json!([0]));
        server.friends().push(json!({ "user_id": 20, "nickname": "新" }));
        server.hang_up();
        assert_eq!(next("state_change"), json!(["running", "loading"]));
        assert_eq!(next("state_change"), json!(["loading", "updating"]));
        assert_eq!(next("login"), json!([0]));
        assert_eq!(next("new_friend")[0]["uid"], "20", "what happened meanwhile is told");
        assert_eq!(friends(&client), 3);
        let line = format!("lost the connection to the {} implementation", manner.network());
        until("the log line", || client.setup.log().contains(&line).then_some(()));
    }
}

#[test]
fn reconnect_cost_does_not_grow_with_groups() {
    for manner in Manner::NETWORKS {
        const GROUPS: u64 = 302;
        let server = Server::new(manner);
        *server.groups() =
            (0..GROUPS).map(|n| json!({ "group_id": 100 + n, "group_name": format!("群{n}") })).collect();
        server.answer("get_group_member_info", |params| {
            Some(ok(json!({ "group_id": params["group_id"], "user_id": params["user_id"], "role": "admin" })))
        });
        let client = running(&server, &[("LOG_LEVEL", "warn")]);
        let asked = || server.calls("get_group_member_info").len() as u64;
        let roles = |role: &str| {
            let groups = client.get("/openqq/get_group_basic_info").json();
            groups.as_array().unwrap().iter().filter(|group| group["role"] == role).count() as u64
        };
        until("the own roles, once", || (asked() == GROUPS).then_some(()));
        until("the own roles", || (roles("manage") == GROUPS).then_some(()));
        server.answer("get_group_member_info", |params| {
            Some(ok(json!({ "group_id": params["group_id"], "user_id": params["user_id"], "role": "owner" })))
        });
        let before = server.all_calls();
        server.groups().push(json!({ "group_id": 7, "group_name": "新群" }));
        server.hang_up();
        until("the second connection", || (server.connected() == 2).then_some(()));
        client.setup.until_state("running");
        until("the new group's role", || (asked() == GROUPS + 1).then_some(()));
        assert_eq!(client.get("/openqq/send_group_message?uid=100&content=x").json()["code"], 0);
        let cost = server.all_calls() - before;
        assert!(cost <= 8, "{cost} calls");
        // Who looks at the roles has them asked for anew.
        until("the new roles", || (roles("create") == GROUPS + 1).then_some(()));
    }
}

#[test]
fn http_send_fails_at_once_if_nothing_listens() {
    let server = Server::away(Manner::Strict, 1);
    let (url, gone) = server.by_http_until_gone();
    let listen = format!("127.0.0.1:{}", crate::fixture::free_port());
    let client = setup(&server, &[("ONEBOT_URL", &url), ("ONEBOT_LISTEN", &listen)]).start();
    client.setup.until_state("running");
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
    gone();
    let reply = client.get("/openqq/send_friend_message?uid=7&content=y").json();
    assert_eq!(
        (&reply["code"], &reply["info"]),
        (&json!(-4), &json!("the account is not logged in")),
        "{reply}"
    );
    client.setup.until_state("loading");
    assert_eq!(server.calls("send_private_msg").len(), 1);
}

#[test]
fn relogin_leaves_a_frozen_implementation() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let client = running(&server, &[("REMOTE_TIMEOUT", "2")]);
        server.freeze();
        assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
        assert_eq!(client.get("/openqq/relogin").json()["code"], 0);
        until("another connection", || (server.connected() == 2).then_some(()));
        client.setup.until_state("running");
        assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
    }
}

#[test]
fn garbage_between_frames_is_ignored() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
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
}

#[test]
fn unanswered_call_times_out() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        server.answer("get_friends_with_category", |_| None);
        server.answer("get_stranger_info", |_| None);
        server.answer("get_group_member_info", |_| None);
        let client = running(&server, &[("REMOTE_TIMEOUT", "2")]);
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
}

#[test]
fn slow_answers_match_their_calls() {
    for manner in [Manner::Sloppy, Manner::Milky] {
        let server = Server::new(manner);
        let client = running(&server, &[("REMOTE_TIMEOUT", "2")]);
        let (go, gate) = mpsc::channel::<()>();
        server.answer("send_private_msg", move |_| {
            let _ = gate.recv();
            Some(ok(json!({ "message_id": 1 })))
        });
        assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
        drop(go);
        server.answer("send_private_msg", |_| Some(ok(json!({ "message_id": 2 }))));
        // The answer to the first call comes first, and no call waits for it any more.
        until("an answer", || {
            (client.get("/openqq/send_friend_message?uid=7&content=y").json()["code"] == 0).then_some(())
        });
        assert_eq!(server.connected(), 1);
    }
}

#[test]
fn unanswered_message_delays_only_its_own_conversation() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let client = running(&server, &[("REMOTE_TIMEOUT", "3600")]);
        server.answer("send_private_msg", |_| None);
        let queued = client.get("/openqq/send_friend_message?uid=7&content=x&async=1").json();
        assert_eq!(queued["code"], 0, "{queued}");
        until("the call", || (server.calls("send_private_msg").len() == 1).then_some(()));
        assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=y&async=1").json()["code"], 0);
        assert_eq!(client.get("/openqq/send_group_message?uid=5&content=z").json()["code"], 0);
        assert_eq!(server.calls("send_private_msg").len(), 1, "the second one waits for the first");
    }
}

#[test]
fn only_unwritten_messages_are_sent_after_a_reconnect() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let (first, second) = unanswered_and_waiting(&server, &client);
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
}

/// A client with a token in a file.
fn with_token(server: &Server, token: &str) -> Client {
    let mut setup = setup(server, &[]);
    let path = setup.path("token");
    write_token(&path, token);
    setup.set(&super::variable(server.manner, "REMOTE_TOKEN_FILE"), path.to_str().unwrap());
    setup.start()
}

fn write_token(path: &std::path::Path, token: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn token_is_presented() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        server.want_token("geheim", Refusal::Http(401));
        let client = with_token(&server, "geheim\n");
        client.setup.until_state("running");
        assert!(!client.setup.log().contains("geheim"));
    }
}

#[test]
fn wrong_token_is_reported() {
    for refusal in [Refusal::Http(401), Refusal::Http(403), Refusal::Frame] {
        let server = Server::new(Manner::Strict);
        server.want_token("geheim", refusal);
        let client = with_token(&server, "falsch");
        let reason = until("the reason", || {
            let report = client.setup.report()?;
            Some(report.fields().get("reason")?.as_str()?.to_owned())
        });
        assert!(reason.starts_with("the token is refused: "), "{reason}");
        let line = "cannot log in until this is fixed";
        let log = until("the log line", || Some(client.setup.log()).filter(|log| log.contains(line)));
        assert!(!log.contains("falsch"), "{log}");
        assert_eq!(client.setup.report().unwrap().state.as_str(), "loading", "it tries again, slowly");
    }
}

#[test]
fn missing_token_is_reported() {
    let server = Server::new(Manner::Strict);
    server.want_token("geheim", Refusal::Frame);
    let client = setup(&server, &[]).start();
    let reason = until("the reason", || client.setup.report()?.fields().get("reason").cloned());
    let said = "the token is refused: the answer was retcode 1403; \
                none is named in [onebot] of the controller's configuration";
    assert_eq!(reason, said);
}

#[test]
fn unusable_token_file_is_reported() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let mut setup = setup(&server, &[]);
        setup.set(&super::variable(manner, "REMOTE_TOKEN_FILE"), "/nonexistent/token");
        let client = setup.start();
        let reason = until("the reason", || {
            let report = client.setup.report()?;
            Some(report.fields().get("reason")?.as_str()?.to_owned())
        });
        assert!(reason.contains("/nonexistent/token"), "{reason}");
        assert_eq!(server.connected(), 0);
    }
}

#[test]
fn wrong_settings_are_named() {
    let server = Server::new(Manner::Strict);
    for (name, value, said) in [
        ("BACKEND", "qq", "MOJO_WEBQQ_BACKEND must be sandbox, onebot or milky"),
        ("ONEBOT_URL", "ws://x y/?token=hush", "MOJO_WEBQQ_ONEBOT_URL must be ws://"),
        ("ONEBOT_URL", "http://127.0.0.1:1/", "MOJO_WEBQQ_ONEBOT_URL must be ws://"),
        ("ONEBOT_URL", "", "MOJO_WEBQQ_ONEBOT_URL is not set"),
        ("MILKY_URL", "ws://127.0.0.1:1/?token=hush", "MOJO_WEBQQ_MILKY_URL must be http://"),
        ("MILKY_URL", "", "MOJO_WEBQQ_MILKY_URL is not set"),
        ("ONEBOT_LISTEN", "here", "MOJO_WEBQQ_ONEBOT_LISTEN must be an IP address with a port"),
        ("ALLOW_MESSAGE_SYNC", "yes", "MOJO_WEBQQ_ALLOW_MESSAGE_SYNC must be 0 or 1"),
    ] {
        let mut setup = setup(&server, &[(name, value)]);
        if name.starts_with("MILKY") {
            setup.set("BACKEND", "milky");
        }
        let (status, complaint) = setup.run();
        assert_eq!(status, Some(2), "{complaint}");
        assert!(complaint.contains(said) && !complaint.contains("hush"), "{complaint}");
    }
}
