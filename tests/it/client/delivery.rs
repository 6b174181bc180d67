//! Reports get through: whatever happens to the receiver, and to the client.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{ACCOUNT, Client, PATIENCE, Setup, read_answer, send_request, until};
use crate::fixture::free_port;

/// A report, as a receiver gets it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) json: Value,
}

/// Reads one report from a connection.
pub(super) fn read_report(reader: &mut BufReader<TcpStream>) -> Option<Delivery> {
    let mut head = String::new();
    while reader.read_line(&mut head).ok()? > 2 {}
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut body = vec![0; value("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Delivery {
        id: value("x-delivery-id")?.to_owned(),
        attempt: value("x-delivery-attempt")?.parse().ok()?,
        json: serde_json::from_slice(&body).ok()?,
    })
}

fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    // In one piece, which no delayed acknowledgement can hold up.
    let whole = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(whole.as_bytes());
}

/// A receiver on `address` that answers the nth report with the status and body that `says` makes of it; without one it
/// hangs up. Connections are kept.
pub(super) fn receive(
    address: SocketAddr,
    says: impl Fn(usize, &Delivery) -> Option<(&'static str, String)> + Send + 'static,
) -> (SocketAddr, Receiver<Delivery>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, deliveries): (Sender<Delivery>, _) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            while let Some(delivery) = read_report(&mut reader) {
                let said = says(count, &delivery);
                count += 1;
                if sender.send(delivery).is_err() {
                    return;
                }
                let Some((status, body)) = said else { break };
                answer(reader.get_mut(), status, &body);
            }
        }
    });
    (address, deliveries)
}

pub(super) fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address where no program listens yet.
pub(super) fn nobody() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

pub(super) fn next(deliveries: &Receiver<Delivery>) -> Delivery {
    deliveries.recv_timeout(PATIENCE).expect("waited in vain for a report")
}

fn next_message(deliveries: &Receiver<Delivery>) -> Delivery {
    std::iter::repeat_with(|| next(deliveries))
        .find(|delivery| delivery.json["post_type"] != "event")
        .unwrap()
}

/// `class` and `content` of a message.
pub(super) fn words(message: &Value) -> String {
    format!("{} {}", message["class"].as_str().unwrap(), message["content"].as_str().unwrap())
}

/// That these are the last ones of all messages up to number `last`, and of what was said back. When that was said in between is
/// left to chance.
pub(super) fn are_the_newest(got: &[String], last: usize) {
    for class in ["send ", "recv "] {
        let of_class: Vec<_> = got.iter().filter_map(|word| word.strip_prefix(class)).collect();
        let newest: Vec<_> = (last + 1 - of_class.len()..=last).map(|number| number.to_string()).collect();
        assert_eq!(of_class, newest, "{got:?}");
    }
    assert_eq!(got.last(), Some(&format!("recv {last}")));
}

/// A connection over which many messages are sent.
pub(super) struct Talk(BufReader<TcpStream>);

impl Talk {
    pub(super) fn to(client: &Client) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", client.setup.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a message, and returns when the client says that it was sent.
    pub(super) fn say(&mut self, text: &str) {
        self.begin(&[text.to_owned()]);
        self.finish();
    }

    /// Sends messages, and waits for nothing.
    fn begin(&mut self, texts: &[String]) {
        let request = |text| {
            format!(
                "GET /openqq/send_friend_message?uid=10001&content={text} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
        };
        let requests: String = texts.iter().map(request).collect();
        self.0.get_mut().write_all(requests.as_bytes()).unwrap();
    }

    /// Returns when the client says that the next message was sent.
    fn finish(&mut self) {
        let mut head = String::new();
        while self.0.read_line(&mut head).unwrap() > 2 {}
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], 0);
    }
}

/// Reports quickly tried again, and of messages alone.
pub(super) const QUICK: [(&str, &str); 4] =
    [("POST_EVENT", "0"), ("POST_RETRY_MIN", "0.01"), ("POST_RETRY_MAX", "0.05"), ("LOG_LEVEL", "info")];

#[test]
fn ten_thousand_reports_survive_a_kill_and_an_unreliable_receiver() {
    const MESSAGES: usize = 10_000;
    const TURN: usize = 500;
    const BURST: usize = 20;
    let sent = Arc::new(AtomicUsize::new(0));
    // The messages, and what was said back.
    let got: Arc<Mutex<[Vec<usize>; 2]>> = Arc::default();
    let address = nobody();
    let listener = TcpListener::bind(address).unwrap();
    let (progress, all) = (sent.clone(), got.clone());
    std::thread::spawn(move || {
        let mut listener = Some(listener);
        let mut known = BTreeSet::new();
        loop {
            let open = listener.take().unwrap_or_else(|| TcpListener::bind(address).unwrap());
            let until = progress.load(Ordering::Acquire) + TURN;
            // Up while the client sends as many messages as it will send while we are down.
            while progress.load(Ordering::Acquire) < until || until > MESSAGES {
                let Ok((stream, _)) = open.accept() else { return };
                let mut reader = BufReader::new(stream);
                while let Some(delivery) = read_report(&mut reader) {
                    // Now and then it takes a report and says nothing: that one comes again, and is known by its ID.
                    let silent = known.len() % 97 == 96 && delivery.attempt == 1;
                    if known.insert(delivery.id) {
                        let number = delivery.json["content"].as_str().unwrap().parse().unwrap();
                        all.lock().unwrap()[usize::from(delivery.json["class"] == "recv")].push(number);
                    }
                    if silent {
                        break;
                    }
                    answer(reader.get_mut(), "200 OK", "");
                    if until <= MESSAGES && progress.load(Ordering::Acquire) >= until {
                        break;
                    }
                }
            }
            drop(open);
            let until = (progress.load(Ordering::Acquire) + TURN).min(MESSAGES);
            while progress.load(Ordering::Acquire) < until {
                std::thread::yield_now();
            }
        }
    });

    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    setup.set("POST_QUEUE", "50000");
    let mut client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    let mut promised = BTreeSet::new();
    let mut number = 0;
    while number < MESSAGES {
        // While the receiver is away and while it takes reports; in the midst of messages that were not acknowledged.
        if number % (TURN * 3 / 2) == TURN / 2 {
            let burst: Vec<usize> = (number..number + BURST).collect();
            talk.begin(&burst.iter().map(usize::to_string).collect::<Vec<_>>());
            let acknowledged = number / TURN % BURST;
            (0..acknowledged).for_each(|_| talk.finish());
            client.signal(Signal::KILL);
            client.until_exit();
            promised.extend(&burst[..acknowledged]);
            number += BURST;
            sent.fetch_add(BURST, Ordering::Release);
            client.start_again();
            talk = Talk::to(&client);
        } else {
            talk.say(&number.to_string());
            promised.insert(number);
            number += 1;
            sent.fetch_add(1, Ordering::Release);
        }
    }
    assert!(promised.len() < MESSAGES && promised.contains(&(MESSAGES - 1)));
    // Most reports are delivered now that the receiver stays, and how long all of them take depends on the disk: each gets a while.
    let delivered = || got.lock().unwrap()[0].last().copied().unwrap_or_default();
    let mut last = delivered();
    while last + 1 < MESSAGES {
        last = until("one more report", || Some(delivered()).filter(|number| *number > last));
    }
    let [sent, said_back] = &*got.lock().unwrap();
    for numbers in [sent, said_back] {
        assert!(numbers.is_sorted_by(|one, next| one < next), "not in order, or not once");
    }
    let missing: Vec<_> = promised.difference(&sent.iter().copied().collect()).copied().collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Some replies are never sent: each takes a moment, and the reports come faster than that.
    assert!(said_back.len() > MESSAGES / 100, "{}", said_back.len());
}

#[test]
fn only_refused_reports_are_retried() {
    let (address, deliveries) = receive(anywhere(), |count, _| match count {
        0 => Some(("503 Busy\r\nRetry-After: 0", String::new())),
        1 => Some(("429 Slowly", String::new())),
        2 => None,
        3 => Some(("502 Bad Gateway", String::new())),
        4 => Some(("504 Gateway Timeout", String::new())),
        5 => Some(("404 Not Found", String::new())),
        _ => Some(("200 OK", String::new())),
    });
    let mut setup = Setup::new(&QUICK);
    setup.set("PLUGIN_OPENQQ_POST_API", &format!("http://{address}/"));
    let client = setup.start();
    client.setup.until_state("running");
    Talk::to(&client).say("1");
    let same: Vec<_> = (0..6).map(|_| next(&deliveries)).collect();
    assert!(same.iter().all(|delivery| delivery.id == same[0].id), "{same:?}");
    assert!(same.iter().map(|delivery| delivery.attempt).eq(1..=6), "{same:?}");
    let echo = next(&deliveries);
    assert_eq!((echo.attempt, &echo.json["class"]), (1, &json!("recv")));
    assert_ne!(echo.id, same[0].id);
}

#[test]
fn reply_to_a_repeated_report_is_sent_once() {
    let (address, deliveries) = receive(anywhere(), |_, delivery| {
        let reply = || json!({ "reply": "answer" }).to_string();
        match (delivery.json["content"].as_str(), delivery.json["class"].as_str()) {
            (Some("question"), Some("recv")) if delivery.attempt < 3 => Some(("502 Bad Gateway", reply())),
            (Some("question"), Some("recv")) => Some(("200 OK", reply())),
            _ => Some(("200 OK", String::new())),
        }
    });
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    let client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    talk.say("question");
    let message = || next_message(&deliveries).json;
    let contents: Vec<_> = (0..6).map(|_| message()["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(contents, ["question", "question", "question", "question", "answer", "answer"]);
    talk.say("end");
    assert_eq!(message()["content"], "end");
}

#[test]
fn answer_may_mute_in_a_group() {
    let (address, _deliveries) = receive(anywhere(), |_, delivery| {
        let from_group = delivery.json["type"] == "group_message" && delivery.json["class"] == "recv";
        let body = if from_group { r#"{"shutup":1,"shutup_time":120}"# } else { "" };
        Some(("200 OK", body.to_owned()))
    });
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    let client = setup.start();
    client.setup.until_state("running");
    let groups = client.get("/openqq/get_group_info").json();
    for group in groups.as_array().unwrap() {
        let uid = group["uid"].as_str().unwrap();
        client.get(&format!("/openqq/send_group_message?uid={uid}&content=hello"));
    }
    until("a mute", || {
        let log = client.setup.log();
        let muted = |line: &str| line.contains("muted ") && line.contains(" for 120 s");
        log.lines().any(muted).then_some(())
    });
}

#[test]
fn undelivered_reports_wait_for_the_next_client() {
    let away = nobody();
    let state = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("STATE_DIRECTORY", state.path().join("one").to_str().unwrap());
    setup.set("LOG_LEVEL", "debug");
    let folder = state.path().join("one").join(format!("mojo_webqq_reports_{ACCOUNT}"));
    let mut client = setup.start();
    client.setup.until_state("running");
    Talk::to(&client).say("kept");
    let logged = |client: &Client, line: &str| client.setup.log().matches(line).count();
    until("the echo", || (logged(&client, " received from ") == 1).then_some(()));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(super::process::mode(&folder), 0o700);
    let (_, deliveries) = receive(away, |_, _| Some(("200 OK", String::new())));
    client.start_again();
    let delivery = next(&deliveries);
    assert_eq!(delivery.json["content"], "kept");
    assert!(delivery.attempt > 1, "{delivery:?}");
    // In the client's own view: what it has no answer to when it ends stays.
    until("both to be posted", || (logged(&client, " delivered (attempt ") == 2).then_some(()));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    assert!(!folder.exists(), "nothing waits, and something is left");
}

#[test]
fn dropped_reports_are_counted() {
    let away = nobody();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("POST_RETRY", "0");
    let mut client = setup.start();
    client.setup.until_state("running");
    Talk::to(&client).say("lost");
    until("the log line", || client.setup.log().contains("dropping reports to ").then_some(()));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    assert!(client.setup.log().contains("dropped reports to "));
}

#[test]
fn reported_events_are_configurable_and_printed() {
    let mut setup = Setup::new(&[("POST_EVENT_LIST", "login,input_qrcode"), ("POST_MEDIA_DATA", "0")]);
    setup.set("POST_STDOUT", "1");
    let client = setup.start();
    client.setup.until_state("running");
    let printed = until("both reports", || {
        let log = client.setup.log();
        let reports = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Some(reports.collect::<Vec<_>>()).filter(|reports| reports.len() >= 2)
    });
    assert_eq!(printed[0]["params"], json!([client.setup.image().to_str().unwrap(), null]));
    assert_eq!(printed[1], json!({ "post_type": "event", "event": "login", "params": [1] }));
    assert_eq!(printed.len(), 2);
}

#[test]
fn check_event_returns_each_event_once() {
    let client = Client::running(&[("CHECK_EVENT_LIST_MAX_SIZE", "2")]);
    let mut talk = Talk::to(&client);
    let poll = |method: &str| {
        send_request(client.setup.port, &format!("{method} /openqq/check_event"), "", "").unwrap()
    };
    let told = |answer: TcpStream| -> Vec<String> {
        read_answer(answer).json().as_array().unwrap().iter().map(words).collect()
    };
    assert_eq!(read_answer(poll("HEAD")).status, 200);
    // A caller that hangs up while it waits: the server notices before it answers a later request.
    drop(poll("GET"));
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    let waiting = poll("POST");
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    talk.say("1");
    assert_eq!(told(waiting), ["send 1"]);
    assert_eq!(told(poll("GET")), ["recv 1"]);
    // More events than are kept, and a request that takes none of them.
    talk.say("2");
    talk.say("3");
    until("both echoes", || (client.setup.log().matches(" received from ").count() == 3).then_some(()));
    assert_eq!(read_answer(poll("HEAD")).status, 200);
    let kept = told(poll("GET"));
    assert_eq!(kept.len(), 2);
    are_the_newest(&kept, 3);
}

#[test]
fn poll_api_redirects_to_the_own_api() {
    let listener = TcpListener::bind(anywhere()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut setup = Setup::new(&[("POLL_INTERVAL", "0.01")]);
    setup.set("PLUGIN_OPENQQ_POLL_API", &format!("http://{address}/poll?token=hush"));
    let port = setup.port;
    let client = setup.start();
    for n in 0..3 {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 {}
        assert!(head.starts_with("GET /poll?token=hush HTTP/1.1"), "{head}");
        assert_eq!(client.setup.report().unwrap().state.as_str(), "running");
        let to = format!("http://127.0.0.1:{port}/openqq/send_friend_message?uid=10001&content={n}");
        let location = format!("302 Found\r\nConnection: close\r\nLocation: {to}");
        answer(reader.get_mut(), &location, "");
    }
    until("the messages", || (client.setup.log().matches(" sent\n").count() >= 2).then_some(()));
    assert!(!client.setup.log().contains("hush"));
}
