//! Applications of `[onebot_server]` in the configuration of the controller.

use std::fs;
use std::net::TcpListener;

use ring::hmac;
use ureq::http::Request;

use super::socket::Socket;
use crate::client::receiver::{Receiver, Report};
use crate::fixture::{Builder, Controller, wait_until, write_file};

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    (listener, url)
}

/// The next connection, with the token that it shows.
fn shown(listener: &TcpListener) -> (Socket, Option<String>) {
    let (socket, request) = Socket::accept(listener);
    let shown = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    (socket, shown)
}

/// How a report is signed, if it is.
fn signed(report: &Report) -> Option<&str> {
    report.head.lines().find_map(|line| line.strip_prefix("x-signature: "))
}

/// The signature of a report by this secret.
fn signature(secret: &str, report: &Report) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let tag = hmac::sign(&key, report.json.to_string().as_bytes());
    tag.as_ref().iter().fold("sha1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The status for an action of an application with this token.
fn status(controller: &Controller, account: &str, token: Option<&str>) -> u16 {
    let request = Request::get(controller.url(&format!("/clients/{account}/onebot/v11/get_status")));
    let bearer = token.map(|token| format!("Bearer {token}"));
    let request = bearer.into_iter().fold(request, |request, bearer| request.header("authorization", bearer));
    controller.send(request.body(()).unwrap()).status
}

#[test]
fn secrets_of_the_configuration_are_seen_at_its_addresses_alone() {
    let (table, own) = (listener(), listener());
    let (of_table, of_own) = (Receiver::new(|_| String::new()), Receiver::new(|_| String::new()));
    let builder = Builder::new();
    let token = builder.write_file("token", "hush-token\n", 0o600);
    let secret = builder.write_file("secret", "hush-secret\n", 0o600);
    let controller = builder
        .config(&format!(
            "[onebot_server]\nconnect = ['{}']\npost = ['{}']\nheartbeat = 0\ntoken_file = {token:?}\nsecret_file = {secret:?}\n",
            table.1, of_table.url
        ))
        .built_in();
    let start = |name: &str, more: &str| {
        let reply = controller.start_client_with(name, &format!("sandbox_login_time=0{more}"));
        assert_eq!(reply["code"], 0, "{reply}");
    };
    start("plain", "");
    let (mut socket, bearer) = shown(&table.0);
    assert_eq!(
        (bearer.as_deref(), &socket.read()["sub_type"]),
        (Some("Bearer hush-token"), &"connect".into())
    );
    let report = of_table.next();
    assert_eq!(signed(&report), Some(&*signature("hush-secret", &report)));

    // With addresses of its own: nothing of the operator's goes there.
    let post = of_own.url.replace('?', "%3F").replace('&', "%26");
    start("own", &format!("&onebot_server_connect={}&onebot_server_post={post}", own.1));
    assert_eq!(shown(&own.0).1, None);
    assert_eq!(signed(&of_own.next()), None);
    // Yet it stays closed.
    wait_until("it runs", || status(&controller, "own", Some("hush-token")) == 200);
    for account in ["own", "plain"] {
        assert_eq!(status(&controller, account, None), 401);
        assert_eq!(status(&controller, account, Some("wrong")), 403);
        assert_eq!(status(&controller, account, Some("hush-token")), 200);
    }
    // A caller's attempt to pass for the operator has no effect.
    start("forged", &format!("&onebot_server_default_connect={}&onebot_server_token=word", own.1));
    let (_forged, bearer) = shown(&table.0);
    assert_eq!(bearer.as_deref(), Some("Bearer word"));
    assert_eq!(
        (status(&controller, "forged", Some("hush-token")), status(&controller, "forged", Some("word"))),
        (403, 200)
    );

    // The secrets are in the files and nowhere else.
    let accounts = controller.get("/v1/clients").json();
    for account in accounts["accounts"].as_array().unwrap() {
        let pid = account["client"]["pid"].as_u64().unwrap();
        for file in ["cmdline", "environ"] {
            let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains("hush-"), "{file}");
        }
    }
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 3, "{accounts}");
    assert!(!accounts.to_string().contains("hush-") && !controller.log.text().contains("hush-"));

    // A new token needs no restart.
    write_file(&token, "hush-renewed", 0o600);
    assert_eq!(status(&controller, "plain", Some("hush-token")), 403);
    assert_eq!(status(&controller, "plain", Some("hush-renewed")), 200);
    socket.close();
    assert_eq!(shown(&table.0).1.as_deref(), Some("Bearer hush-renewed"));
}

#[test]
fn file_that_cannot_be_used_closes_what_it_is_for_and_is_named() {
    let (table, receiver) = (listener(), Receiver::new(|_| String::new()));
    let builder = Builder::new();
    let token = builder.write_file("token", "hu\tsh", 0o600);
    let secret = builder.write_file("secret", "hush", 0o644);
    let controller = builder
        .config(&format!(
            "[onebot_server]\nconnect = ['{}']\npost = ['{}']\nheartbeat = 0\ntoken_file = {token:?}\nsecret_file = {secret:?}\n",
            table.1, receiver.url
        ))
        .built_in();
    controller.start_client_with("a", "sandbox_login_time=0");
    wait_until("it answers", || status(&controller, "a", None) == 503);
    for part in ["token: must have one line with tokens", "secret: not private (mode 0644); run chmod go="] {
        wait_until(part, || controller.log.text().contains(part));
    }
    write_file(&token, "koishi=hush", 0o600);
    write_file(&secret, "hush", 0o600);
    assert_eq!(shown(&table.0).1.as_deref(), Some("Bearer hush"));
    let report = receiver.next();
    assert_eq!(signed(&report), Some(&*signature("hush", &report)));
}

#[test]
fn reload_counts_at_the_next_start_of_a_client() {
    let (first, second) = (listener(), listener());
    let builder = Builder::new();
    let controller = builder.config(&format!("[onebot_server]\nconnect = ['{}']\n", first.1)).built_in();
    controller.start_client_with("a", "sandbox_login_time=0");
    let (socket, _) = shown(&first.0);
    controller.write_config(&controller.read_config().replace(&first.1, &second.1));
    controller.reload();
    // The client has what it was started with.
    socket.close();
    let (_socket, _) = shown(&first.0);
    controller.stop_client("a");
    wait_until("it is gone", || controller.is_gone("a"));
    controller.start_client_with("a", "sandbox_login_time=0");
    assert_eq!(shown(&second.0).0.read()["sub_type"], "connect");
}
