//! [`RequestReader`]: the adapter directly below hyper. It percent-encodes targets that hyper would refuse, ends
//! the connection before a head that is too large (hyper would respond without a body), and writes 1xx responses
//! between hyper's.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use http::header::UPGRADE;
use http::{Method, Request};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::informational::InformationalQueue;
use super::request_scanner::{NextBytes, RequestScanner, ScanStop, TooLarge, encoded};

/// Shared by the service that gets the requests of a connection and its reader. Both run in one task.
#[derive(Debug)]
pub struct HeadTracker {
    /// What follows the last head: a length, or one of the three constants below.
    follows: AtomicU64,
    is_doubtful: AtomicBool,
}

const UNSAID: u64 = u64::MAX;
const CHUNKS: u64 = u64::MAX - 1;
const UNKNOWN: u64 = u64::MAX - 2;

impl Default for HeadTracker {
    fn default() -> Self {
        Self { follows: AtomicU64::new(UNSAID), is_doubtful: AtomicBool::default() }
    }
}

impl HeadTracker {
    /// Records a request as hyper parsed it, before anything after its head is read.
    pub fn note<B: Body>(&self, request: &Request<B>) {
        // What follows these may be another protocol, in which nothing must be encoded.
        let is_last = request.headers().contains_key(UPGRADE) || *request.method() == Method::CONNECT;
        let follows = match request.body().size_hint().exact() {
            _ if is_last => UNKNOWN,
            // No body is as long as the constants.
            Some(size) => size.min(UNKNOWN),
            None => CHUNKS,
        };
        self.follows.store(follows, Ordering::Relaxed);
    }

    /// Whether another reader may see a request end elsewhere. Its response then has to be the last one.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<NextBytes> {
        let follows = self.follows.load(Ordering::Relaxed);
        if follows == UNSAID {
            return None;
        }
        self.follows.store(UNSAID, Ordering::Relaxed);
        Some(match follows {
            CHUNKS => NextBytes::Chunks,
            UNKNOWN => NextBytes::Unknown,
            size => NextBytes::Content(size),
        })
    }
}

/// The adapter; see the module.
#[derive(Debug)]
pub struct RequestReader<S> {
    io: S,
    scanner: RequestScanner,
    heads: Arc<HeadTracker>,
    informational: InformationalQueue,
    /// Bytes that were read and are not scanned yet, and how many of them were taken since.
    held: Vec<u8>,
    taken: usize,
    /// The rest of a percent-encoded byte, last character first.
    escape: Vec<u8>,
    /// Why reading has stopped.
    too_large: Option<TooLarge>,
    /// The task to wake when all responses are flushed, before the connection ends because of `too_large`.
    parked: Option<Waker>,
}

impl<S> RequestReader<S> {
    /// `limit` is the most bytes of a head after encoding.
    pub fn new(io: S, limit: usize, heads: Arc<HeadTracker>) -> Self {
        let (scanner, informational) = (RequestScanner::new(limit), InformationalQueue::default());
        let (held, escape) = (Vec::new(), Vec::new());
        Self { io, scanner, heads, informational, held, taken: 0, escape, too_large: None, parked: None }
    }

    /// With 1xx responses.
    pub(super) fn with_informational(self, informational: InformationalQueue) -> Self {
        Self { informational, ..self }
    }

    /// The connection, and what was too large in the last head.
    pub(super) fn into_parts(self) -> (S, Option<TooLarge>) {
        (self.io, self.too_large)
    }

    /// Compares what hyper made of the bytes so far with what the scanner made of them.
    fn compare(&mut self) {
        match (self.scanner.is_after_head(), self.heads.take()) {
            (true, Some(follows)) => self.scanner.follow(follows),
            (false, None) => {}
            // hyper saw the head end elsewhere, or wants to read more of it.
            _ => self.scanner.follow(NextBytes::Unknown),
        }
    }

    /// Tells the service what was seen of the requests it gets next.
    fn tell(&self) {
        if self.scanner.has_two_lengths() || self.scanner.is_unknown() {
            self.heads.is_doubtful.store(true, Ordering::Relaxed);
        }
    }

    fn stop(&mut self, stop: ScanStop) {
        match stop {
            ScanStop::End | ScanStop::Head => {}
            ScanStop::Encode => {
                self.escape.extend(encoded(self.held[self.taken]).into_iter().rev());
                self.taken += 1;
            }
            ScanStop::TooLarge(too_large) => self.too_large = Some(too_large),
        }
    }

    /// Passes held bytes to hyper, up to the end of a head.
    fn pass_on(&mut self, buffer: &mut ReadBuf<'_>) {
        while buffer.remaining() > 0 {
            if let Some(character) = self.escape.pop() {
                buffer.put_slice(&[character]);
                continue;
            }
            let held = &self.held[self.taken..];
            // What follows a head is known only once hyper has parsed it, so hyper gets the head first.
            if held.is_empty() || self.too_large.is_some() || self.scanner.is_after_head() {
                break;
            }
            let part = &held[..held.len().min(buffer.remaining())];
            let (size, stop) = self.scanner.scan(part);
            buffer.put_slice(&part[..size]);
            self.taken += size;
            self.stop(stop);
        }
        if self.taken == self.held.len() {
            // An idle connection holds no memory.
            (self.held, self.taken) = (Vec::new(), 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestReader<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper reads again only when it has parsed what it got, so the service has noted the last head by now.
        this.compare();
        let before = buffer.filled().len();
        if this.held.is_empty() && this.escape.is_empty() && this.too_large.is_none() {
            ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
            let read = &buffer.filled()[before..];
            let (size, stop) = this.scanner.scan(read);
            if size == read.len() {
                // Nearly always: a head or a part of a body, with nothing to encode.
                this.tell();
                return Poll::Ready(Ok(()));
            }
            this.held.extend_from_slice(&read[size..]);
            // hyper must not see these bytes before they are scanned.
            buffer.set_filled(before + size);
            this.stop(stop);
        }
        this.pass_on(buffer);
        this.tell();
        match this.too_large {
            Some(too_large) if buffer.filled().len() == before => {
                // Earlier responses have to be flushed first, or the last one would land in the middle of them.
                if this.informational.is_behind() {
                    this.parked = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Err(io::Error::other(too_large)))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestReader<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.informational.poll_before_write(&mut this.io, context))?;
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.informational.poll_before_write(&mut this.io, context))?;
        Pin::new(&mut this.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.informational.poll_after_write(&mut this.io, context))?;
        if let Some(parked) = this.parked.take() {
            parked.wake();
        }
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<S: AsFd> AsFd for RequestReader<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}
