//! `client` in a form body.

use super::{Caller, ask, count, form, header, seen, with_client};

#[test]
fn the_name_is_taken_out_of_a_form_and_the_rest_stays() {
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

#[test]
fn the_name_in_the_query_wins_and_the_form_is_let_alone() {
    let controller = with_client("");
    for body in ["client=b&x=1", "client=b&client=c", "client=%ff"] {
        let (head, arrived) = seen(&controller, form("POST", "/openqq/echo?client=a", body));
        assert!(head.starts_with("POST /openqq/echo HTTP/1.1\r\n"), "{head}");
        assert_eq!(arrived, body.as_bytes());
    }
}

#[test]
fn a_form_is_read_up_to_a_limit_and_only_for_its_name() {
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
fn a_form_of_a_megabyte_is_searched_unless_told_otherwise() {
    let controller = with_client("");
    let body = ["x".repeat((1 << 20) - 9), "&client=a".into()].concat();
    assert_eq!(seen(&controller, form("POST", "/openqq/echo", body)).1.len(), (1 << 20) - 9);
}

#[test]
fn what_names_no_client_is_not_searched_for_one() {
    let controller = with_client("");
    let no_client = r#"{"code":1,"status":"client not found"}"#;
    let before = count(&controller, "requests");
    let other_kind = |kind: &str| {
        format!("POST /openqq/echo HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: 8\r\n\r\nclient=a")
            .into_bytes()
    };
    for request in [
        form("GET", "/openqq/echo", "client=a"),
        form("POST", "/openqq/echo", ""),
        form("POST", "/openqq/echo", "client=&x=1"),
        form("POST", "/openqq/echo", "Client=a"),
        other_kind(""),
        other_kind("Content-Type: application/json\r\n"),
        other_kind("Content-Type: multipart/form-data; boundary=x\r\n"),
        other_kind("Content-Type: application/x-www-form-urlencoded2\r\n"),
    ] {
        let answer = ask(&controller, &request);
        assert_eq!(answer.text(), no_client, "{}", String::from_utf8_lossy(&request));
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
    }
    for (body, why) in [("client=a&client=a", "is given twice"), ("x&client=%ff", "is not UTF-8")] {
        let refused = ask(&controller, form("POST", "/openqq/echo", body));
        assert_eq!(refused.text(), format!(r#"{{"code":6,"status":"parameter \"client\" {why}"}}"#));
    }
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}

#[test]
fn half_a_form_reaches_nobody() {
    let controller = with_client("");
    let before = count(&controller, "requests");
    let whole = form("POST", "/openqq/echo", "client=a&x=12345");
    let mut caller = Caller::with(&controller, &whole[..whole.len() - 1]);
    caller.writer().shutdown(std::net::Shutdown::Write).unwrap();
    let answer = caller.read_head();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(count(&controller, "requests"), before, "the client saw nothing");
}
