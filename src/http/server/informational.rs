//! Informational responses (1xx, RFC 9110, 15.2), such as 103. hyper can't send them, so they are written below
//! it: when hyper has flushed all it had, and before the final response. Only this adapter sees the flush.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use crate::locks::locked;
use tokio::io::AsyncWrite;

/// The most bytes that wait to be written. Further informational responses are dropped.
const MAX_PENDING: usize = 64 * 1024;

/// The informational responses of one connection that are not written yet.
#[derive(Clone, Debug, Default)]
pub(super) struct InformationalQueue(Arc<SharedState>);

#[derive(Debug, Default)]
struct SharedState {
    /// Whether there are any. Most connections never have one.
    any: AtomicBool,
    /// Whether hyper may have bytes of an earlier response that are not written yet.
    behind: AtomicBool,
    pending: Mutex<PendingHeads>,
}

#[derive(Debug, Default)]
struct PendingHeads {
    heads: Vec<u8>,
    /// How many of these bytes are written.
    written: usize,
    /// Whether they must be written before hyper's next bytes.
    first: bool,
    /// The task to wake when all is written.
    listener: Option<Waker>,
}

impl InformationalQueue {
    /// Queues `head` to be written before the final response. It is dropped if the peer reads so slowly that the
    /// final response is there first.
    pub(super) fn add(&self, head: &[u8]) {
        let mut pending = self.pending();
        if pending.heads.len() + head.len() <= MAX_PENDING {
            pending.heads.extend_from_slice(head);
            // While hyper still writes an earlier response, the head waits for its end, in `poll_after_write`.
            pending.first |= !self.0.behind.load(Ordering::Relaxed);
            self.0.any.store(true, Ordering::Relaxed);
        }
    }

    /// The final response is there: drops what has not been begun.
    pub(super) fn end(&self) {
        if self.0.any.load(Ordering::Relaxed) {
            let mut pending = self.pending();
            // A head that may be half written has to be completed, or the final response would begin in the middle of it.
            if !pending.first {
                pending.heads.clear();
                self.0.any.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Whether hyper may have bytes of a response that are not written yet.
    pub(super) fn is_behind(&self) -> bool {
        self.0.behind.load(Ordering::Relaxed)
    }

    /// Wakes the task of `context` when hyper has next written all it had.
    pub(super) fn notify_when_flushed(&self, context: &Context<'_>) {
        self.pending().listener = Some(context.waker().clone());
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// Whether it has been, since that call.
    pub(super) fn poll_flushed(&self, context: &Context<'_>) -> Poll<()> {
        match &mut self.pending().listener {
            Some(listener) => {
                listener.clone_from(context.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Called before hyper writes: what was begun has to be finished first.
    pub(super) fn poll_before_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.behind.store(true, Ordering::Relaxed);
        if self.0.any.load(Ordering::Relaxed) && self.pending().first {
            return self.poll_write(io, context);
        }
        Poll::Ready(Ok(()))
    }

    /// Called when hyper has written all it had.
    pub(super) fn poll_after_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.behind.store(false, Ordering::Relaxed);
        match self.0.any.load(Ordering::Relaxed) {
            true => self.poll_write(io, context),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pending = self.pending();
        // A head that was begun has to be finished before anything else.
        pending.first = true;
        while pending.written < pending.heads.len() {
            match ready!(Pin::new(&mut *io).poll_write(context, &pending.heads[pending.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                size => pending.written += size,
            }
        }
        // Resets all of it for the next response.
        if let Some(listener) = std::mem::take(&mut *pending).listener {
            listener.wake();
        }
        self.0.any.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn pending(&self) -> MutexGuard<'_, PendingHeads> {
        locked(&self.0.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, duplex};

    const HEAD: &[u8] = b"HTTP/1.1 103 x\r\n\r\n";

    #[tokio::test]
    async fn informational_head_is_finished_first_or_dropped_if_late() {
        let mut nobody = Context::from_waker(Waker::noop());
        let (mut ours, mut callers) = duplex(8);
        let informational = InformationalQueue::default();
        // As far as is known the peer has not read an earlier response.
        assert!(informational.poll_before_write(&mut ours, &mut nobody).is_ready());
        informational.add(HEAD);
        assert!(informational.poll_before_write(&mut ours, &mut nobody).is_ready(), "that answer goes on");
        informational.end();
        assert!(informational.poll_after_write(&mut ours, &mut nobody).is_ready());

        informational.add(HEAD);
        informational.end();
        assert!(informational.poll_before_write(&mut ours, &mut nobody).is_pending(), "its own answer waits");
        let mut read = vec![0; HEAD.len()];
        let reading = callers.read_exact(&mut read);
        let writing = std::future::poll_fn(|context| informational.poll_before_write(&mut ours, context));
        let (written, read_all) = tokio::join!(writing, reading);
        assert_eq!((written.unwrap(), read_all.unwrap()), ((), HEAD.len()));
        assert_eq!(read, HEAD);
        assert!(informational.poll_after_write(&mut ours, &mut nobody).is_ready());
        drop(ours);
        assert_eq!(callers.read_to_end(&mut Vec::new()).await.unwrap(), 0, "once");
    }

    #[test]
    fn informational_heads_are_bounded_in_memory() {
        let informational = InformationalQueue::default();
        for _ in 0..10_000 {
            informational.add(HEAD);
        }
        let size = informational.pending().heads.len();
        assert!(size <= MAX_PENDING && size > MAX_PENDING - HEAD.len());
    }
}
