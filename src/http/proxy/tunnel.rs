//! After a change of protocol (WebSocket, for example): bytes both ways, of which nothing is known.

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

use super::link::Link;
use super::upstream::Place;
use crate::model::name::ClientName;

/// Joins caller and client until one of them ends it, or until neither says anything for `limit`. `place` is taken for
/// as long.
pub(super) async fn run(
    client: ClientName,
    caller: OnUpgrade,
    link: Box<Link>,
    place: Place,
    limit: Duration,
) {
    let ended = async {
        let caller = caller.await.map_err(io::Error::other)?;
        let (mut upstream, sent_already) = link.into_tunnel().await?;
        let traffic = Traffic::default();
        let mut caller = Watched { io: TokioIo::new(caller), traffic: traffic.clone() };
        caller.write_all(&sent_already).await?;
        tokio::select! {
            ended = copy_bidirectional(&mut caller, &mut upstream) => ended.map(drop),
            () = traffic.silence(limit) => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    let ended: io::Result<()> = ended.await;
    drop(place);
    if let Err(error) = ended {
        debug!(%client, %error, "a tunnel broke off");
    }
}

/// Counts what passes, either way.
#[derive(Clone, Debug, Default)]
struct Traffic(Arc<AtomicU64>);

impl Traffic {
    /// Waits until nothing has passed for `limit`, or, as it looks no more often than that, for up to twice as long.
    async fn silence(&self, limit: Duration) {
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

/// One side of a tunnel: all that passes comes from it or goes to it.
struct Watched<I> {
    io: I,
    traffic: Traffic,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() {
            self.traffic.0.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        if polled.is_ready() {
            self.traffic.0.fetch_add(1, Ordering::Relaxed);
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
    async fn silence_is_noticed_within_twice_its_limit_and_traffic_is_none() {
        let traffic = Traffic::default();
        let began = Instant::now();
        let silence = tokio::spawn({
            let traffic = traffic.clone();
            async move { traffic.silence(LIMIT).await }
        });
        // Less often than it is looked, and yet always in time.
        for _ in 0..100 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            assert!(!silence.is_finished());
            traffic.0.fetch_add(1, Ordering::Relaxed);
        }
        let last = began.elapsed();
        silence.await.unwrap();
        let silent = began.elapsed() - last;
        assert!(silent >= LIMIT && silent <= LIMIT * 2, "{silent:?}");
    }

    #[tokio::test]
    async fn bytes_count_in_both_directions() {
        let (ours, mut others) = tokio::io::duplex(64);
        let traffic = Traffic::default();
        let mut side = Watched { io: ours, traffic: traffic.clone() };
        let count = || traffic.0.load(Ordering::Relaxed);
        side.write_all(b"out").await.unwrap();
        let after_write = count();
        assert!(after_write > 0);
        others.write_all(b"in").await.unwrap();
        tokio::io::AsyncReadExt::read(&mut side, &mut [0; 2]).await.unwrap();
        assert!(count() > after_write);
    }
}
