//! [`BodyDecoder`]: the body of a client's response, by its framing (RFC 9112, 6.3 and 7.1). Pure: it takes
//! bytes out of a buffer, and never waits or reads.

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};
use httparse::Status;

use super::headers::{BodyEnd, ResponseHead};

/// The longest line before a chunk, and the most trailers, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A chunk is malformed.
    #[error("a chunk of the answer is malformed")]
    Chunk,
    /// The connection was closed before the end of the body.
    #[error("the answer is cut off")]
    Truncated,
}

/// What remains of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDecoder(BodyState);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    Nothing,
    /// This many bytes.
    Length(u64),
    /// Everything until the connection is closed.
    UntilClosed,
    /// The line before a chunk.
    ChunkSize,
    /// The rest of a chunk, this many bytes.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// In the trailers; the number of bytes read so far.
    Trailers(usize),
}

impl BodyDecoder {
    /// No response is expected.
    pub fn idle() -> Self {
        Self(BodyState::Nothing)
    }

    /// For the response to a request with this method; none if its end is ambiguous.
    pub fn of(head: &ResponseHead, method: &Method) -> Option<Self> {
        let status = head.parts.status;
        let without = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // These have no body, whatever their head says (RFC 9112, 6.3).
        let nothing = *method == Method::HEAD || status.is_informational() || without;
        Some(Self(match head.end {
            BodyEnd::Ambiguous => return None,
            _ if nothing => BodyState::Nothing,
            BodyEnd::Chunks => BodyState::ChunkSize,
            BodyEnd::Length(0) => BodyState::Nothing,
            BodyEnd::Length(length) => BodyState::Length(length),
            BodyEnd::Close => BodyState::UntilClosed,
        }))
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.0 == BodyState::Nothing
    }

    /// How many bytes remain, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            BodyState::Nothing => Some(0),
            BodyState::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Takes the next piece of the body out of `read`; none if the body is complete, or more has to be read
    /// first.
    pub fn take(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
        self.skip_framing(read)?;
        let left = match self.0 {
            BodyState::Length(left) | BodyState::Chunk(left) => left,
            BodyState::UntilClosed => u64::MAX,
            _ => return Ok(None),
        };
        if read.is_empty() {
            return Ok(None);
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
        let piece = read.split_to(size).freeze();
        let left = left - size as u64;
        self.0 = match self.0 {
            BodyState::Length(_) if left > 0 => BodyState::Length(left),
            BodyState::Length(_) => BodyState::Nothing,
            BodyState::Chunk(_) if left > 0 => BodyState::Chunk(left),
            BodyState::Chunk(_) => BodyState::ChunkEnd,
            rest => rest,
        };
        // Notices the end of the body at once. An error is returned by the next call.
        let _ = self.skip_framing(read);
        Ok(Some(piece))
    }

    /// The connection was closed.
    pub fn close(&mut self) -> Result<(), FramingError> {
        match self.0 {
            BodyState::Nothing | BodyState::UntilClosed => {
                self.0 = BodyState::Nothing;
                Ok(())
            }
            _ => Err(FramingError::Truncated),
        }
    }

    /// Skips line ends, chunk sizes and trailers, as far as they are there.
    fn skip_framing(&mut self, read: &mut BytesMut) -> Result<(), FramingError> {
        loop {
            let after = match self.0 {
                BodyState::ChunkEnd => |line: &[u8], _| (line == b"\r\n").then_some(BodyState::ChunkSize),
                BodyState::ChunkSize => |line: &[u8], _| match chunk_size(line)? {
                    0 => Some(BodyState::Trailers(0)),
                    size => Some(BodyState::Chunk(size)),
                },
                BodyState::Trailers(_) => |line: &[u8], seen| match line {
                    b"\r\n" => Some(BodyState::Nothing),
                    _ => (seen < MAX_LINE).then_some(BodyState::Trailers(seen)),
                },
                _ => return Ok(()),
            };
            let Some(end) = read.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
                return if read.len() < MAX_LINE { Ok(()) } else { Err(FramingError::Chunk) };
            };
            let line = &read[..=end];
            let before = if let BodyState::Trailers(seen) = self.0 { seen } else { 0 };
            // Another reader may take a bare carriage return for the end of a line (RFC 9112, 2.2).
            let is_line = line.ends_with(b"\r\n") && !line[..end - 1].contains(&b'\r');
            let rest = if is_line { after(line, before + line.len()) } else { None };
            self.0 = rest.ok_or(FramingError::Chunk)?;
            read.advance(end + 1);
        }
    }
}

/// The size in the line before a chunk.
fn chunk_size(line: &[u8]) -> Option<u64> {
    // The parser takes an empty number for zero.
    let Ok(Status::Complete((_, size))) = httparse::parse_chunk_size(line) else { return None };
    // A complete line has at least one byte.
    line[0].is_ascii_hexdigit().then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    /// The body of `text`, read in pieces of `size`, and the bytes after it.
    fn decoded(method: Method, text: &str, size: usize) -> Result<(String, String), FramingError> {
        let (mut read, mut decoder, mut body) = (BytesMut::new(), None::<BodyDecoder>, Vec::new());
        for piece in text.as_bytes().chunks(size) {
            read.extend_from_slice(piece);
            if decoder.is_none() {
                let head = ResponseHead::take(&mut read, &mut HeaderMap::new()).unwrap();
                decoder = head.map(|head| BodyDecoder::of(&head, &method).unwrap());
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
    fn body_ends_by_its_framing() {
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
    fn malformed_framing_is_an_error() {
        for (framing, why) in [
            ("Content-Length: 5\r\n\r\nhalf", FramingError::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", FramingError::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", FramingError::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhal", FramingError::Truncated),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalfX\r\n0\r\n\r\n", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4\nhalf\n0\n\n", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\n0\r\n\r\n", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n\r\nhalf", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n;\r\nhalf", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n-1\r\nhalf", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n0x4\r\nhalf", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n4;a\rb\r\nhalf\r\n0\r\n\r\n", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhalf", FramingError::Chunk),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n", FramingError::Chunk),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{framing}");
            for size in 1..text.len() {
                assert_eq!(decoded(Method::GET, &text, size), Err(why), "{size}: {text:?}");
            }
        }
    }

    #[test]
    fn chunk_lines_and_trailers_are_bounded() {
        let chunked = |rest: &str| {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
            decoded(Method::GET, &text, 1000)
        };
        let long = "x".repeat(MAX_LINE);
        assert_eq!(chunked(&format!("4;{long}\r\nhalf\r\n0\r\n\r\n")), Err(FramingError::Chunk));
        assert_eq!(
            chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(MAX_LINE / 6 + 1))),
            Err(FramingError::Chunk)
        );
        assert!(
            chunked(&format!("4;{}\r\nhalf\r\n0\r\n{}\r\n", &long[..8000], "X: 1\r\n".repeat(1000))).is_ok()
        );
    }

    #[test]
    fn end_of_body_is_noticed_at_once() {
        let mut read = BytesMut::from("4\r\nhalf\r\n0\r\n\r\n");
        let mut decoder = BodyDecoder(BodyState::ChunkSize);
        assert_eq!(decoder.take(&mut read), Ok(Some(Bytes::from("half"))));
        assert!(decoder.is_done());
        let mut decoder = BodyDecoder(BodyState::ChunkSize);
        let mut read = BytesMut::from("4\r\nhalf\r\nX\r\n");
        assert_eq!(decoder.take(&mut read), Ok(Some(Bytes::from("half"))));
        assert_eq!(decoder.take(&mut read), Err(FramingError::Chunk), "and what is wrong after it");
    }
}
