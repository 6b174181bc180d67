//! A queue between two tasks, bounded by items and by bytes. Sending never waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Why an item cannot be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    /// No room.
    #[error("the queue is full")]
    Full,
    /// The receiver is gone.
    #[error("the queue is closed")]
    Closed,
}

/// A queue of at most `items` items with at most `bytes` bytes together.
pub(crate) fn bounded<T>(items: usize, bytes: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = mpsc::channel(items);
    (QueueSender { items: sender, room: Arc::new(Semaphore::new(bytes)) }, QueueReceiver { items: receiver })
}

/// The sending end.
pub(crate) struct QueueSender<T> {
    items: mpsc::Sender<SizedItem<T>>,
    room: Arc<Semaphore>,
}

/// The receiving end.
pub(crate) struct QueueReceiver<T> {
    items: mpsc::Receiver<SizedItem<T>>,
}

struct SizedItem<T> {
    item: T,
    /// Released when the item is taken out.
    _room: OwnedSemaphorePermit,
}

impl<T> QueueSender<T> {
    /// Queues `item`, which counts as `bytes`.
    ///
    /// # Errors
    /// There is no room, or the other end is gone.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), PushError> {
        // Semaphores count in u32. This one is never closed, so a failure means that there is no room.
        let bytes = u32::try_from(bytes).map_err(|_| PushError::Full)?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| PushError::Full)?;
        // If the channel refuses the item, its room is released with it.
        self.items.try_send(SizedItem { item, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PushError::Full,
            mpsc::error::TrySendError::Closed(_) => PushError::Closed,
        })
    }
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: self.room.clone() }
    }
}

impl<T> QueueReceiver<T> {
    /// The next item. `None`: there will be no more.
    pub(crate) async fn next(&mut self) -> Option<T> {
        self.items.recv().await.map(|held| held.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_is_bounded_by_items_and_bytes() {
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
