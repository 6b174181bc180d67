//! The body of a client's response on its way to the caller.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::connection::UpstreamConnection;
use super::upstream::InFlightPermit;
use crate::http::body::{Body, BodyError};
use crate::http::request::body::InactivityTimeout;
use crate::http::server::Downstream;
use crate::wire::Reply;

/// Where a response body comes from.
pub(super) struct ResponseSource {
    /// The connection, which the body drives.
    pub(super) connection: Box<UpstreamConnection>,
    /// Released when the body is complete.
    pub(super) permit: InFlightPermit,
    /// Whether the connection may be reused.
    pub(super) reusable: bool,
    /// How long the client promises to keep it open.
    pub(super) keep_alive: Option<Duration>,
}

impl ResponseSource {
    fn release(self) {
        if self.reusable {
            self.permit.checkin(self.connection, self.keep_alive);
        }
    }
}

/// The body of a response. If all of it has arrived with the head, it is returned complete and the connection is
/// free at once; else it is streamed, and fails if nothing arrives for `limit`. An error is one in the bytes
/// after the head.
pub(super) fn body(
    mut source: ResponseSource,
    downstream: &Arc<Downstream>,
    limit: Duration,
) -> Result<Body, Reply> {
    let first = source.connection.take().map_err(|error| source.permit.unreachable(&error.to_string()))?;
    if source.connection.is_done() {
        source.release();
        return Ok(Body::Whole(first));
    }
    let downstream = downstream.clone();
    Ok(Body::stream(ResponseBodyStream {
        first,
        source: Some(source),
        downstream,
        failure: None,
        limit,
        waiting_since: None,
    }))
}

struct ResponseBodyStream {
    /// The piece that arrived with the head.
    first: Option<Bytes>,
    /// None once the body is complete or has failed.
    source: Option<ResponseSource>,
    downstream: Arc<Downstream>,
    /// Why it failed. Returned only after a flush, because hyper discards unwritten bytes when it sees an error.
    failure: Option<BodyError>,
    limit: Duration,
    /// Since when the client is waited for. The timer does not run while the caller is slow to read.
    waiting_since: Option<Instant>,
}

impl http_body::Body for ResponseBodyStream {
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
        if this.failure.is_some() {
            ready!(this.downstream.poll_flushed(context));
            return Poll::Ready(this.failure.take().map(Err));
        }
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        let part = if let Poll::Ready(part) = source.connection.poll_body(context) {
            part.map_err(BodyError::from)
        } else {
            let waiting_since = *this.waiting_since.get_or_insert_with(Instant::now);
            // While the caller still sends, its own timer runs and wakes this task.
            let Some(waiting_since) = source.connection.client_pending_since(waiting_since) else {
                return Poll::Pending;
            };
            ready!(source.connection.deadline.poll(waiting_since + this.limit, context));
            Err(InactivityTimeout(this.limit).into())
        };
        this.waiting_since = None;
        // hyper does not poll again after the last piece or an error.
        if (part.is_err() || source.connection.is_done())
            && let Some(source) = this.source.take()
        {
            match &part {
                Ok(_) => source.release(),
                Err(error) => source.permit.response_failed(error),
            }
        }
        match part {
            Ok(part) => Poll::Ready(part.map(|part| Ok(Frame::data(part)))),
            Err(error) => {
                this.failure = Some(error);
                this.downstream.notify_when_flushed(context);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Not over before hyper has the failure, or it would end the response as if it were complete.
        let over = self.source.as_ref().is_none_or(|source| source.connection.is_done());
        self.first.is_none() && self.failure.is_none() && over
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.source.as_ref().map_or(Some(0), |source| source.connection.remaining());
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
    }
}
