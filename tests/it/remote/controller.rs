//! An account behind the controller: where its token comes from, and who sees it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::implementation::{Manner, ok};
use super::server::{Refusal, Server};
use crate::fixture::{Builder, Controller, free_port, wait_until};

const TOKEN: &str = "sehr-geheimes-wort";

/// The parameters of a start as an account of this server.
fn params(server: &Server) -> String {
    let backend = server.manner.backend();
    format!("backend={backend}&{backend}_url={}", server.url)
}

/// A controller that knows the token of the account `bot`, and whatever `more` says of it.
fn controller(manner: Manner, more: &str) -> Controller {
    let builder = Builder::new();
    let token = builder.write_file("token", TOKEN, 0o600);
    let clients = format!("[{{ client = 'bot', token_file = {token:?}{more} }}]");
    builder.config(&format!("[{}]\nclients = {clients}", manner.backend())).built_in()
}

#[test]
fn account_is_started_by_one_call() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        server.want_token(TOKEN, Refusal::Http(401));
        let controller = controller(manner, "");
        let started = controller.start_client_with("bot", &params(&server));
        assert_eq!(started["code"], 0, "{started}");
        controller.wait_for_state("bot", "running");
        let friends = controller.get("/openqq/get_friend_info?client=bot").json();
        assert_eq!(friends[0]["name"], "小红");
        let sent = controller.get("/openqq/send_friend_message?client=bot&uid=7&content=hallo").json();
        assert_eq!(sent["code"], 0, "{sent}");
        assert_eq!(server.calls("send_private_msg")[0]["message"][0]["data"]["text"], "hallo");
        // The token is shown to no user who may not read its file.
        let pid = started["pid"].as_u64().unwrap();
        for file in ["environ", "cmdline"] {
            let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!content.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{file}");
        }
        let everything = controller.get("/openqq/check_client").text() + &controller.log.text();
        assert!(!everything.contains(TOKEN));
        for entry in fs::read_dir(controller.path("")).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() && entry.file_name() != "token" {
                assert!(
                    !String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(TOKEN),
                    "{entry:?}"
                );
            }
        }
    }
}

#[test]
fn configured_account_never_becomes_a_sandbox() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        server.want_token(TOKEN, Refusal::Http(401));
        let controller = controller(manner, &format!(", url = {:?}", server.url));
        let refused = controller.start_client_with("bot", "backend=sandbox");
        assert_eq!(refused["code"], 6, "{refused}");
        let status = refused["status"].as_str().unwrap();
        let must = format!("parameter \"backend\" must be {} or left out", manner.backend());
        assert!(status.starts_with(&must), "{status}");
        assert!(controller.clients().is_empty());

        controller.start_client("bot");
        controller.wait_for_state("bot", "running");
        let sent = controller.get("/openqq/send_friend_message?client=bot&uid=7&content=hallo").json();
        assert_eq!(sent["code"], 0, "{sent}");
        assert_eq!(server.calls("send_private_msg")[0]["message"][0]["data"]["text"], "hallo");
        // Another account still has the sandbox.
        controller.start_client("other");
        controller.wait_for_state("other", "running");
    }
}

#[test]
fn callers_cannot_redirect_the_token() {
    let controller = controller(Manner::Strict, "");
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
fn changed_token_file_reaches_a_running_client_at_its_next_connection() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        server.want_token(TOKEN, Refusal::Http(401));
        let controller = controller(manner, "");
        let started = controller.start_client_with("bot", &params(&server));
        controller.wait_for_state("bot", "running");
        assert_eq!(server.connected(), 1);
        crate::fixture::write_file(&controller.path("token"), "another-secret-word", 0o600);
        server.want_token("another-secret-word", Refusal::Http(401));
        server.hang_up();
        wait_until("it connects with the new token", || server.connected() == 2);
        controller.wait_for_state("bot", "running");
        assert_eq!(controller.clients()[0]["pid"], started["pid"], "without a new start");
    }
}

#[test]
fn configured_url_wins_over_the_call() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let controller = controller(Manner::Strict, &format!(", listen = '127.0.0.1:{listen}'"));
    controller.start_client_with("bot", "backend=onebot&onebot_listen=0.0.0.0:1");
    server.call_back(listen, Some(TOKEN), "Universal").unwrap();
    controller.wait_for_state("bot", "running");
}

#[test]
fn logged_out_account_is_held_with_its_reason() {
    for manner in Manner::NETWORKS {
        for restart in ["always", "on-failure"] {
            let server = Server::new(manner);
            let controller =
                Builder::new().config(&format!("[supervisor]\nrestart = {restart:?}")).built_in();
            let start = || controller.start_client_with("bot", &params(&server));
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
            // An operator starts it again.
            assert_eq!(start()["code"], 0);
            controller.wait_for_state("bot", "running");
            assert!(controller.clients()[0].get("reason").is_none());
        }
    }
}

#[test]
fn binding_lasts_until_stop_client() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let log_in = |uid: u64| {
            let answer = move || Some(ok(json!({ "user_id": uid, "nickname": "x" })));
            server.answer("get_login_info", move |_| answer());
        };
        let controller = Builder::new().config("[supervisor]\nrestart = 'always'").built_in();
        let start = || controller.start_client_with("bot", &params(&server));
        let uid = || {
            controller.wait_for_state("bot", "running");
            controller.get("/openqq/get_user_info?client=bot").json()["uid"].clone()
        };
        let started = start();
        assert!(started.get("registration").is_none(), "{started}");
        assert_eq!(uid(), "10000");
        log_in(20_000);
        let pid = Pid::from_raw(i32::try_from(started["pid"].as_u64().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        wait_until("the reason", || {
            let reason = controller.clients()[0].get("reason").cloned().unwrap_or_default();
            reason.as_str().is_some_and(|reason| reason.contains("this client belongs to account 10000"))
        });
        assert_eq!(controller.get("/openqq/stop_client?client=bot").json()["code"], 0);
        // A caller cannot set what the controller tells accounts apart by.
        let params = params(&server) + "&registration=1";
        assert_eq!(controller.start_client_with("bot", &params)["code"], 0);
        assert_eq!(uid(), "20000");
    }
}

#[test]
fn refused_token_is_shown_by_check_client() {
    let server = Server::new(Manner::Strict);
    server.want_token("another", Refusal::Frame);
    let controller = controller(Manner::Strict, "");
    controller.start_client_with("bot", &params(&server));
    wait_until("the reason", || controller.clients()[0].get("reason").is_some());
    let client = &controller.clients()[0];
    assert_eq!(client["reason"], json!("the token is refused: the answer was retcode 1403"));
    assert_eq!(client["state"], "loading");
}
