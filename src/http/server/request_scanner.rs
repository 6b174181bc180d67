//! [`RequestScanner`]: where requests begin and end in the bytes of a connection, as hyper sees it.
//!
//! hyper refuses some bytes in a target before any service sees the request, and responds without a body.
//! Programs of 2016 send such bytes: quotes, angle brackets, Chinese in GBK. They are percent-encoded before
//! hyper reads them, and for that the request line has to be found.
//!
//! Requests are smuggled where two parsers disagree about the end of a request. So the scanner has no opinion of
//! its own: after each head hyper tells what follows it ([`NextBytes`]). Only chunked bodies are followed, by
//! rules stricter than hyper's. In any doubt the rest of the connection passes unchanged, and hyper alone
//! decides.

use std::io::BufRead;

use super::chunk_scanner::ChunkScanner;

/// The longest target that hyper accepts, in bytes.
const MAX_TARGET: usize = 65_534;

/// The most headers that hyper accepts.
const MAX_HEADERS: usize = 100;

/// How a Content-Length line begins. hyper refuses a blank before the colon.
const LENGTH: &[u8] = b"content-length:";

/// The method of the HTTP/2 preface (RFC 9113, 3.4), which is no request.
const PREFACE: &[u8] = b"PRI";

/// What follows the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBytes {
    /// A body of this many bytes, then the next request.
    Content(u64),
    /// A chunked body, then the next request.
    Chunks,
    /// Bytes that can't be followed, such as those of another protocol.
    Unknown,
}

/// What is too large in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    /// The target.
    #[error("the target of a request is too long")]
    Target,
    /// The headers, by size or number.
    #[error("the headers of a request are too large")]
    Headers,
}

/// Why scanning stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanStop {
    /// All bytes are scanned; they are passed on unchanged.
    End,
    /// The next byte is scanned too; it is passed on percent-encoded.
    Encode,
    /// A head ends here. Nothing more is scanned until [`RequestScanner::follow`] is called.
    Head,
    /// The head exceeds the limit.
    TooLarge(TooLarge),
}

/// The scanner; see the module.
#[derive(Debug)]
pub(super) struct RequestScanner {
    at: ScanState,
    /// The most bytes of a head.
    limit: usize,
    /// The size of the head so far, including empty lines before it, after encoding.
    size: usize,
    /// How much of that is the target.
    target: usize,
    /// The number of headers, and of Content-Length headers among them.
    headers: usize,
    lengths: usize,
    has_two_lengths: bool,
}

#[derive(Debug)]
enum ScanState {
    /// Before a request line, where empty lines are allowed (RFC 9112, 2.2).
    Start,
    /// In the method, with its size so far, and whether it matches [`PREFACE`].
    Method {
        size: usize,
        is_preface: bool,
    },
    Target,
    Version,
    /// In a header line, with its size so far, whether it begins as [`LENGTH`] does, and whether it is empty.
    Header {
        size: usize,
        is_length: bool,
        is_empty: bool,
    },
    /// After a head.
    Head,
    Content(u64),
    Chunks(ChunkScanner),
    /// No longer followed: the rest passes unchanged.
    Unknown,
}

const HEADER: ScanState = ScanState::Header { size: 0, is_length: true, is_empty: true };

impl RequestScanner {
    /// Scans a new connection whose heads may have `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let at = ScanState::Start;
        Self { at, limit, size: 0, target: 0, headers: 0, lengths: 0, has_two_lengths: false }
    }

    /// Whether a head has ended and `follow` was not called yet.
    pub(super) fn is_after_head(&self) -> bool {
        matches!(self.at, ScanState::Head)
    }

    /// Whether the rest of the connection passes unchanged.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.at, ScanState::Unknown)
    }

    /// Whether a head had two Content-Length headers. hyper accepts two equal ones (RFC 9112, 6.3); another
    /// reader on the way may do otherwise.
    pub(super) fn has_two_lengths(&self) -> bool {
        self.has_two_lengths
    }

    /// Tells what follows the head.
    pub(super) fn follow(&mut self, follows: NextBytes) {
        // `has_two_lengths` stays: after such a head the connection ends with the response.
        (self.size, self.target, self.headers, self.lengths) = (0, 0, 0, 0);
        self.at = match follows {
            NextBytes::Content(0) => ScanState::Start,
            NextBytes::Content(size) => ScanState::Content(size),
            NextBytes::Chunks => ScanState::Chunks(ChunkScanner::default()),
            NextBytes::Unknown => ScanState::Unknown,
        };
    }

    /// Scans the next bytes. Returns how many are passed on unchanged, and what follows them.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, ScanStop) {
        let mut scanned = 0;
        while scanned < bytes.len() {
            let rest = &bytes[scanned..];
            let (size, stop) = match &mut self.at {
                ScanState::Unknown => (rest.len(), ScanStop::End),
                ScanState::Content(left) => {
                    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= size as u64;
                    if *left == 0 {
                        self.at = ScanState::Start;
                    }
                    (size, ScanStop::End)
                }
                ScanState::Chunks(chunks) => {
                    let (size, end) = chunks.scan(rest);
                    match end {
                        Some(true) => self.at = ScanState::Start,
                        Some(false) => self.at = ScanState::Unknown,
                        None => {}
                    }
                    (size, ScanStop::End)
                }
                _ => self.scan_head(rest),
            };
            scanned += size;
            if stop != ScanStop::End {
                return (scanned, stop);
            }
        }
        (scanned, ScanStop::End)
    }

    /// Scans within a head, up to its limit.
    fn scan_head(&mut self, bytes: &[u8]) -> (usize, ScanStop) {
        if self.is_after_head() {
            return (0, ScanStop::Head);
        }
        // Never below zero, as no more than `room` bytes are scanned at a time.
        let room = self.limit - self.size;
        if room == 0 {
            return (0, ScanStop::TooLarge(self.too_large()));
        }
        let (size, mut stop) = self.scan_part(&bytes[..room.min(bytes.len())]);
        self.size += size;
        if stop == ScanStop::Encode {
            match self.size + 3 <= self.limit && self.target + 3 <= MAX_TARGET {
                true => (self.size, self.target) = (self.size + 3, self.target + 3),
                false => stop = ScanStop::TooLarge(TooLarge::Target),
            }
        }
        (size, stop)
    }

    /// Scans one part of a head, as far as it is there.
    fn scan_part(&mut self, bytes: &[u8]) -> (usize, ScanStop) {
        match &mut self.at {
            ScanState::Start => {
                let size = position(bytes, |byte| !matches!(byte, b'\r' | b'\n'));
                if size < bytes.len() {
                    self.at = ScanState::Method { size: 0, is_preface: true };
                }
                (size, ScanStop::End)
            }
            ScanState::Method { size, is_preface } => {
                let length = position(bytes, |byte| matches!(byte, b' ' | b'\n'));
                // Piece by piece, as the method may come in several reads.
                let expected = PREFACE.get(*size..*size + length);
                *is_preface &= expected.is_some_and(|expected| *expected == bytes[..length]);
                *size += length;
                match bytes.get(length) {
                    None => (length, ScanStop::End),
                    Some(b' ') if !(*is_preface && *size == PREFACE.len()) => {
                        self.at = ScanState::Target;
                        (length + 1, ScanStop::End)
                    }
                    // hyper refuses both.
                    Some(_) => self.unknown(length),
                }
            }
            ScanState::Target => {
                let length = position(bytes, |byte| class(byte) != ByteClass::Plain);
                let room = MAX_TARGET - self.target;
                if length > room {
                    return (room, ScanStop::TooLarge(TooLarge::Target));
                }
                self.target += length;
                match bytes.get(length).copied() {
                    None => (length, ScanStop::End),
                    Some(b' ') => {
                        self.at = ScanState::Version;
                        (length + 1, ScanStop::End)
                    }
                    Some(byte) if class(byte) == ByteClass::Encoded => (length, ScanStop::Encode),
                    // hyper refuses it.
                    Some(_) => self.unknown(length),
                }
            }
            ScanState::Version => {
                let length = line(bytes);
                if bytes[..length].ends_with(b"\n") {
                    self.at = HEADER;
                }
                (length, ScanStop::End)
            }
            ScanState::Header { size, is_length, is_empty } => {
                // `bytes[0]` is there: `scan` stops at the end of the bytes, and `scan_head` where there is no room.
                if self.headers == MAX_HEADERS && *size == 0 && !matches!(bytes[0], b'\r' | b'\n') {
                    return (0, ScanStop::TooLarge(TooLarge::Headers));
                }
                let length = line(bytes);
                let part = &bytes[..length];
                let (text, has_ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
                // hyper ends a head only at an empty line, and refuses a carriage return anywhere else.
                *is_empty &= text.is_empty() || (*size == 0 && text == b"\r");
                let name = LENGTH.get(*size..).unwrap_or_default();
                let compared = name.len().min(text.len());
                *is_length &= text[..compared].eq_ignore_ascii_case(&name[..compared]);
                *size += text.len();
                if !has_ended {
                    return (length, ScanStop::End);
                }
                if *is_empty {
                    self.at = ScanState::Head;
                    return (length, ScanStop::Head);
                }
                self.headers += 1;
                // A line that is shorter than the name matches as far as it goes, and is none.
                self.lengths += usize::from(*is_length && *size >= LENGTH.len());
                self.has_two_lengths |= self.lengths > 1;
                self.at = HEADER;
                (length, ScanStop::End)
            }
            ScanState::Head | ScanState::Content(_) | ScanState::Chunks(_) | ScanState::Unknown => {
                (bytes.len(), ScanStop::End)
            }
        }
    }

    fn unknown(&mut self, size: usize) -> (usize, ScanStop) {
        self.at = ScanState::Unknown;
        (size, ScanStop::End)
    }

    /// Which part makes the head too large.
    fn too_large(&self) -> TooLarge {
        // Where both are there, the larger part is to blame.
        let is_target = matches!(self.at, ScanState::Target) || self.target > self.limit / 2;
        if is_target { TooLarge::Target } else { TooLarge::Headers }
    }
}

/// How a byte of a target is passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    /// Unchanged.
    Plain,
    /// Percent-encoded.
    Encoded,
    /// Unchanged, for hyper to refuse: it ends a target, a line or a C string.
    Refused,
}

/// Looked up for every byte of every target.
const CLASSES: [ByteClass; 256] = {
    let mut classes = [ByteClass::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0 | b'\t'..=b'\r' | b' ' => ByteClass::Refused,
            1..=0x1f | b'"' | b'<' | b'>' | b'`' | 0x7f.. => ByteClass::Encoded,
            _ => ByteClass::Plain,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> ByteClass {
    CLASSES[usize::from(byte)]
}

/// A byte, percent-encoded.
pub(super) fn encoded(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The number of bytes before the first that `matches`.
fn position(bytes: &[u8], matches: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| matches(*byte)).unwrap_or(bytes.len())
}

/// The size of the line at the start of `bytes`, as far as it is there.
fn line(bytes: &[u8]) -> usize {
    let mut after = bytes;
    // Reading from memory can't fail.
    after.skip_until(b'\n').unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests;
