//! Timers that are set for every message and hardly ever ring.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::locks::locked;

/// A timer that may be set later for nothing: the one underneath stays as it is and is asked again when it rings.
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

/// What the HTTP library waits by on one connection, which it does for one thing at a time: a timer of its own, made and
/// dropped for every request, would cost more than all else that is done with time.
#[derive(Clone, Debug, Default)]
pub(super) struct OneAlarm(Arc<Mutex<Option<Alarm>>>);

struct Wait {
    alarm: OneAlarm,
    due: Instant,
}

impl rt::Timer for OneAlarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Wait { alarm: self.clone(), due: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = locked(&self.alarm.0);
        alarm.get_or_insert_with(|| Alarm::new(self.due)).poll(self.due, context)
    }
}

impl rt::Sleep for Wait {}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Timer;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_end() {
        let (timer, began) = (OneAlarm::default(), Instant::now());
        let due = |seconds| (began + Duration::from_secs(seconds)).into_std();
        let mut dropped = timer.sleep_until(due(5));
        assert!(poll_once(&mut dropped).await.is_pending());
        drop(dropped);
        // Later than the one that was given up, sooner than it, and over already.
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
