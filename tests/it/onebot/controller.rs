//! An account behind the controller: where its token comes from, and who sees it.

use std::fs;

use serde_json::{Value, json};

use super::implementation::Manner;
use super::server::{Refusal, Server};
use crate::fixture::{Builder, Controller, free_port, wait_until};

const TOKEN: &str = "sehr-geheimes-wort";

/// A controller that knows the token of the account `bot`, and whatever `more` says of it.
fn controller(more: &str) -> Controller {
    let builder = Builder::new();
    let token = builder.write_file("token", TOKEN, 0o600);
    let clients = format!("[{{ client = 'bot', token_file = {token:?}{more} }}]");
    builder.config(&format!("[onebot]\nclients = {clients}")).built_in()
}

#[test]
fn an_account_is_put_behind_the_api_by_one_call() {
    let server = Server::new(Manner::Strict);
    server.want_token(TOKEN, Refusal::Http(401));
    let controller = controller("");
    let started = controller.start_client_with("bot", &format!("backend=onebot&onebot_url={}", server.url));
    assert_eq!(started["code"], 0, "{started}");
    controller.wait_for_state("bot", "running");
    let friends = controller.get("/openqq/get_friend_info?client=bot").json();
    assert_eq!(friends[0]["name"], "小红");
    let sent = controller.get("/openqq/send_friend_message?client=bot&uid=7&content=hallo").json();
    assert_eq!(sent["code"], 0, "{sent}");
    assert_eq!(server.calls("send_private_msg")[0]["message"][0]["data"]["text"], "hallo");
    // Nobody sees the token who may not read its file.
    let pid = started["pid"].as_u64().unwrap();
    for file in ["environ", "cmdline"] {
        let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!content.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{file}");
    }
    let everything = controller.get("/openqq/check_client").text() + &controller.log.text();
    assert!(!everything.contains(TOKEN));
    for entry in fs::read_dir(controller.path("")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() && entry.file_name() != "token" {
            assert!(!String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(TOKEN), "{entry:?}");
        }
    }
}

#[test]
fn callers_choose_neither_the_token_nor_who_gets_it() {
    let controller = controller("");
    for (params, why) in [
        ("onebot_url=ws://192.0.2.1/", "its token goes to another machine only where [onebot]"),
        ("onebot_listen=0.0.0.0:0", "other machines come to it only where [onebot]"),
    ] {
        let refused = controller.start_client_with("bot", &format!("backend=onebot&{params}"));
        assert_eq!(refused["code"], 6, "{refused}");
        assert!(refused["status"].as_str().unwrap().contains(why), "{refused}");
    }
    let server = Server::new(Manner::Strict);
    server.want_token(TOKEN, Refusal::Http(401));
    let params = format!("backend=onebot&onebot_url={}&onebot_token_file=/etc/hostname", server.url);
    controller.start_client_with("bot", &params);
    controller.wait_for_state("bot", "running");
}

#[test]
fn the_operator_says_where_the_implementation_is() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let controller = controller(&format!(", listen = '127.0.0.1:{listen}'"));
    controller.start_client_with("bot", "backend=onebot&onebot_listen=0.0.0.0:1");
    server.call_back(listen, Some(TOKEN), "Universal").unwrap();
    controller.wait_for_state("bot", "running");
}

#[test]
fn an_account_that_was_put_out_is_held_and_shown_with_the_reason() {
    for restart in ["always", "on-failure"] {
        let server = Server::new(Manner::Strict);
        let controller = Builder::new().config(&format!("[supervisor]\nrestart = {restart:?}")).built_in();
        let start =
            || controller.start_client_with("bot", &format!("backend=onebot&onebot_url={}", server.url));
        start();
        controller.wait_for_state("bot", "running");
        let offline =
            json!({ "post_type": "notice", "notice_type": "bot_offline", "message": "在另一终端登录" });
        server.tell(offline);
        wait_until("it is held", || controller.clients()[0]["held"] == true);
        let client = &controller.clients()[0];
        assert_eq!((&client["state"], &client["phase"]), (&json!("stop"), &json!("gone")), "{client}");
        assert_eq!(client["last_exit"], "exited with status 77: its account was put out");
        assert_eq!((&client["next_start"], &client["exits"]), (&Value::Null, &json!(1)));
        assert_eq!(client["reason"], "the account went offline: 在另一终端登录");
        assert_eq!(server.connected(), 1, "{restart}");
        // Somebody looked at it.
        assert_eq!(start()["code"], 0);
        controller.wait_for_state("bot", "running");
        assert!(controller.clients()[0].get("reason").is_none());
    }
}

#[test]
fn a_refused_token_is_shown_by_check_client() {
    let server = Server::new(Manner::Strict);
    server.want_token("another", Refusal::Frame);
    let controller = controller("");
    controller.start_client_with("bot", &format!("backend=onebot&onebot_url={}", server.url));
    wait_until("the reason", || controller.clients()[0].get("reason").is_some());
    let client = &controller.clients()[0];
    assert_eq!(client["reason"], json!("the token is refused: the answer was retcode 1403"));
    assert_eq!(client["state"], "loading");
}
