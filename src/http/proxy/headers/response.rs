//! [`ResponseHead`]: the head of a client's response. Headers for the caller are kept apart from those about the
//! connection and the framing.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode, Version, response};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{is_hop_by_hop, tokens_of, write_header};

/// The largest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers.
const MAX_HEADERS: usize = 100;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The head is malformed or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head of the answer is malformed")]
pub struct MalformedHead;

/// Where the body of a response ends, by its head (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// After the last chunk.
    Chunks,
    /// After this many bytes.
    Length(u64),
    /// When the connection is closed.
    Close,
    /// Unknown: the head contradicts itself or is not understood.
    Ambiguous,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// What the caller gets. Its headers are those about the message, without Content-Length.
    pub parts: response::Parts,
    /// Where the body ends.
    pub end: BodyEnd,
    /// Whether Content-Length is given more than once.
    pub has_duplicate_length: bool,
    /// Whether the client closes the connection after this response.
    pub closes: bool,
    /// How long the client promises to keep the connection open, less a second for requests on their way
    /// (`Keep-Alive: timeout=`, from RFC 2068, 19.7.1).
    pub keep_alive: Option<Duration>,
    /// The protocol that it switches to.
    pub protocol: Option<HeaderValue>,
}

impl ResponseHead {
    /// Takes a head out of `read`; none until all of it is there. Reuses the memory of `spare`, which is empty.
    pub fn take(read: &mut BytesMut, spare: &mut HeaderMap) -> Result<Option<Self>, MalformedHead> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let status =
            ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut headers);
        let size = match status.map_err(|_| MalformedHead)? {
            Status::Complete(size) if size <= MAX_HEAD => size,
            Status::Partial if read.len() < MAX_HEAD => return Ok(None),
            _ => return Err(MalformedHead),
        };
        let mut parts = Response::new(()).into_parts().0;
        let code = parsed.code.ok_or(MalformedHead)?;
        parts.status = StatusCode::from_u16(code).map_err(|_| MalformedHead)?;
        parts.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        // Without this hyper would write a phrase of its own.
        if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != parts.status.canonical_reason())
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            parts.extensions.insert(reason);
        }
        // Keeps the place of each value, as the buffer they borrow from is about to be taken.
        let began = read.as_ptr().addr();
        let mut places = Vec::with_capacity(parsed.headers.len());
        let mut about_connection = ConnectionHeaders::default();
        for header in &*parsed.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| MalformedHead)?;
            if !about_connection.observe(&name, header.value) {
                let at = header.value.as_ptr().addr() - began;
                places.push((name, at..at + header.value.len()));
            }
        }
        let mut head = Self {
            end: about_connection.end(parts.version),
            has_duplicate_length: about_connection.has_duplicate_length,
            closes: about_connection.closes || parts.version < Version::HTTP_11,
            keep_alive: about_connection.keep_alive(),
            protocol: about_connection
                .protocol
                .map(HeaderValue::from_bytes)
                .transpose()
                .map_err(|_| MalformedHead)?,
            parts,
        };
        let named = about_connection.named;
        let text = read.split_to(size).freeze();
        let headers = &mut head.parts.headers;
        *headers = std::mem::take(spare);
        headers.reserve(places.len());
        for (name, place) in places {
            let value = HeaderValue::from_maybe_shared(text.slice(place)).map_err(|_| MalformedHead)?;
            headers.append(name, value);
        }
        // Only here, as `Connection` may come after the headers that it names.
        for name in named {
            headers.remove(name);
        }
        Ok(Some(head))
    }

    /// Whether this is an informational response (1xx, RFC 9110, 15.2). 101 is final: no other response follows.
    pub fn is_informational(&self) -> bool {
        self.parts.status.is_informational() && self.parts.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether a body is possible, unless the request was HEAD.
    pub fn may_have_body(&self) -> bool {
        use StatusCode as S;
        !matches!(self.parts.status, S::NO_CONTENT | S::RESET_CONTENT | S::NOT_MODIFIED)
    }

    /// The response that the caller gets. To a HEAD, Content-Length is not that of a body; to others hyper
    /// derives it from the body.
    pub fn into_parts(self, method: &Method) -> response::Parts {
        let may_have_body = self.may_have_body();
        let mut parts = self.parts;
        if let BodyEnd::Length(length) = self.end
            && *method == Method::HEAD
            && may_have_body
        {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        parts.version = Version::HTTP_11;
        parts
    }

    /// The head of an informational response, as the caller gets it.
    pub fn informational_head(&self) -> Vec<u8> {
        let status = self.parts.status;
        let reason = status.canonical_reason().unwrap_or_default();
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        for (name, value) in &self.parts.headers {
            write_header(&mut text, name, value);
        }
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// Confirms a protocol switch.
pub fn set_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The headers about the connection and the framing.
#[derive(Default)]
struct ConnectionHeaders<'a> {
    coding: Option<&'a [u8]>,
    has_two_codings: bool,
    length: Option<&'a [u8]>,
    has_duplicate_length: bool,
    has_other_length: bool,
    closes: bool,
    timeout: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    /// Headers that only `Connection` makes headers of the connection.
    named: Vec<HeaderName>,
}

impl<'a> ConnectionHeaders<'a> {
    /// Records a header about the connection; returns whether it is one.
    fn observe(&mut self, name: &HeaderName, value: &'a [u8]) -> bool {
        if *name == CONTENT_LENGTH {
            self.has_duplicate_length |= self.length.is_some();
            self.has_other_length |= *self.length.get_or_insert(value) != value;
        } else if *name == CONNECTION {
            for token in tokens_of(value) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.closes = true;
                } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                    self.named.extend(HeaderName::from_bytes(token));
                }
            }
        } else if *name == TRANSFER_ENCODING {
            self.has_two_codings |= self.coding.is_some();
            self.coding = Some(value);
        } else if *name == UPGRADE {
            self.protocol.get_or_insert(value);
        } else if *name == KEEP_ALIVE {
            self.timeout =
                self.timeout.or_else(|| tokens_of(value).find_map(|token| token.strip_prefix(b"timeout=")));
        } else {
            return is_hop_by_hop(name.as_str());
        }
        true
    }

    fn end(&self, version: Version) -> BodyEnd {
        let number = |length: &[u8]| {
            // `parse` also takes a sign. Nineteen digits always fit into 64 bits.
            let is_number = length.len() < 20 && length.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(length).ok()?.parse().ok().filter(|_| is_number)
        };
        match (self.coding, self.length) {
            (None, None) => BodyEnd::Close,
            (None, Some(length)) if !self.has_other_length => {
                number(length).map_or(BodyEnd::Ambiguous, BodyEnd::Length)
            }
            // HTTP/1.0 has no Transfer-Encoding.
            (Some(coding), None) if version == Version::HTTP_11 && !self.has_two_codings => {
                if coding.eq_ignore_ascii_case(b"chunked") { BodyEnd::Chunks } else { BodyEnd::Ambiguous }
            }
            // Both together are a sign of smuggling (RFC 9112, 6.3).
            _ => BodyEnd::Ambiguous,
        }
    }

    fn keep_alive(&self) -> Option<Duration> {
        let seconds: u32 = std::str::from_utf8(self.timeout?).ok()?.trim_matches('"').parse().ok()?;
        Some(Duration::from_secs(seconds.saturating_sub(1).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(read: &mut BytesMut) -> Result<Option<ResponseHead>, MalformedHead> {
        ResponseHead::take(read, &mut HeaderMap::new())
    }

    fn head(text: &str) -> ResponseHead {
        take(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    fn with(headers: &[(&str, &str)]) -> ResponseHead {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))
    }

    #[test]
    fn response_head_is_parsed() {
        let odd = head("HTTP/1.0 200 Fine\r\nX-A: 1\r\nx-a:2\r\nB: \r\n\r\n");
        assert!(odd.closes && !head("HTTP/1.1 200 OK\r\n\r\n").closes);
        let odd = odd.parts;
        assert_eq!((odd.status, odd.version), (StatusCode::OK, Version::HTTP_10));
        assert_eq!(odd.extensions.get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
        let values: Vec<_> = odd.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(odd.headers["b"], "");
        assert!(head("HTTP/1.1 200 OK\r\n\r\n").parts.extensions.get::<ReasonPhrase>().is_none());
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest");
        take(&mut read).unwrap().unwrap();
        assert_eq!(read, "rest");
    }

    #[test]
    fn incomplete_response_head_is_left_in_buffer() {
        let text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for size in 0..text.len() {
            let mut read = BytesMut::from(&text[..size]);
            assert!(take(&mut read).unwrap().is_none(), "{size}");
            assert_eq!(read, &text[..size], "nothing is lost");
        }
        for text in [
            "SSH-2.0-x\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
        ] {
            assert_eq!(take(&mut BytesMut::from(text)).err(), Some(MalformedHead), "{text}");
        }
    }

    #[test]
    fn response_head_is_bounded() {
        let with = |size: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(size - 24));
        assert!(take(&mut BytesMut::from(&*with(MAX_HEAD))).is_ok());
        assert!(take(&mut BytesMut::from(&*with(MAX_HEAD + 1))).is_err());
        let open = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
        assert!(take(&mut BytesMut::from(&*open)).is_err(), "it need not come to its end");
        let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(take(&mut BytesMut::from(&*many(MAX_HEADERS))).is_ok());
        assert!(take(&mut BytesMut::from(&*many(MAX_HEADERS + 1))).is_err());
    }

    #[test]
    fn connection_headers_are_removed() {
        let head = with(&[
            ("X-B", "named before"),
            ("Connection", "x-a, Close"),
            ("connection", "X-B, content-type"),
            ("X-A", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
            ("TE", "trailers"),
            ("Proxy-Authenticate", "Basic"),
            ("Content-Length", "7"),
            ("X-C", "stays"),
            ("Content-Type", "named"),
        ]);
        assert_eq!(head.protocol.as_ref().unwrap(), "h2c");
        assert!(head.closes);
        for method in [Method::GET, Method::HEAD] {
            let headers = head.clone().into_parts(&method).headers;
            let length = headers.get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(length, (method == Method::HEAD).then_some("7"));
            assert_eq!(headers["x-c"], "stays");
            assert_eq!(headers.len(), 1 + usize::from(length.is_some()), "{headers:?}");
        }
    }

    #[test]
    fn keep_alive_timeout_is_parsed() {
        let kept = |value: &str| with(&[("keep-alive", value)]).keep_alive.map(|time| time.as_secs());
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
    fn contradictory_body_framing_is_ambiguous() {
        let length = |value| ("content-length", value);
        let coding = |value| ("transfer-encoding", value);
        for (headers, end, twice) in [
            (&[][..], BodyEnd::Close, false),
            (&[coding("Chunked")], BodyEnd::Chunks, false),
            (&[length("05")], BodyEnd::Length(5), false),
            (&[length("5"), length("5")], BodyEnd::Length(5), true),
            (&[length("9999999999999999999")], BodyEnd::Length(9_999_999_999_999_999_999), false),
        ] {
            let head = with(headers);
            assert_eq!((head.end, head.has_duplicate_length), (end, twice), "{headers:?}");
        }
        for headers in [
            &[coding("chunked"), length("5")][..],
            &[length("5"), coding("chunked")],
            &[coding("gzip, chunked")],
            &[coding("gzip")],
            &[coding("identity")],
            &[coding("")],
            &[coding("chunked"), coding("chunked")],
            &[length("5"), length("6")],
            &[length("5"), length("5"), length("05")],
            &[length("5"), length("")],
            &[length("5, 5")],
            &[length("x")],
            &[length("-1")],
            &[length("+1")],
            &[length("")],
            &[length("10000000000000000000")],
            &[length("10000000000000000000000")],
        ] {
            assert_eq!(with(headers).end, BodyEnd::Ambiguous, "{headers:?}");
        }
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.end, BodyEnd::Ambiguous, "it has no codings");
    }

    #[test]
    fn informational_head_is_sanitized() {
        let early =
            head("HTTP/1.1 103 x\r\nlink: </a>\r\nconnection: x-a\r\nx-a: 1\r\ncontent-length: 4\r\n\r\n");
        assert!(early.is_informational());
        assert_eq!(early.informational_head(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert_eq!(head("HTTP/1.1 199 x\r\n\r\n").informational_head(), b"HTTP/1.1 199 \r\n\r\n");
        assert!(!head("HTTP/1.1 101 x\r\n\r\n").is_informational(), "nothing follows");
    }
}
