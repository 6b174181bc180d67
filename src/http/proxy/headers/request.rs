//! The head of a request, as the client gets it.

use std::io::Write;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE, VIA};
use http::request::Parts;
use http::{Method, Version};

use super::{LoopDetected, ViaToken, is_hop_by_hop, is_named, tokens, write_header};
use crate::machines::Target;
use crate::wire::door::{DOOR, Said};
use crate::wire::onebot;

/// One hop: from whom, through whom, to whom.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The caller's address, or `unknown`.
    pub address: &'a str,
    /// Where it goes.
    pub to: NextHop<'a>,
    /// Our name.
    pub via_token: &'a ViaToken,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum NextHop<'a> {
    /// To a client, by its port on loopback.
    Client(u16),
    /// To the controller of another machine.
    Machine {
        /// How it is reached.
        target: &'a Target,
        /// What the caller may do.
        said: Said,
    },
}

/// The head of a request, as the next hop gets it: request line, headers, empty line. Its query becomes `query`;
/// `length` is that of the body, if known; `protocol` is the result of [`wanted_protocol`].
pub fn to_next_hop(
    request: &Parts,
    query: &[u8],
    hop: Hop<'_>,
    length: Option<u64>,
    protocol: Option<&HeaderValue>,
) -> Result<Vec<u8>, LoopDetected> {
    let headers = &request.headers;
    let via = hop.via_token.value_for(request.version, headers)?;
    let named: Vec<&[u8]> = tokens(headers, CONNECTION).collect();
    // The headers that are added take about 250 bytes.
    let mut head = Vec::with_capacity(512);
    match hop.to {
        NextHop::Client(port) => {
            write_line(&mut head, request, "", query);
            let _ = write!(head, "Host: 127.0.0.1:{port}\r\n");
        }
        NextHop::Machine { target, said } => {
            write_line(&mut head, request, &target.prefix, query);
            let _ = write!(head, "Host: {}\r\n", target.host());
            write_header(&mut head, &HeaderName::from_static(DOOR), &HeaderValue::from_static(said.as_str()));
            if let Some(token) = &target.token {
                write_header(&mut head, &AUTHORIZATION, token);
            }
        }
    }
    for (name, value) in headers {
        if is_for_next(name, hop.to) && !is_named(&named, name) {
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

/// Whether a header of the caller is passed on: not if it is about the connection, or is written anew. `Expect`
/// is not, as our own server sends the 100 once the client has read the head.
fn is_for_next(name: &HeaderName, to: NextHop<'_>) -> bool {
    let name = name.as_str();
    if name.contains('_') {
        // Clients that turn headers into variables, as CGI does, can't tell `_` from `-`.
        let twin = HeaderName::from_bytes(name.replace('_', "-").as_bytes());
        return twin.is_ok_and(|twin| is_for_next(&twin, to));
    }
    // What opens this controller is nothing to another one, and neither is what we say to clients alone.
    // Its browser was judged here, by the sites that this controller allows.
    let is_kept_here = matches!(to, NextHop::Machine { .. })
        && (matches!(name, "authorization" | "cookie" | "referer" | "origin" | onebot::DOOR)
            || name.starts_with("sec-fetch-"));
    !is_hop_by_hop(name)
        && !is_kept_here
        && !matches!(name, "host" | "content-length" | "expect" | "forwarded" | DOOR)
        && !name.starts_with("x-forwarded-")
}

/// Method and path were parsed from such a line, so neither can break this one.
fn write_line(head: &mut Vec<u8>, request: &Parts, prefix: &str, query: &[u8]) {
    let (method, path) = (request.method.as_str(), request.uri.path());
    for part in [method.as_bytes(), b" ", prefix.as_bytes(), path.as_bytes()] {
        head.extend_from_slice(part);
    }
    if !query.is_empty() {
        head.push(b'?');
        head.extend_from_slice(query);
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Says where the request came from, and drops what the caller said: RFC 7239, and the older names.
fn tell_origin(head: &mut Vec<u8>, address: &str, host: Option<&HeaderValue>) {
    // Colons and brackets have to be quoted. The host has no quotes (`request/framing.rs`).
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

/// The protocol that a request wants to switch to. Only a plain GET without a body counts; any other request is
/// passed on without `Upgrade`. Other versions of HTTP don't count either: their requests would bypass every
/// check here.
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
    use crate::http::server::Peer;
    use crate::machines::Place;
    use http::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/openqq/x?client=a&b=c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The lines that a client gets.
    fn sent(
        request: &Parts,
        peer: Peer,
        via_token: &ViaToken,
        length: Option<u64>,
    ) -> Result<Vec<String>, LoopDetected> {
        let head = to_next_hop(
            request,
            b"b=c",
            Hop { address: &peer.address(), to: NextHop::Client(5000), via_token },
            length,
            None,
        )?;
        let head = String::from_utf8(head).unwrap();
        Ok(head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect())
    }

    const UNIX: Peer = Peer::Unix { listener: 0 };

    #[test]
    fn loop_is_detected_by_via_token() {
        let (us, other) = (ViaToken::default(), ViaToken::default());
        let [ours, theirs] = [&us, &other].map(|us| format!("1.1 {}", us.name()));
        let request = parts(&[("via", "1.1 nginx"), ("via", &theirs), ("host", "h")]);
        let lines = sent(&request, UNIX, &us, Some(0)).unwrap();
        let via: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("Via: ")).collect();
        assert_eq!(via, ["1.1 nginx", &theirs, &ours]);
        assert_eq!(sent(&request, UNIX, &other, Some(0)), Err(LoopDetected));
    }

    #[test]
    fn what_opens_the_door_does_not_travel_on() {
        let request = parts(&[
            ("authorization", "Bearer hush"),
            ("cookie", "hush=1"),
            ("referer", "http://h/?token=hush"),
            ("origin", "https://console.example"),
            ("sec-fetch-site", "cross-site"),
            (onebot::DOOR, "full"),
            ("x-own", "1"),
        ]);
        let target = Target {
            place: Place::Unix("/run/x".into()),
            prefix: "/wq".into(),
            token: Some(HeaderValue::from_static("Bearer of-the-machine")),
            tls: None,
        };
        let to = NextHop::Machine { target: &target, said: Said::Account };
        let via_token = &ViaToken::default();
        let head = to_next_hop(&request, b"b=c", Hop { address: "unknown", to, via_token }, Some(0), None);
        let head = String::from_utf8(head.unwrap()).unwrap();
        assert!(head.starts_with("GET /wq/openqq/x?b=c HTTP/1.1\r\nHost: localhost\r\n"), "{head}");
        for line in ["X-Wqcontroller-Door: account", "Authorization: Bearer of-the-machine", "X-Own: 1"] {
            assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{head}");
        }
        let lower = head.to_ascii_lowercase();
        for kept_here in ["hush", "origin:", "sec-fetch", onebot::DOOR] {
            assert!(!lower.contains(kept_here), "{head}");
        }
    }

    #[test]
    fn header_names_are_title_case() {
        let request = parts(&[("content-type", "a-b"), ("x-1-a", "c"), ("x--b-", "d")]);
        let lines = sent(&request, UNIX, &ViaToken::default(), Some(0)).unwrap();
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
    fn underscore_variant_of_managed_header_is_dropped() {
        let request = parts(&[
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded_host", "evil"),
            ("proxy_connection", "keep-alive"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("my_own", "1"),
        ]);
        let lines = sent(&request, UNIX, &ViaToken::default(), Some(0)).unwrap();
        let with = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!((with("_"), with("My_own: 1"), with("evil")), (1, 1, 0), "{lines:?}");
    }

    #[test]
    fn forwarded_headers_are_written_anew() {
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
                sent(&request, Peer::Tcp { remote, local: remote }, &ViaToken::default(), Some(0)).unwrap();
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
        // A caller on a Unix socket has no address, and may send no Host.
        let request = parts(&[("x-forwarded-for", "a"), ("x-forwarded-host", "a")]);
        let lines = sent(&request, UNIX, &ViaToken::default(), Some(0)).unwrap();
        assert_eq!(
            lines[3..],
            ["X-Forwarded-For: unknown", "Forwarded: for=unknown;proto=http", "X-Forwarded-Proto: http"]
        );
    }

    #[test]
    fn request_has_one_body_framing() {
        let told = |headers: &[(&str, &str)], length: Option<u64>| {
            let lines = sent(&parts(headers), UNIX, &ViaToken::default(), length).unwrap();
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
    fn upgrade_needs_plain_get() {
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
