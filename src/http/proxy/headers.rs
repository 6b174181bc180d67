//! Headers on their way through: what is about one connection stays there, what tells of the way is ours to say.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
    VIA,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version, response};

use crate::http::serve::Peer;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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

    fn sign(&self, version: Version, headers: &mut HeaderMap) -> Result<(), Looped> {
        let mut lines = headers.get_all(VIA).iter();
        if lines.any(|line| line.as_bytes().windows(self.name.len()).any(|part| part == self.name.as_bytes()))
        {
            return Err(Looped);
        }
        let [old, new] = &self.values;
        headers.append(VIA, if version == Version::HTTP_10 { old } else { new }.clone());
        Ok(())
    }
}

/// Makes the headers of a request those for the client on `port`. `length` is that of the body, where it is known.
pub fn to_client(
    request: &mut Parts,
    port: u16,
    peer: Peer,
    us: &Pseudonym,
    length: Option<u64>,
) -> Result<(), Looped> {
    let version = request.version;
    let headers = &mut request.headers;
    let had_length = headers.remove(CONTENT_LENGTH).is_some();
    let host = headers.remove(HOST);
    keep_end_to_end(headers, |name| {
        // The permission that is expected is given by our own server, when the client begins to read.
        is_hop_by_hop(name) || name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "expect")
    });
    debug_assert!(!headers.contains_key(EXPECT));
    us.sign(version, headers)?;
    tell_origin(headers, peer, host);
    // hyper derives the framing from the body, but says nothing of one that is known to be empty, and drops one of unknown
    // length where the method is usually without.
    match length {
        Some(length) if had_length => drop(headers.insert(CONTENT_LENGTH, length.into())),
        Some(_) => {}
        None => drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
    if let Ok(host) = HeaderValue::try_from(format!("127.0.0.1:{port}")) {
        headers.insert(HOST, host);
    }
    Ok(())
}

/// Says where the request came from, whatever the caller said of that: RFC 7239, and the names used before it.
fn tell_origin(headers: &mut HeaderMap, peer: Peer, host: Option<HeaderValue>) {
    // All values in one allocation.
    let mut text = BytesMut::with_capacity(128);
    let address = match peer {
        Peer::Tcp { remote: address, .. } => {
            let _ = write!(text, "{}", address.ip().to_canonical());
            text.split()
        }
        Peer::Unix { .. } => BytesMut::from("unknown"),
    }
    .freeze();
    // Colons and brackets have to be quoted; that the host has no quotes in it was seen to (`http/framing.rs`).
    let quoted: [&[u8]; 2] = if address.contains(&b':') { [b"\"[", b"]\""] } else { [b"", b""] };
    for part in [b"for=", quoted[0], &address, quoted[1]] {
        text.extend_from_slice(part);
    }
    if let Some(host) = &host {
        for part in [b";host=\"", host.as_bytes(), b"\""] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b";proto=http");
    if let Ok(address) = HeaderValue::from_maybe_shared(address) {
        headers.insert(X_FORWARDED_FOR, address);
    }
    if let Ok(forwarded) = HeaderValue::from_maybe_shared(text.freeze()) {
        headers.insert(FORWARDED, forwarded);
    }
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
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

/// Asks for, or grants, a change of protocol.
pub fn set_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether a client's answer has just one meaning. hyper accepts more: what it says then, another reader may
/// understand otherwise.
pub fn is_sound(answer: &response::Parts, method: &Method) -> bool {
    let headers = &answer.headers;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        return codings.next().is_none()
            && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
            && !headers.contains_key(CONTENT_LENGTH);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(length) = lengths.next() else { return true };
    // Where there is no body hyper does not look at it.
    let has_body = *method != Method::HEAD && may_have_body(answer.status);
    let is_number = !length.is_empty() && length.len() < 20 && length.iter().all(u8::is_ascii_digit);
    (has_body || is_number) && lengths.all(|other| other == length)
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
    // Of HEAD the length is not that of a body; elsewhere hyper derives it from the body.
    let length = answer.headers.remove(CONTENT_LENGTH).filter(|_| *method == Method::HEAD);
    keep_end_to_end(&mut answer.headers, is_hop_by_hop);
    if let Some(length) = length {
        answer.headers.insert(CONTENT_LENGTH, length);
    }
    answer.version = Version::HTTP_11;
}

/// Leaves what is meant for the other end: nothing that `Connection` names, nothing that is `unwanted`.
fn keep_end_to_end(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let named = tokens(headers, CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok());
    let mut gone: Vec<HeaderName> = named.collect();
    gone.extend(headers.keys().filter(|name| unwanted(name.as_str())).cloned());
    for name in gone {
        headers.remove(name);
    }
}

/// Headers about a connection and not about the message (RFC 9110, 7.6.1). Whoever is asked for `Proxy-` anything is us.
fn is_hop_by_hop(name: &str) -> bool {
    let listed =
        ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"];
    listed.contains(&name) || name.starts_with("proxy-")
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
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_came_back_is_known_by_its_name() {
        let (us, other) = (Pseudonym::default(), Pseudonym::default());
        let peer = Peer::Unix { listener: 0 };
        let mut request = parts(&[("via", "1.1 nginx"), ("host", "h")]);
        to_client(&mut request, 1, peer, &other, None).unwrap();
        to_client(&mut request, 1, peer, &us, None).unwrap();
        assert_eq!(request.headers.get_all(VIA).iter().count(), 3);
        assert_eq!(to_client(&mut request, 1, peer, &us, None), Err(Looped));
    }

    #[test]
    fn the_origin_is_ours_to_say() {
        let told = |peer: &str| {
            let mut request = parts(&[
                ("host", "h:1"),
                ("forwarded", "for=a"),
                ("x-forwarded-for", "a"),
                ("x-forwarded-port", "1"),
                ("connection", "x-forwarded-for, forwarded, host, content-length"),
            ]);
            let remote = peer.parse().unwrap();
            let peer = Peer::Tcp { remote, local: remote };
            to_client(&mut request, 5000, peer, &Pseudonym::default(), None).unwrap();
            let value =
                |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(
                (value("host"), value("x-forwarded-host")),
                (Some("127.0.0.1:5000".into()), Some("h:1".into()))
            );
            assert_eq!(value("x-forwarded-port"), None);
            [value("x-forwarded-for").unwrap(), value("forwarded").unwrap()]
        };
        assert_eq!(told("10.0.0.1:80"), ["10.0.0.1", "for=10.0.0.1;host=\"h:1\";proto=http"]);
        assert_eq!(told("[::ffff:10.0.0.1]:80")[0], "10.0.0.1");
        assert_eq!(told("[::1]:80"), ["::1", "for=\"[::1]\";host=\"h:1\";proto=http"]);
        // Who calls through a socket has no address, and may have no name for us.
        let mut request = parts(&[("x-forwarded-for", "a"), ("x-forwarded-host", "a")]);
        to_client(&mut request, 1, Peer::Unix { listener: 0 }, &Pseudonym::default(), None).unwrap();
        assert_eq!(request.headers[X_FORWARDED_FOR], "unknown");
        assert_eq!(request.headers[FORWARDED], "for=unknown;proto=http");
        assert!(!request.headers.contains_key(X_FORWARDED_HOST));
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

    #[test]
    fn an_answer_has_one_length_or_none() {
        let sound = |method: Method, status: u16, headers: &[(&str, &str)]| {
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            is_sound(&answer.body(()).unwrap().into_parts().0, &method)
        };
        let length = |value| ("content-length", value);
        let coding = |value| ("transfer-encoding", value);
        assert!(sound(Method::GET, 200, &[]) && sound(Method::GET, 200, &[coding("Chunked")]));
        assert!(
            sound(Method::GET, 200, &[length("5"), length("5")]) && sound(Method::HEAD, 200, &[length("5")])
        );
        for headers in [
            &[coding("chunked"), length("5")][..],
            &[coding("gzip, chunked")],
            &[coding("gzip")],
            &[coding("identity")],
            &[coding("chunked"), coding("chunked")],
            &[length("5"), length("6")],
        ] {
            assert!(!sound(Method::GET, 200, headers), "{headers:?}");
        }
        assert!(!sound(Method::HEAD, 200, &[length("x")]) && !sound(Method::GET, 304, &[length("-1")]));
    }
}
