//! Connections to clients: used again, never for another client, and no more of them than there may be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Caller, count, get, header, wait_for_count, with_client};
use crate::fixture::{Builder, Controller, wait_until};

/// A client that does nothing but be there; its port is this test's own.
const IDLER: &str = "#!/bin/sh\nexec sleep 3600\n";

/// A server on the port of the client `a`: `answer` gets each connection, by its number.
fn upstream(
    controller: &Controller,
    answer: impl Fn(usize, BufReader<TcpStream>) + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
    let (connections, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            std::thread::spawn(move || answer(number, BufReader::new(stream.unwrap())));
        }
    });
    connections
}

/// Reads a request up to its empty line; none when the connection ends.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn idler(config: &str) -> Controller {
    let controller = Builder::new().template(IDLER).config(config).start();
    controller.start_client("a");
    controller
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn one_connection_carries_many_requests() {
    let controller = idler("");
    let connections = upstream(&controller, |_, mut reader| {
        while read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK).unwrap();
        }
    });
    let mut caller = Caller::new(&controller);
    for _ in 0..50 {
        caller.write("GET /openqq/x?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(caller.answer().text(), "ok");
    }
    assert!(connections.load(Ordering::SeqCst) < 5, "{connections:?}");
}

#[test]
fn an_idle_connection_is_closed() {
    let controller = idler("[http]\nidle_timeout = 0.2");
    let closed = Arc::new(AtomicUsize::new(0));
    let seen = closed.clone();
    upstream(&controller, move |_, mut reader| {
        while read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK).unwrap();
        }
        seen.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
    wait_until("it is closed", || closed.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_client_that_closes_after_each_answer_loses_none() {
    let controller = idler("");
    let closed = Arc::new(AtomicUsize::new(0));
    let seen = closed.clone();
    // It says nothing of closing.
    upstream(&controller, move |_, mut reader| {
        if read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK).unwrap();
            drop(reader);
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    for n in 1..=20 {
        assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
        wait_until("it is closed", || closed.load(Ordering::SeqCst) == n);
    }
}

#[test]
fn a_request_that_was_written_is_never_sent_again() {
    let controller = idler("");
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    // The second request of a connection is read and then not answered.
    upstream(&controller, move |_, mut reader| {
        read_request(&mut reader).unwrap();
        seen.fetch_add(1, Ordering::SeqCst);
        reader.get_mut().write_all(OK).unwrap();
        if read_request(&mut reader).is_some() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
    get(&controller, "/openqq/x?client=a")
        .is_refused("502 Bad Gateway", "the client broke off without an answer");
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[test]
fn what_comes_after_an_answer_is_not_the_next_one() {
    let controller = idler("");
    upstream(&controller, |number, mut reader| {
        let Some(_) = read_request(&mut reader) else { return };
        let extra = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let answer = match number % 3 {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}"),
            1 => format!("HTTP/1.1 204 No Content\r\n\r\n{extra}"),
            _ => format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n{extra}"),
        };
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        let _ = reader.read_to_end(&mut Vec::new());
    });
    for _ in 0..9 {
        assert!(!get(&controller, "/openqq/x?client=a").text().contains("evil"));
    }
}

#[test]
fn the_next_process_begins_with_no_connection() {
    let controller = with_client("");
    assert_eq!(get(&controller, "/openqq/ping?client=a").text(), "pong");
    controller.stop_client("a");
    controller.start_client("b");
    controller.wait_for_listening("b");
    let port = controller.clients()[0]["port"].as_u64().unwrap();
    assert_eq!(port, u64::from(controller.first_port), "b has the port that a had");
    assert_eq!(
        get(&controller, "/openqq/ping?client=a").text(),
        r#"{"code":1,"status":"client not exists"}"#
    );
    assert_eq!(get(&controller, "/openqq/ping?client=b").text(), "pong");
}

#[test]
fn a_client_has_so_many_requests_and_no_more() {
    let controller = with_client("[http]\nmax_inflight_per_client = 3");
    let hang = "GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut waiting: Vec<Caller> = (0..2).map(|_| Caller::with(&controller, hang)).collect();
    wait_for_count(&controller, "held", |held| held == 2);
    waiting.push(Caller::with(&controller, hang));
    // Asked of the client itself: a question through the controller would take the last place.
    let held = format!("http://127.0.0.1:{}/openqq/held", controller.first_port);
    wait_until("it is full", || ureq::get(&held).call().unwrap().body_mut().read_to_string().unwrap() == "3");
    let refused = get(&controller, "/openqq/ping?client=a");
    refused.is_refused("503 Service Unavailable", "the client has 3 requests to answer already");
    assert_eq!(header(&refused.head, "retry-after"), Some("1"));
    controller.start_client("b");
    controller.wait_for_listening("b");
    drop(waiting);
    wait_until("there is room again", || {
        get(&controller, "/openqq/ping?client=a").status().contains(" 200 ")
    });
}

#[test]
fn two_hundred_slow_callers_delay_nobody() {
    let controller = with_client("");
    controller.start_client("b");
    controller.wait_for_listening("b");
    let upload = "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx";
    let form = "POST /openqq/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 100\r\n\r\nclient=a&";
    let pour = "GET /openqq/pour?client=a&size=100000000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let half = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nX-";
    let slow: Vec<Caller> = (0..50)
        .flat_map(|_| [upload, form, pour, half])
        .map(|part| Caller::with(&controller, part))
        .collect();
    wait_for_count(&controller, "received", |received| received >= 50);
    for _ in 0..100 {
        for client in ["a", "b"] {
            assert_eq!(get(&controller, &format!("/openqq/ping?client={client}")).text(), "pong");
        }
        assert_eq!(controller.clients().len(), 2);
    }
    assert_eq!(controller.start_client("c")["code"], 0);
    drop(slow);
    assert_eq!(count(&controller, "held"), 0);
}
