//! The end of the controller, and of its clients with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use super::{Process, group, is_running, pid, send};
use crate::fixture::{Builder, Controller, wait_until};

/// A request that is under way: its answer has begun.
fn open_request(controller: &Controller, path: &str) -> BufReader<TcpStream> {
    let mut stream = controller.connect();
    write!(stream, "GET /openqq/{path}?client=a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while line != "first\r\n" {
        line.clear();
        assert!(answer.read_line(&mut line).unwrap() > 0);
    }
    answer
}

#[test]
fn shutdown_stops_all_clients() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut controller = Builder::new().config("[supervisor]\nstop_timeout = 0.3").start();
        let leaders: Vec<u32> = ["a", "b", "c"].map(|name| pid(&controller.start_client(name))).into();
        let with_child = pid(&controller.start_client_with("d", "fake_child=1"));
        controller.wait_for_listening("d");
        controller.signal(signal);
        let status = controller.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}");
        for leader in leaders.into_iter().chain([with_child]) {
            assert_eq!(group(leader).len(), 0, "{signal:?}");
        }
    }
}

#[test]
fn shutdown_answers_open_requests_first() {
    let mut controller = Builder::new().config("[http]\ndrain_timeout = 3600").start();
    let leader = pid(&controller.start_client("a"));
    controller.wait_for_listening("a");
    let mut answer = open_request(&controller, "stream");
    let idle = controller.connect();
    controller.signal(Signal::TERM);
    wait_until("nobody is let in any more", || TcpStream::connect(controller.address).is_err());
    assert!(is_running(leader), "its client is still needed");
    let mut direct = TcpStream::connect(("127.0.0.1", controller.first_port)).unwrap();
    direct.write_all(b"GET /openqq/go HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(controller.wait().code(), Some(0));
    assert!(!is_running(leader));
    drop(idle);
}

#[test]
fn shutdown_closes_connections() {
    let mut controller = Builder::new().config("[http]\ndrain_timeout = 3600").start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    // Both are kept after an answer.
    let [mut idle, mut busy] = [(), ()].map(|()| {
        let mut kept = BufReader::new(controller.connect());
        kept.get_mut().write_all(b"GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with("pong") {
            answer.push(char::from(kept.fill_buf().unwrap()[0]));
            kept.consume(1);
        }
        assert!(!answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        kept
    });
    let upload = "POST /openqq/stalled_upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let requests = || controller.get("/openqq/requests?client=a").text();
    let before = requests();
    busy.get_mut().write_all(upload.as_bytes()).unwrap();
    wait_until("the client has the request", || requests() != before);
    controller.signal(Signal::TERM);
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "nothing is said where nothing was asked");
    let mut direct = TcpStream::connect(("127.0.0.1", controller.first_port)).unwrap();
    direct.write_all(b"GET /openqq/go HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    busy.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n5"), "{rest}");
    assert!(rest.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{rest}");
    assert_eq!(controller.wait().code(), Some(0));
}

#[test]
fn shutdown_cuts_endless_requests() {
    let mut controller = Builder::new().config("[http]\ndrain_timeout = 0.1").start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    let mut answer = open_request(&controller, "hang_midway");
    assert_eq!(controller.end().code(), Some(0));
    let mut rest = String::new();
    // Cut off in whatever way, but not ended as if it were whole.
    let _ = answer.read_to_string(&mut rest);
    assert_eq!(rest, "");
}

#[test]
fn drain_timeout_of_a_reload_counts_for_requests_that_are_under_way() {
    let mut controller = Builder::new().config("[http]\ndrain_timeout = 86400").start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    let _answer = open_request(&controller, "hang_midway");
    controller.write_config(&controller.read_config().replace("86400", "0.1"));
    controller.reload();
    assert_eq!(controller.end().code(), Some(0), "in no day");
}

#[test]
fn second_sigint_kills_clients() {
    let mut controller = Builder::new().config("[supervisor]\nstop_timeout = 3600").start();
    let leader = pid(&controller.start_client_with("a", "fake_ignore_term=1"));
    controller.wait_for_listening("a");
    controller.signal(Signal::INT);
    controller.log.wait_for("finishing open requests");
    assert!(is_running(leader));
    controller.signal(Signal::INT);
    assert_eq!(controller.wait().code(), Some(0));
    assert!(!is_running(leader));
}

/// A form whose body does not come, so that the drain lasts until it is dropped.
fn unfinished_request(controller: &Controller) -> TcpStream {
    let mut caller = controller.connect();
    let head = "POST /openqq/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    caller.write_all(head.as_bytes()).unwrap();
    caller.read_exact(&mut [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
    caller
}

#[test]
fn second_sigint_kills_clients_after_other_signals() {
    let mut controller = Builder::new().config("[supervisor]\nstop_timeout = 3600").start();
    let leader = pid(&controller.start_client_with("a", "fake_ignore_term=1"));
    controller.wait_for_listening("a");
    controller.signal(Signal::TERM);
    controller.log.wait_for("finishing open requests");
    // The numbers of both are around that of SIGINT: signals that are pending at once are received in that order.
    controller.signal(Signal::TERM);
    controller.signal(Signal::HUP);
    controller.signal(Signal::INT);
    assert_eq!(controller.wait().code(), Some(0));
    assert!(!is_running(leader));
}

#[test]
fn second_sigint_kills_clients_that_restart_during_the_drain() {
    let config = "[http]\ndrain_timeout = 3600\n[supervisor]\nstop_timeout = 3600";
    let mut controller = Builder::new().config(config).start();
    let first = pid(&controller.start_client_with("a", "fake_ignore_term=1"));
    // A SIGTERM that ended it would be taken for one to the whole service, after which nothing is started again.
    controller.wait_for_listening("a");
    let caller = unfinished_request(&controller);
    controller.signal(Signal::INT);
    controller.log.wait_for("finishing open requests");
    controller.signal(Signal::INT);
    let started = || controller.log.text().matches("started (pid").count();
    wait_until("it is started again", || started() == 2);
    assert!(!is_running(first));
    // From here on it takes no notice of SIGTERM.
    let address = ("127.0.0.1", controller.first_port);
    wait_until("it listens", || TcpStream::connect(address).is_ok());
    drop(caller);
    assert_eq!(controller.wait().code(), Some(0));
}

#[test]
fn second_sigint_leaves_clients_alone_that_outlive_the_controller() {
    let config = "[http]\ndrain_timeout = 3600\n[supervisor]\nclients_outlive_controller = true";
    let mut controller = Builder::new().config(config).start();
    let leader = pid(&controller.start_client("a"));
    controller.wait_for_listening("a");
    let caller = unfinished_request(&controller);
    controller.signal(Signal::INT);
    controller.log.wait_for("clients keep running");
    controller.signal(Signal::INT);
    controller.log.wait_for("interrupted again");
    drop(caller);
    assert_eq!(controller.wait().code(), Some(0));
    assert!(is_running(leader));
    send(leader, Signal::KILL);
}

#[test]
fn second_sigint_kills_leftover_processes() {
    let mut controller = Builder::new().config("[supervisor]\nstop_timeout = 3600").start();
    let leader = pid(&controller.start_client_with("a", "fake_child=1"));
    controller.wait_for_listening("a");
    controller.signal(Signal::INT);
    wait_until("only its child is left", || Process::of(leader).is_some_and(|process| process.state == 'Z'));
    controller.signal(Signal::INT);
    assert_eq!(controller.wait().code(), Some(0));
    assert_eq!(group(leader).len(), 0);
}

#[test]
fn built_in_client_ends_with_a_killed_controller() {
    let mut controller = Builder::new().built_in();
    let leader = pid(&controller.start_client("a"));
    controller.wait_for_state("a", "running");
    controller.signal(Signal::KILL);
    assert_eq!(controller.wait().code(), None);
    wait_until("the client is gone", || !is_running(leader));
    let report = std::fs::read_to_string(controller.path("mojo_webqq_state_a.json")).unwrap();
    assert!(report.contains("\"stop\""), "it ended in order: {report}");
}

#[test]
fn whether_clients_outlive_the_controller_changes_at_a_restart_only() {
    for (before, after) in [(false, true), (true, false)] {
        let config = format!("[supervisor]\nclients_outlive_controller = {before}");
        let mut controller = Builder::new().config(&config).start();
        let first = pid(&controller.start_client("a"));
        let changed = controller.read_config().replace(&before.to_string(), &after.to_string());
        controller.write_config(&changed);
        controller.reload();
        controller.log.wait_for("the option supervisor.clients_outlive_controller has changed");
        let second = pid(&controller.start_client("b"));
        controller.signal(Signal::TERM);
        controller.log.wait_for(if before { "clients keep running" } else { "then ending the clients" });
        assert_eq!(controller.wait().code(), Some(0));
        for leader in [first, second] {
            assert_eq!(is_running(leader), before);
            if before {
                send(leader, Signal::KILL);
            }
        }
    }
}
