//! An answer as it is read from a client: its head, and its body by whatever tells its end (RFC 9112, 6.3 and 7.1).
//! Nothing here waits or reads: what came stands in a buffer, and is taken out of that.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode, Version, response};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers of an answer.
const MAX_HEADERS: usize = 100;

/// The longest line before a chunk, and the most that may follow the last one, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Why what a client sends is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// The head is not that of HTTP/1, or too large.
    #[error("the head of the answer is malformed")]
    Head,
    /// A chunk is not framed as one.
    #[error("a chunk of the answer is malformed")]
    Chunk,
    /// It ended before its end.
    #[error("the answer is cut off")]
    Truncated,
}

/// Takes the head of an answer out of what was `read`; none while more of it has to come. Its headers take the room that there
/// is in `spare`, which is empty.
pub fn take_head(read: &mut BytesMut, spare: &mut HeaderMap) -> Result<Option<response::Parts>, Unclear> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut headers);
    let size = match status.map_err(|_| Unclear::Head)? {
        Status::Complete(size) if size <= MAX_HEAD => size,
        Status::Partial if read.len() < MAX_HEAD => return Ok(None),
        _ => return Err(Unclear::Head),
    };
    let mut head = Response::new(()).into_parts().0;
    let code = parsed.code.ok_or(Unclear::Head)?;
    head.status = StatusCode::from_u16(code).map_err(|_| Unclear::Head)?;
    head.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != head.status.canonical_reason())
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        head.extensions.insert(reason);
    }
    // Where each value stands, as what it is borrowed from is about to be taken.
    let began = read.as_ptr().addr();
    let mut places = Vec::with_capacity(parsed.headers.len());
    for header in &*parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unclear::Head)?;
        let at = header.value.as_ptr().addr() - began;
        places.push((name, at..at + header.value.len()));
    }
    let text = read.split_to(size).freeze();
    head.headers = std::mem::take(spare);
    head.headers.reserve(places.len());
    for (name, place) in places {
        let value = HeaderValue::from_maybe_shared(text.slice(place)).map_err(|_| Unclear::Head)?;
        head.headers.append(name, value);
    }
    Ok(Some(head))
}

/// What remains of a body, and how its end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder(Rest);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// So many bytes.
    Length(u64),
    /// All that comes until the connection is closed.
    UntilClosed,
    /// The line before a chunk.
    ChunkSize,
    /// A chunk of which so many bytes are to come.
    Chunk(u64),
    /// The end of the line after it.
    ChunkEnd,
    /// What follows the last chunk, of which so many bytes were seen.
    Trailers(usize),
}

impl Decoder {
    /// Of a connection on which no answer is awaited.
    pub fn idle() -> Self {
        Self(Rest::Nothing)
    }

    /// Of the answer to a request with this method. [`is_sound`](super::headers::is_sound) must have held for it.
    pub fn of(head: &response::Parts, method: &Method) -> Self {
        let without = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if *method == Method::HEAD || head.status.is_informational() || without {
            return Self(Rest::Nothing);
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            return Self(Rest::ChunkSize);
        }
        Self(match length(&head.headers) {
            Some(0) => Rest::Nothing,
            Some(length) => Rest::Length(length),
            None => Rest::UntilClosed,
        })
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        self.0 == Rest::Nothing
    }

    /// How many bytes are to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            Rest::Nothing => Some(0),
            Rest::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Takes the next piece of the body out of what was `read`; none where the body is over, or where more has to come.
    pub fn take(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Unclear> {
        self.skip_framing(read)?;
        let left = match self.0 {
            Rest::Length(left) | Rest::Chunk(left) => left,
            Rest::UntilClosed => u64::MAX,
            _ => return Ok(None),
        };
        if read.is_empty() {
            return Ok(None);
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
        let piece = read.split_to(size).freeze();
        let left = left - size as u64;
        self.0 = match self.0 {
            Rest::Length(_) if left > 0 => Rest::Length(left),
            Rest::Length(_) => Rest::Nothing,
            Rest::Chunk(_) if left > 0 => Rest::Chunk(left),
            Rest::Chunk(_) => Rest::ChunkEnd,
            rest => rest,
        };
        // So that the end is known as soon as it is there. What is wrong with it is said when it is asked for.
        let _ = self.skip_framing(read);
        Ok(Some(piece))
    }

    /// The connection was closed.
    pub fn close(&mut self) -> Result<(), Unclear> {
        match self.0 {
            Rest::Nothing | Rest::UntilClosed => {
                self.0 = Rest::Nothing;
                Ok(())
            }
            _ => Err(Unclear::Truncated),
        }
    }

    /// Takes what stands between chunks and after the last one, as far as it is there.
    fn skip_framing(&mut self, read: &mut BytesMut) -> Result<(), Unclear> {
        loop {
            let after = match self.0 {
                Rest::ChunkEnd => |line: &[u8], _| (line == b"\r\n").then_some(Rest::ChunkSize),
                Rest::ChunkSize => |line: &[u8], _| match chunk_size(line)? {
                    0 => Some(Rest::Trailers(0)),
                    size => Some(Rest::Chunk(size)),
                },
                Rest::Trailers(_) => |line: &[u8], seen| match line {
                    b"\r\n" => Some(Rest::Nothing),
                    _ => (seen < MAX_LINE).then_some(Rest::Trailers(seen)),
                },
                _ => return Ok(()),
            };
            let Some(end) = read.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
                return if read.len() < MAX_LINE { Ok(()) } else { Err(Unclear::Chunk) };
            };
            let line = &read[..=end];
            let before = if let Rest::Trailers(seen) = self.0 { seen } else { 0 };
            let is_line = line.ends_with(b"\r\n") && !line[..end - 1].contains(&b'\r');
            let rest = if is_line { after(line, before + line.len()) } else { None };
            self.0 = rest.ok_or(Unclear::Chunk)?;
            read.advance(end + 1);
        }
    }
}

/// What a line says of the chunk after it.
fn chunk_size(line: &[u8]) -> Option<u64> {
    // The parser takes a line without a number for zero.
    let Ok(Status::Complete((_, size))) = httparse::parse_chunk_size(line) else { return None };
    line[0].is_ascii_hexdigit().then_some(size)
}

/// What `Content-Length` says.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole_head(read: &mut BytesMut) -> Result<Option<response::Parts>, Unclear> {
        take_head(read, &mut HeaderMap::new())
    }

    fn head(text: &str) -> response::Parts {
        whole_head(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    /// The body of `text` as it is read in pieces of `size`, and what was left.
    fn decoded(method: Method, text: &str, size: usize) -> Result<(String, String), Unclear> {
        let (mut read, mut decoder, mut body) = (BytesMut::new(), None::<Decoder>, Vec::new());
        for piece in text.as_bytes().chunks(size) {
            read.extend_from_slice(piece);
            if decoder.is_none() {
                decoder = whole_head(&mut read)?.map(|head| Decoder::of(&head, &method));
            }
            let Some(decoder) = &mut decoder else { continue };
            while let Some(piece) = decoder.take(&mut read)? {
                body.extend_from_slice(&piece);
            }
        }
        let mut decoder = decoder.unwrap();
        decoder.take(&mut read)?;
        let left = String::from_utf8(read.to_vec()).unwrap();
        if !decoder.is_done() {
            decoder.close()?;
        }
        Ok((String::from_utf8(body).unwrap(), left))
    }

    #[test]
    fn a_head_is_what_it_says() {
        let odd = head("HTTP/1.0 200 Fine\r\nX-A: 1\r\nx-a:2\r\nB: \r\n\r\n");
        assert_eq!((odd.status, odd.version), (StatusCode::OK, Version::HTTP_10));
        assert_eq!(odd.extensions.get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
        let values: Vec<_> = odd.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(odd.headers["b"], "");
        assert!(head("HTTP/1.1 200 OK\r\n\r\n").extensions.get::<ReasonPhrase>().is_none());
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest");
        whole_head(&mut read).unwrap().unwrap();
        assert_eq!(read, "rest");
    }

    #[test]
    fn a_head_comes_whole_or_not_at_all() {
        let text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for size in 0..text.len() {
            let mut read = BytesMut::from(&text[..size]);
            assert!(whole_head(&mut read).unwrap().is_none(), "{size}");
            assert_eq!(read, &text[..size], "nothing is lost");
        }
        for text in [
            "SSH-2.0-x\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
        ] {
            assert_eq!(whole_head(&mut BytesMut::from(text)).err(), Some(Unclear::Head), "{text}");
        }
    }

    #[test]
    fn a_head_has_a_size() {
        let with = |size: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(size - 24));
        assert!(whole_head(&mut BytesMut::from(&*with(MAX_HEAD))).is_ok());
        assert!(whole_head(&mut BytesMut::from(&*with(MAX_HEAD + 1))).is_err());
        let open = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
        assert!(whole_head(&mut BytesMut::from(&*open)).is_err(), "it need not come to its end");
        let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(whole_head(&mut BytesMut::from(&*many(MAX_HEADERS))).is_ok());
        assert!(whole_head(&mut BytesMut::from(&*many(MAX_HEADERS + 1))).is_err());
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (method, text, body, left) in [
            (Method::GET, format!("{ok}Content-Length: 4\r\n\r\nhalfX"), "half", "X"),
            (Method::GET, format!("{ok}Content-Length: 0\r\n\r\nX"), "", "X"),
            (Method::GET, format!("{ok}\r\nall of it"), "all of it", ""),
            (Method::HEAD, format!("{ok}Content-Length: 4\r\n\r\nX"), "", "X"),
            (Method::GET, "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\nX".into(), "", "X"),
            (Method::GET, "HTTP/1.1 304 x\r\nContent-Length: 4\r\n\r\nX".into(), "", "X"),
            (Method::GET, "HTTP/1.1 101 x\r\n\r\nX".into(), "", "X"),
            (
                Method::GET,
                format!("{ok}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\nX"),
                "half",
                "X",
            ),
            (
                Method::GET,
                format!(
                    "{ok}Transfer-Encoding: chunked\r\n\r\n04;a=b\r\nhalf\r\n0A \r\n0123456789\r\n000\r\nX: 1\r\nY:\r\n\r\nX"
                ),
                "half0123456789",
                "X",
            ),
        ] {
            for size in 1..text.len() {
                let expected = Ok((body.to_owned(), left.to_owned()));
                assert_eq!(decoded(method.clone(), &text, size), expected, "{size}: {text:?}");
            }
        }
    }

    #[test]
    fn what_is_not_framed_as_it_says_is_no_body() {
        for (framing, why) in [
            ("Content-Length: 5\r\n\r\nhalf", Unclear::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Unclear::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", Unclear::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhal", Unclear::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalfX\r\n0\r\n\r\n", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4\nhalf\n0\n\n", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\n0\r\n\r\n", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n\r\nhalf", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n;\r\nhalf", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n-1\r\nhalf", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n0x4\r\nhalf", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4;a\rb\r\nhalf\r\n0\r\n\r\n", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhalf", Unclear::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n", Unclear::Chunk),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{framing}");
            for size in 1..text.len() {
                assert_eq!(decoded(Method::GET, &text, size), Err(why), "{size}: {text:?}");
            }
        }
    }

    #[test]
    fn lines_between_chunks_have_a_size() {
        let chunked = |rest: &str| {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
            decoded(Method::GET, &text, 1000)
        };
        let long = "x".repeat(MAX_LINE);
        assert_eq!(chunked(&format!("4;{long}\r\nhalf\r\n0\r\n\r\n")), Err(Unclear::Chunk));
        assert_eq!(
            chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(MAX_LINE / 6 + 1))),
            Err(Unclear::Chunk)
        );
        assert!(
            chunked(&format!("4;{}\r\nhalf\r\n0\r\n{}\r\n", &long[..8000], "X: 1\r\n".repeat(1000))).is_ok()
        );
    }

    #[test]
    fn the_end_is_known_as_soon_as_it_is_there() {
        let mut read = BytesMut::from("4\r\nhalf\r\n0\r\n\r\n");
        let mut decoder = Decoder(Rest::ChunkSize);
        assert_eq!(decoder.take(&mut read), Ok(Some(Bytes::from("half"))));
        assert!(decoder.is_done());
        let mut decoder = Decoder(Rest::ChunkSize);
        let mut read = BytesMut::from("4\r\nhalf\r\nX\r\n");
        assert_eq!(decoder.take(&mut read), Ok(Some(Bytes::from("half"))));
        assert_eq!(decoder.take(&mut read), Err(Unclear::Chunk), "and what is wrong after it");
    }
}
