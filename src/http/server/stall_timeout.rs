//! [`StallTimeoutIo`]: detects write stalls and closed peers. hyper detects neither: it waits forever for a
//! write, and while a response is under way it reads nothing.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Poll interval for a closed peer, while nothing is read from the connection. A close is noticed within two
/// intervals.
const PEER_POLL_INTERVAL: Duration = Duration::from_millis(300);

/// A connection that fails when its peer stalls or goes away.
///
/// Its timers run only while there is something to wait for. Serving a request sets none.
#[derive(Debug)]
pub(super) struct StallTimeoutIo<S> {
    io: S,
    /// How long the peer may stall.
    limit: Duration,
    write_timer: LazyTimer,
    timed_out: bool,
    /// Whether a read is pending. The reader then sees the close by itself.
    read_pending: bool,
    peer_timer: LazyTimer,
    /// Whether one side may close before the other.
    half_open: Arc<AtomicBool>,
}

/// A timer that is created when it is first needed.
#[derive(Debug, Default)]
struct LazyTimer {
    timer: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl LazyTimer {
    /// Ready when it has run for `time`; then it is stopped.
    fn poll(&mut self, time: Duration, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(time)));
        if !std::mem::replace(&mut self.runs, true) {
            timer.as_mut().reset(Instant::now() + time);
        }
        ready!(timer.as_mut().poll(context));
        self.runs = false;
        Poll::Ready(())
    }
}

impl<S> StallTimeoutIo<S> {
    /// `half_open` becomes true when the connection has switched protocols. Before that, a peer that has shut
    /// down its write side counts as gone.
    pub(super) fn new(io: S, limit: Duration, half_open: Arc<AtomicBool>) -> Self {
        let (write_timer, peer_timer) = (LazyTimer::default(), LazyTimer::default());
        Self { io, limit, write_timer, timed_out: false, read_pending: false, peer_timer, half_open }
    }

    /// The connection, and whether it failed because the peer stalled.
    pub(super) fn into_inner(self) -> (S, bool) {
        (self.io, self.timed_out)
    }
}

impl<S: AsFd> StallTimeoutIo<S> {
    /// Handles the result of a write. Every byte that is accepted restarts the timer. The kernel accepts more
    /// once about a third of its buffer is free, so a peer has to read that much within the limit. Small writes
    /// may be accepted while nothing is read, so trying to write proves nothing.
    fn on_write(
        &mut self,
        on_write: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if on_write.is_ready() {
            // Only marked as stopped: the next wait resets it, which is cheaper than doing so at each write.
            self.write_timer.runs = false;
            return on_write;
        }
        if self.poll_peer_closed(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        ready!(self.write_timer.poll(self.limit, context));
        self.timed_out = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the peer is gone. Looks once per interval.
    fn poll_peer_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // In a tunnel a peer may close one side and go on with the other.
        if self.read_pending || self.half_open.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        // A loop, as the timer has to be polled after each look, or it would wake no task.
        loop {
            ready!(self.peer_timer.poll(PEER_POLL_INTERVAL, context));
            // RDHUP: also where the peer has closed its sending side only. HUP and ERR are always reported (poll(2)).
            let mut ends = [PollFd::new(&self.io, PollFlags::RDHUP)];
            // If poll(2) fails, the next read or write reports why.
            if poll(&mut ends, Some(&Timespec::default())).is_ok_and(|ended| ended > 0) {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallTimeoutIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        this.read_pending = read.is_pending();
        read
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for StallTimeoutIo<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let on_write = Pin::new(&mut this.io).poll_write(context, bytes);
        this.on_write(on_write, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let on_write = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.on_write(on_write, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes whenever it has nothing to write, so also while it waits for the response.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(context))?;
        match this.poll_peer_closed(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<S: AsFd> AsFd for StallTimeoutIo<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream as Theirs;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    const LIMIT: Duration = Duration::from_secs(120);

    fn pair(half_open: bool) -> (StallTimeoutIo<UnixStream>, Theirs) {
        let (ours, theirs) = Theirs::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        (StallTimeoutIo::new(ours, LIMIT, Arc::new(AtomicBool::new(half_open))), theirs)
    }

    // Paused time jumps to the next timer whenever nothing else is runnable.
    #[tokio::test(start_paused = true)]
    async fn stalled_peer_times_out_and_slow_peer_does_not() {
        let (mut ours, mut theirs) = pair(false);
        let part = [b'x'; 4096];
        // Fills the kernel's buffer.
        while timeout(Duration::from_secs(1), ours.write_all(&part)).await.is_ok() {}
        for _ in 0..3 {
            assert!(timeout(LIMIT - Duration::from_secs(2), ours.write_all(&part)).await.is_err());
            // Not long enough to time out; reading restarts the timer.
            while theirs.read(&mut [0; 4096]).is_ok() {}
            while timeout(Duration::from_secs(1), ours.write_all(&part)).await.is_ok() {}
        }
        let began = Instant::now() - Duration::from_secs(1);
        let error = ours.write_all(&part).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
        assert!(ours.into_inner().1);
    }

    /// Waits as hyper does for a response; returns the error, if any.
    async fn wait(ours: &mut StallTimeoutIo<UnixStream>) -> Option<io::ErrorKind> {
        let error = poll_fn(|context| match Pin::new(&mut *ours).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
            _ => Poll::Pending,
        });
        timeout(LIMIT, error).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn closed_peer_is_noticed_without_reads() {
        let (mut ours, mut theirs) = pair(false);
        theirs.write_all(b"request and more").unwrap();
        ours.read_exact(&mut [0; 7]).await.unwrap();
        assert_eq!(wait(&mut ours).await, None, "he is there");
        let began = Instant::now();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wait(&mut ours).await, Some(io::ErrorKind::ConnectionAborted));
        assert!(began.elapsed() <= 2 * PEER_POLL_INTERVAL);

        // In a tunnel only its two ends know what a half-close means.
        let (mut ours, mut theirs) = pair(true);
        theirs.write_all(b"more").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        ours.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(wait(&mut ours).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_is_not_polled_while_a_read_is_pending() {
        let (mut ours, theirs) = pair(false);
        let mut buffer = [0; 1];
        let reading = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut buffer);
            Poll::Ready(Pin::new(&mut ours).poll_read(context, &mut buffer).is_pending())
        });
        assert!(reading.await);
        assert_eq!(wait(&mut ours).await, None);
        assert!(ours.peer_timer.timer.is_none(), "an idle connection needs no timer");
        drop(theirs);
    }
}
