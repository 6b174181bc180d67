//! Logins that need a person: a code to be scanned, and an account that was logged out.

use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::implementation::{Manner, failed, ok};
use super::server::Server;
use super::{reason, running, setup};
use crate::client::process::until;
use crate::client::receiver::Receiver;
use crate::fixture::free_port;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82";
const JPEG: &[u8] = b"\xff\xd8\xff...\xff\xd9";

#[test]
fn login_code_of_the_implementation_is_shown() {
    for manner in Manner::NETWORKS {
        let port = free_port();
        let server = Server::away(manner, port);
        let receiver = Receiver::new(|_| String::new());
        let mut setup = setup(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
        let code = setup.path("napcat.png");
        setup.set(&super::variable(manner, "REMOTE_QRCODE_PATH"), code.to_str().unwrap());
        let client = setup.start();
        client.setup.until_state("loading");
        std::fs::write(&code, PNG).unwrap();
        client.setup.until_state("scaning");
        let shown = |image: &[u8]| {
            until("the image", || (std::fs::read(client.setup.image()).ok()? == image).then_some(()))
        };
        shown(PNG);
        std::fs::write(&code, JPEG).unwrap();
        shown(JPEG);
        server.listen(TcpListener::bind(("127.0.0.1", port)).unwrap());
        client.setup.until_state("running");
        assert!(!client.setup.image().exists(), "the implementation's file stays, ours does not");
        let mut codes = Vec::new();
        let login = loop {
            let report = receiver.next().json;
            match report["event"].as_str().unwrap() {
                "input_qrcode" => codes.push(report["params"][1].as_str().unwrap().to_owned()),
                "login" => break report["params"].clone(),
                _ => {}
            }
        };
        assert_eq!((login, codes.last().unwrap()), (json!([1]), &BASE64.encode(JPEG)));
        // The next login takes none: the file is still there, and belongs to this one.
        server.hang_up();
        loop {
            let report = receiver.next().json;
            assert_ne!(report["event"], "input_qrcode");
            if report["event"] == "login" {
                assert_eq!(report["params"], json!([0]));
                break;
            }
        }
    }
}

#[test]
fn bot_offline_ends_the_client() {
    let offline = json!({
        "post_type": "notice", "notice_type": "bot_offline", "user_id": 10000, "tag": "登录失效", "message": "在另一终端登录",
    });
    let reason = "在另一终端登录";
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let mut client = running(&server, &[]);
        server.tell(beat(true));
        server.tell(offline.clone());
        assert_eq!(client.until_exit().code(), Some(77));
        let report = client.setup.report().unwrap();
        assert_eq!(report.state.as_str(), "stop");
        assert_eq!(report.fields()["reason"], format!("the account went offline: {reason}"));
        assert!(client.setup.log().contains(reason));
        assert_eq!(server.connected(), 1);
    }
}

fn beat(online: bool) -> Value {
    json!({
        "post_type": "meta_event", "meta_event_type": "heartbeat", "interval": 30_000,
        "status": { "online": online, "good": online },
    })
}

#[test]
fn heartbeat_offline_recovers_by_itself() {
    for manner in [Manner::Strict, Manner::Sloppy] {
        let server = Server::new(manner);
        let receiver = Receiver::new(|_| String::new());
        let client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
        let next = |event: &str| receiver.next_event(event);
        assert_eq!(next("login"), json!([0]));
        server.tell(beat(true));
        // QQ reconnects: calls that need its servers fail meanwhile.
        server.answer("get_friend_list", |_| Some(failed(1200)));
        server.tell(beat(false));
        assert_eq!(next("state_change"), json!(["running", "loading"]));
        let why = reason(&client, "retcode 1200");
        assert!(why.starts_with("the implementation's heartbeat says that the account is offline"), "{why}");
        assert_eq!(client.get("/openqq/get_friend_info").json()["code"], -7);
        let friends = json!([{ "user_id": 7, "nickname": "小红" }, { "user_id": 20, "nickname": "新" }]);
        server.answer("get_friend_list", move |_| Some(ok(friends.clone())));
        server.tell(beat(true));
        assert_eq!(next("state_change"), json!(["loading", "updating"]));
        assert_eq!(next("state_change"), json!(["updating", "running"]));
        assert_eq!(next("login"), json!([0]));
        assert_eq!(next("new_friend")[0]["uid"], "20", "what happened meanwhile is told");
        assert!(client.setup.report().unwrap().fields().get("reason").is_none());
        assert_eq!(server.connected(), 1, "on the same connection");
    }
}

#[test]
fn wrong_heartbeat_does_not_disturb_a_working_account() {
    let server = Server::new(Manner::Strict);
    let receiver = Receiver::new(|_| String::new());
    let client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    let logins = || server.calls("get_login_info").len();
    server.tell(beat(false));
    until("a login anew", || (logins() == 2).then_some(()));
    // As LLBot 7 does until it is restarted.
    for _ in 0..5 {
        server.tell(beat(false));
    }
    let message = json!({
        "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message_id": 1, "message": "x",
    });
    server.tell(message);
    while receiver.next_message()["content"] != "x" {}
    // The login, the one after the first heartbeat, and one check that calls work.
    assert!(logins() <= 3, "{}", logins());
    assert_eq!(client.setup.report().unwrap().state.as_str(), "running");
}

#[test]
fn bot_offline_while_offline_ends_the_client() {
    let server = Server::new(Manner::Strict);
    let mut client = running(&server, &[]);
    server.answer("get_login_info", |_| Some(failed(1200)));
    server.tell(beat(false));
    reason(&client, "retcode 1200");
    server.tell(json!({ "post_type": "notice", "notice_type": "bot_offline", "message": "kicked" }));
    assert_eq!(client.until_exit().code(), Some(77));
}

/// Of an account that is put out: what its receiver gets from the last state on.
fn last_reports(receiver: &Receiver) -> Vec<serde_json::Value> {
    let mut reports = Vec::new();
    while reports.len() < 2 {
        let report = receiver.next().json;
        if report["params"][1] == "stop" || report["event"] == "stop" {
            reports.push(report);
        }
    }
    reports
}

#[test]
fn logout_reason_is_reported_at_once_or_from_disk() {
    for manner in Manner::NETWORKS {
        let offline = json!({
            "post_type": "notice", "notice_type": "bot_offline", "user_id": 10000, "tag": "登录失效", "message": "在另一终端登录",
        });
        let reason = "the account went offline: 在另一终端登录";
        let expected = [
            json!({ "post_type": "event", "event": "state_change", "params": ["running", "stop"], "reason": reason }),
            json!({ "post_type": "event", "event": "stop", "params": [], "reason": reason }),
        ];
        let server = Server::new(manner);
        let receiver = Receiver::new(|_| String::new());
        let mut client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
        server.tell(offline.clone());
        assert_eq!(client.until_exit().code(), Some(77));
        assert_eq!(last_reports(&receiver), expected);

        // A receiver that is away when it happens.
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}/");
        let mut client = running(&server, &[("PLUGIN_OPENQQ_POST_API", &url)]);
        server.tell(offline);
        assert_eq!(client.until_exit().code(), Some(77));
        let receiver = Receiver::on(std::net::SocketAddr::from(([127, 0, 0, 1], port)), |_| String::new());
        client.start_again();
        assert_eq!(last_reports(&receiver), expected);
    }
}

#[test]
fn implementation_that_is_not_logged_in_yet_is_retried() {
    let server = Server::new(Manner::Strict);
    server.answer("get_login_info", |_| Some(json!({ "status": "ok", "retcode": 0, "data": {} })));
    let client = setup(&server, &[]).start();
    until("a second try", || (server.connected() >= 2).then_some(()));
    assert_eq!(client.setup.report().unwrap().state.as_str(), "loading");
    server.answer("get_login_info", |_| {
        Some(json!({ "status": "ok", "retcode": 0, "data": { "user_id": 10_000, "nickname": "x" } }))
    });
    client.setup.until_state("running");
}
