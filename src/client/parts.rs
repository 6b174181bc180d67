//! The tasks that a client consists of: none of them ends unnoticed, and all end together.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long everything may take to end; a little more than each part takes by itself.
const END_TIME: Duration = Duration::from_secs(4);

/// The parts that run. Dropped, all of them end at once.
#[derive(Default)]
pub(super) struct Parts {
    running: JoinSet<&'static str>,
    ending: CancellationToken,
}

/// On the heap, for a part is kilobytes large, and the stack that each would pass through stays with the process.
type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Parts {
    /// Runs a part that ends wherever it waits, as soon as the client does.
    pub(super) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.spawn_cut(name, Box::pin(part));
    }

    fn spawn_cut(&mut self, name: &'static str, part: Part) {
        let until_end = self.ending.clone();
        self.running.spawn(async move {
            until_end.run_until_cancelled(part).await;
            name
        });
    }

    /// Runs a part that has something to do at the end, and ends by itself after [`Parts::ending`].
    pub(super) fn spawn_ending(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn_whole(name, Box::pin(part));
    }

    fn spawn_whole(&mut self, name: &'static str, part: Part) {
        self.running.spawn(async move {
            part.await;
            name
        });
    }

    /// Cancelled as soon as the client ends.
    pub(super) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// Waits until a part ends that should not, and says what happened. It can be dropped and asked again.
    pub(super) async fn broken(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok(name)) => format!("{name} ended"),
            Some(Err(panic)) => panic.to_string(),
            None => "it has no parts".to_owned(),
        }
    }

    /// Ends all parts, and cuts off what takes too long.
    pub(super) async fn end(&mut self) {
        self.ending.cancel();
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIME, ended).await.is_err() {
            warn!("Some parts of the client did not end in time and are cut off.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_named() {
        let mut parts = Parts::default();
        parts.spawn("the first", std::future::pending());
        parts.spawn("the second", std::future::ready(()));
        assert_eq!(parts.broken().await, "the second ended");
        parts.spawn("the third", async { panic!("out of tape") });
        assert!(parts.broken().await.contains("out of tape"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_parts_end_and_one_that_does_not_is_cut_off() {
        let mut parts = Parts::default();
        let (done, is_done) = tokio::sync::oneshot::channel();
        parts.spawn("the first", std::future::pending());
        let ending = parts.ending();
        parts.spawn_ending("the second", async move {
            ending.cancelled().await;
            done.send(()).unwrap_or_default();
        });
        parts.end().await;
        assert_eq!(is_done.await, Ok(()), "it had time to end by itself");

        let mut parts = Parts::default();
        let before = tokio::time::Instant::now();
        parts.spawn_ending("the third", std::future::pending());
        parts.end().await;
        assert_eq!(before.elapsed(), END_TIME);
    }
}
