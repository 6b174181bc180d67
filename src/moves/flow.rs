//! A stream that does not stand still unnoticed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::accounts::KeptStream;

/// How long nothing may be taken from the stream.
const SILENCE: Duration = Duration::from_secs(90);

/// How long its taker may need after its end, until all is on disk.
const AFTERWARDS: Duration = Duration::from_secs(660);

/// Has `take` take a stream. Ends it when the stream stands still.
///
/// # Errors
/// It stands still: what that means, for people.
pub(super) async fn watched<T, F: Future<Output = T>>(
    content: KeptStream,
    take: impl FnOnce(KeptStream) -> F,
) -> Result<T, String> {
    let (progress, mut seen) = watch::channel(());
    let taking = take(Watched { content, progress }.boxed_unsync());
    let standing_still = async {
        // An error of the channel: the stream was taken to its end, or dropped.
        while let Ok(moved) = timeout(SILENCE, seen.changed()).await {
            if moved.is_err() {
                tokio::time::sleep(AFTERWARDS).await;
                return format!("nothing was heard for {} s after the last file", AFTERWARDS.as_secs());
            }
        }
        format!("its files stood still for {} s", SILENCE.as_secs())
    };
    tokio::select! {
        taken = taking => Ok(taken),
        why = standing_still => Err(why),
    }
}

struct Watched {
    content: KeptStream,
    progress: watch::Sender<()>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(context));
        // The move may have ended meanwhile.
        let _ = self.progress.send(());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    #[tokio::test(start_paused = true)]
    async fn stream_that_stands_still_is_ended() {
        let whole = Full::new(Bytes::from("content")).map_err(|never| match never {}).boxed_unsync();
        let taken = watched(whole, async |content| content.collect().await.unwrap().to_bytes()).await;
        assert_eq!(taken.unwrap(), "content");
        let stuck =
            StreamBody::new(futures_util::stream::pending::<io::Result<Frame<Bytes>>>()).boxed_unsync();
        let ended = watched(stuck, async |content| content.collect().await.map(drop)).await;
        assert_eq!(ended.unwrap_err(), "its files stood still for 90 s");
        let whole = Full::new(Bytes::from("content")).map_err(|never| match never {}).boxed_unsync();
        let ended = watched(whole, async |content| {
            content.collect().await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(ended.await.unwrap_err(), "nothing was heard for 660 s after the last file");
    }
}
