//! Applications that reach their account through the controller.

use std::net::TcpStream;

use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::client::process::request;
use crate::fixture::{Answer, Builder, Controller};

/// Calls an action by GET.
fn get(controller: &Controller, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::http::Request::get(controller.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    controller.send(request.body(()).unwrap())
}

/// Opens a WebSocket and calls an action on it; else the status of the refusal.
fn on_socket(controller: &Controller, path: &str, token: Option<&str>) -> Result<serde_json::Value, u16> {
    let url = controller.url(path).replacen("http", "ws", 1);
    let mut request = url.as_str().into_client_request().unwrap();
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let authority = request.uri().authority().unwrap().to_string();
    let stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(crate::fixture::PATIENCE)).unwrap();
    let mut socket = match tungstenite::client(request, stream) {
        Ok((socket, _)) => socket,
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            return Err(answer.status().as_u16());
        }
        Err(error) => panic!("{error}"),
    };
    socket.send(Message::text(json!({ "action": "get_login_info", "echo": 7 }).to_string())).unwrap();
    loop {
        let frame = socket.read().unwrap();
        if !frame.is_text() {
            continue;
        }
        let frame: serde_json::Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
        if frame["echo"] == 7 {
            return Ok(frame);
        }
    }
}

#[test]
fn account_is_named_in_the_query_or_in_the_path() {
    let controller = Builder::new().built_in();
    for name in ["a%20+b", "%E5%B0%8F%E6%98%8E"] {
        controller.start_client_with(&name.replace('+', "%2B"), "sandbox_login_time=0");
    }
    controller.wait_for_state("a +b", "running");
    controller.wait_for_state("小明", "running");
    let nickname = |path: &str| {
        let answer = get(&controller, path, &[]);
        (answer.status, answer.json()["data"]["nickname"].as_str().map(str::to_owned))
    };
    let (first, second) = ((200, Some("a +b".to_owned())), (200, Some("小明".to_owned())));
    assert_eq!(nickname("/onebot/v11/get_login_info?client=a%20%2Bb"), first);
    assert_eq!(nickname("/clients/a%20+b/onebot/v11/get_login_info"), first);
    assert_eq!(nickname("/clients/a%20+b/onebot/v11/get_login_info?x=1"), first);
    assert_eq!(nickname("/clients/%E5%B0%8F%E6%98%8E/onebot/v11/get_login_info"), second);
    for path in ["/clients/%E5%B0%8F%E6%98%8E/onebot/v11/ws", "/onebot/v11/?client=%E5%B0%8F%E6%98%8E"] {
        let answer = on_socket(&controller, path, None).unwrap();
        assert_eq!(answer["data"]["nickname"], "小明", "{answer}");
    }
    // Refusals are in the words of the protocol.
    for (path, status, retcode) in [
        ("/onebot/v11/get_login_info?client=none", 404, 1404),
        ("/onebot/v11/get_login_info", 404, 1404),
        ("/clients/none/onebot/v11/get_login_info", 404, 1404),
        ("/clients/a/onebot/v11/get_login_info?client=b", 400, 1400),
        ("/onebot/v11/fly?client=%E5%B0%8F%E6%98%8E", 404, 1404),
    ] {
        let answer = get(&controller, path, &[]);
        assert_eq!((answer.status, &answer.json()["retcode"]), (status, &json!(retcode)), "{path}");
    }
    assert_eq!(get(&controller, "/clients/a/openqq/get_user_info", &[]).status, 403);
}

#[test]
fn tokens_of_the_door_and_of_the_account_open_what_is_theirs() {
    let builder = Builder::new();
    let (all, eye) = (
        builder.write_file("all", "opens-all-accounts", 0o600),
        builder.write_file("eye", "only-reads-accounts", 0o600),
    );
    let controller = builder
        .config(&format!(
            "[[auth.tokens]]\nname = 'all'\nfile = {all:?}\naccess = 'read-write'\n[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'\n"
        ))
        .built_in();
    let start = |name: &str, more: &str| {
        let path = format!("/openqq/start_client?client={name}&sandbox_login_time=0{more}");
        assert_eq!(
            get(&controller, &path, &[("authorization", "Bearer opens-all-accounts")]).json()["code"],
            0
        );
    };
    start("own", "&onebot_server_token=of-own");
    start("plain", "");
    let call = |account: &str, action: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        get(&controller, &format!("/clients/{account}/onebot/v11/{action}"), &headers).status
    };
    for account in ["own", "plain"] {
        crate::fixture::wait_until("it runs", || {
            call(account, "get_status", Some("opens-all-accounts")) == 200
        });
        assert_eq!(call(account, "can_send_image", Some("opens-all-accounts")), 200);
        assert_eq!(call(account, "get_login_info", Some("only-reads-accounts")), 200);
        assert_eq!(call(account, "can_send_image", Some("only-reads-accounts")), 403);
        assert_eq!(call(account, "get_login_info", None), 401);
        assert!([401, 403].contains(&call(account, "get_login_info", Some("unknown"))));
        let socket = format!("/clients/{account}/onebot/v11/ws");
        assert!(on_socket(&controller, &socket, Some("opens-all-accounts")).is_ok());
        assert_eq!(on_socket(&controller, &socket, Some("only-reads-accounts")).unwrap_err(), 403);
        assert_eq!(on_socket(&controller, &socket, None).unwrap_err(), 401);
    }
    assert_eq!(call("own", "get_login_info", Some("of-own")), 200);
    assert!([401, 403].contains(&call("plain", "get_login_info", Some("of-own"))), "it is another account's");
    assert!(on_socket(&controller, "/clients/own/onebot/v11/ws", Some("of-own")).is_ok());
    start("third", "&onebot_server_token=of-third");
    crate::fixture::wait_until("it runs", || call("third", "get_status", Some("opens-all-accounts")) == 200);
    let port_of = |account: &str| {
        let path = format!("/openqq/check_client?client={account}");
        let shown = get(&controller, &path, &[("authorization", "Bearer opens-all-accounts")]).json();
        shown["client"][0]["port"].as_u64().unwrap()
    };
    for (own, other) in [("own", "third"), ("third", "own")] {
        let (token, foreign) = (format!("of-{own}"), format!("of-{other}"));
        let at = |account: &str| format!("/clients/{account}/onebot/v11/");
        // At the door, by each of its ways.
        assert_eq!(call(own, "get_status", Some(&foreign)), 403);
        assert_eq!(on_socket(&controller, &format!("{}ws", at(own)), Some(&foreign)).unwrap_err(), 403);
        let query = format!("{}get_status?access_token={foreign}", at(own));
        assert_eq!(get(&controller, &query, &[]).status, 403);
        let scheme = [("authorization", format!("Token {foreign}"))];
        let scheme = scheme.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(get(&controller, &format!("{}get_status", at(own)), &scheme).status, 403);
        // A token beside the account's own one does not choose the account.
        let both = format!("/onebot/v11/get_status?client={other}&access_token={token}&client={own}");
        assert_ne!(get(&controller, &both, &[]).status, 200);
        // At the port of the client.
        let direct = |token: &str, more: &str| {
            let head = format!("Authorization: Bearer {token}\r\n{more}");
            let port = u16::try_from(port_of(own)).unwrap();
            request(port, "GET /onebot/v11/get_status", &head, "").unwrap().status
        };
        assert_eq!((direct(&token, ""), direct(&foreign, "")), (200, 403));
        assert_eq!(direct(&foreign, "X-Wqcontroller-Access: account\r\n"), 403);
        assert_eq!(direct(&foreign, "X-Wqcontroller-Access: something\r\n"), 403);
    }
    // They are logged, but no flood of them floods the log.
    for _ in 0..30 {
        assert_eq!(call("own", "get_login_info", Some("of-third")), 403);
    }
    let refused = "an application was refused: its token does not open this account";
    let log = || {
        let path = "/v1/clients/own/log?lines=1000";
        get(&controller, path, &[("authorization", "Bearer opens-all-accounts")]).text()
    };
    crate::fixture::wait_until("it is logged", || log().contains(refused));
    // As many as may be logged in two minutes, should one have passed.
    assert!((1..=20).contains(&log().matches(refused).count()), "{}", log());
    let by_query = |token: &str| {
        get(&controller, &format!("/onebot/v11/get_login_info?client=own&access_token={token}"), &[]).status
    };
    assert_eq!((by_query("of-own"), by_query("opens-all-accounts"), by_query("x")), (200, 200, 403));
    // A caller can't say what the door says.
    let forged = [("x-wqcontroller-access", "full")];
    assert_eq!(get(&controller, "/clients/plain/onebot/v11/get_login_info", &forged).status, 401);
    // The token opens nothing else, and is never shown.
    assert_eq!(get(&controller, "/v1/clients", &[("authorization", "Bearer of-own")]).status, 401);
    let shown = get(&controller, "/v1/clients/own", &[("authorization", "Bearer opens-all-accounts")]).text();
    assert!(!shown.contains("of-own") && !controller.log.text().contains("of-own"), "{shown}");
}
