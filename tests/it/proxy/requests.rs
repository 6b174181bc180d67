//! Requests on their way to a client.

use super::{Caller, ask, count, get, header, headers, seen, with_client};
use crate::fixture::wait_until;

fn first_line(head: &str) -> &str {
    head.lines().next().unwrap()
}

#[test]
fn every_method_is_forwarded() {
    let controller = with_client("");
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "x-own"] {
        let request =
            format!("{method} /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(first_line(&seen(&controller, request).0), format!("{method} /openqq/echo HTTP/1.1"));
    }
}

#[test]
fn controller_answers_get_and_head_of_its_calls_only() {
    let controller = with_client("");
    for path in ["start_client", "check_client", "get_qrcode"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let request =
                format!("{method} /openqq/{path}?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(ask(&controller, request).text(), "api not found", "what the client says of {path}");
        }
    }
    // A path with another meaning is another path, and a method as well.
    for (method, path) in [
        ("GET", "%2563heck_client"),
        ("GET", "%%363heck_client"),
        ("GET", "check_client%20"),
        ("GET", "check_client;x"),
        ("GET", "/check_client"),
        ("GET", "./check_client"),
        ("GET", "x/../check_client"),
        ("GET", "%2e%2e/openqq/check_client"),
        ("GET", "CHECK_CLIENT"),
        ("get", "check_client"),
    ] {
        let answer =
            ask(&controller, format!("{method} /openqq/{path}?client=a HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(answer.text(), "api not found", "what the client says of {method} {path}");
    }
    let before = count(&controller, "requests");
    for path in ["start_client", "check_client", "get_qrcode"] {
        for method in ["GET", "HEAD"] {
            let mut caller = Caller::with(
                &controller,
                format!("{method} /openqq/{path}?client=a HTTP/1.1\r\nHost: x\r\n\r\n"),
            );
            assert!(caller.read_head().starts_with("HTTP/1.1 "));
        }
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
    let stop = "POST /openqq/stop_client?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&controller, stop).text(), r#"{"code":0}"#, "the client's own words");
    wait_until("it is forgotten", || controller.state("a").is_none());
}

#[test]
fn trailing_slash_and_needless_escapes_are_normalized() {
    let controller = with_client("");
    for path in ["check_client/", "%63heck_client", "check%5fclient/"] {
        let answer = get(&controller, &format!("/openqq/{path}?client=a")).text();
        assert!(answer.starts_with(r#"{"client":[{"account":"a","#), "{path}: {answer}");
    }
    for (came, arrives) in [
        ("/openqq/echo/?client=a", "/openqq/echo"),
        ("/openqq/%41%2f%42/%65cho/?client=a&x=%41/", "/openqq/A%2fB/echo?x=%41/"),
        ("/openqq/%2573top/echo?client=a", "/openqq/%2573top/echo"),
    ] {
        let sent = seen(&controller, format!("GET {came} HTTP/1.1\r\nHost: x\r\n\r\n")).0;
        assert_eq!(first_line(&sent), format!("GET {arrives} HTTP/1.1"), "{came}");
    }
    // Its own stop is announced however the path is written.
    let stop = "POST /openqq/%73top_client/?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&controller, stop).text(), r#"{"code":0}"#, "the client's own words");
    controller.log.wait_for("told by a caller to stop");
    controller.start_client("b");
    let stopped = get(&controller, "/openqq/%73top_client/?client=b").text();
    assert!(stopped.ends_with(r#""status":"success"}"#), "{stopped}");
}

#[test]
fn path_and_query_are_forwarded_without_client() {
    let controller = with_client("");
    for (came, arrives) in [
        ("/openqq/echo?client=a", "/openqq/echo"),
        ("/openqq/a%2Fb/%ff/..//./%zz;x=1/echo?client=a", "/openqq/a%2Fb/%ff/..//./%zz;x=1/echo"),
        ("/openqq/echo?client=a&id=%ff&id=%FF&id", "/openqq/echo?id=%ff&id=%FF&id"),
        ("/openqq/echo?q=a+b%20c%2B&client=a", "/openqq/echo?q=a+b%20c%2B"),
        ("/openqq/echo?a&&client=a&b&", "/openqq/echo?a&&b&"),
        ("/openqq/echo?%63lient=a&x=%00%0d%0a", "/openqq/echo?x=%00%0d%0a"),
        ("/openqq/echo?Client=b&clients=c&client=a&x=client", "/openqq/echo?Client=b&clients=c&x=client"),
        ("/openqq/echo?!$'()*,-./:;=?@[]^_{|}~\\&client=a", "/openqq/echo?!$'()*,-./:;=?@[]^_{|}~\\"),
        ("http://X/openqq/echo?client=a&x=1", "/openqq/echo?x=1"),
        // Not meant for any server (RFC 9110, 7.1).
        ("/openqq/echo?client=a&x=1#y&client=b", "/openqq/echo?x=1"),
    ] {
        let request = format!("GET {came} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(first_line(&seen(&controller, request).0), format!("GET {arrives} HTTP/1.1"), "{came}");
    }
}

#[test]
fn invalid_url_bytes_are_percent_encoded() {
    let controller = with_client("");
    let request = |target: &[u8], headers: &str| {
        [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n", headers.as_bytes(), b"\r\n"].concat()
    };
    for (came, arrives) in [
        (&b"/openqq/echo?client=a&content=\"<b>`\x7f\x01"[..], "/openqq/echo?content=%22%3Cb%3E%60%7F%01"),
        (b"/openqq/echo?content=\xc4\xe3\xba\xc3&client=a", "/openqq/echo?content=%C4%E3%BA%C3"),
        ("/openqq/echo?x=\u{5c0f}&client=a".as_bytes(), "/openqq/echo?x=%E5%B0%8F"),
        (b"/openqq/\"<>`\xff/echo?client=a", "/openqq/%22%3C%3E%60%FF/echo"),
        (b"http://x/openqq/\"/echo?client=a", "/openqq/%22/echo"),
    ] {
        let sent = seen(&controller, request(came, "")).0;
        assert_eq!(first_line(&sent), format!("GET {arrives} HTTP/1.1"));
    }
    // One request after another, in one piece, and a body that looks like one.
    let get = request(b"/openqq/echo?client=a&x=\"", "X-Quote: \"\u{e9}\r\n");
    let post = |framing: &str, body: &[u8]| {
        let head = format!("POST /openqq/echo?client=a&x=< HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let sized = post(&format!("Content-Length: {}", get.len()), &get);
    let chunks = [format!("{:x}\r\n", get.len()).as_bytes(), &get, b"\r\n0\r\n\r\n"].concat();
    let chunked = post("Transfer-Encoding: chunked", &chunks);
    let mut caller = Caller::with(&controller, [&get[..], &sized, &chunked, &get].concat());
    for (line, body) in [
        ("GET /openqq/echo?x=%22 HTTP/1.1", &b""[..]),
        ("POST /openqq/echo?x=%3C HTTP/1.1", &get),
        ("POST /openqq/echo?x=%3C HTTP/1.1", &get),
        ("GET /openqq/echo?x=%22 HTTP/1.1", b""),
    ] {
        let answer = caller.answer();
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
        assert!(answer.body.starts_with(format!("{line}\r\n").as_bytes()), "{}", answer.text());
        assert!(answer.body.ends_with(&[b"\r\n\r\n", body].concat()), "{}", answer.text());
    }
    // The controller's own calls as well.
    let unknown = ask(&controller, request(b"/openqq/check_client?client=\"b\"", "")).text();
    assert_eq!(unknown, r#"{"code":1,"status":"client not exists"}"#);
    let gbk = ask(&controller, request(b"/openqq/check_client?client=\xc4\xe3", "")).text();
    assert_eq!(gbk, r#"{"code":6,"status":"parameter \"client\" is not UTF-8"}"#);
}

#[test]
fn too_large_head_gets_414_or_431() {
    let controller = with_client("");
    let before = count(&controller, "requests");
    let x = "x".repeat(17 * 1024);
    for head in [
        format!("GET /openqq/echo?client=a&content={x} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /openqq/start_client?client=a&content={} HTTP/1.1\r\n", "\u{5c0f}".repeat(2000)),
        format!("GET /openqq/{}", "x".repeat(100_000)),
    ] {
        let answer = ask(&controller, &head);
        assert_eq!(answer.status(), "HTTP/1.1 414 URI Too Long");
        assert_eq!(header(&answer.head, "content-type"), Some("application/json"));
        assert_eq!(
            answer.text(),
            r#"{"code":6,"status":"URL and headers are larger than 16384 bytes: use POST, with the parameters as a form in the body"}"#
        );
    }
    for headers in [format!("X: {x}\r\n"), "X: 1\r\n".repeat(101)] {
        let answer = ask(&controller, format!("GET /openqq/echo?client=a HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!(answer.status(), "HTTP/1.1 431 Request Header Fields Too Large");
        let why = r#"{"code":6,"status":"the headers are larger than 16384 bytes, or more than 100"}"#;
        assert_eq!(answer.text(), why);
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
    // What was asked before is answered before.
    let get = "GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut caller = Caller::with(&controller, format!("{get}{get}GET /{x}{x}"));
    assert_eq!(caller.answer().status(), "HTTP/1.1 200 OK");
    assert_eq!(caller.answer().status(), "HTTP/1.1 200 OK");
    assert_eq!(caller.answer().status(), "HTTP/1.1 414 URI Too Long");
    // What fits goes through, up to the byte.
    let fits =
        format!("GET /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", &x[..16 * 1024 - 52]);
    assert_eq!(fits.len(), 16 * 1024);
    assert_eq!(ask(&controller, &fits).status(), "HTTP/1.1 200 OK");
}

#[test]
fn client_given_twice_is_refused() {
    let controller = with_client("");
    for query in ["client=a&client=a", "client=a&%63lient=b", "client=a&client"] {
        let answer = get(&controller, &format!("/openqq/echo?{query}"));
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
        assert_eq!(answer.text(), r#"{"code":6,"status":"parameter \"client\" is given twice"}"#, "{query}");
    }
    assert_eq!(get(&controller, "/openqq/echo?client=a&id=1&id=1").status(), "HTTP/1.1 200 OK");
}

#[test]
fn request_body_is_forwarded_unchanged() {
    let controller = with_client("");
    let every_byte: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let json = br#"{"client":"b","x":"client=b&client=b"}"#.to_vec();
    for body in [every_byte, json, Vec::new()] {
        let start = "POST /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        let known = format!("{start}Content-Length: {}\r\n\r\n", body.len());
        let (head, arrived) = seen(&controller, [known.as_bytes(), &body].concat());
        assert!(arrived == body, "{} bytes of {}", arrived.len(), body.len());
        assert_eq!(header(&head, "content-length"), Some(&*body.len().to_string()));
        assert_eq!(header(&head, "transfer-encoding"), None);

        let mut chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for part in body.chunks(1000) {
            chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            chunked.extend_from_slice(&[part, b"\r\n"].concat());
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let answer = ask(&controller, &chunked);
        let head: String = answer.body.iter().take_while(|b| **b != 0).copied().map(char::from).collect();
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        assert_eq!(header(&head, "content-length"), None);
        // How the body is cut into chunks does not matter; `echo` told its content.
        assert!(answer.body.ends_with(&[b"\r\n\r\n", &body[..]].concat()));
    }
}

#[test]
fn get_may_have_a_body_and_trailers_are_dropped() {
    let controller = with_client("");
    let hidden = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    for method in ["GET", "DELETE", "OPTIONS", "x-own"] {
        let start = format!("{method} /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\n");
        let (head, body) =
            seen(&controller, format!("{start}Content-Length: {}\r\n\r\n{hidden}", hidden.len()));
        assert_eq!(
            (header(&head, "content-length"), &body[..]),
            (Some(&*hidden.len().to_string()), hidden.as_bytes())
        );
        // Few programs read trailers; passed on as headers they would be unchecked.
        let trailers = "X-Forwarded-For: 6.6.6.6\r\nContent-Length: 1\r\nX-End: 1\r\n";
        let chunked = format!("{start}TE: trailers\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n");
        let (head, body) = seen(&controller, format!("{chunked}3;x=\"y\"\r\nabc\r\n0\r\n{trailers}\r\n"));
        assert_eq!(
            (header(&head, "transfer-encoding"), header(&head, "trailer")),
            (Some("chunked"), None),
            "{head}"
        );
        assert_eq!(body, b"abc");
    }
    assert_eq!(
        super::get(&controller, "/openqq/ping?client=a").text(),
        "pong",
        "the client is not out of step"
    );
}

#[test]
fn expect_100_continue_is_answered() {
    let controller = with_client("");
    let mut caller = Caller::with(
        &controller,
        "POST /openqq/echo?client=a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert!(caller.read_head().starts_with("HTTP/1.1 100 Continue\r\n"));
    caller.write("body");
    assert!(caller.answer().body.ends_with(b"\r\n\r\nbody"));
}

#[test]
fn request_connection_headers_are_removed() {
    let controller = with_client("");
    let ours = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\n\
                TE: trailers\r\nTrailer: X-End\r\nUpgrade: websocket\r\nProxy-Authorization: Basic x\r\n";
    let theirs = "Accept: a/b\r\nAuthorization: Basic YTpi\r\nCookie: a=1\r\nX-Auth-Token: t\r\nX-Many: 1\r\n\
                  X-Many: 2\r\nX-Empty: \r\nRange: bytes=0-1\r\nReferer: \u{e4}\u{f6}\r\n";
    let request = format!("GET /openqq/echo?client=a HTTP/1.1\r\n{ours}Host: elsewhere:80\r\n{theirs}\r\n");
    let request: Vec<u8> = request.chars().map(|c| c as u8).collect();
    let (head, _) = seen(&controller, request);
    let mut arrived: Vec<&str> = head.trim_end().lines().skip(1).collect();
    let host = format!("Host: 127.0.0.1:{}", controller.first_port);
    let ours = [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: elsewhere:80",
        "X-Forwarded-Proto: http",
        "Forwarded: for=127.0.0.1;host=\"elsewhere:80\";proto=http",
    ];
    let via = arrived.iter().position(|line| line.starts_with("Via: 1.1 wqcontroller-")).unwrap();
    arrived.remove(via);
    let mut expected: Vec<&str> = theirs.trim_end().lines().chain([&*host]).chain(ours).collect();
    assert_eq!(headers(&head, "x-many").collect::<Vec<_>>(), ["1", "2"], "in their order");
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
}

#[test]
fn requests_of_one_connection_reach_their_clients() {
    let controller = with_client("");
    controller.start_client("b");
    controller.wait_for_listening("b");
    let request = |client: &str, n: u16| {
        format!(
            "POST /openqq/echo?client={client}&n={n} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{}",
            n % 10
        )
    };
    let all: String = (0..20).map(|n| request(if n % 2 == 0 { "a" } else { "b" }, n)).collect();
    let mut caller = Caller::with(&controller, all);
    for n in 0..20 {
        let text = caller.answer().text();
        assert!(text.starts_with(&format!("POST /openqq/echo?n={n} HTTP/1.1\r\n")), "{n}: {text}");
        assert!(text.contains(&format!("127.0.0.1:{}\r\n", controller.first_port + n % 2)), "{n}: {text}");
        assert!(text.ends_with(&format!("\r\n\r\n{}", n % 10)), "{n}: {text}");
    }
}

#[test]
fn http10_caller_is_served() {
    let controller = with_client("");
    let request = "GET /openqq/echo?client=a HTTP/1.0\r\n\r\n";
    let answer = String::from_utf8(controller.raw(request.as_bytes())).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert_eq!(header(head, "transfer-encoding"), None);
    assert!(body.starts_with("GET /openqq/echo HTTP/1.1\r\n"), "{body}");
}
