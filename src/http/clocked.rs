//! A caller's connection, and whether somebody is at its other end who takes what he asked for. The HTTP library looks at
//! neither: it waits for ever until something can be written, and reads nothing while it has read more than it needs now.

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

/// How often is looked whether a caller is still there while nobody reads from his connection. He is missed within twice
/// that.
const LOOK: Duration = Duration::from_millis(300);

/// A connection whose other end has to take what is written, and to be there.
///
/// A clock costs something only while there is something to wait for, and none is read for a request.
#[derive(Debug)]
pub(super) struct Clocked<S> {
    io: S,
    /// How long may pass in which nothing that is written is taken.
    limit: Duration,
    untaken: Clock,
    gave_up: bool,
    /// Whether somebody waits for more to read, who is told of the end as well.
    listening: bool,
    absent: Clock,
    /// Whether one side may end before the other.
    half_open: Arc<AtomicBool>,
}

/// A timer that is made when it is first needed.
#[derive(Debug, Default)]
struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl Clock {
    /// Ready when it has run for `time`. It then runs no more.
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

impl<S> Clocked<S> {
    /// `half_open` becomes true when the connection has changed to another protocol, of which nothing is known. Until then
    /// whoever has ended his side counts as gone.
    pub(super) fn new(io: S, limit: Duration, half_open: Arc<AtomicBool>) -> Self {
        let (untaken, absent) = (Clock::default(), Clock::default());
        Self { io, limit, untaken, gave_up: false, listening: false, absent, half_open }
    }

    /// The connection, and whether its other end took nothing for so long that it was given up.
    pub(super) fn into_inner(self) -> (S, bool) {
        (self.io, self.gave_up)
    }
}

impl<S: AsFd> Clocked<S> {
    /// What writing came to. Each byte that goes out sets the clock anew. The kernel takes more when about a third of its
    /// buffer is free, so a reader needs to take so much within the time. It may add a few bytes to those that wait
    /// while nobody reads, so a mere attempt to write tells nothing of him.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.untaken.runs = false;
            return written;
        }
        if self.poll_absent(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        ready!(self.untaken.poll(self.limit, context));
        self.gave_up = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Looks from time to time whether the other end is there; ready when it is not.
    fn poll_absent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.listening || self.half_open.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        loop {
            ready!(self.absent.poll(LOOK, context));
            let mut ends = [PollFd::new(&self.io, PollFlags::RDHUP)];
            // A descriptor that can't be asked is for whoever reads or writes to find out about.
            if poll(&mut ends, Some(&Timespec::default())).is_ok_and(|ended| ended > 0) {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Clocked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        this.listening = read.is_pending();
        read
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Clocked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.written(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The library calls this whenever it has nothing to write, so also while it waits for an answer.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(context))?;
        match this.poll_absent(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<S: AsFd> AsFd for Clocked<S> {
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

    fn pair(half_open: bool) -> (Clocked<UnixStream>, Theirs) {
        let (ours, theirs) = Theirs::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        (Clocked::new(ours, LIMIT, Arc::new(AtomicBool::new(half_open))), theirs)
    }

    // Time that is paused goes on to the next timer whenever nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_takes_something_is_not() {
        let (mut ours, mut theirs) = pair(false);
        let part = [b'x'; 4096];
        // As much as the kernel holds.
        while timeout(Duration::from_secs(1), ours.write_all(&part)).await.is_ok() {}
        for _ in 0..3 {
            assert!(timeout(LIMIT - Duration::from_secs(2), ours.write_all(&part)).await.is_err());
            // Not yet so long that he would be given up, and what he takes now sets the clock anew.
            while theirs.read(&mut [0; 4096]).is_ok() {}
            while timeout(Duration::from_secs(1), ours.write_all(&part)).await.is_ok() {}
        }
        let began = Instant::now() - Duration::from_secs(1);
        let error = ours.write_all(&part).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
        assert!(ours.into_inner().1);
    }

    /// Waits as the library does for the answer to a request: what comes of it, if anything.
    async fn wait(ours: &mut Clocked<UnixStream>) -> Option<io::ErrorKind> {
        let error = poll_fn(|context| match Pin::new(&mut *ours).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
            _ => Poll::Pending,
        });
        timeout(LIMIT, error).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_is_missed_though_nobody_reads() {
        let (mut ours, mut theirs) = pair(false);
        theirs.write_all(b"request and more").unwrap();
        ours.read_exact(&mut [0; 7]).await.unwrap();
        assert_eq!(wait(&mut ours).await, None, "he is there");
        let began = Instant::now();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wait(&mut ours).await, Some(io::ErrorKind::ConnectionAborted));
        assert!(began.elapsed() <= 2 * LOOK);

        // Of another protocol only its own ends know what an end is.
        let (mut ours, mut theirs) = pair(true);
        theirs.write_all(b"more").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        ours.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(wait(&mut ours).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_looked_for_while_somebody_reads() {
        let (mut ours, theirs) = pair(false);
        let mut buffer = [0; 1];
        let reading = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut buffer);
            Poll::Ready(Pin::new(&mut ours).poll_read(context, &mut buffer).is_pending())
        });
        assert!(reading.await);
        assert_eq!(wait(&mut ours).await, None);
        assert!(ours.absent.timer.is_none(), "an idle connection needs no timer");
        drop(theirs);
    }
}
