//! Clients that fail, and what callers are told.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Caller, NO_REUSE, answer_target, ask, ask_client, count, form, get, header, wait_for_count, with_client,
};
use crate::fixture::{Builder, Controller, freeze, wait_until};

fn pid(controller: &Controller, client: &str) -> u32 {
    let clients = controller.clients();
    let object = clients.iter().find(|object| object["account"] == client).unwrap();
    object["pid"].as_u64().unwrap().try_into().unwrap()
}

fn thaw(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::CONT).unwrap();
}

#[test]
fn invalid_response_gives_502() {
    let controller = with_client(NO_REUSE);
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let (broken, malformed, unclear) = (
        "the client broke off without an answer",
        "the client's answer is malformed",
        "the client's answer has no clear end",
    );
    for (raw, why) in [
        ("", broken),
        ("HTTP/1.1 200 OK\r\nContent-Le", broken),
        ("HTTP/1.1 100 Continue\r\n\r\n", broken),
        ("this is no HTTP\r\n\r\n", malformed),
        ("HTTP/1.1 20 OK\r\n\r\n", malformed),
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), malformed),
        ("\0\0\0\0", malformed),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", malformed),
        ("HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n", malformed),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", malformed),
        ("HTTP/1.1 200 a\rX: b\r\n\r\n", malformed),
        ("HTTP/1.1 200 OK\r\n: a\r\n\r\n", malformed),
        ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", malformed),
        ("HTTP/1.1 1000 x\r\n\r\n", malformed),
        ("HTTP/1.2 200 OK\r\n\r\n", malformed),
        // Nothing follows an announcement, whatever it says.
        (
            "HTTP/1.1 100 x\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            malformed,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", unclear),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", unclear),
        // HTTP/1.0 knew no codings.
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", unclear),
    ] {
        get(&controller, &answer_target(raw)).is_refused("502 Bad Gateway", why);
    }
    assert_eq!(get(&controller, "/openqq/ping?client=a").text(), "pong", "it is none the worse for it");
}

#[test]
fn failed_requests_are_logged_within_limit() {
    let mut controller = with_client(NO_REUSE);
    get(&controller, &answer_target(""));
    controller.log.wait_for("request failed: the client broke off without an answer");
    for _ in 0..50 {
        get(&controller, &answer_target("this is no HTTP\r\n\r\n"));
    }
    controller.end();
    let said = controller.log.to_the_end();
    assert!(said.contains("request failed: the client's answer is malformed"), "{said}");
    assert_eq!(said.matches("request failed: ").count(), 3, "{said}");
}

#[test]
fn failed_request_is_not_retried() {
    let nothing = answer_target("");
    let patient = with_client(NO_REUSE);
    let impatient = with_client("[http]\nidle_timeout = 0\nheader_timeout = 0.3");
    for (controller, status, request) in [
        (&patient, "502", format!("GET {nothing} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()),
        (&patient, "502", form("POST", &nothing, "x=1")),
        (&patient, "502", form("PUT", &nothing, "x=1")),
        (&patient, "502", form("DELETE", &nothing, "")),
        (&patient, "502", form("POST", &nothing.replace("client=a&", ""), "client=a&x=1")),
        (&impatient, "504", b"GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ] {
        let before = count(controller, "requests");
        let answer = ask(controller, &request);
        assert!(answer.status().starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        // What was not answered in time may not have been seen yet.
        wait_for_count(controller, "requests", |requests| requests > before);
        assert_eq!(count(controller, "requests"), before + 1, "once");
    }
}

#[test]
fn slow_response_gives_504() {
    let controller = with_client("[http]\nheader_timeout = 0.3");
    get(&controller, "/openqq/hang?client=a")
        .is_refused("504 Gateway Timeout", "the client did not answer in time");
    controller.log.wait_for("request failed: the client did not answer in time");
    wait_for_count(&controller, "held", |held| held == 0);
    let mut caller = Caller::with(&controller, form("POST", "/openqq/hang", "client=a"));
    caller.answer().is_refused("504 Gateway Timeout", "the client did not answer in time");
}

#[test]
fn unread_request_gives_504() {
    let controller = with_client("[http]\nheader_timeout = 0.3");
    let before = count(&controller, "broken");
    let size = 1 << 30;
    let mut caller = Caller::with(
        &controller,
        format!("POST /openqq/stalled_upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"),
    );
    let mut writer = caller.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let closed = loop {
                if let Err(error) = std::io::Write::write_all(&mut writer, &[b'x'; 65536]) {
                    break error.kind();
                }
            };
            assert!(matches!(closed, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{closed:?}");
        });
        caller.answer().is_refused("504 Gateway Timeout", "the client did not answer in time");
        drop(caller);
    });
    ask_client(&controller, "go");
    // The client is let go as well: what it reads now has no end.
    wait_for_count(&controller, "broken", |broken| broken == before + 1);
}

#[test]
fn unaccepted_connection_gives_504() {
    let controller = with_client("[http]\nconnect_timeout = 0.2\nheader_timeout = 3600\nidle_timeout = 0");
    freeze(pid(&controller, "a"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, controller.first_port));
    let mut waiting = Vec::new();
    // The kernel takes connections for it until its queue is full.
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        waiting.push(connection);
    }
    let answer = get(&controller, "/openqq/ping?client=a");
    answer.is_refused("504 Gateway Timeout", "the client takes no connection");
    thaw(pid(&controller, "a"));
    drop(waiting);
    controller.wait_for_listening("a");
}

#[test]
fn starting_client_gives_503() {
    let controller = Builder::new().start();
    // It does not listen while this test runs.
    let never = "fake_listen_delay=3600000";
    controller.start_client_with("a", &format!("{never}&fake_state=loading"));
    let starting = get(&controller, "/openqq/ping?client=a");
    starting.is_refused("503 Service Unavailable", "client is starting");
    assert_eq!(header(&starting.head, "retry-after"), Some("1"));
    controller.stop_client("a");
    for state in ["running", "stop", "scaning"] {
        controller.start_client_with("a", &format!("{never}&fake_state={state}"));
        controller.wait_for_state("a", state);
        let down = get(&controller, "/openqq/ping?client=a");
        down.is_refused("502 Bad Gateway", "the client can't be reached");
        assert_eq!(header(&down.head, "retry-after"), None);
        controller.stop_client("a");
    }
}

#[test]
fn reached_client_gives_502_instead_of_503() {
    let controller = with_client("[http]\nidle_timeout = 0");
    controller.get("/openqq/deaf?client=a");
    wait_until("it is deaf", || controller.get("/openqq/ping?client=a").status != 200);
    get(&controller, "/openqq/ping?client=a").is_refused("502 Bad Gateway", "the client can't be reached");
    // What was learnt of one process says nothing of the next.
    controller.stop_client("a");
    controller.start_client_with("a", "fake_listen_delay=3600000");
    get(&controller, "/openqq/ping?client=a").is_refused("503 Service Unavailable", "client is starting");
}

#[test]
fn dying_client_breaks_response_then_gives_502() {
    let controller = with_client("[supervisor]\nrestart = \"no\"");
    let mut waiting = Caller::with(&controller, "GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut reading =
        Caller::with(&controller, "GET /openqq/hang_midway?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for_count(&controller, "held", |held| held == 2);
    get(&controller, "/openqq/die?client=a")
        .is_refused("502 Bad Gateway", "the client broke off without an answer");
    waiting.answer().is_refused("502 Bad Gateway", "the client broke off without an answer");
    let half = reading.answer();
    assert_eq!((&half.body[..], half.complete), (&b"first"[..], false));
    wait_until("a is gone", || controller.is_gone("a"));
    get(&controller, "/openqq/ping?client=a").is_refused("502 Bad Gateway", "the client is down");
}

#[test]
fn frozen_client_does_not_delay_others() {
    let controller = with_client("[http]\nheader_timeout = 3600\n[supervisor]\nstop_timeout = 0.1");
    controller.start_client("b");
    controller.wait_for_listening("b");
    freeze(pid(&controller, "a"));
    let ping = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut frozen: Vec<Caller> = (0..20).map(|_| Caller::with(&controller, ping)).collect();
    for n in 0..20 {
        assert_eq!(controller.get("/openqq/ping?client=b").text(), "pong");
        assert_eq!(controller.clients().len(), 2);
        assert_eq!(controller.start_client(&format!("c{n}"))["code"], 0);
        assert_eq!(controller.stop_client(&format!("c{n}"))["code"], 0);
    }
    thaw(pid(&controller, "a"));
    for caller in &mut frozen {
        assert_eq!(caller.answer().text(), "pong");
    }
    // Not even its own stop waits for it.
    freeze(pid(&controller, "a"));
    assert_eq!(controller.stop_client("a")["code"], 0);
}
