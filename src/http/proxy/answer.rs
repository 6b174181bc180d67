//! Bodies of answers on their way to the caller.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::body::Inactive;
use super::link::Link;
use super::upstream::Place;
use crate::http::answer::{Body, BodyError};
use crate::http::caller::Caller;
use crate::model::reply::Reply;

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
/// comes as it is read, and breaks off when nothing comes for `limit`. An error is one of what came with the head.
pub(super) fn body(mut source: Source, caller: &Arc<Caller>, limit: Duration) -> Result<Body, Reply> {
    let first = source.link.take().map_err(|error| source.place.unreachable(&error.to_string()))?;
    if source.link.is_done() {
        source.release();
        return Ok(Body::Whole(first));
    }
    let caller = caller.clone();
    Ok(Body::stream(Streaming { first, source: Some(source), caller, broken: None, limit, since: None }))
}

struct Streaming {
    /// What was there when the head was.
    first: Option<Bytes>,
    /// None when it is over.
    source: Option<Source>,
    caller: Arc<Caller>,
    /// Why it broke off, which the HTTP library is not told before it has written what came until then: it drops that.
    broken: Option<BodyError>,
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
        if this.broken.is_some() {
            ready!(this.caller.poll_written(context));
            return Poll::Ready(this.broken.take().map(Err));
        }
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        let part = if let Poll::Ready(part) = source.link.poll_body(context) {
            part.map_err(BodyError::from)
        } else {
            let since = *this.since.get_or_insert_with(Instant::now);
            // A caller who still sends has a clock of his own, which wakes us.
            let Some(since) = source.link.turn(since) else { return Poll::Pending };
            ready!(source.link.alarm.poll(since + this.limit, context));
            Err(Inactive(this.limit).into())
        };
        this.since = None;
        // Nobody asks again after the last part, or after an error.
        if (part.is_err() || source.link.is_done())
            && let Some(source) = this.source.take()
        {
            match &part {
                Ok(_) => source.release(),
                Err(error) => source.place.broke_off(error),
            }
        }
        match part {
            Ok(part) => Poll::Ready(part.map(|part| Ok(Frame::data(part)))),
            Err(error) => {
                this.broken = Some(error);
                this.caller.ask_written(context);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let over = self.source.as_ref().is_none_or(|source| source.link.is_done());
        self.first.is_none() && self.broken.is_none() && over
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.source.as_ref().map_or(Some(0), |source| source.link.remaining());
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
    }
}
