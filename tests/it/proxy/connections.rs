//! Connections to clients: used again, never for another client, and no more of them than there may be.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Caller, IDLER, get, headers, idler, read_request, upstream, with_client};
use crate::fixture::{Builder, Controller, PATIENCE, freeze, wait_until};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn upstream_connection_is_reused() {
    let controller = idler("[http]\nidle_timeout = 3600");
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
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn idle_timeout_closes_upstream() {
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
fn stop_client_closes_idle_upstream_connections() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let closed = Arc::new(AtomicUsize::new(0));
    let seen = closed.clone();
    upstream(&controller, move |_, mut reader| {
        while read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK).unwrap();
        }
        seen.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
    assert_eq!(controller.stop_client("a")["code"], 0);
    wait_until("it is closed", || closed.load(Ordering::SeqCst) == 1);
}

#[test]
fn client_closing_after_each_response_loses_no_request() {
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
fn sent_request_is_not_retried() {
    let controller = idler("[http]\nidle_timeout = 3600");
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
fn partly_sent_request_is_not_retried() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    // The second request of a connection is cut off: what was sent of its body is not read.
    upstream(&controller, move |_, mut reader| {
        while read_request(&mut reader).is_some() {
            if seen.fetch_add(1, Ordering::SeqCst) > 0 {
                return;
            }
            reader.get_mut().write_all(OK).unwrap();
        }
    });
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
    // More than all buffers hold, so that not all of it can have been written.
    let size = 64 << 20;
    let mut caller = Caller::with(
        &controller,
        format!("POST /openqq/x?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"),
    );
    let mut writer = caller.writer();
    std::thread::spawn(move || {
        // It fails when the answer is there.
        let part = [b'x'; 1 << 16];
        while writer.write_all(&part).is_ok() {}
    });
    caller.answer().is_refused("502 Bad Gateway", "the client broke off without an answer");
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[test]
fn bytes_after_a_response_are_not_the_next_response() {
    let controller = idler("");
    upstream(&controller, |number, mut reader| {
        let Some(_) = read_request(&mut reader) else { return };
        let extra = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let answer = match number % 4 {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}"),
            1 => format!("HTTP/1.1 204 No Content\r\n\r\n{extra}"),
            2 => format!("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n{extra}"),
            _ => format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n{extra}"),
        };
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        let _ = reader.read_to_end(&mut Vec::new());
    });
    for _ in 0..12 {
        assert!(!get(&controller, "/openqq/x?client=a").text().contains("evil"));
    }
}

#[test]
fn body_of_head_response_is_not_the_next_response() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let connections = upstream(&controller, |_, mut reader| {
        while let Some(request) = read_request(&mut reader) {
            // Some clients forget that HEAD is answered without; here it would be an answer by itself.
            let body = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            let length = if request.starts_with("HEAD ") { body.len() } else { 2 };
            let body = if request.starts_with("HEAD ") { body } else { "ok" };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let mut writer = reader.get_ref();
            if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).is_err() {
                return;
            }
        }
    });
    for n in 1..=5 {
        let mut caller = Caller::with(&controller, "HEAD /openqq/x?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(caller.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
        assert_eq!(
            connections.load(Ordering::SeqCst),
            n + 1,
            "what had HEAD is not used again, what had GET is"
        );
    }
}

#[test]
fn unexpected_request_body_prevents_reuse() {
    let controller = idler("[http]\nidle_timeout = 3600");
    // It reads no bodies.
    let connections = upstream(&controller, |_, mut reader| {
        while let Some(request) = read_request(&mut reader) {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{request}", request.len());
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    for (n, method) in ["GET", "DELETE", "OPTIONS", "x-own"].into_iter().enumerate() {
        let target = format!("{method} /openqq/x?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n");
        assert!(Caller::with(&controller, target + "body").answer().text().starts_with(method));
        assert!(get(&controller, "/openqq/x?client=a").text().starts_with("GET "));
        assert_eq!(connections.load(Ordering::SeqCst), n + 2, "{method}");
    }
}

#[test]
fn duplicate_response_length_prevents_reuse() {
    let controller = idler("");
    let connections = upstream(&controller, |_, mut reader| {
        while read_request(&mut reader).is_some() {
            let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
            if reader.get_mut().write_all(twice.as_bytes()).is_err() {
                return;
            }
        }
    });
    for n in 1..=5 {
        let answer = get(&controller, "/openqq/x?client=a");
        assert_eq!((answer.text().as_str(), headers(&answer.head, "content-length").count()), ("ok", 1));
        assert_eq!(connections.load(Ordering::SeqCst), n);
    }
}

#[test]
fn response_before_request_was_read_prevents_reuse() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let (sender, rest) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    upstream(&controller, move |number, mut reader| {
        read_request(&mut reader).unwrap();
        let ok = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
        reader.get_mut().write_all(ok.as_bytes()).unwrap();
        let mut after = Vec::new();
        let _ = reader.read_to_end(&mut after);
        let _ = sender.lock().unwrap().send((number, after));
    });
    let start = "POST /openqq/x?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nGET ";
    let mut slow = Caller::with(&controller, start);
    assert_eq!(slow.answer().text(), "0");
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "1", "what is still to come is not on its way");
    let (number, after) = rest.recv_timeout(PATIENCE).unwrap();
    assert!((number, &after[..]) == (0, b"GET ") || (number, &after[..]) == (0, b""), "{number}: {after:?}");
}

#[test]
fn early_close_disables_keep_alive() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let (sender, seen) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    upstream(&controller, move |number, mut reader| {
        let mut requests = 0;
        while read_request(&mut reader).is_some() {
            requests += 1;
            reader.get_mut().write_all(OK).unwrap();
            if number == 0 {
                break;
            }
        }
        drop(reader);
        let _ = sender.lock().unwrap().send((number, requests));
    });
    // The first one is closed without a word.
    assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
    assert_eq!(seen.recv_timeout(PATIENCE), Ok((0, 1)));
    // From then on each is let go after its answer, before the client could do it.
    for number in 1..5 {
        assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
        assert_eq!(seen.recv_timeout(PATIENCE), Ok((number, 1)));
    }
}

#[test]
fn announced_close_keeps_keep_alive_enabled() {
    let controller = idler("[http]\nidle_timeout = 3600");
    let connections = upstream(&controller, |number, mut reader| {
        for n in 0.. {
            let Some(_) = read_request(&mut reader) else { return };
            // In several ways, and each connection has another number of requests.
            let last = n == number;
            let head = match (last, number % 3) {
                (true, 0) => "HTTP/1.1 200 OK\r\nConnection: x, Close\r\n",
                (true, 1) => "HTTP/1.0 200 OK\r\n",
                (true, _) => "HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\n",
                (false, _) => "HTTP/1.1 200 OK\r\n",
            };
            let answer = format!("{head}Content-Length: 2\r\n\r\nok");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if last {
                return;
            }
        }
    });
    for (number, requests) in (1..=6).enumerate() {
        for _ in 0..requests {
            assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
            assert_eq!(connections.load(Ordering::SeqCst), number + 1);
        }
    }
}

#[test]
fn keep_alive_timeout_of_client_is_respected() {
    // There would be time enough.
    let controller = idler("[http]\nidle_timeout = 3600");
    let connections = upstream(&controller, |number, mut reader| {
        let timeout = if number < 3 { 1 } else { 3600 };
        while read_request(&mut reader).is_some() {
            let head = format!(
                "HTTP/1.1 200 OK\r\nKeep-Alive: max=9, timeout={timeout}\r\nContent-Length: 2\r\n\r\nok"
            );
            reader.get_mut().write_all(head.as_bytes()).unwrap();
        }
    });
    for n in [1, 2, 3, 4, 4, 4] {
        assert_eq!(get(&controller, "/openqq/x?client=a").text(), "ok");
        assert_eq!(connections.load(Ordering::SeqCst), n);
    }
}

#[test]
fn connections_are_not_reused_for_next_process() {
    let controller = Builder::new().template(IDLER).config("[http]\nidle_timeout = 3600").start();
    let mut earlier: Vec<BufReader<TcpStream>> = Vec::new();
    for name in ["a", "a", "b"] {
        controller.start_client(name);
        assert_eq!(controller.clients()[0]["port"], controller.first_port, "the port that the others had");
        let listener = TcpListener::bind(("127.0.0.1", controller.first_port)).unwrap();
        let request = format!("GET /openqq/x?client={name} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut caller = Caller::with(&controller, request);
        // On a connection of its own: those of the processes before are open still, and nothing comes in them.
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        read_request(&mut reader).unwrap();
        reader.get_mut().write_all(OK).unwrap();
        assert_eq!(caller.answer().text(), "ok");
        if name == "a" {
            for old in &mut earlier {
                assert!(read_request(old).is_none(), "it is closed, too");
            }
        }
        earlier.push(reader);
        // Else the port would be another program's. A process that another test is just starting may hold it for a moment.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        drop(listener);
        controller.stop_client(name);
    }
}

#[test]
fn posted_stop_counts_once_the_client_agrees() {
    let controller = idler("");
    upstream(&controller, |_, mut reader| {
        while let Some(request) = read_request(&mut reader) {
            let (status, body) = match request.contains("agree=1") {
                true => ("200 OK", r#"{"code":0}"#),
                false => ("403 Forbidden", "api not found"),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    let call = |method: &str, more: &str| {
        let target = format!("{method} /openqq/stop_client?client=a{more} HTTP/1.1");
        let answer =
            Caller::with(&controller, format!("{target}\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).answer();
        answer.status().to_owned()
    };
    let kill = || kill(controller.clients()[0]["pid"].as_u64().unwrap().try_into().unwrap());
    assert_eq!(call("POST", ""), "HTTP/1.1 403 Forbidden");
    // Asks what may be asked, and stops nothing.
    assert_eq!(call("OPTIONS", "&agree=1"), "HTTP/1.1 200 OK");
    kill();
    wait_until("it is missed", || controller.clients()[0]["exits"] == 1);
    // It is to be started again, so this is a start like any other; its port is this test's, though.
    let started = controller.start_client_with("a", "");
    assert_eq!(started["code"], 0, "{started}");
    assert_ne!(started["port"], controller.first_port);
    let upstream = TcpListener::bind(("127.0.0.1", started["port"].as_u64().unwrap() as u16)).unwrap();
    let agreeing = std::thread::spawn(move || {
        let mut reader = BufReader::new(upstream.accept().unwrap().0);
        read_request(&mut reader).unwrap();
        reader.get_mut().write_all(OK).unwrap();
    });
    assert_eq!(call("POST", "&agree=1"), "HTTP/1.1 200 OK");
    agreeing.join().unwrap();
    controller.log.wait_for("told by a caller to stop");
    // However it ends now, that was wished for.
    kill();
    wait_until("it is gone for good", || controller.clients().is_empty());
}

/// The connections to a port that wait to be taken, as proc_net_tcp(5) lists them.
fn waiting_for(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (remote, syn_sent) = (format!("0100007F:{port:04X}"), "02");
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(2) == Some(&&*remote) && fields.get(3) == Some(&syn_sent)).count()
}

#[test]
fn request_never_reaches_next_client_on_same_port() {
    the_port_changes_hands(|controller, _| assert_eq!(controller.stop_client("a")["code"], 0));
    // The record of one that ended by itself stays.
    the_port_changes_hands(|controller, pid| {
        kill(pid);
        wait_until("it is missed", || controller.clients()[0]["held"] == true);
    });
}

/// What a caller hears whose request is being connected to `a` while that goes by `end`, and `b` gets its port.
fn the_port_changes_hands(end: impl FnOnce(&Controller, u32)) {
    let controller = with_client(
        "[http]\nidle_timeout = 0\nconnect_timeout = 3600\n[supervisor]\nstop_timeout = 0\nrestart = \"no\"",
    );
    let pid = controller.clients()[0]["pid"].as_u64().unwrap().try_into().unwrap();
    freeze(pid);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], controller.first_port));
    let mut queue = Vec::new();
    // The kernel takes connections for it until its queue is full. Then who connects has to try again and again.
    while let Ok(connection) = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(500)) {
        queue.push(connection);
    }
    let mut caller = Caller::with(&controller, "GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("it is being connected", || waiting_for(controller.first_port) > 0);
    end(&controller, pid);
    assert_eq!(controller.start_client("b")["port"], controller.first_port, "b has the port that a had");
    let answer = caller.answer();
    assert_eq!(answer.status(), "HTTP/1.1 502 Bad Gateway", "{}", answer.text());
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
