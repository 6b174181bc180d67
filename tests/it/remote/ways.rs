//! The other ways to an implementation: it comes to us by WebSocket, or all goes by HTTP.

use std::os::unix::fs::PermissionsExt;

use ring::hmac;
use serde_json::{Value, json};
use url::Url;

use super::implementation::Manner;
use super::server::Server;
use super::tls;
use crate::client::process::{Client, Setup, request, until};
use crate::client::receiver::Receiver;
use crate::fixture::free_port;

const EVENT: &str = r#"{"post_type":"message","message_type":"private","sub_type":"friend","self_id":10000,"user_id":7,"message_id":1,"time":1700000000,"message":"hallo","sender":{"nickname":"小红"}}"#;

fn setup(listen: u16, token: Option<&str>, more: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new(&[("BACKEND", "onebot"), ("ONEBOT_LISTEN", &format!("127.0.0.1:{listen}"))]);
    if let Some(token) = token {
        let path = setup.path("token");
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        setup.set("ONEBOT_TOKEN_FILE", path.to_str().unwrap());
    }
    for (name, value) in more {
        setup.set(name, value);
    }
    setup
}

/// Waits until messages go out, to `server`.
fn works(client: &Client, server: &Server) {
    // Not by the state file, which may still say what was before.
    until("a message that goes out", || {
        let sent = request(client.setup.port, "GET /openqq/send_friend_message?uid=7&content=x", "", "")?;
        (sent.json()["code"] == 0).then_some(())
    });
    assert_eq!(server.calls("send_private_msg").last().unwrap()["user_id"], 7);
}

#[test]
fn reverse_websocket_connects_and_reconnects() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let receiver = Receiver::new(|_| String::new());
    let client = setup(listen, None, &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]).start();
    server.call_back(listen, None, "Universal").unwrap();
    works(&client, &server);
    server.tell(says("hallo"));
    while receiver.next_message()["content"] != "hallo" {}
    // Without closing the first one, as after a network failure.
    server.call_back(listen, None, "Universal").unwrap();
    until("the second connection", || client.setup.log().contains("it connected anew").then_some(()));
    works(&client, &server);
    server.hang_up();
    server.call_back(listen, None, "Universal").unwrap();
    until("the third connection", || (server.calls("get_login_info").len() == 3).then_some(()));
    works(&client, &server);
}

#[test]
fn reverse_websocket_refuses_strangers() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let client = setup(listen, Some("geheim"), &[]).start();
    for role in ["Universal", "API", "Event"] {
        for token in [None, Some("falsch")] {
            assert!(server.call_back(listen, token, role).is_err());
        }
    }
    assert!(server.call_back(listen, Some("geheim"), "Something").is_err());
    let status = |what: &str, headers: &str| request(listen, what, headers, "").unwrap().status;
    assert_eq!(status("GET /", ""), 426);
    assert_eq!(status("GET /", "Origin: http://evil.example\r\nAuthorization: Bearer geheim\r\n"), 403);
    server.call_back(listen, Some("geheim"), "Universal").unwrap();
    works(&client, &server);
    assert!(!client.setup.log().contains("geheim"));
}

/// A message of a friend.
fn says(words: &str) -> Value {
    json!({
        "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message_id": words, "message": words,
    })
}

#[test]
fn calls_and_events_may_have_separate_connections() {
    for first in ["API", "Event"] {
        // Two ends of the same account.
        let (calls, events, listen) =
            (Server::away(Manner::Strict, 1), Server::away(Manner::Strict, 1), free_port());
        let receiver = Receiver::new(|_| String::new());
        let more = [
            ("PLUGIN_OPENQQ_POST_API", receiver.url.as_str()),
            ("PLUGIN_OPENQQ_POST_EVENT_LIST", "new_friend"),
        ];
        let client = setup(listen, None, &more).start();
        let connect =
            |role: &str| if role == "API" { &calls } else { &events }.call_back(listen, None, role).unwrap();
        connect(first);
        connect(if first == "API" { "Event" } else { "API" });
        works(&client, &calls);
        events.tell(says("a"));
        while receiver.next_message()["content"] != "a" {}
        // Without events the account can still speak, and the login is the same.
        events.hang_up();
        until("the loss", || {
            client
                .setup
                .log()
                .contains("lost the event connection of the OneBot implementation")
                .then_some(())
        });
        works(&client, &calls);
        calls.friends().push(json!({ "user_id": 20, "nickname": "新" }));
        connect("Event");
        let new = until("what was missed", || {
            Some(receiver.next().json).filter(|report| report["event"] == "new_friend")
        });
        assert_eq!(new["params"][0]["uid"], "20");
        events.tell(says("b"));
        while receiver.next_message()["content"] != "b" {}
        assert!(events.calls("get_login_info").is_empty(), "no calls go where events come from");
        assert_eq!(calls.calls("get_login_info").len(), 1);
    }
}

#[test]
fn reverse_websocket_is_closed_until_the_token_is_known() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let url = server.by_http(None);
    for more in [&[][..], &[("ONEBOT_URL", url.as_str())]] {
        let mut setup = setup(listen, None, more);
        setup.set("ONEBOT_TOKEN_FILE", "/nonexistent/token");
        let client = setup.start();
        until("the reason", || client.setup.report()?.fields().get("reason").cloned());
        assert!(server.call_back(listen, None, "Universal").is_err());
        assert_eq!(request(listen, "POST /", "", EVENT).unwrap().status, 503);
    }
}

#[test]
fn reverse_websocket_is_closed_while_the_new_token_cannot_be_read() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let client = setup(listen, Some("geheim"), &[]).start();
    let connect = || server.call_back(listen, Some("geheim"), "Universal");
    until("the first connection", || connect().ok());
    client.setup.until_state("running");
    let token = client.setup.path("token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    server.hang_up();
    super::reason(&client, "the file of the token cannot be used");
    assert!(connect().is_err(), "the token before may be the reason for the new one");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    until("the next connection", || connect().ok());
    client.setup.until_state("running");
}

#[test]
fn refused_stranger_is_logged_with_the_reason() {
    let url = Server::new(Manner::Strict).by_http(None);
    for (what, more, line) in [
        ("GET /", &[][..], "(HTTP 426): it opens no WebSocket"),
        ("GET /", &[("ONEBOT_URL", url.as_str())], "(HTTP 405): it is no POST"),
    ] {
        let listen = free_port();
        let client = setup(listen, None, more).start();
        until("a refusal", || request(listen, what, "", "").filter(|answer| answer.status != 503));
        until(line, || client.setup.log().contains(line).then_some(()));
    }
}

fn signed(token: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let hex: String =
        hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Signature: sha1={hex}\r\nContent-Type: application/json\r\n")
}

#[test]
fn http_calls_and_posts_work() {
    for token in [None, Some("geheim")] {
        let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
        let url = server.by_http(token);
        let receiver = Receiver::new(|_| String::new());
        let more = [("ONEBOT_URL", url.as_str()), ("PLUGIN_OPENQQ_POST_API", &receiver.url)];
        let client = setup(listen, token, &more).start();
        works(&client, &server);
        let post = |headers: &str, body: &str| request(listen, "POST /", headers, body).unwrap().status;
        if let Some(token) = token {
            assert_eq!(post("", EVENT), 401);
            assert_eq!(post(&signed("falsch", EVENT), EVENT), 403);
            assert_eq!(post(&signed(token, EVENT), &EVENT.replace("hallo", "other")), 403);
        }
        let headers = token.map(|token| signed(token, EVENT)).unwrap_or_default();
        assert_eq!(post(&format!("{headers}Origin: http://evil.example\r\n"), EVENT), 403);
        assert_eq!(post(&headers, EVENT), 204);
        // As an implementation does that had no answer.
        assert_eq!(post(&headers, EVENT), 204);
        while receiver.next_message()["content"] != "hallo" {}
        let hasty = [("ONEBOT_URL", url.as_str()), ("ONEBOT_TIMEOUT", "0.5")];
        let hasty = setup(free_port(), token, &hasty).start();
        hasty.setup.until_state("running");
        server.answer("send_private_msg", |_| None);
        let asked = || server.calls("send_private_msg").len();
        let before = asked();
        assert_eq!(hasty.get("/openqq/send_friend_message?uid=7&content=x").json()["code"], -1);
        until("the call, once and not again", || (asked() == before + 1).then_some(()));
        assert_eq!(request(listen, "GET /", "", "").unwrap().status, 405);
    }
}

#[test]
fn wrong_token_by_http_is_reported() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let url = server.by_http(Some("geheim"));
    let client = setup(listen, Some("falsch"), &[("ONEBOT_URL", &url)]).start();
    until("the reason", || client.setup.report()?.fields().get("reason").cloned());
}

#[test]
fn token_is_not_sent_to_a_proxy() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let url = server.by_http(Some("geheim"));
    let mut setup = setup(listen, Some("geheim"), &[("ONEBOT_URL", &url)]);
    setup.environment("http_proxy", "http://127.0.0.1:1/");
    works(&setup.start(), &server);
}

#[test]
fn tls_requires_a_trusted_certificate() {
    for (scheme, trusted) in [("wss", true), ("wss", false), ("https", true)] {
        let server = Server::new(Manner::Strict);
        let behind = if scheme == "wss" { server.url.clone() } else { server.by_http(None) };
        let secure = tls::in_front_of(&Url::parse(&behind).unwrap());
        let mut setup =
            Setup::new(&[("BACKEND", "onebot"), ("ONEBOT_URL", &format!("{scheme}://{secure}/"))]);
        if scheme == "https" {
            setup.set("ONEBOT_LISTEN", &format!("127.0.0.1:{}", free_port()));
        }
        setup.environment("SSL_CERT_FILE", if trusted { tls::CERTIFICATE } else { "/dev/null" });
        let client = setup.start();
        if trusted {
            works(&client, &server);
        } else {
            until("the complaint", || {
                client.setup.log().contains("cannot use the OneBot implementation yet: TLS: ").then_some(())
            });
            assert_eq!(server.connected(), 0);
        }
    }
}
