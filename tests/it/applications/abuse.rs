//! Applications that are slow, many, or huge, and addresses that are none of an application.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::socket::{Socket, accepted};
use super::{PERSON, act, hear};
use crate::client::process::{Client, PATIENCE, until};
use crate::client::receiver::Receiver;
use crate::fixture::Builder;
use crate::server::{self, Server};

fn connect(client: &Client) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", client.setup.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

/// The only test that waits for limits of time to pass: all of them at once, as they are a minute.
#[test]
fn slow_applications_are_given_up_and_delay_no_other() {
    let hanging = AtomicUsize::new(0);
    let hanging = Server::new(move |_, _| {
        if hanging.fetch_add(1, Ordering::Relaxed) == 0 {
            std::thread::sleep(PATIENCE);
        }
        server::OK.to_owned()
    });
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reverse = format!("ws://{}/", silent.local_addr().unwrap());
    let client = Client::running(&[
        ("ONEBOT_SERVER_POST", &hanging.url("/")),
        ("ONEBOT_SERVER_CONNECT", &reverse),
        ("ONEBOT_SERVER_HEARTBEAT", "0"),
        ("ONEBOT_SERVER_HOLD", "3600"),
    ]);
    let _accepted = accepted(&silent);
    let slow = [
        "GET /onebot/v11/get_status HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "GET /onebot/v11/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "",
        "POST /onebot/v11/send_private_msg HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ]
    .map(|part| {
        let mut stream = connect(&client);
        stream.write_all(part.as_bytes()).unwrap();
        stream
    });
    let mut other = Socket::open(&client, "/ws");
    hear(&client, "1");
    assert_eq!(other.hears(), "1");
    let [head, handshake, nothing, body] = slow.map(rest);
    for answer in [&head, &handshake, &nothing] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("\"retcode\":1400"), "{body}");
    for said in
        ["it does not answer within 30 s; the event is not posted again", "it does not answer; trying again"]
    {
        until(said, || client.setup.log().contains(said).then_some(()));
    }
    // That the account is there may have arrived, so what follows is the message.
    let posted = hanging.wait_for(2);
    assert!(String::from_utf8_lossy(&posted[1].body).contains("\"raw_message\":\"1\""), "{posted:?}");
    // The one that was there has answered no ping meanwhile.
    let mut other = Socket::open(&client, "/ws");
    hear(&client, "2");
    assert_eq!(other.hears(), "2");
}

/// Far fewer than the 10,000 of a real flood, as all tests share one limit of open files.
#[test]
fn flood_of_connections_leaves_those_that_are_there_alone() {
    const AT_ONCE: usize = 600;
    let client = Client::running(&[]);
    let mut other = Socket::open(&client, "/ws");
    for _ in 0..3 {
        let flood: Vec<_> = (0..AT_ONCE).map(|_| connect(&client)).collect();
        assert_eq!(other.call("get_status", &json!({}))["status"], "ok");
        drop(flood);
    }
    for _ in 0..AT_ONCE {
        drop(connect(&client));
    }
    // There is room again.
    until("an answer", || {
        let mut stream = connect(&client);
        stream.write_all(b"GET /onebot/v11/get_status HTTP/1.0\r\n\r\n").ok()?;
        rest(stream).contains("\"status\":\"ok\"").then_some(())
    });
    hear(&client, "1");
    assert_eq!(other.hears(), "1");
}

#[test]
fn odd_values_are_answered_or_given_back() {
    let client = Client::running(&[]);
    let mut socket = Socket::open(&client, "/ws");
    for echo in [
        json!("x".repeat(1 << 20)),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!({ "a": [null, { "b": "\u{0}\u{1f600}" }] }),
        json!(null),
        json!(false),
    ] {
        socket.send(Message::text(json!({ "action": "get_status", "echo": echo }).to_string()));
        loop {
            let answer = socket.answer();
            if answer.get("retcode").is_some() {
                assert_eq!(answer["echo"], echo);
                break;
            }
        }
    }
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for frame in [
        format!(r#"{{"action":"get_status","echo":{}}}"#, deep("[", "]")),
        format!(r#"{{"action":"get_status","params":{}}}"#, deep(r#"{"a":"#, "}")),
        format!(r#"{{"action":"get_status","params":{{"x":[{}0]}}}}"#, r#"{"":0},"#.repeat(4 << 20)),
        format!(r#"{{"action":"get_status","echo":1{}}}"#, "0".repeat(100_000)),
        r#"{"action":"get_status","echo":1e999}"#.to_owned(),
    ] {
        socket.send(Message::text(frame));
        let answer = socket.answer();
        assert_eq!((&answer["status"], &answer["retcode"]), (&json!("failed"), &json!(1400)));
    }
    // Codes that are never closed are text, however many there are.
    for text in ["[CQ:".repeat(1000), "[CQ:at,qq=".repeat(1000), "[CQ:image,file=x".to_owned()] {
        let sent = socket.call("send_private_msg", &json!({ "user_id": PERSON, "message": text }));
        assert_eq!(sent["status"], "ok", "{sent}");
        let plain = text.replace('[', "&#91;");
        assert_eq!(socket.hears(), plain);
    }
    let huge = json!({ "user_id": PERSON, "message": "[CQ:".repeat(1 << 20) });
    socket.send(Message::text(json!({ "action": "send_private_msg", "params": huge }).to_string()));
    assert_eq!(socket.answer()["retcode"], 1400);
    let by_query = format!("/onebot/v11/send_private_msg?user_id={PERSON}&message={}", "[CQ:".repeat(2000));
    assert_eq!(client.get(&by_query).json()["status"], "ok");
    assert_eq!(act(&client, "get_status", &json!({}))["data"]["online"], true);
}

#[test]
fn servers_that_are_no_application_are_named_and_not_followed() {
    let elsewhere = Receiver::new(|_| String::new());
    let to = elsewhere.url.clone();
    let answers = [
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "SSH-2.0-x\r\n".to_owned(),
        "\0".repeat(1 << 20),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(100_000)),
    ];
    let servers: Vec<_> = answers.into_iter().map(|answer| Server::new(move |_, _| answer.clone())).collect();
    let urls = |scheme: &str| {
        let all = servers.iter().map(|server| server.url("/x").replacen("http", scheme, 1));
        all.collect::<Vec<_>>().join(",")
    };
    let client = Client::running(&[
        ("ONEBOT_SERVER_CONNECT", &urls("ws")),
        ("ONEBOT_SERVER_POST", &urls("http")),
        ("ONEBOT_SERVER_HEARTBEAT", "0"),
    ]);
    let mut witness = Socket::open(&client, "/ws");
    for server in &servers {
        let address = server.address;
        until("the trouble", || {
            client
                .setup
                .log()
                .contains(&format!("cannot connect to the application at ws://{address}"))
                .then_some(())
        });
    }
    for status in [302, 307, 200] {
        let said = format!("it answers HTTP {status} instead of opening a WebSocket");
        assert!(client.setup.log().contains(&said), "{}", client.setup.log());
    }
    for status in [302, 307] {
        let said = format!("it answers HTTP {status}; the event is not posted again");
        until(&said, || client.setup.log().contains(&said).then_some(()));
    }
    hear(&client, "1");
    assert_eq!(witness.hears(), "1");
    // What was redirected went nowhere else: this is the first that arrives there.
    let mut marked = TcpStream::connect(elsewhere.url.split('/').nth(2).unwrap()).unwrap();
    marked.write_all(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    assert_eq!(elsewhere.next().json, json!({}));
}

#[test]
fn answers_to_posts_are_bounded_and_concern_their_own_event_only() {
    let huge = Server::new(|_, _| {
        let length = 100 << 20;
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", " ".repeat(length))
    });
    let other = PERSON + 1;
    let receiver = Receiver::new(move |event| {
        match event["raw_message"].as_str() {
        Some("1") => "{\"reply\":".to_owned(),
        Some("2") => format!("{{\"reply\":\"x\",\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        Some("3") => format!("{{\"reply\":\"x\",\"a\":[{}0]}}", "{\"\":0},".repeat(1 << 20)),
        // What it says of an account or of a person is not asked for.
        Some("4") => json!({
            "self_id": 1, "user_id": other, "group_id": 700_100_200, "context": { "user_id": other }, "reply": "to you",
        })
        .to_string(),
        _ => String::new(),
    }
    });
    let urls = format!("{},{}", huge.url("/"), receiver.url);
    let client = Client::running(&[("ONEBOT_SERVER_POST", &urls), ("ONEBOT_SERVER_HEARTBEAT", "0")]);
    let mut witness = Socket::open(&client, "/ws");
    for words in ["1", "2", "3", "4"] {
        hear(&client, words);
        assert_eq!(witness.hears(), words);
    }
    // The person it was said by echoes the reply, and no other was spoken to.
    assert_eq!(witness.hears(), "to you");
    hear(&client, "5");
    assert_eq!(witness.hears(), "5");
    until("the trouble", || client.setup.log().contains("its answer is larger than").then_some(()));
}

#[test]
fn address_of_an_account_is_not_taken_for_that_of_an_application() {
    let controller = Builder::new().built_in();
    let door = format!("{}/clients/bot/onebot/v11", controller.address);
    let more = format!(
        "sandbox_login_time=0&onebot_server_heartbeat=0&onebot_server_connect=ws://{door}/ws&onebot_server_post=http://{door}/send_msg"
    );
    let started = controller.start_client_with("bot", &more);
    assert_eq!(started["code"], 0, "{started}");
    controller.wait_for_state("bot", "running");
    let log = || controller.get("/v1/clients/bot/log?lines=1000").text();
    for said in ["it answers HTTP 400 instead of opening a WebSocket", "it answers HTTP 400; the event"] {
        until(said, || log().contains(said).then_some(()));
    }
    let said = controller
        .get(&format!("/openqq/onebot?client=bot&action=send_private_msg&user_id={PERSON}&message=once"));
    assert_eq!(said.json()["status"], "ok", "{}", said.text());
    let history = || {
        let path = format!("/clients/bot/onebot/v11/get_friend_msg_history?user_id={PERSON}");
        controller.get(&path).json()["data"]["messages"].as_array().map_or(0, Vec::len)
    };
    // What was said, and the echo, whose event is posted and not said again.
    until("the echo", || (history() == 2).then_some(()));
    let more = controller
        .get(&format!("/openqq/onebot?client=bot&action=send_private_msg&user_id={PERSON}&message=twice"));
    assert_eq!(more.json()["status"], "ok");
    until("its echo", || (history() >= 4).then_some(()));
    assert_eq!(history(), 4);
}
