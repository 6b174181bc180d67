//! [`RequestWriter`]: writes a request to a client.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::body::BodyError;
use crate::http::request::body::RequestBodyStream;

/// How much is gathered before it is written.
const WRITE_SIZE: usize = 8 * 1024;

/// The body of a request to a client.
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// Complete.
    Whole(Bytes),
    /// Streamed from the caller.
    Streaming(Box<RequestBodyStream>),
}

impl RequestBody {
    /// Its length in bytes, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(content) => Some(content.len() as u64),
            Self::Streaming(body) => body.size_hint().exact(),
        }
    }
}

/// Why a request can't be written.
pub(super) enum WriteError {
    /// The caller's side failed.
    Downstream(BodyError),
    /// The client's side failed.
    Client(io::Error),
}

/// A request that is being written.
pub(super) struct RequestWriter {
    /// What is written next: the head, and what was read of the body.
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    unread: UnreadBody,
    unsent: bool,
    /// Since when the client holds up the exchange; none while the caller does.
    client_pending_since: Option<Instant>,
}

enum UnreadBody {
    Nothing,
    Streaming { body: Box<RequestBodyStream>, chunked: bool },
}

impl RequestWriter {
    /// `head` declares the length of the body, or that it is chunked.
    pub(super) fn new(mut head: Vec<u8>, body: RequestBody, now: Instant) -> Self {
        let chunked = body.length().is_none();
        let unread = match body {
            RequestBody::Empty => UnreadBody::Nothing,
            RequestBody::Whole(content) => {
                head.extend_from_slice(&content);
                UnreadBody::Nothing
            }
            RequestBody::Streaming(body) => UnreadBody::Streaming { body, chunked },
        };
        Self { bytes: head, written: 0, unread, unsent: true, client_pending_since: Some(now) }
    }

    /// Whether not a byte was written yet.
    pub(super) fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// Whether everything is written.
    pub(super) fn is_written(&self) -> bool {
        self.bytes.is_empty() && matches!(self.unread, UnreadBody::Nothing)
    }

    /// Since when the client holds up the exchange; none while the caller does.
    pub(super) fn client_pending_since(&self) -> Option<Instant> {
        self.client_pending_since
    }

    /// Writes the bytes that have arrived; ready when the whole request is written. It holds back no bytes of a slow caller, and
    /// reads little ahead for a slow client.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        loop {
            let waits = self.gather(context).map_err(WriteError::Downstream)?;
            while self.written < self.bytes.len() {
                let left = &self.bytes[self.written..];
                match ready!(Pin::new(&mut *stream).poll_write(context, left)).map_err(WriteError::Client)? {
                    0 => return Poll::Ready(Err(WriteError::Client(io::ErrorKind::WriteZero.into()))),
                    size => self.written += size,
                }
                self.unsent = false;
            }
            self.bytes.clear();
            self.written = 0;
            // TLS may hold bytes back; TCP has nothing to flush.
            ready!(Pin::new(&mut *stream).poll_flush(context)).map_err(WriteError::Client)?;
            match self.unread {
                UnreadBody::Nothing => return Poll::Ready(Ok(())),
                // `gather` has polled the body, which will wake this task.
                UnreadBody::Streaming { .. } if waits => return Poll::Pending,
                UnreadBody::Streaming { .. } => {}
            }
        }
    }

    /// Reads from the caller; returns whether more has to arrive first.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<bool, BodyError> {
        while let UnreadBody::Streaming { body, chunked } = &mut self.unread
            && self.bytes.len() < WRITE_SIZE
        {
            let polled = Pin::new(&mut **body).poll_frame(context);
            self.client_pending_since = polled.is_ready().then(Instant::now);
            match polled {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => push(&mut self.bytes, &data, *chunked),
                    // An empty chunk would end the body. Trailers are not passed on, as the header that
                    // announces them is not.
                    _ => {}
                },
                Poll::Ready(None) => {
                    if *chunked {
                        self.bytes.extend_from_slice(b"0\r\n\r\n");
                    }
                    self.unread = UnreadBody::Nothing;
                }
            }
        }
        Ok(false)
    }
}

fn push(bytes: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked {
        // Writing to memory can't fail.
        let _ = write!(bytes, "{:x}\r\n", data.len());
    }
    bytes.extend_from_slice(data);
    if chunked {
        bytes.extend_from_slice(b"\r\n");
    }
}
