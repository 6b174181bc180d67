//! A queue between two tasks that is bounded twice, by items and by bytes, and never makes the sender wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The queue has no room, or nobody takes from it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PushError {
    /// No room.
    #[error("the queue is full")]
    Full,
    /// Its other end is gone.
    #[error("the queue is closed")]
    Closed,
}

/// A queue for at most `items` things of at most `bytes` together.
pub(super) fn bounded<T>(items: usize, bytes: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(items);
    (Sender { items: sender, room: Arc::new(Semaphore::new(bytes)) }, Receiver { items: receiver })
}

/// The end where things are put in.
pub(super) struct Sender<T> {
    items: mpsc::Sender<Held<T>>,
    room: Arc<Semaphore>,
}

/// The end where things are taken out, in order.
pub(super) struct Receiver<T> {
    items: mpsc::Receiver<Held<T>>,
}

struct Held<T> {
    item: T,
    /// Given back when the item is taken out.
    _room: OwnedSemaphorePermit,
}

impl<T> Sender<T> {
    /// Puts in `item`, which counts as `bytes`.
    ///
    /// # Errors
    /// There is no room, or the other end is gone.
    pub(super) fn push(&self, item: T, bytes: usize) -> Result<(), PushError> {
        let bytes = u32::try_from(bytes).map_err(|_| PushError::Full)?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| PushError::Full)?;
        self.items.try_send(Held { item, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PushError::Full,
            mpsc::error::TrySendError::Closed(_) => PushError::Closed,
        })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: self.room.clone() }
    }
}

impl<T> Receiver<T> {
    /// Takes out the oldest item, waiting for one if need be. `None`: there will be no more.
    pub(super) async fn next(&mut self) -> Option<T> {
        self.items.recv().await.map(|held| held.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_bounds() {
        let (sender, mut receiver) = bounded(2, 10);
        assert_eq!(sender.push("a", 8), Ok(()));
        assert_eq!(sender.push("b", 8), Err(PushError::Full));
        assert_eq!(sender.push("c", 2), Ok(()));
        assert_eq!(sender.push("d", 0), Err(PushError::Full));
        assert_eq!(receiver.next().await, Some("a"));
        assert_eq!(sender.push("e", 8), Ok(()));
        assert_eq!((receiver.next().await, receiver.next().await), (Some("c"), Some("e")));
        drop(receiver);
        assert_eq!(sender.push("f", 0), Err(PushError::Closed));
    }
}
