//! [`Ending`]: the end of serving. Every connection waits for it while it does all else.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio_util::sync::CancellationToken;

/// Whether serving is to end. Asking costs nothing: a token would be locked by every connection for every request.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    asked: Arc<AtomicBool>,
    /// Wakes those who wait; cancelled after `asked` became true.
    bell: CancellationToken,
}

impl Ending {
    /// Passes `stop` on, once.
    pub(super) async fn follow(self, stop: CancellationToken) {
        stop.cancelled().await;
        self.asked.store(true, Ordering::Release);
        self.bell.cancel();
    }

    /// Whether it was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Waits until it is asked for.
    pub(super) async fn wait(&self) {
        let mut rung = pin!(self.bell.cancelled());
        let mut listener: Option<Waker> = None;
        poll_fn(|context| {
            let is_known = listener.as_ref().is_some_and(|listener| listener.will_wake(context.waker()));
            if is_known && !self.is_asked() {
                return Poll::Pending;
            }
            listener = Some(context.waker().clone());
            rung.as_mut().poll(context)
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
    async fn who_waits_is_woken_whoever_polls() {
        let (ending, stop) = (Ending::default(), CancellationToken::new());
        let following = tokio::spawn(ending.clone().follow(stop.clone()));
        let waiting = ending.clone();
        let mut waiting = Box::pin(async move { waiting.wait().await });
        // Polled here first, then often by another task.
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
        assert!(!ending.is_asked() && !waiting.is_finished());
        stop.cancel();
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        waiting.await.unwrap();
        following.await.unwrap();
        assert!(ending.is_asked());
        assert_eq!(began.elapsed(), Duration::ZERO, "it did not take the next look");
    }
}
