//! WebSockets that the client opens.

use std::io::{Read, Write};
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::socket::{Socket, accepted};
use super::{PERSON, hear};
use crate::client::process::{Client, Setup, until};
use crate::client::receiver::Receiver;
use crate::fixture::free_port;
use crate::remote::tls::{CERTIFICATE, in_front_of};

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn running(connect: &str, more: &[(&str, &str)]) -> Client {
    let vars = [("ONEBOT_SERVER_CONNECT", connect), ("ONEBOT_SERVER_HOLD", "3600")];
    Client::running(&[&vars[..], more].concat())
}

#[test]
fn reverse_connections_say_who_they_are_and_speak() {
    let (one, two) = (listener(), listener());
    let urls = format!("ws://{}/onebot/v11/ws?key=hush4, koishi=ws://me:hush5@{}/", one.1, two.1);
    let client = running(&urls, &[("ONEBOT_SERVER_TOKEN", "nonebot=hush1,koishi=hush2")]);
    let (mut one, request) = Socket::accept(&one.0);
    let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
    assert_eq!(request.uri().to_string(), "/onebot/v11/ws?key=hush4");
    assert_eq!((header("x-client-role"), header("authorization")), ("Universal", "Bearer hush1"));
    assert!(header("user-agent").starts_with("OneBot/11 "));
    let own = header("x-self-id").parse::<u64>().unwrap();
    let first = one.read();
    assert_eq!((&first["sub_type"], &first["self_id"]), (&json!("connect"), &json!(own)));
    let (mut two, request) = Socket::accept(&two.0);
    assert_eq!(request.headers()["authorization"], "Basic bWU6aHVzaDU=");
    assert_eq!(one.call("get_login_info", &json!({}))["data"]["user_id"], own);
    // By the application itself: the tokens close the client's port to others.
    let sent = one.call("send_private_msg", &json!({ "user_id": PERSON, "message": "你好" }));
    assert_eq!(sent["status"], "ok", "{sent}");
    assert_eq!((one.hears(), two.hears()), ("你好".into(), "你好".into()));
    assert!(!client.setup.log().contains("hush"), "{}", client.setup.log());
}

#[test]
fn addresses_for_actions_and_for_events_alone_get_no_more() {
    let (api, event) = (listener(), listener());
    let _client = running(&format!("api+ws://{}/api,event+ws://{}/event", api.1, event.1), &[]);
    let (mut actions, request) = Socket::accept(&api.0);
    assert_eq!(
        (request.uri().path(), &request.headers()["x-client-role"]),
        ("/api", &"API".parse().unwrap())
    );
    let own = request.headers()["x-self-id"].to_str().unwrap().parse::<u64>().unwrap();
    let (mut events, request) = Socket::accept(&event.0);
    let role = &request.headers()["x-client-role"];
    assert_eq!((request.uri().path(), role), ("/event", &"Event".parse().unwrap()));
    assert_eq!(events.read()["sub_type"], "connect");
    // Not carried out, and not answered: the person would echo it.
    let say = |words: &str| {
        let params = json!({ "user_id": PERSON, "message": words });
        Message::text(json!({ "action": "send_private_msg", "params": params, "echo": words }).to_string())
    };
    events.send(say("by the wrong door"));
    // The client reads its connections in whatever order, so this one is answered, and the next one certainly later than that.
    for words in ["1", "2"] {
        actions.send(say(words));
        // The first frame of all: not that it is connected, no heartbeat, no event.
        let answer = actions.read();
        assert_eq!((&answer["echo"], &answer["status"]), (&json!(words), &json!("ok")), "{answer}");
        assert_eq!(events.hears(), words);
    }
    let info = json!({ "action": "get_login_info", "echo": 3 }).to_string();
    actions.send(Message::text(info));
    assert_eq!(actions.read()["data"]["user_id"], own);
    actions.close();
    let (mut actions, _) = Socket::accept(&api.0);
    actions.send(say("3"));
    assert_eq!((actions.read()["echo"].clone(), events.hears()), (json!("3"), "3".into()));
}

#[test]
fn what_happens_while_the_server_is_away_waits_and_comes_once() {
    let address = format!("127.0.0.1:{}", free_port());
    let client = running(&format!("ws://{address}/"), &[]);
    let mut witness = Socket::open(&client, "/ws");
    hear(&client, "1");
    assert_eq!(witness.hears(), "1");
    until("the trouble", || client.setup.log().contains("is the application running?").then_some(()));
    let listener = TcpListener::bind(&address).unwrap();
    let (mut application, _) = Socket::accept(&listener);
    hear(&client, "2");
    assert_eq!((application.hears_all(2), witness.hears()), (vec!["1".into(), "2".into()], "2".into()));
    // It restarts.
    drop(listener);
    application.close();
    hear(&client, "3");
    assert_eq!(witness.hears(), "3");
    let listener = TcpListener::bind(&address).unwrap();
    let (mut application, _) = Socket::accept(&listener);
    hear(&client, "4");
    assert_eq!(application.hears_all(2), ["3", "4"]);
    let log = client.setup.log();
    // Once for each time in which it was away, however many attempts there were.
    assert!(log.matches("is the application running?").count() <= 2, "{log}");
}

#[test]
fn server_that_refuses_is_named_once_with_what_to_do() {
    let (listener, address) = listener();
    let client = running(&format!("ws://{address}/bot"), &[("ONEBOT_SERVER_TOKEN", "hush")]);
    for answer in ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 401 Unauthorized", "HTTP/1.1 404 Not Found"] {
        let mut stream = accepted(&listener);
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(format!("{answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
    }
    let (mut application, _) = Socket::accept(&listener);
    assert_eq!(application.read()["sub_type"], "connect");
    let log = client.setup.log();
    let warned =
        |part: &str| log.lines().filter(|line| line.contains(part) && line.contains("trying again")).count();
    assert_eq!(warned("onebot_server_token must have the access token"), 1, "{log}");
    assert_eq!(warned("no WebSocket at the path /bot (HTTP 404)"), 1, "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn log_has_what_a_server_says_as_it_closes() {
    let (listener, address) = listener();
    let client = running(&format!("ws://{address}/"), &[]);
    let (mut application, _) = Socket::accept(&listener);
    assert_eq!(application.read()["sub_type"], "connect");
    let frame = CloseFrame { code: CloseCode::Policy, reason: "invalid \"x-self-id\"\n".into() };
    application.inner.close(Some(frame)).unwrap();
    while application.next().is_some() {}
    let line = r#"closed the connection, saying "invalid \"x-self-id\"\n" (1008); connecting again"#;
    until("the line", || client.setup.log().contains(line).then_some(()));
}

#[test]
fn server_that_hangs_holds_up_neither_others_nor_the_end() {
    let (hanging, well) = (listener(), listener());
    let mut client = running(&format!("ws://{}/,ws://{}/", hanging.1, well.1), &[]);
    // Accepted and never answered.
    let _stream = accepted(&hanging.0);
    let (mut application, _) = Socket::accept(&well.0);
    hear(&client, "1");
    assert_eq!(application.hears(), "1");
    client.signal(Signal::TERM);
    assert_eq!(application.next(), None);
    client.until_exit();
    assert!(!client.setup.log().contains("aborted tasks"), "{}", client.setup.log());
}

#[test]
fn tls_is_used_where_the_certificate_is_trusted_and_refused_elsewhere() {
    let (listener, address) = listener();
    let receiver = Receiver::new(|_| String::new());
    let [socket, posts] = [format!("http://{address}/"), receiver.url.clone()]
        .map(|url| in_front_of(&url.parse().unwrap()).port());
    for trusted in [false, true] {
        let mut setup = Setup::new(&[
            ("ONEBOT_SERVER_CONNECT", &format!("wss://127.0.0.1:{socket}/")),
            ("ONEBOT_SERVER_POST", &format!("https://127.0.0.1:{posts}/")),
        ]);
        setup.environment("SSL_CERT_FILE", if trusted { CERTIFICATE } else { "/dev/null" });
        let client = setup.start();
        if trusted {
            let (mut application, _) = Socket::accept(&listener);
            assert_eq!(application.read()["sub_type"], "connect");
            assert_eq!(receiver.next().json["sub_type"], "enable");
        } else {
            for part in ["no TLS connection", "events wait"] {
                until(part, || client.setup.log().contains(part).then_some(()));
            }
        }
    }
}
