//! Bodies on their way: at once, with back-pressure, and never gathered.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::{Caller, count, get, wait_for_count, with_client};
use crate::fixture::{Builder, Controller, wait_until};

const MIB: usize = 1024 * 1024;
/// Far more than what all sockets on the way hold.
const MUCH: usize = 256 * MIB;
/// More than what all sockets on the way hold, and far less than [`MUCH`].
const BUFFERS: usize = 96 * MIB;

/// The most memory that the controller ever had, in bytes.
fn peak_memory(controller: &Controller) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until `count` grows no more for a while, which it may do for any reason: only what it came to matters.
fn settled(mut count: impl FnMut() -> usize) -> usize {
    let mut last = 0;
    wait_until("it goes no further", || {
        let before = std::mem::replace(&mut last, count());
        std::thread::sleep(Duration::from_millis(250));
        last > 0 && last == before
    });
    last
}

/// Reads `size` bytes of a body.
fn read_through(caller: &mut Caller, size: usize) -> usize {
    std::io::copy(&mut (&mut caller.0).take(size as u64), &mut std::io::sink()).unwrap() as usize
}

/// Sends `size` bytes in chunks of its own encoding, or as they are.
fn write_through(mut stream: impl Write, size: usize, chunked: bool) {
    let block = vec![b'x'; MIB];
    for _ in 0..size / MIB {
        if chunked {
            write!(stream, "{MIB:x}\r\n").unwrap();
        }
        stream.write_all(&block).unwrap();
        if chunked {
            stream.write_all(b"\r\n").unwrap();
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").unwrap();
    }
}

#[test]
fn response_is_streamed() {
    let controller = with_client("");
    let mut caller = Caller::with(&controller, "GET /openqq/stream?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    caller.read_head();
    assert_eq!((&*caller.read_line(), &*caller.read_line()), ("5\r\n", "first\r\n"));
    controller.get("/openqq/go?client=a");
    assert_eq!(
        (&*caller.read_line(), &*caller.read_line(), &*caller.read_line()),
        ("4\r\n", "last\r\n", "0\r\n")
    );
}

#[test]
fn request_is_streamed() {
    let controller = with_client("");
    let head = "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\n";
    for (framing, first, rest) in [
        ("Content-Length: 8", "1234", "5678"),
        ("Transfer-Encoding: chunked", "4\r\n1234\r\n", "4\r\n5678\r\n0\r\n\r\n"),
    ] {
        let before = count(&controller, "received");
        let mut caller = Caller::with(&controller, format!("{head}{framing}\r\n\r\n{first}"));
        wait_for_count(&controller, "received", |received| received == before + 4);
        caller.write(rest);
        assert_eq!(caller.answer().text(), "8");
    }
}

#[test]
fn long_poll_waits_for_response() {
    let controller = with_client("");
    let mut caller =
        Caller::with(&controller, "GET /openqq/stalled_upload?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    controller.get("/openqq/go?client=a");
    let answer = caller.answer();
    assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 200 OK", "0"));
}

#[test]
fn large_bodies_need_little_memory() {
    let controller = with_client("");
    let before = peak_memory(&controller);

    let target = format!("GET /openqq/pour?client=a&size={MUCH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut caller = Caller::with(&controller, target);
    caller.read_head();
    assert_eq!(read_through(&mut caller, MUCH), MUCH);

    for framing in [format!("Content-Length: {MUCH}"), "Transfer-Encoding: chunked".to_owned()] {
        let mut caller = Caller::with(
            &controller,
            format!("POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"),
        );
        write_through(caller.writer(), MUCH, framing.contains("chunked"));
        assert_eq!(caller.answer().text(), MUCH.to_string());
    }
    let grown = peak_memory(&controller) - before;
    assert!(grown < 8 * MIB, "the controller took {grown} bytes more");
}

#[test]
fn slow_caller_applies_back_pressure_to_client() {
    let controller = with_client("");
    let before = peak_memory(&controller);
    let target = format!("GET /openqq/pour?client=a&size={MUCH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut caller = Caller::with(&controller, target);
    caller.read_head();
    let poured = settled(|| count(&controller, "poured"));
    assert!(poured < BUFFERS, "the client got rid of {poured} bytes that nobody reads");
    assert!(peak_memory(&controller) - before < 8 * MIB);
    assert_eq!(read_through(&mut caller, MUCH), MUCH, "and nothing is lost");
}

#[test]
fn slow_client_applies_back_pressure_to_caller() {
    let controller = with_client("");
    let before = peak_memory(&controller);
    let mut caller = Caller::with(
        &controller,
        format!("POST /openqq/stalled_upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: {MUCH}\r\n\r\n"),
    );
    let written = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (writer, written) = (caller.writer(), &written);
        scope.spawn(move || write_through(Counting(writer, written), MUCH, false));
        let taken = settled(|| written.load(std::sync::atomic::Ordering::SeqCst));
        assert!(taken < BUFFERS, "{taken} bytes were taken that nobody reads");
        assert!(peak_memory(&controller) - before < 8 * MIB);
        controller.get("/openqq/go?client=a");
        assert_eq!(caller.answer().text(), MUCH.to_string(), "and nothing is lost");
    });
}

/// Counts what could be written.
struct Counting<'a, W>(W, &'a std::sync::atomic::AtomicUsize);

impl<W: Write> Write for Counting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetch_add(written, std::sync::atomic::Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn client_sees_caller_disconnect() {
    let controller = with_client("");
    for request in [
        "GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
        "GET /openqq/hang_midway?client=a HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut caller = Caller::with(&controller, request);
        if request.contains("midway") {
            caller.read_head();
        }
        wait_for_count(&controller, "held", |held| held == 1);
        drop(caller);
        wait_for_count(&controller, "held", |held| held == 0);
    }
}

#[test]
fn client_sees_caller_disconnect_with_unread_input() {
    let controller = with_client("");
    let hang = "GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let midway = hang.replace("hang", "hang_midway");
    for first in [hang, &midway] {
        // An empty line too many; a request in advance; a part of one; more than is read in advance, and no more than the
        // kernel takes: behind what it does not take there is no end to be seen.
        for more in ["\r\n", hang, "GET", &"x".repeat(32 * 1024)] {
            let mut caller = Caller::with(&controller, first);
            if first == midway {
                caller.read_head();
            }
            wait_for_count(&controller, "held", |held| held == 1);
            caller.write(more);
            // Not closed: a reset for what he did not read would be easier to see.
            caller.writer().shutdown(Shutdown::Both).unwrap();
            wait_for_count(&controller, "held", |held| held == 0);
        }
    }
}

#[test]
fn truncated_request_never_looks_complete() {
    let controller = with_client("");
    let head = "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\n";
    for (n, part) in ["Content-Length: 8\r\n\r\n1234", "Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n"]
        .iter()
        .enumerate()
    {
        let before = count(&controller, "received");
        let caller = Caller::with(&controller, format!("{head}{part}"));
        wait_for_count(&controller, "received", |received| received == before + 4);
        caller.writer().shutdown(Shutdown::Write).unwrap();
        wait_for_count(&controller, "broken", |broken| broken == n + 1);
    }
}

#[test]
fn response_may_precede_end_of_request() {
    let controller = with_client("");
    let mut caller = Caller::with(
        &controller,
        format!("POST /openqq/early?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: {MUCH}\r\n\r\n1234"),
    );
    let answer = caller.answer();
    assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 413 Content Too Large", "too much"));
}

#[test]
fn slow_request_continues_while_response_waits() {
    let controller = with_client("[http]\ninactivity_timeout = 4");
    let head = "POST /openqq/around?client=a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let part = "1\r\nx\r\n";
    let mut caller = Caller::with(&controller, format!("{head}{part}"));
    wait_for_count(&controller, "received", |received| received == 1);
    std::thread::scope(|scope| {
        // When this one has broken off, the time is over for everybody who began before.
        let other = scope.spawn(|| get(&controller, "/openqq/stream?client=a"));
        while !other.is_finished() {
            caller.write(part);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!other.join().unwrap().complete);
    });
    caller.write("0\r\n\r\n");
    let answer = caller.answer();
    assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 200 OK", "firstlast"));
}

#[test]
fn inactivity_timeout_breaks_exchange() {
    let controller = with_client("[http]\ninactivity_timeout = 0.2");
    let answer = get(&controller, "/openqq/stream?client=a");
    assert_eq!((&answer.body[..], answer.complete), (&b"first"[..], false));
    let mut caller = Caller::with(
        &controller,
        "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n1234",
    );
    let answer = caller.answer();
    assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request", "it is the caller who stands still");
    wait_for_count(&controller, "broken", |broken| broken == 1);
}

#[test]
fn slow_caller_does_not_trigger_client_timeout() {
    let controller = with_client("[http]\ninactivity_timeout = 10");
    let target = format!("GET /openqq/pour?client=a&size={MUCH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut caller = Caller::with(&controller, target);
    caller.read_head();
    settled(|| count(&controller, "poured"));
    let mut read = 0;
    std::thread::scope(|scope| {
        // When this one has broken off, the time is over for everybody who began before.
        let other = scope.spawn(|| get(&controller, "/openqq/stream?client=a"));
        while !other.is_finished() {
            // So little at a time that the client stands still meanwhile.
            read += read_through(&mut caller, 64 * 1024);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!other.join().unwrap().complete);
    });
    assert_eq!(read + read_through(&mut caller, MUCH - read), MUCH);
}

#[test]
fn stalled_callers_are_disconnected() {
    let controller = with_client("[http]\ninactivity_timeout = 4\nmax_inflight_per_client = 4");
    let pour = format!("GET /openqq/pour?client=a&size={MUCH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let old = pour.replace("/1.1", "/1.0");
    let mut all = [&pour, &old, &pour, &old].map(|request| Caller::with(&controller, request));
    for caller in &mut all {
        assert!(caller.read_head().contains(" 200 "), "it has a place");
    }
    settled(|| count(&controller, "poured"));
    wait_until("their places are free", || {
        get(&controller, "/openqq/ping?client=a").status().contains(" 200 ")
    });
    wait_for_count(&controller, "broken", |broken| broken == 4);
    for mut caller in all {
        // What they have not read is not kept for ever, and the connection ends with an error, so that it does not look complete.
        assert!(std::io::copy(&mut caller.0, &mut std::io::sink()).is_err());
    }
}

#[test]
fn pipelining_caller_without_reads_is_disconnected() {
    let config = "[http]\ninactivity_timeout = 1";
    let guarded = Builder::new().config(config);
    let token = guarded.write_file("token", "0123456789abcdef", 0o600);
    let guarded = guarded.config(&format!("[[auth.tokens]]\nname = \"t\"\nfile = {token:?}")).start();
    for (controller, status) in [(with_client(config), "200 OK"), (guarded, "401 Unauthorized")] {
        assert_eq!(get(&controller, "/openqq/ping?client=a").status(), format!("HTTP/1.1 {status}"));
        let mut writer = controller.connect();
        let requests = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        // Until the controller stops reading, and then until it closes the connection.
        let error = loop {
            if let Err(error) = writer.write_all(requests.as_bytes()) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{status}: {error}");
    }
}

#[test]
fn slow_request_body_does_not_trigger_client_timeout() {
    let controller = with_client("[http]\nheader_timeout = 5");
    let before = count(&controller, "received");
    let mut caller = Caller::with(
        &controller,
        "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n1234",
    );
    wait_for_count(&controller, "received", |received| received == before + 4);
    // When the client's time for this one is over, so is that for what began before.
    assert!(get(&controller, "/openqq/hang?client=a").status().contains(" 504 "));
    caller.write("5678");
    let answer = caller.answer();
    assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 200 OK", "8"));
}

#[test]
fn form_that_stalls_is_answered_as_late() {
    let controller = Builder::new().config("[http]\ninactivity_timeout = 0.2").start();
    let mut caller = Caller::with(
        &controller,
        "POST /openqq/start_client HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\nclient",
    );
    let answer = caller.answer();
    assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request");
    assert!(answer.text().contains("nothing came for 0.2 seconds"), "{}", answer.text());
}
