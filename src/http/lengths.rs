//! What the HTTP library does not tell: that the head of a request has two lengths. Where they are the same it makes one of
//! them, as RFC 9112, 6.3, allows. But between us and who sent it may be a reader that sees something else in it, so nothing
//! more is to be read from its connection. Here the lines that come in are looked at as they pass.

use std::io::{self, BufRead, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::interim::Interim;

/// How the line of a length begins. What has a blank before the colon is refused by the library.
const NAME: &[u8] = b"content-length:";

/// A connection whose incoming lines are looked at, and on which announcements go out between answers.
#[derive(Debug)]
pub(super) struct Watched<S> {
    io: S,
    lines: Lines,
    doubled: Arc<AtomicBool>,
    interim: Interim,
}

impl<S> Watched<S> {
    /// `doubled` becomes true when a head with two lengths has come in, and stays so. It may also do so for a body that
    /// looks like one, which harms nobody: after any answer a connection may be closed.
    pub(super) fn new(io: S, doubled: Arc<AtomicBool>, interim: Interim) -> Self {
        Self { io, lines: Lines::default(), doubled, interim }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }
}

/// The line that is coming in, and the lengths since the last empty one.
#[derive(Debug)]
struct Lines {
    /// How many bytes of it there are.
    size: usize,
    /// Whether they begin as [`NAME`] does.
    is_length: bool,
    is_empty: bool,
    lengths: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self { size: 0, is_length: true, is_empty: true, lengths: 0 }
    }
}

impl Lines {
    /// Takes what came next; whether a second length was in it.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let (mut left, mut doubled) = (bytes, false);
        while !left.is_empty() {
            let mut after = left;
            // What is in memory is read without an error, and at least one byte is there.
            let size = after.skip_until(b'\n').unwrap_or(left.len());
            self.take_part(&left[..size]);
            doubled |= self.lengths > 1;
            left = after;
        }
        doubled
    }

    /// Takes a line, or as much of one as there is.
    fn take_part(&mut self, part: &[u8]) {
        let (text, has_ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
        self.is_empty &= text.iter().all(|byte| *byte == b'\r');
        let name = NAME.get(self.size..).unwrap_or_default();
        let compared = name.len().min(text.len());
        self.is_length &= text[..compared].eq_ignore_ascii_case(&name[..compared]);
        self.size = self.size.saturating_add(text.len());
        if has_ended {
            let lengths = match self.is_empty {
                true => 0,
                false => self.lengths + usize::from(self.is_length && self.size >= NAME.len()),
            };
            *self = Self { lengths, ..Self::default() };
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        if this.lines.take(&buffer.filled()[before..]) {
            this.doubled.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.interim.poll_before_write(&mut this.io, context))?;
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.interim.poll_before_write(&mut this.io, context))?;
        Pin::new(&mut this.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.interim.poll_after_write(&mut this.io, context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<S: AsFd> AsFd for Watched<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether two lengths are seen in `text`, however it is cut into pieces.
    fn is_doubled(text: &str) -> bool {
        let whole = Lines::default().take(text.as_bytes());
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let pieces = text.as_bytes().chunks(size);
            assert_eq!(pieces.filter(|piece| lines.take(piece)).count() > 0, whole, "{size}: {text:?}");
        }
        whole
    }

    #[test]
    fn two_lengths_in_one_head_are_seen() {
        for (headers, doubled) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", true),
            ("content-length:1\nHost: x\nCONTENT-LENGTH:1\n", true),
            ("Content-Length: 1\r\nX: Content-Length: 1\r\n", false),
            ("Content-Length: 1\r\nContent-Length2: 1\r\nContent-Lengt: 1\r\nContent-Length\r\n", false),
            ("X-Content-Length: 1\r\n Content-Length: 1\r\n", false),
            ("", false),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            assert_eq!(is_doubled(&head), doubled, "{headers}");
            // Nothing before or after counts, not even where a body ends without the end of a line.
            let one = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
            assert_eq!(is_doubled(&format!("{one}{head}{one}{one}")), doubled, "{headers}");
        }
    }
}
