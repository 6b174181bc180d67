//! The body of an answer as it is read from a client, by whatever tells its end (RFC 9112, 6.3 and 7.1). Nothing here waits
//! or reads: what came stands in a buffer, and is taken out of that.

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};
use httparse::Status;

use super::headers::{End, Head};

/// The longest line before a chunk, and the most that may follow the last one, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Why what a client sends is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// A chunk is not framed as one.
    #[error("a chunk of the answer is malformed")]
    Chunk,
    /// It ended before its end.
    #[error("the answer is cut off")]
    Truncated,
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

    /// Of the answer to a request with this method; none where its end is unclear.
    pub fn of(head: &Head, method: &Method) -> Option<Self> {
        let status = head.parts.status;
        let without = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let nothing = *method == Method::HEAD || status.is_informational() || without;
        Some(Self(match head.end {
            End::Unclear => return None,
            _ if nothing => Rest::Nothing,
            End::Chunks => Rest::ChunkSize,
            End::Length(0) => Rest::Nothing,
            End::Length(length) => Rest::Length(length),
            End::Close => Rest::UntilClosed,
        }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    /// The body of `text` as it is read in pieces of `size`, and what was left.
    fn decoded(method: Method, text: &str, size: usize) -> Result<(String, String), Unclear> {
        let (mut read, mut decoder, mut body) = (BytesMut::new(), None::<Decoder>, Vec::new());
        for piece in text.as_bytes().chunks(size) {
            read.extend_from_slice(piece);
            if decoder.is_none() {
                let head = Head::take(&mut read, &mut HeaderMap::new()).unwrap();
                decoder = head.map(|head| Decoder::of(&head, &method).unwrap());
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
