//! A client belongs to the account that it first had, even if another one is logged in at the other end later.

use serde_json::json;

use super::implementation::{Manner, OWN, ok};
use super::server::Server;
use super::{reason, setup, unanswered_and_waiting};
use crate::client::process::{Client, until};
use crate::client::receiver::Receiver;
use crate::fixture::free_port;

const OTHER: u64 = 20_000;

/// From now on another account is logged in there.
fn log_in_other(server: &Server) {
    server.answer("get_login_info", |_| Some(ok(json!({ "user_id": OTHER, "nickname": "别人" }))));
}

fn log_in_own(server: &Server) {
    server.answer("get_login_info", |_| Some(ok(json!({ "user_id": OWN, "nickname": "机器人" }))));
}

/// Waits until the login of the other account is refused, and says why.
fn refused(client: &Client) -> String {
    reason(client, &OTHER.to_string())
}

#[test]
fn queued_message_is_not_sent_from_another_account() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let client = setup(&server, &[]).start();
        client.setup.until_state("running");
        let (first, second) = unanswered_and_waiting(&server, &client);
        log_in_other(&server);
        server.hang_up();
        let reason = refused(&client);
        assert!(reason.contains(&format!("belongs to account {OWN}")), "{reason}");
        assert_eq!(server.calls("send_private_msg").len(), 1, "{OTHER} sends nothing");
        assert_eq!(crate::client::process::read_answer(first).json()["code"], -1);
        // Its own account is back.
        log_in_own(&server);
        assert_eq!(client.get("/openqq/relogin").json()["code"], 0);
        client.setup.until_state("running");
        assert_eq!(crate::client::process::read_answer(second).json()["code"], 0);
        assert_eq!(server.calls("send_private_msg").len(), 2);
    }
}

#[test]
fn binding_survives_restarts_until_stop_client() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let mut client = setup(&server, &[]).start();
        client.setup.until_state("running");
        log_in_other(&server);
        // As at a shutdown of the machine.
        client.restart();
        refused(&client);
        // A call gives it to the other account.
        assert_eq!(client.get("/openqq/relogin?forget=1").json()["code"], 0);
        client.setup.until_state("running");
        assert_eq!(client.get("/openqq/get_user_info").json()["uid"], OTHER.to_string());
        log_in_own(&server);
        assert_eq!(client.get("/openqq/stop_client").json()["code"], 0);
        client.until_exit();
        client.restart();
        client.setup.until_state("running");
        assert_eq!(client.get("/openqq/get_user_info").json()["uid"], OWN.to_string());
    }
}

#[test]
fn uin_parameter_decides_the_binding() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let client = setup(&server, &[("UIN", "20000")]).start();
        let reason = until("the reason", || client.setup.report()?.fields().get("reason").cloned());
        let said = "the implementation is logged in as 10000, and this client belongs to account 20000";
        assert!(reason.as_str().unwrap().starts_with(said), "{reason}");
        assert_eq!(client.get("/openqq/relogin?forget=1").json()["code"], 0);
        log_in_other(&server);
        client.setup.until_state("running");
    }
}

#[test]
fn new_registration_ends_the_binding() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let mut client = setup(&server, &[("REGISTRATION", "7")]).start();
        client.setup.until_state("running");
        log_in_other(&server);
        client.restart();
        refused(&client);
        client.setup.set("REGISTRATION", "9");
        client.restart();
        client.setup.until_state("running");
        assert_eq!(client.get("/openqq/get_user_info").json()["uid"], OTHER.to_string());
    }
}

#[test]
fn reverse_connection_of_another_account_is_refused() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let address = format!("127.0.0.1:{listen}");
    let client = setup(&server, &[("ONEBOT_URL", ""), ("ONEBOT_LISTEN", &address)]).start();
    server.call_back(listen, None, "Universal").unwrap();
    client.setup.until_state("running");
    let stranger = Server::away(Manner::Strict, 1);
    for role in ["Universal", "API", "Event"] {
        assert!(stranger.call_back_as(listen, None, role, Some(OTHER)).is_err(), "{role}");
    }
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
    assert_eq!((server.calls("send_private_msg").len(), server.calls("get_login_info").len()), (1, 1));
    // One that does not say whose it is is asked, and the login of the right one stays.
    log_in_other(&stranger);
    stranger.call_back_as(listen, None, "Universal", None).unwrap();
    until("the refusal", || {
        client.setup.log().contains("does not prove which account it is of").then_some(())
    });
    assert_eq!(client.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], 0);
    assert_eq!((server.calls("send_private_msg").len(), server.calls("get_login_info").len()), (2, 1));
    assert!(stranger.calls("send_private_msg").is_empty());
    // The right one, which does not say it either, takes the place.
    server.call_back_as(listen, None, "Universal", None).unwrap();
    until("the second login", || (server.calls("get_login_info").len() == 3).then_some(()));
    client.setup.until_state("running");
}

#[test]
fn events_of_another_account_end_its_connection() {
    for manner in Manner::NETWORKS {
        let server = Server::new(manner);
        let receiver = Receiver::new(|_| String::new());
        let client = setup(&server, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]).start();
        client.setup.until_state("running");
        log_in_other(&server);
        let message = |more: serde_json::Value| {
            let mut message = json!({ "post_type": "message", "message_type": "private", "user_id": 7 });
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            message
        };
        server.tell(message(json!({ "self_id": OTHER, "message": "theirs" })));
        refused(&client);
        log_in_own(&server);
        assert_eq!(client.get("/openqq/relogin").json()["code"], 0);
        client.setup.until_state("running");
        server.tell(message(json!({ "message": "ours" })));
        assert_eq!(receiver.next_message()["content"], "ours");
    }
}

#[test]
fn posts_of_another_account_are_refused() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let url = server.by_http(None);
    let address = format!("127.0.0.1:{listen}");
    let client = setup(&server, &[("ONEBOT_URL", &url), ("ONEBOT_LISTEN", &address)]).start();
    client.setup.until_state("running");
    let event = |account: u64| {
        format!(
            r#"{{"post_type":"notice","notice_type":"friend_add","self_id":{account},"user_id":30,"time":9}}"#
        )
    };
    let post = |headers: &str, body: &str| {
        crate::client::process::request(listen, "POST /", headers, body).unwrap().status
    };
    assert_eq!(post("", &event(OTHER)), 403);
    assert_eq!(post("X-Self-ID: 20000\r\n", &event(OWN)), 403);
    assert_eq!(post("X-Self-ID: 10000\r\n", &event(OWN)), 204);
    until("the friend", || {
        (client.get("/openqq/get_friend_info").json().as_array()?.len() == 3).then_some(())
    });
}
