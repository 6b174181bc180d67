//! The head of a request, as it goes on to the client.

use std::io::Write;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE, VIA};
use http::request::Parts;
use http::{Method, Version};

use super::{Looped, Pseudonym, is_hop_by_hop, is_named, tokens, write_header};

/// From whom a request comes, and to whom it goes.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The address of the caller, or that it is unknown.
    pub address: &'a str,
    /// The client's port on this machine.
    pub port: u16,
    /// Who passes it on.
    pub us: &'a Pseudonym,
}

/// The head of a request as it goes on to a client: its line and headers, with the empty line after them. Its query
/// becomes `query`; `length` is that of the body, where it is known; `protocol` is what [`wanted_protocol`] said.
pub fn to_client(
    request: &Parts,
    query: &[u8],
    hop: Hop<'_>,
    length: Option<u64>,
    protocol: Option<&HeaderValue>,
) -> Result<Vec<u8>, Looped> {
    let headers = &request.headers;
    let via = hop.us.signature(request.version, headers)?;
    let named: Vec<&[u8]> = tokens(headers, CONNECTION).collect();
    // What is ours to say takes about 250 bytes.
    let mut head = Vec::with_capacity(512);
    write_line(&mut head, request, query);
    let _ = write!(head, "Host: 127.0.0.1:{}\r\n", hop.port);
    for (name, value) in headers {
        if is_for_client(name) && !is_named(&named, name) {
            write_header(&mut head, name, value);
        }
    }
    write_header(&mut head, &VIA, via);
    tell_origin(&mut head, hop.address, headers.get(HOST));
    match length {
        None => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Some(0) if !headers.contains_key(CONTENT_LENGTH) => {}
        Some(length) => drop(write!(head, "Content-Length: {length}\r\n")),
    }
    if let Some(protocol) = protocol {
        head.extend_from_slice(b"Connection: upgrade\r\n");
        write_header(&mut head, &UPGRADE, protocol);
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Whether a header that a caller sends may go on: it is not about his connection, and nothing that is ours to say. The
/// permission that he may expect is given by our own server, when the client has taken the head.
fn is_for_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    if name.contains('_') {
        // A client that hands headers on as variables, as CGI does, can't tell it from its twin.
        let twin = HeaderName::from_bytes(name.replace('_', "-").as_bytes());
        return twin.is_ok_and(|twin| is_for_client(&twin));
    }
    !is_hop_by_hop(name)
        && !matches!(name, "host" | "content-length" | "expect" | "forwarded")
        && !name.starts_with("x-forwarded-")
}

/// Method and path are those of the caller: both were read from such a line, and so neither can end this one.
fn write_line(head: &mut Vec<u8>, request: &Parts, query: &[u8]) {
    for part in [request.method.as_str().as_bytes(), b" ", request.uri.path().as_bytes()] {
        head.extend_from_slice(part);
    }
    if !query.is_empty() {
        head.push(b'?');
        head.extend_from_slice(query);
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Says where the request came from, whatever the caller said of that: RFC 7239, and the names used before it.
fn tell_origin(head: &mut Vec<u8>, address: &str, host: Option<&HeaderValue>) {
    // Colons and brackets have to be quoted; that the host has no quotes in it was seen to (`http/framing.rs`).
    let [before, after] = if address.contains(':') { ["\"[", "]\""] } else { [""; 2] };
    for part in ["X-Forwarded-For: ", address, "\r\nForwarded: for=", before, address, after] {
        head.extend_from_slice(part.as_bytes());
    }
    if let Some(host) = host {
        for part in [b";host=\"", host.as_bytes(), b"\";proto=http\r\nX-Forwarded-Host: ", host.as_bytes()] {
            head.extend_from_slice(part);
        }
    } else {
        head.extend_from_slice(b";proto=http");
    }
    head.extend_from_slice(b"\r\nX-Forwarded-Proto: http\r\n");
}

/// The protocol that a request asks to go on with. One kind of request only: anything else is an ordinary one, without
/// its `Upgrade`. HTTP in another version is none: it would carry requests past everything that is checked here.
pub fn wanted_protocol(request: &Parts, has_body: bool) -> Option<HeaderValue> {
    let mut named = request.headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (named.next(), named.next()) else { return None };
    let asked = tokens(&request.headers, CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let name = protocol.to_str().ok()?.to_ascii_lowercase();
    let other_http = ["h2", "http", "tls"].iter().any(|prefix| name.starts_with(prefix));
    let plain = request.method == Method::GET && request.version == Version::HTTP_11 && !has_body;
    let one = !name.is_empty() && !name.contains([',', ' ']);
    (asked && one && plain && !other_http).then(|| protocol.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::listener::Peer;
    use http::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/openqq/x?client=a&b=c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The lines that go to the client.
    fn sent(request: &Parts, peer: Peer, us: &Pseudonym, length: Option<u64>) -> Result<Vec<String>, Looped> {
        let head =
            to_client(request, b"b=c", Hop { address: &peer.address(), port: 5000, us }, length, None)?;
        let head = String::from_utf8(head).unwrap();
        Ok(head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect())
    }

    const UNIX: Peer = Peer::Unix { listener: 0 };

    #[test]
    fn what_came_back_is_known_by_its_name() {
        let (us, other) = (Pseudonym::default(), Pseudonym::default());
        let [ours, theirs] = [&us, &other].map(|us| format!("1.1 {}", us.name()));
        let request = parts(&[("via", "1.1 nginx"), ("via", &theirs), ("host", "h")]);
        let lines = sent(&request, UNIX, &us, Some(0)).unwrap();
        let via: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("Via: ")).collect();
        assert_eq!(via, ["1.1 nginx", &theirs, &ours]);
        assert_eq!(sent(&request, UNIX, &other, Some(0)), Err(Looped));
    }

    #[test]
    fn names_are_written_as_the_original_writes_them() {
        let request = parts(&[("content-type", "a-b"), ("x-1-a", "c"), ("x--b-", "d")]);
        let lines = sent(&request, UNIX, &Pseudonym::default(), Some(0)).unwrap();
        assert_eq!(
            lines[..5],
            [
                "GET /openqq/x?b=c HTTP/1.1",
                "Host: 127.0.0.1:5000",
                "Content-Type: a-b",
                "X-1-A: c",
                "X--B-: d"
            ]
        );
    }

    #[test]
    fn a_twin_of_what_is_ours_to_say_is_dropped() {
        let request = parts(&[
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded_host", "evil"),
            ("proxy_connection", "keep-alive"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("my_own", "1"),
        ]);
        let lines = sent(&request, UNIX, &Pseudonym::default(), Some(0)).unwrap();
        let with = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!((with("_"), with("My_own: 1"), with("evil")), (1, 1, 0), "{lines:?}");
    }

    #[test]
    fn the_origin_is_ours_to_say() {
        let told = |peer: &str| {
            let request = parts(&[
                ("host", "h:1"),
                ("forwarded", "for=a"),
                ("x-forwarded-for", "a"),
                ("x-forwarded-port", "1"),
                ("connection", "x-forwarded-for, forwarded, host, content-length"),
            ]);
            let remote = peer.parse().unwrap();
            let lines =
                sent(&request, Peer::Tcp { remote, local: remote }, &Pseudonym::default(), Some(0)).unwrap();
            assert_eq!((lines.len(), lines[1].as_str()), (7, "Host: 127.0.0.1:5000"));
            assert_eq!(lines[5..], ["X-Forwarded-Host: h:1", "X-Forwarded-Proto: http"]);
            [lines[3].clone(), lines[4].clone()]
        };
        assert_eq!(
            told("10.0.0.1:80"),
            ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1;host=\"h:1\";proto=http"]
        );
        assert_eq!(told("[::ffff:10.0.0.1]:80")[0], "X-Forwarded-For: 10.0.0.1");
        assert_eq!(
            told("[::1]:80"),
            ["X-Forwarded-For: ::1", "Forwarded: for=\"[::1]\";host=\"h:1\";proto=http"]
        );
        // Who calls through a socket has no address, and may have no name for us.
        let request = parts(&[("x-forwarded-for", "a"), ("x-forwarded-host", "a")]);
        let lines = sent(&request, UNIX, &Pseudonym::default(), Some(0)).unwrap();
        assert_eq!(
            lines[3..],
            ["X-Forwarded-For: unknown", "Forwarded: for=unknown;proto=http", "X-Forwarded-Proto: http"]
        );
    }

    #[test]
    fn the_end_of_a_body_is_said_in_one_way() {
        let told = |headers: &[(&str, &str)], length: Option<u64>| {
            let lines = sent(&parts(headers), UNIX, &Pseudonym::default(), length).unwrap();
            let of_body =
                |line: &String| line.starts_with("Content-Length") || line.starts_with("Transfer-Encoding");
            lines.into_iter().filter(of_body).collect::<Vec<_>>()
        };
        let (length, chunked) = (("content-length", "9"), ("transfer-encoding", "chunked"));
        let none: [&str; 0] = [];
        assert_eq!(told(&[], Some(0)), none);
        assert_eq!(told(&[("content-length", "0")], Some(0)), ["Content-Length: 0"]);
        assert_eq!(told(&[length], Some(9)), ["Content-Length: 9"]);
        assert_eq!(told(&[length, chunked], None), ["Transfer-Encoding: chunked"]);
        assert_eq!(told(&[chunked], Some(7)), ["Content-Length: 7"], "a form that was read");
    }

    #[test]
    fn only_a_plain_request_changes_the_protocol() {
        let wanted = |headers: &[(&str, &str)]| wanted_protocol(&parts(headers), false).is_some();
        assert!(wanted(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        for headers in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
            &[("connection", "upgrade"), ("upgrade", "TLS/1.3")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
        ] {
            assert!(!wanted(headers), "{headers:?}");
        }
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert!(
            wanted_protocol(&parts(&upgrade), true).is_none(),
            "with a body it would be unclear where that ends"
        );
    }
}
