//! A request as it is written to a client.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::body::Arriving;
use crate::http::answer::BodyError;

/// So much is written at once where there is more of it.
const ENOUGH: usize = 8 * 1024;

/// The body of a request to a client.
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// As it comes from the caller.
    Arriving(Box<Arriving>),
}

impl RequestBody {
    /// Its length in bytes, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(content) => Some(content.len() as u64),
            Self::Arriving(body) => body.size_hint().exact(),
        }
    }
}

/// Why a request could not be written.
pub(super) enum Broken {
    /// The caller broke off.
    Caller(BodyError),
    /// The client takes no more.
    Client(io::Error),
}

/// A request on its way.
pub(super) struct Outgoing {
    /// What is to be written next: the head, and what has come of the body since.
    bytes: Vec<u8>,
    /// How much of it was written.
    written: usize,
    rest: Rest,
    untouched: bool,
    /// Since when it has been the client's turn to do something about it; none while it is the caller's.
    turn: Option<Instant>,
}

enum Rest {
    Nothing,
    Arriving { body: Box<Arriving>, chunked: bool },
}

impl Outgoing {
    /// `head` says the length of the body where that is known, else that it is chunked.
    pub(super) fn new(mut head: Vec<u8>, body: RequestBody, now: Instant) -> Self {
        let chunked = body.length().is_none();
        let rest = match body {
            RequestBody::Empty => Rest::Nothing,
            RequestBody::Whole(content) => {
                head.extend_from_slice(&content);
                Rest::Nothing
            }
            RequestBody::Arriving(body) => Rest::Arriving { body, chunked },
        };
        Self { bytes: head, written: 0, rest, untouched: true, turn: Some(now) }
    }

    /// Whether not a single byte was written, so that it is as if nothing had happened.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Whether all of it was written.
    pub(super) fn is_written(&self) -> bool {
        self.bytes.is_empty() && matches!(self.rest, Rest::Nothing)
    }

    /// Since when it has been the client's turn to do something about it; none while it is the caller's.
    pub(super) fn turn(&self) -> Option<Instant> {
        self.turn
    }

    /// Writes what can be; ready when all is written. Where the caller sends slowly nothing is held back, and where the
    /// client reads slowly hardly anything is taken from the caller.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let waits = self.gather(context).map_err(Broken::Caller)?;
            while self.written < self.bytes.len() {
                let left = &self.bytes[self.written..];
                match ready!(Pin::new(&mut *stream).poll_write(context, left)).map_err(Broken::Client)? {
                    0 => return Poll::Ready(Err(Broken::Client(io::ErrorKind::WriteZero.into()))),
                    size => self.written += size,
                }
                self.untouched = false;
            }
            self.bytes.clear();
            self.written = 0;
            match self.rest {
                Rest::Nothing => return Poll::Ready(Ok(())),
                Rest::Arriving { .. } if waits => return Poll::Pending,
                Rest::Arriving { .. } => {}
            }
        }
    }

    /// Takes what has come from the caller; whether more has to come first.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<bool, BodyError> {
        while let Rest::Arriving { body, chunked } = &mut self.rest
            && self.bytes.len() < ENOUGH
        {
            let polled = Pin::new(&mut **body).poll_frame(context);
            self.turn = polled.is_ready().then(Instant::now);
            match polled {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => push(&mut self.bytes, &data, *chunked),
                    // An empty chunk would be the end. Trailers were announced in a header that is not passed on.
                    _ => {}
                },
                Poll::Ready(None) => {
                    if *chunked {
                        self.bytes.extend_from_slice(b"0\r\n\r\n");
                    }
                    self.rest = Rest::Nothing;
                }
            }
        }
        Ok(false)
    }
}

fn push(bytes: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked {
        // Into memory, which never fails.
        let _ = write!(bytes, "{:x}\r\n", data.len());
    }
    bytes.extend_from_slice(data);
    if chunked {
        bytes.extend_from_slice(b"\r\n");
    }
}
