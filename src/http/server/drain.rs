//! [`Drain`]: tells every connection that the server shuts down.
//!
//! A flag beside the token: polling the token takes a lock that all connections share, and 200 instructions each time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio_util::sync::CancellationToken;

/// Whether the server drains. Each connection polls this for each request, so it is a flag: waiting on the token
/// would take its lock every time.
#[derive(Clone, Debug, Default)]
pub(super) struct Drain {
    draining: Arc<AtomicBool>,
    /// Wakes waiting connections. Cancelled after `draining` is set.
    token: CancellationToken,
}

impl Drain {
    /// Starts the drain when `stop` is cancelled.
    pub(super) async fn follow(self, stop: CancellationToken) {
        stop.cancelled().await;
        // Before the token: a connection that it wakes has to find the flag set.
        self.draining.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether the drain has begun.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until the drain begins.
    pub(super) async fn draining_begun(&self) {
        let mut cancelled = pin!(self.token.cancelled());
        let mut listener: Option<Waker> = None;
        poll_fn(|context| {
            // The token has this waker from the last poll and will still wake it, so its lock is not needed.
            let is_known = listener.as_ref().is_some_and(|listener| listener.will_wake(context.waker()));
            if is_known && !self.is_draining() {
                return Poll::Pending;
            }
            listener = Some(context.waker().clone());
            cancelled.as_mut().poll(context)
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn drain_wakes_waiter_after_task_change() {
        let (drain, stop) = (Drain::default(), CancellationToken::new());
        let following = tokio::spawn(drain.clone().follow(stop.clone()));
        let waiting = drain.clone();
        let mut waiting = Box::pin(async move { waiting.draining_begun().await });
        // Polled once here, then often by another task.
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        let waiting = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = &mut waiting => return,
                    () = sleep(Duration::from_secs(1)) => {}
                }
            }
        });
        sleep(Duration::from_millis(5500)).await;
        assert!(!drain.is_draining() && !waiting.is_finished());
        stop.cancel();
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        waiting.await.unwrap();
        following.await.unwrap();
        assert!(drain.is_draining());
        assert_eq!(began.elapsed(), Duration::ZERO, "it did not take the next look");
    }
}
