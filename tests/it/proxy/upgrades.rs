//! A change of protocol: only when the client agrees, and then bytes both ways.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::{Caller, header};
use crate::fixture::{Builder, Controller};

const ASK: &str = "GET /openqq/ws?client=a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: k\r\n\r\n";

/// A client `a` on whose port each request is answered with `answer`, and then every byte is sent back. The heads of the
/// requests come in the channel.
fn with_upstream(answer: &'static str) -> (Controller, Receiver<String>) {
    let controller = Builder::new().template("#!/bin/sh\nexec sleep 3600\n").start();
    controller.start_client("a");
    let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
                let _ = sender.send(head);
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                let mut writer: TcpStream = reader.get_ref().try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut writer);
                let _ = writer.shutdown(Shutdown::Write);
            });
        }
    });
    (controller, heads)
}

#[test]
fn bytes_go_both_ways_after_the_client_agreed() {
    let (controller, heads) = with_upstream(GRANT);
    // What comes along with the request is the first of the other protocol.
    let mut caller = Caller::with(&controller, format!("{ASK}early"));
    let head = caller.read_head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("k"));
    let asked = heads.recv().unwrap();
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
fn a_refusal_is_passed_on_and_nothing_follows_it() {
    let (controller, heads) = with_upstream("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let hidden = "GET /openqq/hidden?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = String::from_utf8(controller.raw(format!("{ASK}{hidden}").as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.ends_with("\r\n\r\nno"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert!(heads.recv().unwrap().starts_with("GET /openqq/ws "));
    assert!(heads.try_recv().is_err(), "nothing else reached the client");
}

#[test]
fn another_http_is_no_protocol_to_change_to() {
    let (controller, heads) = with_upstream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for upgrade in ["h2c", "HTTP/2.0", "TLS/1.3", "h2c, websocket"] {
        let request = format!(
            "GET /openqq/x?client=a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let asked = heads.recv().unwrap();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(header(&asked, name), None, "{asked}");
        }
    }
}

#[test]
fn a_protocol_that_nobody_asked_for_is_no_answer() {
    let (controller, _heads) =
        with_upstream("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    Caller::with(&controller, ASK)
        .answer()
        .is_refused("502 Bad Gateway", "the client changed to a protocol that nobody asked for");
}

#[test]
fn a_tunnel_ends_with_its_caller() {
    let (controller, heads) = with_upstream(GRANT);
    let mut caller = Caller::with(&controller, ASK);
    caller.read_head();
    heads.recv().unwrap();
    drop(caller);
    // The tunnel has the only connection that is not this one.
    let mut controller = controller;
    assert!(controller.end().success());
}
