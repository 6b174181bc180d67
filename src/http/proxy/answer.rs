//! Bodies of answers on their way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::Inactive;
use super::link::Link;
use super::upstream::Place;
use crate::http::answer::{Body, BodyError};

/// Where an answer comes from.
pub(super) struct Source {
    /// Drives the body as well.
    pub(super) link: Box<Link>,
    /// Free when the body is through.
    pub(super) place: Place,
    /// Whether the connection may carry another request.
    pub(super) reusable: bool,
    /// For how long the client promises to keep it open, if it does.
    pub(super) kept_open: Option<Duration>,
}

impl Source {
    fn release(self) {
        if self.reusable {
            self.place.give_back(self.link, self.kept_open);
        }
    }
}

/// The body of an answer. What is here as a whole is given as a whole, and its connection is free at once; else it
/// comes as it is read, and breaks off when nothing comes for `limit`.
pub(super) fn body(mut incoming: Incoming, source: Source, limit: Duration) -> Body {
    if incoming.is_end_stream() {
        source.release();
        return Body::Whole(None);
    }
    let mut nobody = Context::from_waker(Waker::noop());
    let first = match Pin::new(&mut incoming).poll_frame(&mut nobody) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        Poll::Ready(Some(Err(error))) => {
            return Body::stream(Streaming {
                incoming,
                first: None,
                broken: Some(error),
                source: None,
                limit,
                since: None,
            });
        }
        Poll::Ready(None) | Poll::Pending => None,
    };
    if first.is_some() && incoming.is_end_stream() {
        source.release();
        return Body::Whole(first);
    }
    Body::stream(Streaming { incoming, first, broken: None, source: Some(source), limit, since: None })
}

struct Streaming {
    incoming: Incoming,
    /// What was there when the head was.
    first: Option<Bytes>,
    /// It broke off right after the head.
    broken: Option<hyper::Error>,
    /// None when it is over.
    source: Option<Source>,
    limit: Duration,
    /// Since when something is waited for. A caller that takes its time is no reason to call the client slow.
    since: Option<Instant>,
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        // What was read already comes first; only then more is read.
        let mut polled = Pin::new(&mut this.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            let incoming = &mut this.incoming;
            polled = source.link.drive_for(context, |context| Pin::new(&mut *incoming).poll_frame(context));
        }
        if polled.is_pending() {
            let since = *this.since.get_or_insert_with(Instant::now);
            ready!(source.link.alarm.poll(since + this.limit, context));
            this.source = None;
            return Poll::Ready(Some(Err(Inactive(this.limit).into())));
        }
        this.since = None;
        match ready!(polled) {
            Some(Ok(frame)) if frame.is_data() => {
                // Nobody asks again after the last one.
                if this.incoming.is_end_stream()
                    && let Some(source) = this.source.take()
                {
                    source.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers were announced in a header that is not passed on.
            Some(Ok(_)) | None => {
                if let Some(source) = this.source.take() {
                    source.release();
                }
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.source = None;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.broken.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        if let (Some(first), Some(rest)) = (&self.first, hint.exact()) {
            hint = SizeHint::with_exact(rest + first.len() as u64);
        }
        hint
    }
}
