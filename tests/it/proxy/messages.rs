//! Answers on their way to a caller.

use std::io::Write;

use super::{
    Caller, NO_REUSE, answer_target, get, header, headers, idler, read_request, upstream, with_client,
};

fn get_request(target: &str, version: &str) -> String {
    format!("GET {target} HTTP/{version}\r\nHost: x\r\n\r\n")
}

/// The head of the answer to HEAD, after which nothing may come.
fn head_of(controller: &crate::fixture::Controller, target: &str) -> String {
    let request = format!("HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "", "{head}");
    format!("{head}\r\n\r\n")
}

#[test]
fn status_and_reason_are_kept() {
    let controller = with_client(NO_REUSE);
    for status in
        ["418 I'm a teapot", "418 Out of tea", "299 Odd", "599 Own", "404 Not Found", "200 Fine", "302 Found"]
    {
        let answer =
            get(&controller, &answer_target(&format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\ntea")));
        assert_eq!(answer.status(), format!("HTTP/1.1 {status}"));
        assert_eq!(answer.text(), "tea");
    }
}

#[test]
fn response_connection_headers_are_removed() {
    let controller = with_client(NO_REUSE);
    let answer = get(
        &controller,
        &answer_target(
            "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nUpgrade: h2c\r\n\
             Proxy-Connection: x\r\nTrailer: x\r\nSet-Cookie: a=1; Path=/\r\nX-Other: \r\nSet-Cookie: b=2\r\n\
             Location: http://127.0.0.1:9/x\r\nAccess-Control-Allow-Origin: *\r\nWWW-Authenticate: Basic\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
        ),
    );
    assert_eq!(answer.text(), "ok");
    let mut came: Vec<&str> = answer.head.trim_end().lines().skip(1).collect();
    assert_eq!(headers(&answer.head, "set-cookie").collect::<Vec<_>>(), ["a=1; Path=/", "b=2"]);
    came.sort_unstable();
    let mut expected: Vec<String> = [
        "Set-Cookie: a=1; Path=/",
        "Set-Cookie: b=2",
        "X-Other: ",
        "Location: http://127.0.0.1:9/x",
        "Access-Control-Allow-Origin: *",
        "Www-Authenticate: Basic",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT",
        "Content-Length: 2",
    ]
    .map(str::to_owned)
    .into();
    expected.sort_unstable();
    assert_eq!(came, expected);
}

#[test]
fn head_response_keeps_content_length() {
    let controller = with_client(NO_REUSE);
    let head =
        head_of(&controller, &answer_target("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: 1\r\n\r\n"));
    assert_eq!((header(&head, "content-length"), header(&head, "x-a")), (Some("1234"), Some("1")));
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    let head = head_of(&controller, &answer_target(twice));
    assert_eq!(headers(&head, "content-length").collect::<Vec<_>>(), ["5"]);
    // What never has a body has no length (RFC 9110, 8.6).
    let head = head_of(&controller, &answer_target("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!((header(&head, "content-length"), head.contains(" 204 ")), (None, true), "{head}");
    let head = head_of(&controller, &answer_target("HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n"));
    assert_eq!(
        (header(&head, "content-length"), header(&head, "x-a")),
        (None, Some("1")),
        "a length unknown"
    );
    // A refusal of our own has no body either.
    assert!(head_of(&controller, &answer_target("")).starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
}

#[test]
fn responses_without_body_end_at_once() {
    let controller = with_client(NO_REUSE);
    let mut caller = Caller::new(&controller);
    for (raw, length) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", None),
        // Its length is that of what it does not bring, and may be left out.
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        caller.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", answer_target(raw)));
        let head = caller.read_head();
        assert_eq!(head.lines().next(), raw.lines().next());
        assert_eq!(
            (header(&head, "content-length"), header(&head, "transfer-encoding")),
            (length, None),
            "{raw}"
        );
    }
    // The connection is in order: what follows is the next answer.
    caller.write("GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(caller.answer().text(), "pong");
}

#[test]
fn informational_response_is_forwarded() {
    let controller = with_client(NO_REUSE);
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: x\r\nKeep-Alive: 1\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    // What permits to go on was for us.
    let raw = format!("HTTP/1.1 100 Continue\r\n\r\n{hint}HTTP/1.1 102 Processing\r\n\r\n{ok}");
    let mut caller = Caller::with(&controller, get_request(&answer_target(&raw), "1.1"));
    assert_eq!(caller.read_head(), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    assert_eq!(caller.read_head(), "HTTP/1.1 102 Processing\r\n\r\n");
    let answer = caller.answer();
    assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 200 OK", "ok"));
    // Nothing is left of them for the next one.
    caller.write(get_request("/openqq/ping?client=a", "1.1"));
    assert_eq!(caller.answer().text(), "pong");
    // HTTP/1.0 knew none.
    let mut caller = Caller::with(&controller, get_request(&answer_target(&raw), "1.0"));
    assert_eq!(caller.answer().status(), "HTTP/1.0 200 OK");
}

#[test]
fn informational_response_is_forwarded_at_once() {
    let controller = idler("");
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    upstream(&controller, move |_, mut reader| {
        while read_request(&mut reader).is_some() {
            reader.get_mut().write_all(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").unwrap();
            receiver.lock().unwrap().recv().unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let mut caller = Caller::new(&controller);
    for _ in 0..3 {
        caller.write(get_request("/openqq/x?client=a", "1.1"));
        assert!(caller.read_head().starts_with("HTTP/1.1 103 "));
        sender.send(()).unwrap();
        assert_eq!(caller.answer().text(), "ok");
    }
}

#[test]
fn endless_informational_responses_give_502() {
    let controller = with_client(NO_REUSE);
    let raw =
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut caller = Caller::with(&controller, get_request(&answer_target(&raw), "1.1"));
    let refused = loop {
        let answer = caller.read_head();
        if !answer.starts_with("HTTP/1.1 103 ") {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
}

#[test]
fn response_of_any_framing_is_complete() {
    let controller = with_client(NO_REUSE);
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf of it",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n6;x=y\r\n of it\r\n0\r\nX-End: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhalf of it",
        "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhalf of it",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 10\r\n\r\nhalf of it",
        "HTTP/1.1 200 OK\nContent-Length: 10\n\nhalf of it",
    ] {
        let answer = get(&controller, &answer_target(raw));
        assert_eq!((answer.status(), &*answer.text()), ("HTTP/1.1 200 OK", "half of it"), "{raw}");
    }
}

#[test]
fn response_trailers_are_dropped() {
    let controller = with_client(NO_REUSE);
    let raw = "HTTP/1.1 200 OK\r\nTrailer: X-End, Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n\
               2\r\nha\r\n2\r\nlf\r\n0\r\nX-End: 1\r\nContent-Length: 99\r\nSet-Cookie: a=1\r\n\r\n";
    let target = answer_target(raw);
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: te, close\r\n\r\n");
    let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!((header(head, "trailer"), body), (None, "2\r\nha\r\n2\r\nlf\r\n0\r\n\r\n"));
}

#[test]
fn received_part_of_truncated_response_is_forwarded() {
    let controller = idler("");
    upstream(&controller, |number, mut reader| {
        read_request(&mut reader).unwrap();
        let size = [2, 40_010, 200_010][number % 3];
        let head = match number % 2 {
            0 => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_owned(),
            _ => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"),
        };
        let answer = [head.as_bytes(), &vec![b'x'; size]].concat();
        // The end comes along with the last of it.
        reader.get_mut().write_all(&answer).unwrap();
    });
    for number in 0..60 {
        let answer = get(&controller, "/openqq/x?client=a");
        let size = [2, 40_010, 200_010][number % 3];
        assert_eq!((answer.body.len(), answer.complete), (size, false), "{number}: {}", answer.head);
    }
}

#[test]
fn truncated_response_never_looks_complete() {
    let controller = with_client(NO_REUSE);
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
    ] {
        let answer = get(&controller, &answer_target(raw));
        // Where it broke off before anything was passed on, it may be told as well.
        assert!(!answer.complete || answer.status().contains(" 502 "), "{raw:?}: {answer:?}");
    }
}
