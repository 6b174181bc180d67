//! A tunnel after a protocol switch, such as WebSocket: bytes in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::connection::UpstreamConnection;
use super::upstream::InFlightPermit;
use crate::model::name::ClientName;

/// Copies between caller and client until one side ends it, nothing passes for `limit`, or `over` says that the caller is not let in
/// any more. Holds `permit` meanwhile.
pub(super) async fn run(
    client: ClientName,
    downstream: OnUpgrade,
    connection: Box<UpstreamConnection>,
    permit: InFlightPermit,
    limit: Duration,
    over: impl Future<Output = ()>,
) {
    let ended = async {
        let downstream = downstream.await.map_err(io::Error::other)?;
        let (mut upstream, sent_already) = connection.into_tunnel().await?;
        let activity = ActivityCounter::default();
        let mut downstream = ActivityTracker { io: TokioIo::new(downstream), activity: activity.clone() };
        // A client may begin to talk in the same packet as its 101.
        downstream.write_all(&sent_already).await?;
        tokio::select! {
            // Passes on that one side has closed, and goes on in the other direction.
            ended = copy_bidirectional(&mut downstream, &mut upstream) => ended.map(drop),
            () = over => Err(io::ErrorKind::PermissionDenied.into()),
            () = activity.inactivity(limit) => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    let ended: io::Result<()> = ended.await;
    drop(permit);
    if let Err(error) = ended {
        debug!(%client, "tunnel failed: {error}");
    }
}

/// Counts reads and writes in both directions.
#[derive(Clone, Debug, Default)]
struct ActivityCounter(Arc<AtomicU64>);

impl ActivityCounter {
    /// Waits until nothing has passed for `limit`. It looks once per `limit`, so it may take up to twice as
    /// long.
    async fn inactivity(&self, limit: Duration) {
        let mut seen = None;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if seen.replace(now) == Some(now) {
                return;
            }
            sleep_until(Instant::now() + limit).await;
        }
    }
}

/// The caller's side of a tunnel. Everything passes through it.
struct ActivityTracker<I> {
    io: I,
    activity: ActivityCounter,
}

impl<I: AsyncRead + Unpin> AsyncRead for ActivityTracker<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.0.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ActivityTracker<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        if polled.is_ready() {
            self.activity.0.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn inactivity_is_noticed_within_two_limits() {
        let activity = ActivityCounter::default();
        let began = Instant::now();
        let inactivity = tokio::spawn({
            let activity = activity.clone();
            async move { activity.inactivity(LIMIT).await }
        });
        // Activity that is less frequent than the looks, but within the limit.
        for _ in 0..100 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            assert!(!inactivity.is_finished());
            activity.0.fetch_add(1, Ordering::Relaxed);
        }
        let last = began.elapsed();
        inactivity.await.unwrap();
        let silent = began.elapsed() - last;
        assert!(silent >= LIMIT && silent <= LIMIT * 2, "{silent:?}");
    }

    #[tokio::test]
    async fn activity_counts_both_directions() {
        let (ours, mut others) = tokio::io::duplex(64);
        let activity = ActivityCounter::default();
        let mut side = ActivityTracker { io: ours, activity: activity.clone() };
        let count = || activity.0.load(Ordering::Relaxed);
        side.write_all(b"out").await.unwrap();
        let after_write = count();
        assert!(after_write > 0);
        others.write_all(b"in").await.unwrap();
        tokio::io::AsyncReadExt::read(&mut side, &mut [0; 2]).await.unwrap();
        assert!(count() > after_write);
    }
}
