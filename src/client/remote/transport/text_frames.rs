//! [`TextAsBinary`]: accepts WebSocket text frames that are not UTF-8.
//!
//! A program that cuts a nickname between two bytes sends text that is not UTF-8, for which the library ends
//! the connection (RFC 6455, 8.1). The next connection would bring the same nickname, and the account could
//! never log in. The library does not check binary frames, so each text frame is turned into one before the
//! library sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What ends the head of an HTTP message.
const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";

/// The opcodes of RFC 6455, 5.2.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A stream of WebSocket frames in which each text frame becomes a binary one when it is read.
pub(crate) struct TextAsBinary<S> {
    stream: S,
    at: Position,
}

/// The position of the next byte in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// In the head of the handshake's answer, after this many bytes of its end marker.
    Head(usize),
    /// The first byte of a frame.
    Opcode,
    /// The second byte of a frame.
    Length,
    /// In the extended length: bytes left, and the value so far.
    MoreLength { left: u8, length: u64, masked: bool },
    /// In mask and payload: bytes left.
    Payload(u64),
}

impl Position {
    /// The position after the length.
    fn payload(length: u64, masked: bool) -> Self {
        // A length near the largest must not wrap. The library refuses it afterwards.
        match length.saturating_add(if masked { 4 } else { 0 }) {
            0 => Self::Opcode,
            left => Self::Payload(left),
        }
    }

    /// Advances over `bytes`, and replaces opcodes.
    fn turn(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first_mut() {
            *self = match *self {
                Self::Payload(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(after.len() + 1);
                    rest = &mut after[here - 1..];
                    *self = match left - here as u64 {
                        0 => Self::Opcode,
                        left => Self::Payload(left),
                    };
                    continue;
                }
                Self::Head(seen) => match (*byte == END_OF_HEAD[seen], seen) {
                    (true, 3) => Self::Opcode,
                    (true, seen) => Self::Head(seen + 1),
                    (false, _) => Self::Head(usize::from(*byte == END_OF_HEAD[0])),
                },
                Self::Opcode => {
                    // Continuation frames (opcode 0) stay: the first frame of a message decides its type. FIN and reserved bits
                    // are kept.
                    if *byte & 0x0f == TEXT {
                        *byte = (*byte & 0xf0) | BINARY;
                    }
                    Self::Length
                }
                Self::Length => {
                    let masked = *byte & 0x80 != 0;
                    match *byte & 0x7f {
                        126 => Self::MoreLength { left: 2, length: 0, masked },
                        127 => Self::MoreLength { left: 8, length: 0, masked },
                        length => Self::payload(length.into(), masked),
                    }
                }
                Self::MoreLength { left, length, masked } => {
                    let length = length << 8 | u64::from(*byte);
                    match left {
                        0 | 1 => Self::payload(length, masked),
                        left => Self::MoreLength { left: left - 1, length, masked },
                    }
                }
            };
            rest = after;
        }
    }
}

impl<S> TextAsBinary<S> {
    /// A stream that starts with a frame.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, at: Position::Opcode }
    }

    /// A stream that starts with the answer to our handshake.
    pub(crate) fn after_handshake(stream: S) -> Self {
        Self { stream, at: Position::Head(0) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TextAsBinary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // `buf` may have bytes from before this read.
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.at.turn(&mut buf.filled_mut()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TextAsBinary<S> {
    // Unchanged: our own text is UTF-8.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this first byte.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0x81; length + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn text_frames_become_binary() {
        let firsts = [0x81, 0x01, 0x00, 0x80, 0x82, 0x89, 0x8a, 0x88];
        let turned = |first: u8| if first & 0x0f == TEXT { first & 0xf0 | BINARY } else { first };
        for masked in [false, true] {
            let (mut came, mut expected) = (b"HTTP/1.1 101 x\r\n\r\r\n\r\n".to_vec(), Vec::new());
            expected.extend(&came);
            for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
                for first in firsts {
                    came.extend(frame(first, length, masked));
                    expected.extend(frame(turned(first), length, masked));
                }
            }
            for piece in [1, 7, 4096, usize::MAX] {
                let mut read = came.clone();
                let mut at = Position::Head(0);
                for piece in read.chunks_mut(piece.min(came.len())) {
                    at.turn(piece);
                }
                assert!(read == expected && at == Position::Opcode, "{piece}");
            }
        }
    }
}
