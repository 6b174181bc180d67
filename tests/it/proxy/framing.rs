//! Messages that two readers can take for different ones: refused, or sent on with one meaning and nothing after them.

use super::{Caller, NO_REUSE, answer_target, ask, count, get, header, headers, with_client};
use crate::fixture::Builder;

/// Everything that a caller gets for these bytes, until we close.
fn all(controller: &crate::fixture::Controller, request: &str) -> String {
    String::from_utf8_lossy(&controller.raw(request.as_bytes())).into_owned()
}

/// What would be a request of its own, if the one before it ended earlier than it seems.
const HIDDEN: &str = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn ambiguous_request_is_refused_and_closes_connection() {
    let controller = with_client("");
    let before = count(&controller, "requests");
    for headers in [
        "Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "Host: x\r\nContent-Length: 1, 1\r\n",
        "Host: x\r\nContent-Length: +1\r\n",
        "Host: x\r\nContent-Length: -1\r\n",
        "Host: x\r\nContent-Length: 0x1\r\n",
        "Host: x\r\nContent-Length: 99999999999999999999\r\n",
        "Host: x\r\nContent-Length: 1,2\r\n",
        "Host: x\r\nContent-Length: \"1\"\r\n",
        "Host: x\r\nContent-Length: 1.0\r\n",
        "Host: x\r\nContent-Length: 1 1\r\n",
        "Host: x\r\nContent-Length: \x0b1\r\n",
        "Host: x\r\nContent-Length:\r\n",
        "Host: x\r\nContent-Length:\r\n 1\r\n",
        "Host: x\r\nContent-Length : 1\r\n",
        "Host: x\r\nContent-Length\0: 1\r\n",
        "Host: x\r\nContent-Length 1\r\n",
        "Host: x\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n",
        "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: x\r\nTransfer-Encoding: xchunked\r\n",
        "Host: x\r\nTransfer-Encoding: chunked, gzip\r\n",
        "Host: x\r\nTransfer-Encoding: chunked, chunked\r\n",
        "Host: x\r\nTransfer-Encoding: identity, chunked\r\n",
        "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Host: x\r\nTransfer-Encoding: chunked;q=1\r\n",
        "Host: x\r\nTransfer-Encoding: \"chunked\"\r\n",
        "Host: x\r\nTransfer-Encoding: ,chunked\r\n",
        "Host: x\r\nTransfer-Encoding: chunked\x0b\r\n",
        "Host: x\r\nTransfer-Encoding: chunked\0\r\n",
        "Host: x\r\nTransfer-Encoding:\r\n chunked\r\n",
        "Host: x\r\nTransfer-Encoding:\r\n",
        "Host: x\r\nTransfer-Encoding : chunked\r\n",
        "Host: x\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n",
        "Host: x\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n",
        "Host: x\r\nTransfer-Encoding:\x0bchunked\r\n",
        "Host: x\r\nX: a\r\n b\r\nContent-Length: 1\r\n",
        "Host: x\r\nX: a\0b\r\n",
        "Host: x\r\nX: a\x7fb\r\n",
        "Host: x\r\nX: a\rContent-Length: 1\r\n",
        "Host: x\r\nX: a\r\r\n",
        "Host: x\r\n: a\r\n",
        "Host: x\r\nX\r\n",
        "Host: x\r\nX Y: a\r\n",
        " X: a\r\nHost: x\r\n",
        "Host: x\r\n\tX: a\r\n",
        "Host : x\r\n",
        "Host: x\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n",
        "Host: x\r\nExpect: x 100-continue\r\nContent-Length: 1\r\n",
        "Host: x\r\nExpect:\r\nContent-Length: 1\r\n",
        "Host: x\r\nExpect: something\r\nContent-Length: 1\r\n",
        "Host: x\r\nHost: x\r\n",
        "Host: x y\r\n",
        "",
    ] {
        // A server that accepts these headers finds a readable body, of one byte or in chunks.
        let request = format!("POST /openqq/echo?client=a HTTP/1.1\r\n{headers}\r\n0\r\n\r\n{HIDDEN}");
        let answer = all(&controller, &request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
    }
    for line in [
        "CONNECT h:1 HTTP/1.1",
        "GET http://other/openqq/echo?client=a HTTP/1.1",
        "CONNECT /openqq/echo?client=a HTTP/1.1",
        "GET /openqq/echo HTTP/1.2x",
    ] {
        let answer = all(&controller, &format!("{line}\r\nHost: x\r\n\r\n{HIDDEN}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}

#[test]
fn transfer_encoding_overrides_content_length() {
    let controller = with_client("");
    for both in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let body = "4\r\nbody\r\n0\r\n\r\n";
        let answer = all(
            &controller,
            &format!("POST /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\n{both}\r\n\r\n{body}{HIDDEN}"),
        );
        let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(header(head, "connection"), Some("close"), "{answer}");
        assert_eq!(
            (header(seen, "transfer-encoding"), header(seen, "content-length")),
            (Some("chunked"), None)
        );
        assert!(seen.ends_with("\r\n\r\nbody"), "{seen}");
    }
}

#[test]
fn duplicate_content_length_is_forwarded_once_and_closes() {
    let controller = with_client("");
    let twice = "POST /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX: y\r\ncontent-length: 4\r\n\r\nbody";
    let before = count(&controller, "requests");
    for cut in 1..twice.len() {
        // Whether they come together or not, and whatever is read at once.
        if cut % 7 != 0 {
            continue;
        }
        let mut caller = Caller::with(&controller, HIDDEN);
        assert_eq!(caller.answer().text(), "pong");
        caller.write(&twice[..cut]);
        caller.write(format!("{}{HIDDEN}", &twice[cut..]));
        let answer = caller.answer();
        assert_eq!((answer.status(), header(&answer.head, "connection")), ("HTTP/1.1 200 OK", Some("close")));
        let seen = answer.text();
        assert_eq!(headers(&seen, "content-length").collect::<Vec<_>>(), ["4"]);
        assert!(seen.ends_with("\r\n\r\nbody"), "{seen}");
        assert_eq!(caller.read_head(), "", "what follows is not answered");
    }
    let asked = count(&controller, "requests") - before;
    assert_eq!(asked, (twice.len() - 1) / 7 * 2, "and reaches nobody");
}

#[test]
fn bytes_after_last_request_are_ignored() {
    let controller = with_client("");
    for (request, answers) in [
        (format!("GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{HIDDEN}"), 1),
        (
            format!(
                "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n{HIDDEN}"
            ),
            1,
        ),
        (format!("GET /openqq/ping?client=a HTTP/1.0\r\nHost: x\r\n\r\n{HIDDEN}"), 1),
        // HTTP/1.0 has no transfer codings, so the end of the body is not defined.
        (
            format!(
                "POST /openqq/echo?client=a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
            1,
        ),
        (
            format!(
                "POST /openqq/echo?client=a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
            1,
        ),
    ] {
        let got = all(&controller, &request);
        assert_eq!(got.matches("HTTP/1.").count(), answers, "{request}: {got}");
        assert_eq!(got.contains(" 400 Bad Request"), request.contains("chunked"), "{request}: {got}");
    }
}

#[test]
fn unread_body_is_not_taken_for_a_request() {
    let controller = with_client("");
    let hidden = "GET /openqq/stop_client?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    for call in [
        "check_client",
        "check_client?client=a",
        "get_qrcode?client=a",
        "start_client?client=a",
        "no_such?client=b",
        "",
    ] {
        for framing in [
            format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
        ] {
            let request = format!("GET /openqq/{call} HTTP/1.1\r\nHost: x\r\n{framing}");
            let mut caller = Caller::with(&controller, &request);
            assert_eq!(header(&caller.answer().head, "connection"), Some("close"), "{request}");
            // What comes behind it is not read, either.
            let mut writer = caller.writer();
            let _ = std::io::Write::write_all(&mut writer, HIDDEN.as_bytes());
            let next = caller.answer();
            assert!(next.head.is_empty(), "{request}: {next:?}");
        }
    }
    assert_eq!(controller.clients().len(), 1);
    assert!(!controller.log.text().contains("stopped"));
}

/// What begins the body of a request in chunks.
const CHUNKED: &str = "HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                       Transfer-Encoding: chunked\r\n\r\n";

#[test]
fn doubtful_body_end_closes_connection() {
    let controller = with_client("");
    for end in ["0\r\n\n", "0\r\nX: 1\n\r\n", "0\r\nX: 1\n\n", "0\r\n\nX: 1\r\n\r\n", "0\r\nX: 1\r\n\r\n"] {
        for line in [
            "POST /openqq/echo?client=a",
            "POST /openqq/echo",
            "POST /openqq/echo?client=b",
            "GET /openqq/check_client",
            "GET /",
        ] {
            // One that has not been answered, and one that would be if there was another.
            let request = format!("{line} {CHUNKED}8\r\nclient=a\r\n{end}{HIDDEN}{HIDDEN}");
            let answer = all(&controller, &request);
            let head = answer.split("\r\n\r\n").next().unwrap();
            assert_eq!(header(head, "connection"), Some("close"), "{request}: {answer}");
            assert!(!answer.contains("pong"), "{request}: {answer}");
        }
    }
}

#[test]
fn malformed_chunk_closes_connection() {
    let controller = with_client("");
    for chunks in [
        "4\nbody\r\n0\r\n\r\n",
        "4\r\nbody\n0\r\n\r\n",
        "4\r\nbody\r\n0\n\r\n",
        "4\rbody\r\n0\r\n\r\n",
        "4\r\r\nbody\r\n0\r\n\r\n",
        "4;a\nbody\r\n0\r\n\r\n",
        "4;a\rb\r\nbody\r\n0\r\n\r\n",
        "4;a=\"\n\"\r\nbody\r\n0\r\n\r\n",
        "4\r\nbodyXX\r\n0\r\n\r\n",
        "4\r\nbod\r\n0\r\n\r\n",
        "4\r\nbody0\r\n\r\n",
        " 4\r\nbody\r\n0\r\n\r\n",
        "4 4\r\nbody\r\n0\r\n\r\n",
        "0x4\r\nbody\r\n0\r\n\r\n",
        "+4\r\nbody\r\n0\r\n\r\n",
        "-4\r\nbody\r\n0\r\n\r\n",
        "4_0\r\nbody\r\n0\r\n\r\n",
        "\r\n4\r\nbody\r\n0\r\n\r\n",
        ";\r\nbody\r\n0\r\n\r\n",
        "10000000000000004\r\nbody\r\n0\r\n\r\n",
        "0\r\nX: 1\rY\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\nX: 1\r\n y\r\n\r\n",
    ] {
        let answer = all(&controller, &format!("POST /openqq/echo?client=a {CHUNKED}{chunks}{HIDDEN}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {answer}");
    }
}

/// Readers disagree about what may stand there, so nothing after it counts.
#[test]
fn chunk_extension_closes_connection() {
    let controller = with_client("");
    for line in ["POST /openqq/echo?client=a", "POST /openqq/echo?client=a&x=1"] {
        let answer = all(&controller, &format!("{line} {CHUNKED}1;x\r\na\r\n0\r\n\r\n{HIDDEN}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(header(answer.split("\r\n\r\n").next().unwrap(), "connection"), Some("close"), "{answer}");
        assert!(!answer.contains("pong"), "{answer}");
    }
    let form = format!("POST /openqq/echo {CHUNKED}8;x\r\nclient=a\r\n0\r\n\r\n{HIDDEN}");
    let answer = all(&controller, &form);
    assert_eq!(header(answer.split("\r\n\r\n").next().unwrap(), "connection"), Some("close"), "{answer}");
    assert!(!answer.contains("pong"), "{answer}");
}

#[test]
fn http2_preface_gets_505() {
    let controller = with_client("");
    let answer = all(&controller, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
}

#[test]
fn target_outside_the_api_is_refused() {
    let controller = with_client("");
    let before = count(&controller, "requests");
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", "403"),
        ("GET * HTTP/1.1", "403"),
        ("OPTIONS */openqq/ping?client=a HTTP/1.1", "400"),
        ("GET openqq/ping?client=a HTTP/1.1", "400"),
        ("GET admin HTTP/1.1", "400"),
        ("GET x:80 HTTP/1.1", "400"),
        // Without its fragment this is the root, which is the page.
        ("GET http://x#/openqq/ping?client=a HTTP/1.1", "200"),
        ("GET http://me@x/openqq/ping?client=a HTTP/1.1", "400"),
        ("GET http://x:80/openqq/ping?client=a HTTP/1.1", "400"),
        ("GET //x/openqq/ping?client=a HTTP/1.1", "403"),
        ("GET /./openqq/ping?client=a HTTP/1.1", "403"),
        ("GET /%256fpenqq/ping?client=a HTTP/1.1", "403"),
        ("GET  /openqq/ping?client=a HTTP/1.1", "400"),
        ("GET /openqq/ping?client=a b HTTP/1.1", "400"),
        ("GET /openqq/ping?client=a\tb HTTP/1.1", "400"),
        ("GET\t/openqq/ping?client=a HTTP/1.1", "400"),
        (" GET /openqq/ping?client=a HTTP/1.1", "400"),
        ("GET /openqq/ping?client=a HTTP/1.1 ", "400"),
        ("GET /openqq/ping?client=a\0 HTTP/1.1", "400"),
        ("GET /openqq/ping?client=a http/1.1", "400"),
        ("GET /openqq/ping?client=a HTTP/1.2", "400"),
        ("GET /openqq/ping?client=a HTTP/1.10", "400"),
        ("GET \\openqq\\ping?client=a HTTP/1.1", "400"),
        ("GET http://x\\@y/openqq/ping?client=a HTTP/1.1", "400"),
        ("GET http:/openqq/ping?client=a HTTP/1.1", "400"),
        ("GET /OPENQQ/ping?client=a HTTP/1.1", "403"),
        ("GET /openqq%2fping?client=a HTTP/1.1", "403"),
        ("GET /x/../openqq/ping?client=a HTTP/1.1", "403"),
        ("GET /openqq/ping?client=a", "400"),
        ("GET /openqq/ping?client=a HTTP/2.0", "400"),
        ("GET /openqq/ping?client=a HTTP/0.9", "400"),
        ("G@T /openqq/ping?client=a HTTP/1.1", "400"),
    ] {
        let answer = all(&controller, &format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}

#[test]
fn bare_line_feeds_are_normalized() {
    let controller = with_client("");
    let answer = ask(&controller, "GET /openqq/echo?client=a HTTP/1.1\nHost: x\nX-A: 1\n\n");
    let seen = answer.text();
    assert_eq!(seen.matches('\n').count(), seen.matches("\r\n").count(), "{seen:?}");
    assert_eq!(header(&seen, "x-a"), Some("1"));
}

#[test]
fn escaped_line_ends_in_name_inject_nothing() {
    let controller = with_client("log_level = \"debug\"");
    for name in
        ["a%0d%0aX-Evil:%201", "a%0aevil", "a%00evil", "%0d%0a%0d%0aHTTP/1.1%20200%20evil", "%ff%0aevil"]
    {
        let answer = get(&controller, &format!("/openqq/echo?client={name}"));
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
        assert!(answer.text().starts_with("{\"code\":6,"), "{}", answer.text());
        assert_eq!(headers(&answer.head, "x-evil").count(), 0);
    }
    assert!(
        controller.log.text().lines().all(|line| !line.starts_with("evil") && !line.starts_with("X-Evil"))
    );
    assert!(!controller.log.text().contains('\0'));
}

#[test]
fn ambiguous_response_gives_502() {
    let controller = with_client(NO_REUSE);
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",
    ] {
        get(&controller, &answer_target(raw))
            .is_refused("502 Bad Gateway", "the client's answer has no clear end");
    }
    for chunk in ["x\r\n", "-1\r\n", "4\nhalf\r\n", ";\r\n"] {
        let raw = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        get(&controller, &answer_target(&raw))
            .is_refused("502 Bad Gateway", "a chunk of the answer is malformed");
    }
    let uncalled = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    get(&controller, &answer_target(uncalled))
        .is_refused("502 Bad Gateway", "the client changed to a protocol that nobody asked for");
}

#[test]
fn looped_request_gives_508() {
    let controller = with_client("");
    let (head, _) =
        super::seen(&controller, "GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nVia: 1.0 fred\r\n\r\n");
    let via: Vec<&str> = headers(&head, "via").collect();
    assert_eq!((via.len(), via[0]), (2, "1.0 fred"));
    let name = via[1].strip_prefix("1.1 ").unwrap();
    let before = count(&controller, "requests");
    let request =
        format!("GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nVia: 1.0 fred, 1.1 {name}, 1.1 z\r\n\r\n");
    let answer = ask(&controller, request);
    assert_eq!(answer.status(), "HTTP/1.1 508 Loop Detected");
    assert!(answer.text().contains("\"code\":508"), "{}", answer.text());
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}

#[test]
fn cookies_are_not_shared_between_callers() {
    let controller = with_client(NO_REUSE);
    let set = "HTTP/1.1 200 OK\r\nSet-Cookie: s=secret\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(header(&get(&controller, &answer_target(set)).head, "set-cookie"), Some("s=secret"));
    let mut caller = Caller::with(&controller, "GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!caller.answer().text().to_ascii_lowercase().contains("cookie"));
}

#[test]
fn truncated_http10_response_resets_connection() {
    let controller = with_client(NO_REUSE);
    let target = answer_target("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let mut caller = Caller::with(&controller, format!("GET {target} HTTP/1.0\r\n\r\n"));
    let mut read = Vec::new();
    let ended = std::io::Read::read_to_end(&mut caller.0, &mut read);
    let text = String::from_utf8_lossy(&read);
    assert!(ended.is_err() || text.starts_with("HTTP/1.0 502 "), "it looks complete: {text}");
}

#[test]
fn request_headers_are_bounded_in_size_and_time() {
    let controller = Builder::new().config("[http]\nmax_request_header = 8192").start();
    let long = "x".repeat(9000);
    let answer =
        all(&controller, &format!("GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Nothing else is asked of this one: where the machine is slow a call may take as long.
    let controller = Builder::new().config("[http]\nrequest_header_timeout = 3").start();
    let mut silent = Caller::new(&controller);
    let mut slow = Caller::with(&controller, "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nX");
    assert_eq!(slow.answer().status(), "HTTP/1.1 408 Request Timeout");
    assert_eq!(silent.read_head(), "", "who asks nothing is told nothing");
}
