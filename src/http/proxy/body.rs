//! The bodies of requests on their way to a client, and whose turn it is meanwhile.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::answer::BodyError;

/// Nothing came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} seconds", .0.as_secs())]
pub(super) struct Inactive(pub(super) Duration);

/// A clock that is set for every message and hardly ever rings. Setting it later is free: the timer underneath stays
/// as it is and is asked again when it rings.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn new(due: Instant) -> Self {
        Self(Box::pin(sleep_until(due)))
    }

    /// Ready once `due` is over.
    pub(super) fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() > due {
            self.0.as_mut().reset(due);
        }
        loop {
            ready!(self.0.as_mut().poll(context));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due);
        }
    }
}

/// Since when it has been the client's turn to do something about a request; none while it is the caller's.
#[derive(Clone, Debug)]
pub(super) struct Turn(Arc<Mutex<Option<Instant>>>);

impl Turn {
    pub(super) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// The body of a request to a client.
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
    /// As it comes from the caller.
    Arriving(Box<Arriving>, Turn),
}

impl RequestBody {
    pub(super) fn arriving(body: Arriving) -> Self {
        Self::Arriving(Box::new(body), Turn(Arc::new(Mutex::new(Some(Instant::now())))))
    }

    /// Whose turn it is; none where it is the client's from the start.
    pub(super) fn turn(&self) -> Option<Turn> {
        match self {
            Self::Arriving(_, turn) => Some(turn.clone()),
            Self::Empty | Self::Whole(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Arriving(body, turn) => {
                let polled = Pin::new(&mut **body).poll_frame(context);
                turn.set(polled.is_ready().then(Instant::now));
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Self::Arriving(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(content) => SizeHint::with_exact(content.as_ref().map_or(0, |all| all.len() as u64)),
            Self::Arriving(body, _) => body.size_hint(),
        }
    }
}

/// A caller's body; it breaks off when nothing comes for a while.
pub(super) struct Arriving {
    body: Incoming,
    limit: Duration,
    alarm: Alarm,
    /// Since when something is waited for. A client that takes its time is no reason to call the caller slow.
    waiting: Option<Instant>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, alarm: Alarm::new(Instant::now() + limit), waiting: None }
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
