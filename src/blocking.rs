//! [`BlockingTurns`]: work that blocks, with a limit of its own for each kind.
//!
//! tokio has one pool of 512 threads for all that blocks. What callers can cause without limit must not take all of them while a disk or a
//! name service hangs, or the registry file could not be written meanwhile.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Runs at most so many blocking jobs at a time; the others wait for their turn. Clones share the limit.
#[derive(Clone, Debug)]
pub struct BlockingTurns(Arc<Semaphore>);

impl BlockingTurns {
    /// Allows `most` jobs at a time.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Runs `work` on a thread for blocking work when it is its turn. A turn ends with the work, which goes on when its caller has gone.
    ///
    /// # Errors
    /// The work panicked, or the runtime ends.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Never an error, as the semaphore is never closed.
        let turn = self.0.clone().acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            // Moved into the work: when the caller is cancelled, the thread is still blocked and must still count.
            let _turn = turn;
            work()
        })
        .await
    }

    /// Leaves no turn to others until the result is dropped.
    #[cfg(test)]
    pub(crate) async fn take_all(&self) -> tokio::sync::OwnedSemaphorePermit {
        let free = u32::try_from(self.0.available_permits()).unwrap();
        self.0.clone().acquire_many_owned(free).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn turn_ends_with_the_work_and_not_with_its_caller() {
        let turns = BlockingTurns::new(1);
        let (end, hangs) = channel::<()>();
        let mut abandoned = Box::pin(turns.run(move || hangs.recv()));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        let mut next = Box::pin(turns.run(|| 7));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(turns.0.available_permits(), 0);
        drop(end);
        assert_eq!(next.await.unwrap(), 7);
        turns.run(|| panic!("a test")).await.unwrap_err();
        assert_eq!(turns.run(|| 8).await.unwrap(), 8);
    }
}
