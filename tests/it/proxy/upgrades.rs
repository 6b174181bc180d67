//! A change of protocol: only when the client agrees, and then bytes both ways.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::{Caller, get, header};
use crate::fixture::{Builder, Controller, PATIENCE, wait_until};

const ASK: &str = "GET /openqq/ws?client=a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: k\r\n\r\n";

/// What becomes of a connection to the client.
#[derive(Debug, PartialEq)]
enum Seen {
    /// The head of its request.
    Head(String),
    /// It is over, after so many bytes.
    End(u64),
}

/// A client `a` on whose port each request is answered with `answer`, and then every byte is sent back.
fn with_upstream(config: &str, answer: &'static str) -> (Controller, Receiver<Seen>) {
    let builder = Builder::new().template("#!/bin/sh\nexec sleep 3600\n").config(config);
    // What is kept for another request is not let go while a test looks.
    let controller = builder.config("http.idle_timeout = 3600").start();
    controller.start_client("a");
    let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
                let _ = sender.send(Seen::Head(head));
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                let mut writer: TcpStream = reader.get_ref().try_clone().unwrap();
                let size = std::io::copy(&mut reader, &mut writer).unwrap_or(0);
                let _ = writer.shutdown(Shutdown::Write);
                let _ = sender.send(Seen::End(size));
            });
        }
    });
    (controller, seen)
}

/// The head that came next.
fn next_head(seen: &Receiver<Seen>) -> String {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Head(head) => head,
        end => panic!("{end:?}"),
    }
}

/// A tunnel that is open, with nothing in it yet.
fn open_tunnel(controller: &Controller, seen: &Receiver<Seen>) -> Caller {
    let mut caller = Caller::with(controller, ASK);
    assert!(caller.read_head().starts_with("HTTP/1.1 101 "));
    next_head(seen);
    caller
}

#[test]
fn upgrade_tunnels_both_directions() {
    let (controller, seen) = with_upstream("", GRANT);
    // What comes along with the request is the first of the other protocol.
    let mut caller = Caller::with(&controller, format!("{ASK}early"));
    let head = caller.read_head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("k"));
    let asked = next_head(&seen);
    assert_eq!(
        (header(&asked, "upgrade"), header(&asked, "connection")),
        (Some("websocket"), Some("upgrade"))
    );
    let mut back = [0; 5];
    caller.0.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"early");
    let much: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut writer = caller.writer();
    let sent = much.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut came = Vec::new();
    caller.0.read_to_end(&mut came).unwrap();
    writing.join().unwrap();
    assert!(came == much, "{} bytes", came.len());
}

#[test]
fn refused_upgrade_is_forwarded_and_closes() {
    let (controller, seen) = with_upstream("", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let hidden = "GET /openqq/hidden?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = String::from_utf8(controller.raw(format!("{ASK}{hidden}").as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.ends_with("\r\n\r\nno"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert!(next_head(&seen).starts_with("GET /openqq/ws "));
    assert_eq!(
        seen.recv_timeout(PATIENCE),
        Ok(Seen::End(0)),
        "nothing else reached the client, and it is let go"
    );
}

#[test]
fn own_refusal_of_upgrade_closes_connection() {
    let controller = Builder::new().start();
    let hidden = "GET /openqq/check_client HTTP/1.1\r\nHost: x\r\n\r\n";
    for (ask, status) in [
        (ASK.to_owned(), "200 OK"),
        (ASK.replace("ws?client=a", "check_client"), "200 OK"),
        (ASK.replace("/openqq/ws", "/other"), "403 Forbidden"),
        (ASK.replace("Host: x", "Host: evil.example"), "421 Misdirected Request"),
    ] {
        let answer = String::from_utf8(controller.raw(format!("{ask}{hidden}").as_bytes())).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert_eq!(header(&answer, "connection"), Some("close"));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn upgrade_to_another_http_is_dropped() {
    let (controller, seen) = with_upstream("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for upgrade in ["h2c", "HTTP/2.0", "TLS/1.3", "h2c, websocket"] {
        let request = format!(
            "GET /openqq/x?client=a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let asked = next_head(&seen);
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(header(&asked, name), None, "{asked}");
        }
        assert_eq!(seen.recv_timeout(PATIENCE), Ok(Seen::End(0)), "and no other request comes in its place");
    }
}

#[test]
fn unrequested_101_gives_502() {
    let (controller, _seen) = with_upstream(
        "",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
    );
    Caller::with(&controller, ASK)
        .answer()
        .is_refused("502 Bad Gateway", "the client changed to a protocol that nobody asked for");
}

#[test]
fn upgrade_with_body_is_dropped() {
    // A client that ignores the upgrade could not tell where the body ends.
    let (controller, seen) = with_upstream("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let hidden = "GET /openqq/hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
    ] {
        let request = ASK.replace("Sec-WebSocket-Key: k\r\n\r\n", &framing);
        let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert_eq!(header(&answer, "connection"), Some("close"));
        let asked = next_head(&seen);
        assert_eq!((header(&asked, "upgrade"), header(&asked, "connection")), (None, None), "{asked}");
        assert!(matches!(seen.recv_timeout(PATIENCE), Ok(Seen::End(_))), "its connection is not used again");
    }
}

#[test]
fn upgrade_with_form_is_dropped() {
    let (controller, seen) = with_upstream("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nclient=a";
    let request = ASK.replace("?client=a", "").replace("Sec-WebSocket-Key: k\r\n\r\n", form);
    let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
    let asked = next_head(&seen);
    assert_eq!((header(&asked, "upgrade"), header(&asked, "connection")), (None, None), "{asked}");
}

#[test]
fn tunnel_ends_with_caller() {
    let (controller, seen) = with_upstream("http.max_inflight_per_client = 1", GRANT);
    let mut caller = open_tunnel(&controller, &seen);
    caller.write("12345");
    caller.0.read_exact(&mut [0; 5]).unwrap();
    let full = get(&controller, "/openqq/x?client=a");
    full.is_refused("503 Service Unavailable", "the client has 1 requests to answer already");
    drop(caller);
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(Seen::End(5)), "the client learns of it");
    wait_until("there is room again", || Caller::with(&controller, ASK).read_head().contains(" 101 "));
}

#[test]
fn tunnel_ends_with_client() {
    let mut controller = Builder::new().template("#!/bin/sh\nexec sleep 3600\n").start();
    controller.start_client("a");
    let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
    let mut caller = Caller::with(&controller, ASK);
    let (mut upstream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(0);
        let last = head.len() - 1;
        upstream.read_exact(&mut head[last..]).unwrap();
    }
    // The first bytes come in one piece with the agreement, and the end right after them.
    upstream.write_all(format!("{GRANT}last words").as_bytes()).unwrap();
    drop(upstream);
    caller.read_head();
    let mut rest = String::new();
    caller.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last words");
    drop(caller);
    assert!(controller.end().success());
}

#[test]
fn inactivity_timeout_closes_tunnel() {
    let (controller, seen) = with_upstream("http.inactivity_timeout = 0.2", GRANT);
    let mut caller = open_tunnel(&controller, &seen);
    assert_eq!(caller.0.read(&mut [0; 1]).unwrap(), 0, "the caller learns of it");
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(Seen::End(0)), "and so does the client");
}

#[test]
fn drain_timeout_cuts_tunnel() {
    let (mut controller, seen) = with_upstream("http.drain_timeout = 0.1", GRANT);
    let mut caller = open_tunnel(&controller, &seen);
    assert!(controller.end().success());
    assert!(matches!(caller.0.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(Seen::End(0)));
}
