//! The body of a caller's request as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::http::alarm::Alarm;
use crate::http::answer::BodyError;
use crate::http::caller::Caller;

/// Nothing came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} seconds", .0.as_secs())]
pub(super) struct Inactive(pub(super) Duration);

/// A caller's body; it breaks off when nothing comes for a while.
pub(super) struct Arriving {
    body: Incoming,
    caller: Arc<Caller>,
    /// Whether trailers came, by which the library may have taken more for the body than others do: it sees them wherever
    /// a line feed stands alone after the last chunk, and then what follows is one of them.
    has_trailers: bool,
    limit: Duration,
    alarm: Alarm,
    /// Since when something is waited for. A client that takes its time is no reason to call the caller slow.
    waiting: Option<Instant>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, caller: Arc<Caller>, limit: Duration) -> Self {
        let alarm = Alarm::new(Instant::now() + limit);
        Self { body, caller, has_trailers: false, limit, alarm, waiting: None }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = None;
            match &frame {
                Some(Ok(frame)) => this.has_trailers |= frame.is_trailers(),
                None if !this.has_trailers => this.caller.saw_end(),
                _ => {}
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let since = *this.waiting.get_or_insert_with(Instant::now);
        ready!(this.alarm.poll(since + this.limit, context));
        Poll::Ready(Some(Err(Inactive(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
