//! [`Head`]: the head of a client's answer. What goes on to the caller is kept apart, from the beginning, from what the head
//! says of its own connection and of where its body ends.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode, Version, response};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{is_hop_by_hop, tokens_of, write_header};

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers of an answer.
const MAX_HEADERS: usize = 100;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What a client sends is not the head of an answer of HTTP/1, or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head of the answer is malformed")]
pub struct Malformed;

/// Where the body of an answer ends, by its head (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After the last chunk.
    Chunks,
    /// After so many bytes.
    Length(u64),
    /// With the connection.
    Close,
    /// That is said in more than one way, or in one that is not understood.
    Unclear,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// What goes on to the caller: of the headers only those about the message, and without its length.
    pub parts: response::Parts,
    /// Where the body ends.
    pub end: End,
    /// Whether its length is said more than once.
    pub has_two_lengths: bool,
    /// Whether it is the last answer of its connection, by its own account.
    pub is_last: bool,
    /// For how long the client promises to keep the connection open, less a second for what is on its way; none where it says
    /// nothing. (`Keep-Alive: timeout=`, as servers have written it since RFC 2068, 19.7.1.)
    pub kept_open: Option<Duration>,
    /// The protocol that it goes on with, if it changes that.
    pub protocol: Option<HeaderValue>,
}

impl Head {
    /// Takes a head out of what was `read`; none while more of it has to come. Its headers take the room that there is in
    /// `spare`, which is empty.
    pub fn take(read: &mut BytesMut, spare: &mut HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let status =
            ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut headers);
        let size = match status.map_err(|_| Malformed)? {
            Status::Complete(size) if size <= MAX_HEAD => size,
            Status::Partial if read.len() < MAX_HEAD => return Ok(None),
            _ => return Err(Malformed),
        };
        let mut parts = Response::new(()).into_parts().0;
        let code = parsed.code.ok_or(Malformed)?;
        parts.status = StatusCode::from_u16(code).map_err(|_| Malformed)?;
        parts.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != parts.status.canonical_reason())
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            parts.extensions.insert(reason);
        }
        // Where each value stands, as what it is borrowed from is about to be taken.
        let began = read.as_ptr().addr();
        let mut places = Vec::with_capacity(parsed.headers.len());
        let mut said = Said::default();
        for header in &*parsed.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Malformed)?;
            if !said.hear(&name, header.value) {
                let at = header.value.as_ptr().addr() - began;
                places.push((name, at..at + header.value.len()));
            }
        }
        let mut head = Self {
            end: said.end(parts.version),
            has_two_lengths: said.has_two_lengths,
            is_last: said.is_last || parts.version < Version::HTTP_11,
            kept_open: said.kept_open(),
            protocol: said.protocol.map(HeaderValue::from_bytes).transpose().map_err(|_| Malformed)?,
            parts,
        };
        let named = said.named;
        let text = read.split_to(size).freeze();
        let headers = &mut head.parts.headers;
        *headers = std::mem::take(spare);
        headers.reserve(places.len());
        for (name, place) in places {
            let value = HeaderValue::from_maybe_shared(text.slice(place)).map_err(|_| Malformed)?;
            headers.append(name, value);
        }
        for name in named {
            headers.remove(name);
        }
        Ok(Some(head))
    }

    /// Whether it only announces the answer (RFC 9110, 15.2). After a change of protocol nothing follows.
    pub fn is_interim(&self) -> bool {
        self.parts.status.is_informational() && self.parts.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether there may be a body, unless this is an answer to HEAD.
    pub fn may_have_body(&self) -> bool {
        use StatusCode as S;
        !matches!(self.parts.status, S::NO_CONTENT | S::RESET_CONTENT | S::NOT_MODIFIED)
    }

    /// What the caller gets, who asked with this method. Of HEAD the length is not that of a body; elsewhere hyper derives it
    /// from the body.
    pub fn into_parts(self, method: &Method) -> response::Parts {
        let may_have_body = self.may_have_body();
        let mut parts = self.parts;
        if let End::Length(length) = self.end
            && *method == Method::HEAD
            && may_have_body
        {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        parts.version = Version::HTTP_11;
        parts
    }

    /// An announcement as it goes on to the caller.
    pub fn announcement(&self) -> Vec<u8> {
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

/// Grants a change of protocol.
pub fn set_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// What the headers say that go no further.
#[derive(Default)]
struct Said<'a> {
    coding: Option<&'a [u8]>,
    has_two_codings: bool,
    length: Option<&'a [u8]>,
    has_two_lengths: bool,
    has_other_length: bool,
    is_last: bool,
    timeout: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    /// Headers that are about the connection only because `Connection` says so.
    named: Vec<HeaderName>,
}

impl<'a> Said<'a> {
    /// Whether a header is one of those.
    fn hear(&mut self, name: &HeaderName, value: &'a [u8]) -> bool {
        if *name == CONTENT_LENGTH {
            self.has_two_lengths |= self.length.is_some();
            self.has_other_length |= *self.length.get_or_insert(value) != value;
        } else if *name == CONNECTION {
            for token in tokens_of(value) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.is_last = true;
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

    fn end(&self, version: Version) -> End {
        let number = |length: &[u8]| {
            let is_number = length.len() < 20 && length.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(length).ok()?.parse().ok().filter(|_| is_number)
        };
        match (self.coding, self.length) {
            (None, None) => End::Close,
            (None, Some(length)) if !self.has_other_length => {
                number(length).map_or(End::Unclear, End::Length)
            }
            // HTTP/1.0 knew none.
            (Some(coding), None) if version == Version::HTTP_11 && !self.has_two_codings => {
                if coding.eq_ignore_ascii_case(b"chunked") { End::Chunks } else { End::Unclear }
            }
            _ => End::Unclear,
        }
    }

    fn kept_open(&self) -> Option<Duration> {
        let seconds: u32 = std::str::from_utf8(self.timeout?).ok()?.trim_matches('"').parse().ok()?;
        Some(Duration::from_secs(seconds.saturating_sub(1).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(read: &mut BytesMut) -> Result<Option<Head>, Malformed> {
        Head::take(read, &mut HeaderMap::new())
    }

    fn head(text: &str) -> Head {
        take(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    fn with(headers: &[(&str, &str)]) -> Head {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))
    }

    #[test]
    fn a_head_is_what_it_says() {
        let odd = head("HTTP/1.0 200 Fine\r\nX-A: 1\r\nx-a:2\r\nB: \r\n\r\n");
        assert!(odd.is_last && !head("HTTP/1.1 200 OK\r\n\r\n").is_last);
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
    fn a_head_comes_whole_or_not_at_all() {
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
            assert_eq!(take(&mut BytesMut::from(text)).err(), Some(Malformed), "{text}");
        }
    }

    #[test]
    fn a_head_has_a_size() {
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
    fn what_is_about_the_connection_stays_there() {
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
        assert!(head.is_last);
        for method in [Method::GET, Method::HEAD] {
            let headers = head.clone().into_parts(&method).headers;
            let length = headers.get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(length, (method == Method::HEAD).then_some("7"));
            assert_eq!(headers["x-c"], "stays");
            assert_eq!(headers.len(), 1 + usize::from(length.is_some()), "{headers:?}");
        }
    }

    #[test]
    fn a_promise_to_keep_a_connection_is_taken_at_its_word() {
        let kept = |value: &str| with(&[("keep-alive", value)]).kept_open.map(|time| time.as_secs());
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
    fn a_body_has_one_end() {
        let length = |value| ("content-length", value);
        let coding = |value| ("transfer-encoding", value);
        for (headers, end, twice) in [
            (&[][..], End::Close, false),
            (&[coding("Chunked")], End::Chunks, false),
            (&[length("05")], End::Length(5), false),
            (&[length("5"), length("5")], End::Length(5), true),
            (&[length("9999999999999999999")], End::Length(9_999_999_999_999_999_999), false),
        ] {
            let head = with(headers);
            assert_eq!((head.end, head.has_two_lengths), (end, twice), "{headers:?}");
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
            assert_eq!(with(headers).end, End::Unclear, "{headers:?}");
        }
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.end, End::Unclear, "it has no codings");
    }

    #[test]
    fn an_announcement_is_as_sound_as_an_answer() {
        let early =
            head("HTTP/1.1 103 x\r\nlink: </a>\r\nconnection: x-a\r\nx-a: 1\r\ncontent-length: 4\r\n\r\n");
        assert!(early.is_interim());
        assert_eq!(early.announcement(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert_eq!(head("HTTP/1.1 199 x\r\n\r\n").announcement(), b"HTTP/1.1 199 \r\n\r\n");
        assert!(!head("HTTP/1.1 101 x\r\n\r\n").is_interim(), "nothing follows");
    }
}
