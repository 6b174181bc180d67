//! Answers that only announce the one to come (RFC 9110, 15.2), as 103 does. The HTTP library has no way to send them, so
//! they are written past it: where it has written all it had, and before the answer itself. When it has, is known here alone.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use crate::locks::locked;
use tokio::io::AsyncWrite;

/// The most bytes that wait to be written; announcements beyond that are left out.
const MAX_WAITING: usize = 64 * 1024;

/// The announcements of one connection that are still to be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Interim(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether there are any: most connections never have one.
    any: AtomicBool,
    /// Whether the library may have bytes of an earlier answer that the caller has not taken.
    behind: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    heads: Vec<u8>,
    /// How much of them was written.
    written: usize,
    /// Whether they come before anything else that is written.
    first: bool,
    /// Who is told when all is written.
    listener: Option<Waker>,
}

impl Interim {
    /// Has `head` written before its answer. It is left out where the caller takes what is before it so slowly that the
    /// answer is there first.
    pub(super) fn add(&self, head: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.heads.len() + head.len() <= MAX_WAITING {
            waiting.heads.extend_from_slice(head);
            waiting.first |= !self.0.behind.load(Ordering::Relaxed);
            self.0.any.store(true, Ordering::Relaxed);
        }
    }

    /// The answer is there: nothing announces it any more.
    pub(super) fn end(&self) {
        if self.0.any.load(Ordering::Relaxed) {
            let mut waiting = self.waiting();
            if !waiting.first {
                waiting.heads.clear();
                self.0.any.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Has `context` woken when the library has next written all it had.
    pub(super) fn ask_written(&self, context: &Context<'_>) {
        self.waiting().listener = Some(context.waker().clone());
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// Whether it has since that was asked.
    pub(super) fn poll_written(&self, context: &Context<'_>) -> Poll<()> {
        match &mut self.waiting().listener {
            Some(listener) => {
                listener.clone_from(context.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Before the library writes: what comes first has to be written first.
    pub(super) fn poll_before_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.behind.store(true, Ordering::Relaxed);
        if self.0.any.load(Ordering::Relaxed) && self.waiting().first {
            return self.poll_write(io, context);
        }
        Poll::Ready(Ok(()))
    }

    /// When the library has written all it had.
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
        let mut waiting = self.waiting();
        // What was begun must come to its end.
        waiting.first = true;
        while waiting.written < waiting.heads.len() {
            match ready!(Pin::new(&mut *io).poll_write(context, &waiting.heads[waiting.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                size => waiting.written += size,
            }
        }
        if let Some(listener) = std::mem::take(&mut *waiting).listener {
            listener.wake();
        }
        self.0.any.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        locked(&self.0.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, duplex};

    const HEAD: &[u8] = b"HTTP/1.1 103 x\r\n\r\n";

    #[tokio::test]
    async fn what_was_begun_comes_first_and_what_comes_too_late_not_at_all() {
        let mut nobody = Context::from_waker(Waker::noop());
        let (mut ours, mut callers) = duplex(8);
        let interim = Interim::default();
        // The caller has not taken an earlier answer, as far as is known.
        assert!(interim.poll_before_write(&mut ours, &mut nobody).is_ready());
        interim.add(HEAD);
        assert!(interim.poll_before_write(&mut ours, &mut nobody).is_ready(), "that answer goes on");
        interim.end();
        assert!(interim.poll_after_write(&mut ours, &mut nobody).is_ready());

        interim.add(HEAD);
        interim.end();
        assert!(interim.poll_before_write(&mut ours, &mut nobody).is_pending(), "its own answer waits");
        let mut read = vec![0; HEAD.len()];
        let reading = callers.read_exact(&mut read);
        let writing = std::future::poll_fn(|context| interim.poll_before_write(&mut ours, context));
        let (written, read_all) = tokio::join!(writing, reading);
        assert_eq!((written.unwrap(), read_all.unwrap()), ((), HEAD.len()));
        assert_eq!(read, HEAD);
        assert!(interim.poll_after_write(&mut ours, &mut nobody).is_ready());
        drop(ours);
        assert_eq!(callers.read_to_end(&mut Vec::new()).await.unwrap(), 0, "once");
    }

    #[test]
    fn a_client_that_goes_on_announcing_takes_no_more_memory() {
        let interim = Interim::default();
        for _ in 0..10_000 {
            interim.add(HEAD);
        }
        let size = interim.waiting().heads.len();
        assert!(size <= MAX_WAITING && size > MAX_WAITING - HEAD.len());
    }
}
