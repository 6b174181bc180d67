//! `client` in a form body.

use super::{Caller, ask, count, form, header, seen, with_client};

#[test]
fn client_is_taken_out_of_form() {
    let controller = with_client("");
    for (came, arrives) in [
        (&b"client=a"[..], &b""[..]),
        (b"client=a&content=%E5%B0%8F+%zz&id=%ff", b"content=%E5%B0%8F+%zz&id=%ff"),
        (b"id=1&id=1&%63lient=a&&x&", b"id=1&id=1&&x&"),
        (b"\xff\xfe=\x00\x80&client=a&\r\n", b"\xff\xfe=\x00\x80&\r\n"),
    ] {
        let (head, body) = seen(&controller, form("POST", "/openqq/echo?q=%ff&q=%ff", came));
        assert_eq!(body, arrives);
        assert!(head.starts_with("POST /openqq/echo?q=%ff&q=%ff HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "content-length"), Some(&*arrives.len().to_string()));
        assert_eq!(header(&head, "content-type"), Some("application/x-www-form-urlencoded"));
    }
    for kind in ["application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-URLencoded ;a=b"]
    {
        let request = format!(
            "PUT /openqq/echo?client= HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\ncli\r\n9\r\nent=a&x=1\r\n0\r\n\r\n"
        );
        let (head, body) = seen(&controller, request);
        assert_eq!((header(&head, "content-type"), &body[..]), (Some(kind), &b"x=1"[..]));
        assert_eq!((header(&head, "content-length"), header(&head, "transfer-encoding")), (Some("3"), None));
    }
}

/// A request with a body of this kind.
fn of_kind(method: &str, target: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

fn part(name: &str, value: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// A form as PHP sends arrays.
fn multipart(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let body: String = fields.iter().map(|(name, value)| part(name, value)).collect();
    of_kind(method, target, "multipart/form-data; boundary=x", &(body + "--x--\r\n"))
}

#[test]
fn client_is_taken_out_of_form_on_get() {
    let controller = with_client("");
    let (head, body) = seen(&controller, form("GET", "/openqq/echo", "client=a&x=1"));
    assert!(head.starts_with("GET /openqq/echo HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "content-length"), &body[..]), (Some("3"), &b"x=1"[..]));
}

#[test]
fn client_is_taken_out_of_multipart_form() {
    let controller = with_client("[http]\nmax_form_body = 1024");
    let fields = [("content", "client=a\r\n\"<\u{5c0f}"), ("client", "a"), ("id", "")];
    for method in ["POST", "GET"] {
        let (head, body) = seen(&controller, multipart(method, "/openqq/echo?q=1", &fields));
        assert!(head.starts_with(&format!("{method} /openqq/echo?q=1 HTTP/1.1\r\n")), "{head}");
        assert_eq!(header(&head, "content-type"), Some("multipart/form-data; boundary=x"));
        let left = [part(fields[0].0, fields[0].1), part("id", ""), "--x--\r\n".into()].concat();
        assert_eq!(String::from_utf8(body).unwrap(), left);
    }
    let large = multipart("POST", "/openqq/echo", &[("client", "a"), ("content", &"x".repeat(1024))]);
    assert_eq!(ask(&controller, large).status(), "HTTP/1.1 413 Payload Too Large");
}

#[test]
fn json_with_client_becomes_urlencoded_form() {
    let controller = with_client("");
    let json = r#"{"client":"a","content":"\u5c0f & \"","id":12345678901,"async":false,"x":null}"#;
    let (head, body) =
        seen(&controller, of_kind("POST", "/openqq/echo", "application/json; charset=utf-8", json));
    assert_eq!(header(&head, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(String::from_utf8(body).unwrap(), "content=%E5%B0%8F+%26+%22&id=12345678901&async=0");
    let list = of_kind("POST", "/openqq/echo", "application/json", r#"{"client":["a"]}"#);
    let why = r#"{"code":6,"status":"parameter \"client\" is neither text nor a number"}"#;
    assert_eq!(ask(&controller, list).text(), why);
}

#[test]
fn controller_calls_accept_forms() {
    let controller = with_client("");
    for (client, request) in [
        ("b", form("GET", "/openqq/start_client", "client=b&note=x")),
        ("c", multipart("GET", "/openqq/start_client?client=c", &[("client", "a"), ("note", "x")])),
        ("d", of_kind("GET", "/openqq/start_client", "application/json", r#"{"client":"d","note":"x"}"#)),
    ] {
        let started = ask(&controller, request).text();
        assert!(
            started.contains(&format!(r#""client":"{client}""#)) && started.contains(r#""note":"x""#),
            "{started}"
        );
    }
    let one = ask(&controller, form("GET", "/openqq/check_client", "client=b")).text();
    assert!(one.contains(r#""account":"b""#) && !one.contains(r#""account":"a""#), "{one}");
    let twice = ask(&controller, form("GET", "/openqq/stop_client", "client=b&client=b")).text();
    assert_eq!(twice, r#"{"code":6,"status":"parameter \"client\" is given twice"}"#);
    // Of another kind it says nothing.
    let all = ask(&controller, of_kind("GET", "/openqq/check_client", "text/plain", "client=b")).text();
    assert!(all.contains(r#""account":"a""#), "{all}");
}

#[test]
fn client_in_query_leaves_form_unchanged() {
    let controller = with_client("");
    for body in ["client=b&x=1", "client=b&client=c", "client=%ff"] {
        let (head, arrived) = seen(&controller, form("POST", "/openqq/echo?client=a", body));
        assert!(head.starts_with("POST /openqq/echo HTTP/1.1\r\n"), "{head}");
        assert_eq!(arrived, body.as_bytes());
    }
}

#[test]
fn form_without_client_in_query_is_bounded() {
    let controller = with_client("[http]\nmax_form_body = 1024");
    let of_size = |size: usize| format!("client=a&{}", "x".repeat(size - 9));
    assert_eq!(seen(&controller, form("POST", "/openqq/echo", of_size(1024))).1.len(), 1024 - 9);
    let before = count(&controller, "requests");
    let refused = ask(&controller, form("POST", "/openqq/echo", of_size(1025)));
    assert_eq!(refused.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(refused.text(), r#"{"code":6,"status":"the form body is larger than 1024 bytes"}"#);
    // Nor one that does not say how large it is, of which no more is read.
    let start = "POST /openqq/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    let growing = ask(&controller, format!("{start}{:x}\r\n{}\r\n", 1025, of_size(1025)));
    assert_eq!(growing.status(), "HTTP/1.1 413 Payload Too Large");
    let whole = format!("{start}{:x}\r\n{}\r\n0\r\n\r\n", 1024, of_size(1024));
    assert_eq!(seen(&controller, whole).1.len(), 1024 - 9);
    assert_eq!(count(&controller, "requests"), before + 1, "the client saw only that one");
    let (_, arrived) = seen(&controller, form("POST", "/openqq/echo?client=a", of_size(100_000)));
    assert_eq!(arrived.len(), 100_000, "a form that need not be searched may be of any size");
}

#[test]
fn form_limit_is_one_megabyte_by_default() {
    let controller = with_client("");
    let body = ["x".repeat((1 << 20) - 9), "&client=a".into()].concat();
    assert_eq!(seen(&controller, form("POST", "/openqq/echo", body)).1.len(), (1 << 20) - 9);
}

#[test]
fn body_that_is_no_form_is_not_searched() {
    let controller = with_client("");
    let no_client = r#"{"code":1,"status":"client not found"}"#;
    let before = count(&controller, "requests");
    let other_kind = |kind: &str| {
        format!("POST /openqq/echo HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: 8\r\n\r\nclient=a")
            .into_bytes()
    };
    for request in [
        form("POST", "/openqq/echo", ""),
        form("POST", "/openqq/echo", "client=&x=1"),
        form("POST", "/openqq/echo", "Client=a"),
        multipart("POST", "/openqq/echo", &[("Client", "a")]),
        of_kind("POST", "/openqq/echo", "application/json", r#"{"Client":"a"}"#),
    ] {
        let answer = ask(&controller, &request);
        assert_eq!(answer.text(), no_client, "{}", String::from_utf8_lossy(&request));
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
    }
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded2\r\n",
        "Content-Type: multipart/form-data\r\n",
    ] {
        let answer = ask(&controller, other_kind(kind));
        assert_eq!(answer.status(), "HTTP/1.1 415 Unsupported Media Type", "{kind}");
        assert!(answer.text().contains("send client in the URL, or a form"), "{}", answer.text());
    }
    for (kind, why) in [
        ("application/json", "the body is not a JSON object with parameters: send a form"),
        ("multipart/form-data; boundary=x", "the multipart body is malformed"),
    ] {
        let answer = ask(&controller, other_kind(&format!("Content-Type: {kind}\r\n")));
        assert_eq!(answer.text(), format!(r#"{{"code":6,"status":"{why}"}}"#));
    }
    for (body, why) in [("client=a&client=a", "is given twice"), ("x&client=%ff", "is not UTF-8")] {
        let refused = ask(&controller, form("POST", "/openqq/echo", body));
        assert_eq!(refused.text(), format!(r#"{{"code":6,"status":"parameter \"client\" {why}"}}"#));
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}

#[test]
fn incomplete_form_is_not_forwarded() {
    let controller = with_client("");
    let before = count(&controller, "requests");
    let whole = form("POST", "/openqq/echo", "client=a&x=12345");
    let mut caller = Caller::with(&controller, &whole[..whole.len() - 1]);
    caller.writer().shutdown(std::net::Shutdown::Write).unwrap();
    let answer = caller.read_head();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}
