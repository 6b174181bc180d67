//! Logins that take somebody: a code to be scanned, and an account that was put out.

use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::implementation::Manner;
use super::server::Server;
use super::{running, setup};
use crate::client::process::until;
use crate::client::receiver::Receiver;
use crate::fixture::free_port;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82";
const JPEG: &[u8] = b"\xff\xd8\xff...\xff\xd9";

#[test]
fn the_implementations_code_is_the_clients_and_a_scan_is_a_login() {
    let port = free_port();
    let server = Server::away(Manner::Strict, port);
    let receiver = Receiver::new(|_| String::new());
    let mut setup = setup(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    let code = setup.path("napcat.png");
    setup.set("ONEBOT_QRCODE_PATH", code.to_str().unwrap());
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

#[test]
fn an_account_that_was_put_out_stays_out() {
    let offline = json!({
        "post_type": "notice", "notice_type": "bot_offline", "user_id": 10000, "tag": "登录失效", "message": "在另一终端登录",
    });
    let beat = json!({
        "post_type": "meta_event", "meta_event_type": "heartbeat", "interval": 30_000,
        "status": { "online": false, "good": false },
    });
    for (event, reason) in
        [(offline, "在另一终端登录"), (beat, "the heartbeat says that the account is offline")]
    {
        for manner in [Manner::Strict, Manner::Sloppy] {
            let server = Server::new(manner);
            let mut client = running(&server, &[]);
            server.tell(json!({
                "post_type": "meta_event", "meta_event_type": "heartbeat", "interval": 30_000, "status": { "online": true },
            }));
            server.tell(event.clone());
            assert_eq!(client.until_exit().code(), Some(77));
            let report = client.setup.report().unwrap();
            assert_eq!(report.state.as_str(), "stop");
            assert_eq!(report.fields()["reason"], format!("the account went offline: {reason}"));
            assert!(client.setup.log().contains(reason));
            assert_eq!(server.connected(), 1);
        }
    }
}

#[test]
fn who_listens_before_the_login_is_asked_again() {
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
