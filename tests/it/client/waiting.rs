//! What waits: reports while their receiver is away or hangs, and events for `check_event`.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::json;

use super::delivery::{
    Delivery, QUICK, Talk, anywhere, are_the_newest, next, nobody, read_report, receive, words,
};
use super::process::{Client, Setup, read_answer, request, scan, send_request, until};

/// A receiver that takes all reports that wait.
fn come(address: SocketAddr) -> Receiver<Delivery> {
    receive(address, |_, _| Some(("200 OK", String::new()))).1
}

#[test]
fn full_report_queue_keeps_the_newest() {
    let away = nobody();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("POST_QUEUE", "5");
    let client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    (1..=20).for_each(|number| talk.say(&number.to_string()));
    until("all echoes", || (client.setup.log().matches(" received from ").count() == 20).then_some(()));
    let deliveries = come(away);
    let got: Vec<_> = (0..5).map(|_| words(&next(&deliveries).json)).collect();
    are_the_newest(&got, 20);
    until("the log line", || client.setup.log().contains("dropping reports to ").then_some(()));
    talk.say("21");
    assert_eq!(words(&next(&deliveries).json), "send 21");
}

#[test]
fn newer_login_code_replaces_a_waiting_one() {
    let away = nobody();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_EVENT", "1");
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("SANDBOX_LOGIN", "scan");
    setup.set("QRCODE_EXPIRE", "1");
    setup.set("QRCODE_COUNT_MAX", "1000");
    let client = setup.start();
    let shown = || std::fs::read(client.setup.image()).ok();
    let first = until("a code", shown);
    // It is shown before it is reported, but in one step: no report goes out in between.
    until("a newer code", || shown().filter(|image| *image != first));
    let deliveries = come(away);
    let code = std::iter::repeat_with(|| next(&deliveries).json).find(|json| json["event"] == "input_qrcode");
    let image = code.unwrap()["params"][1].as_str().unwrap().to_owned();
    let image = base64::engine::general_purpose::STANDARD.decode(image).unwrap();
    assert_ne!(scan(&image), scan(&first), "whoever scanned that one would scan in vain");
}

/// A receiver has half a minute for its answer, so this takes as long.
#[test]
fn unanswered_report_is_repeated() {
    let listener = TcpListener::bind(anywhere()).unwrap();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{}/", listener.local_addr().unwrap()));
    let client = setup.start();
    client.setup.until_state("running");
    Talk::to(&client).say("1");
    let mut connections = listener.incoming().map(|stream| BufReader::new(stream.unwrap()));
    let mut hanging = connections.next().unwrap();
    let first = read_report(&mut hanging).unwrap();
    let mut answering = connections.next().unwrap();
    let again = read_report(&mut answering).unwrap();
    assert_eq!((&first.json, &first.id), (&again.json, &again.id));
    assert_eq!((first.attempt, again.attempt, &first.json["class"]), (1, 2, &json!("send")));
    answering.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    let echo = read_report(&mut answering).unwrap();
    assert_eq!((echo.attempt, &echo.json["class"]), (1, &json!("recv")));
}

fn poll(client: &Client) -> TcpStream {
    send_request(client.setup.port, "GET /openqq/check_event", "", "").unwrap()
}

/// The messages that it answered.
fn told(answer: TcpStream) -> Vec<String> {
    read_answer(answer).json().as_array().unwrap().iter().map(words).collect()
}

#[test]
fn check_event_gives_each_waiter_another_event() {
    let client = Client::running(&[]);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let waiter = poll(&client);
            // The client has one thread and takes connections in order: when it has answered two later ones, this one
            // waits.
            for _ in 0..2 {
                assert_eq!(client.get("/openqq/get_client_info").status, 200);
            }
            waiter
        })
        .collect();
    let mut talk = Talk::to(&client);
    talk.say("1");
    talk.say("2");
    let mut all: Vec<_> = waiters.into_iter().flat_map(told).collect();
    while all.len() < 4 {
        all.extend(told(poll(&client)));
    }
    all.sort_unstable();
    assert_eq!(all, ["recv 1", "recv 2", "send 1", "send 2"]);
}

#[test]
fn check_event_keeps_the_newest_events() {
    let client = Client::running(&[]);
    let mut talk = Talk::to(&client);
    (1..=15).for_each(|number| talk.say(&number.to_string()));
    until("all echoes", || (client.setup.log().matches(" received from ").count() == 15).then_some(()));
    let kept = told(poll(&client));
    assert_eq!(kept.len(), 20);
    are_the_newest(&kept, 15);
}

/// It waits for half a minute, so this takes as long.
#[test]
fn check_event_times_out_with_an_empty_list() {
    let client = Client::running(&[]);
    let began = Instant::now();
    // A login has just happened: what is about the client itself is told by reports alone.
    let answer = read_answer(poll(&client));
    assert_eq!((answer.status, answer.json()), (200, json!([])));
    assert!(began.elapsed() > Duration::from_secs(29), "{:?}", began.elapsed());
}

#[test]
fn too_long_request_head_is_answered() {
    let client = Client::running(&[]);
    let long = format!("GET /openqq/send_friend_message?uid=10001&content={}", "x".repeat(1 << 20));
    let answer = request(client.setup.port, &long, "", "").unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (414, &json!(-2)), "{answer:?}");
    assert!(answer.json()["status"].as_str().unwrap().contains("use POST"), "{answer:?}");
    let headers = format!("X: {}\r\n", "x".repeat(1 << 20));
    let answer = request(client.setup.port, "GET /openqq/get_user_info", &headers, "").unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (431, &json!(-2)), "{answer:?}");
    assert_eq!(client.get("/openqq/get_client_info").json()["code"], 0);
}
