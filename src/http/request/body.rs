//! The body of a request: as a stream ([`RequestBodyStream`]), or as one piece, bounded in size and time
//! ([`collect`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use crate::config::HttpSettings;
use crate::http::body::BodyError;
use crate::http::server::Downstream;
use crate::http::timer::Deadline;
use crate::wire::Reply;

/// How long a form may take in total.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// The caller sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} seconds", .0.as_secs_f64())]
pub(in crate::http) struct InactivityTimeout(pub(in crate::http) Duration);

/// The body of a caller's request. It fails if nothing comes for a while.
pub(in crate::http) struct RequestBodyStream {
    body: Incoming,
    downstream: Arc<Downstream>,
    /// Whether there were trailers. hyper sees trailers after a bare line feed behind the last chunk, where
    /// other readers may see the next request.
    has_trailers: bool,
    limit: Duration,
    deadline: Deadline,
    /// Since when the caller is waited for. The timer does not run while the client is slow to read.
    waiting_since: Option<Instant>,
}

impl RequestBodyStream {
    pub(in crate::http) fn new(body: Incoming, downstream: Arc<Downstream>, limit: Duration) -> Self {
        let deadline = Deadline::new(Instant::now() + limit);
        Self { body, downstream, has_trailers: false, limit, deadline, waiting_since: None }
    }
}

impl Body for RequestBodyStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting_since = None;
            match &frame {
                Some(Ok(frame)) => this.has_trailers |= frame.is_trailers(),
                None if !this.has_trailers => this.downstream.request_body_drained(),
                _ => {}
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let since = *this.waiting_since.get_or_insert_with(Instant::now);
        ready!(this.deadline.poll(since + this.limit, context));
        Poll::Ready(Some(Err(InactivityTimeout(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body can't be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// It is longer than allowed.
    #[error("the body is too long")]
    TooLong,
    /// It took too long.
    #[error("the body did not come in time")]
    TimedOut,
    /// The connection failed.
    #[error("the body broke off")]
    BrokeOff,
}

/// Reads a body of at most `limit` bytes, within `time`.
///
/// The frames are copied together: each frame holds its own buffer, so a body in chunks of one byte would take
/// many times its size.
///
/// # Errors
/// The body is too long, takes too long, or the connection fails.
pub async fn collect<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    time: Duration,
) -> Result<Bytes, CollectError> {
    timeout(time, read(body, limit)).await.unwrap_or(Err(CollectError::TimedOut))
}

async fn read<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, CollectError> {
    let mut body = std::pin::pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CollectError::BrokeOff)?;
        // Trailers hold no parameters.
        let Ok(data) = frame.into_data() else { continue };
        // Never below zero, as `read` grows only within the limit.
        if data.len() > limit - read.len() {
            return Err(CollectError::TooLong);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Reads a form up to the size limit.
pub(in crate::http) async fn read_form(
    body: Incoming,
    downstream: &Arc<Downstream>,
    settings: &HttpSettings,
) -> Result<Bytes, Reply> {
    let limit = settings.max_form_body;
    // As a stream that reports its end: without that the connection would be closed after the response.
    let body = RequestBodyStream::new(body, downstream.clone(), settings.inactivity_timeout);
    let too_large = || Reply::form_too_large(limit);
    // If Content-Length is too large already, there is no need to read it.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut stalled = None;
    let body = body.map_err(|error| {
        stalled = error.downcast_ref::<InactivityTimeout>().map(ToString::to_string);
        error
    });
    collect(body, limit, FORM_TIMEOUT).await.map_err(|error| match error {
        CollectError::TooLong => too_large(),
        CollectError::TimedOut => {
            Reply::bad_request(format!("the form did not come within {} seconds", FORM_TIMEOUT.as_secs()))
        }
        CollectError::BrokeOff => Reply::bad_request(match &stalled {
            Some(stalled) => format!("the form did not come in time: {stalled}"),
            None => "the request broke off".to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    const TIME: Duration = Duration::from_secs(30);

    fn frames(all: Vec<Result<Frame<Bytes>, &'static str>>) -> impl Body<Data = Bytes, Error = &'static str> {
        StreamBody::new(futures_util::stream::iter(all))
    }

    #[tokio::test]
    async fn collect_stops_at_size_limit() {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let parts = || vec![data("ab"), data(""), data("c"), Ok(Frame::trailers(http::HeaderMap::new()))];
        assert_eq!(collect(frames(parts()), 3, TIME).await, Ok(Bytes::from_static(b"abc")));
        assert_eq!(collect(frames(parts()), 2, TIME).await, Err(CollectError::TooLong));
        assert_eq!(collect(Full::new(Bytes::new()), 0, TIME).await, Ok(Bytes::new()));
        assert_eq!(
            collect(frames(vec![data("a"), Err("reset")]), 3, TIME).await,
            Err(CollectError::BrokeOff)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn collect_times_out() {
        let endless = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, &'static str>>());
        assert_eq!(collect(endless, 3, TIME).await, Err(CollectError::TimedOut));
    }

    /// Each frame is a slice of a buffer as large as one read of hyper.
    #[tokio::test]
    async fn collect_keeps_no_frame_buffers() {
        let buffer = Bytes::from(vec![b'a'; 4096]);
        let all = (0..100).map(|at| Ok(Frame::data(buffer.slice(at..=at)))).collect();
        let body = collect(frames(all), 100, TIME).await.unwrap();
        assert_eq!(body.len(), 100);
        assert!(buffer.is_unique(), "no frame is kept");
    }
}
