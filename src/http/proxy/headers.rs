//! Headers on their way through: what is about one connection stays there, what tells of the way is ours to say.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version, response};

use crate::http::serve::Peer;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Our name in `Via`. It is another one in every run, so that a request of another controller in front of us is not
/// taken for one that came back.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: String,
    /// The whole value, of a request that came as HTTP/1.0 and as HTTP/1.1.
    values: [HeaderValue; 2],
}

/// A request that we sent came back to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looped;

impl Default for Pseudonym {
    fn default() -> Self {
        // Random keys are made for each; nobody has to be kept from guessing them.
        let name = format!("wqcontroller-{:016x}", RandomState::new().build_hasher().finish());
        let value = |version| HeaderValue::try_from(format!("{version} {name}"));
        // Digits and letters only, so neither is ever the fallback.
        let values = ["1.0", "1.1"].map(|v| value(v).unwrap_or(HeaderValue::from_static("1.1 wqcontroller")));
        Self { name, values }
    }
}

impl Pseudonym {
    /// The name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What we add to `Via`.
    fn signature(&self, version: Version, headers: &HeaderMap) -> Result<&HeaderValue, Looped> {
        let mut lines = headers.get_all(VIA).iter();
        if lines.any(|line| line.as_bytes().windows(self.name.len()).any(|part| part == self.name.as_bytes()))
        {
            return Err(Looped);
        }
        let [old, new] = &self.values;
        Ok(if version == Version::HTTP_10 { old } else { new })
    }
}

/// From whom a request comes, and to whom it goes.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The caller.
    pub peer: Peer,
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
    tell_origin(&mut head, hop.peer, headers.get(HOST));
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
/// permission that he may expect is given by our own server, when the client begins to read.
fn is_for_client(name: &HeaderName) -> bool {
    let name = name.as_str();
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

/// Writes a header with its name as the original's programs write them, who may look for it so: `Content-Type`.
fn write_header(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let at = head.len();
    head.extend_from_slice(name.as_str().as_bytes());
    let mut begins = true;
    for byte in &mut head[at..] {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

/// Says where the request came from, whatever the caller said of that: RFC 7239, and the names used before it.
fn tell_origin(head: &mut Vec<u8>, peer: Peer, host: Option<&HeaderValue>) {
    head.extend_from_slice(b"X-Forwarded-For: ");
    let at = head.len();
    let _ = match peer {
        Peer::Tcp { remote, .. } => write!(head, "{}", remote.ip().to_canonical()),
        Peer::Unix { .. } => write!(head, "unknown"),
    };
    let address = at..head.len();
    // Colons and brackets have to be quoted; that the host has no quotes in it was seen to (`http/framing.rs`).
    let quoted: [&[u8]; 2] =
        if head[address.clone()].contains(&b':') { [b"\"[", b"]\""] } else { [b"", b""] };
    head.extend_from_slice(b"\r\nForwarded: for=");
    head.extend_from_slice(quoted[0]);
    head.extend_from_within(address);
    head.extend_from_slice(quoted[1]);
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

/// Grants a change of protocol.
pub fn set_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether a client's answer has just one meaning.
pub fn is_sound(answer: &response::Parts) -> bool {
    let headers = &answer.headers;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // HTTP/1.0 knew none.
        return answer.version == Version::HTTP_11
            && codings.next().is_none()
            && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
            && !headers.contains_key(CONTENT_LENGTH);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(length) = lengths.next() else { return true };
    let is_number = !length.is_empty() && length.len() < 20 && length.iter().all(u8::is_ascii_digit);
    is_number && lengths.all(|other| other == length)
}

/// For how long the client promises to keep the connection of this answer open, less a second for what is on its way; none
/// where it says nothing. (`Keep-Alive: timeout=`, as servers have written it since RFC 2068, 19.7.1.)
pub fn kept_open(headers: &HeaderMap) -> Option<Duration> {
    let timeout = tokens(headers, KEEP_ALIVE).find_map(|token| token.strip_prefix(b"timeout="))?;
    let seconds: u32 = std::str::from_utf8(timeout).ok()?.trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1).into()))
}

/// Whether an answer is the last one of its connection, by its own account.
pub fn is_last(answer: &response::Parts) -> bool {
    answer.version < Version::HTTP_11
        || tokens(&answer.headers, CONNECTION).any(|token| token.eq_ignore_ascii_case(b"close"))
}

/// Whether the length of an answer was said once at most.
pub fn says_length_once(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none()
}

/// Whether an answer with this status has a body, unless it is one to HEAD.
pub fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Makes the headers of an answer those for the caller.
pub fn to_caller(answer: &mut response::Parts, method: &Method) {
    let headers = &mut answer.headers;
    let named = tokens(headers, CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok());
    let mut gone: Vec<HeaderName> = named.collect();
    // Of HEAD the length is not that of a body; elsewhere hyper derives it from the body.
    gone.retain(|name| name != CONTENT_LENGTH || *method != Method::HEAD);
    let is_gone = |name: &&HeaderName| {
        is_hop_by_hop(name.as_str()) || (*name == CONTENT_LENGTH && *method != Method::HEAD)
    };
    gone.extend(headers.keys().filter(is_gone).cloned());
    for name in gone {
        headers.remove(name);
    }
    answer.version = Version::HTTP_11;
}

/// The head of an interim answer (RFC 9110, 15.2) as it goes on to the caller.
pub fn announcement(head: &response::Parts) -> Vec<u8> {
    let named: Vec<&[u8]> = tokens(&head.headers, CONNECTION).collect();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in &head.headers {
        let stays = is_hop_by_hop(name.as_str()) || name == CONTENT_LENGTH || is_named(&named, name);
        if !stays {
            write_header(&mut text, name, value);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn is_named(named: &[&[u8]], name: &HeaderName) -> bool {
    named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Headers about a connection and not about the message (RFC 9110, 7.6.1). Whoever is asked for `Proxy-` anything is us.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "http2-settings"
    ) || name.starts_with("proxy-")
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    // One that is no text does not hide those beside it.
    lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/openqq/x?client=a&b=c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The lines that go to the client.
    fn sent(request: &Parts, peer: Peer, us: &Pseudonym, length: Option<u64>) -> Result<Vec<String>, Looped> {
        let head = to_client(request, b"b=c", Hop { peer, port: 5000, us }, length, None)?;
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

    #[test]
    fn a_promise_to_keep_a_connection_is_taken_at_its_word() {
        let kept = |value: &str| {
            let answer = parts(&[("keep-alive", value)]).headers;
            kept_open(&answer).map(|time| time.as_secs())
        };
        assert_eq!(
            (kept("timeout=5, max=100"), kept("max=3,timeout=2"), kept("timeout=\"2\"")),
            (Some(4), Some(1), Some(1))
        );
        assert_eq!((kept("timeout=1"), kept("timeout=0")), (Some(0), Some(0)), "too short to be of use");
        assert_eq!(
            (kept("max=3"), kept("timeout=x"), kept("timeout=-1"), kept("")),
            (None, None, None, None)
        );
    }

    fn answer(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_answer_has_one_length_or_none() {
        let sound = |headers: &[(&str, &str)]| is_sound(&answer(200, headers));
        let length = |value| ("content-length", value);
        let coding = |value| ("transfer-encoding", value);
        for headers in [&[][..], &[coding("Chunked")], &[length("5")], &[length("5"), length("5")]] {
            assert!(sound(headers), "{headers:?}");
        }
        for headers in [
            &[coding("chunked"), length("5")][..],
            &[coding("gzip, chunked")],
            &[coding("gzip")],
            &[coding("identity")],
            &[coding("chunked"), coding("chunked")],
            &[length("5"), length("6")],
            &[length("5, 5")],
            &[length("x")],
            &[length("-1")],
            &[length("+1")],
            &[length("")],
            &[length("10000000000000000000000")],
        ] {
            assert!(!sound(headers), "{headers:?}");
        }
    }

    #[test]
    fn an_answer_of_http_1_0_has_no_coding() {
        let mut old = answer(200, &[("transfer-encoding", "chunked")]);
        assert!(is_sound(&old));
        old.version = Version::HTTP_10;
        assert!(!is_sound(&old));
    }

    #[test]
    fn an_announcement_is_as_sound_as_an_answer() {
        let head =
            answer(103, &[("link", "</a>"), ("connection", "x-a"), ("x-a", "1"), ("content-length", "4")]);
        assert_eq!(announcement(&head), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert_eq!(announcement(&answer(199, &[])), b"HTTP/1.1 199 \r\n\r\n");
    }
}
