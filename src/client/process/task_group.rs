//! [`TaskGroup`]: the tasks of the client. None of them ends unnoticed, and all end together. Services, which
//! other tasks need (the connection over which messages are answered, the delivery of reports), end last.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long tasks may take to end; a little more than each takes by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long services may take to end after that.
const SERVICES_STOP_TIMEOUT: Duration = Duration::from_millis(2500);

/// The running tasks. Dropping it aborts all of them.
#[derive(Default)]
pub(crate) struct TaskGroup {
    tasks: JoinSet<&'static str>,
    stopping: CancellationToken,
    /// Those that other tasks need.
    services: JoinSet<&'static str>,
    services_stopping: CancellationToken,
}

/// On the heap: a task is kilobytes large, and the stack that it passes through would stay with the process.
type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

impl TaskGroup {
    /// Runs a task that is cancelled at any await point when the client stops.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        spawn(&mut self.tasks, until_cancelled(self.stopping.clone(), name, Box::pin(task)));
    }

    /// Runs a service that is cancelled at any await point once the tasks have ended.
    pub(crate) fn spawn_service(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        spawn(&mut self.services, until_cancelled(self.services_stopping.clone(), name, Box::pin(task)));
    }

    /// Runs a task that ends by itself after [`TaskGroup::stopping`].
    pub(crate) fn spawn_graceful(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        spawn(&mut self.tasks, to_completion(name, Box::pin(task)));
    }

    /// Runs a service that ends by itself after [`TaskGroup::services_stopping`].
    pub(crate) fn spawn_graceful_service(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        spawn(&mut self.services, to_completion(name, Box::pin(task)));
    }

    /// Cancelled when the client stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled once all tasks have ended, when services are to end.
    pub(crate) fn services_stopping(&self) -> CancellationToken {
        self.services_stopping.clone()
    }

    /// Waits until a task ends unexpectedly, and says which. Cancel-safe.
    pub(crate) async fn first_exit(&mut self) -> String {
        // A set without tasks yields `None`, which only disables its branch.
        let ended = tokio::select! {
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.services.join_next() => ended,
            else => return "there are no tasks".to_owned(),
        };
        match ended {
            Ok(name) => format!("{name} ended"),
            // Before `end` no task is aborted, so the error is a panic.
            Err(panic) => panic.to_string(),
        }
    }

    /// Ends all tasks, then the services. Aborts those that take too long.
    pub(crate) async fn end(&mut self) {
        self.stopping.cancel();
        drain(&mut self.tasks, STOP_TIMEOUT).await;
        self.services_stopping.cancel();
        drain(&mut self.services, SERVICES_STOP_TIMEOUT).await;
    }
}

fn spawn(set: &mut JoinSet<&'static str>, task: impl Future<Output = &'static str> + Send + 'static) {
    set.spawn(task);
}

async fn until_cancelled(until: CancellationToken, name: &'static str, task: BoxedTask) -> &'static str {
    until.run_until_cancelled(task).await;
    name
}

async fn to_completion(name: &'static str, task: BoxedTask) -> &'static str {
    task.await;
    name
}

async fn drain(tasks: &mut JoinSet<&'static str>, time: Duration) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(time, ended).await.is_err() {
        warn!("aborted tasks that did not end within {} s", time.as_secs_f32());
        // Not awaited: an abort takes effect at the next await, and a task that blocks would hold up the end.
        tasks.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_exit_names_the_task() {
        let mut group = TaskGroup::default();
        group.spawn("the first", std::future::pending());
        group.spawn("the second", std::future::ready(()));
        assert_eq!(group.first_exit().await, "the second ended");
        group.spawn("the third", async { panic!("out of tape") });
        assert!(group.first_exit().await.contains("out of tape"));
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_do_not_end_are_aborted() {
        let mut group = TaskGroup::default();
        let (done, is_done) = tokio::sync::oneshot::channel();
        group.spawn("the first", std::future::pending());
        let stopping = group.stopping();
        group.spawn_graceful("the second", async move {
            stopping.cancelled().await;
            done.send(()).unwrap_or_default();
        });
        group.end().await;
        assert_eq!(is_done.await, Ok(()), "it had time to end by itself");

        let mut group = TaskGroup::default();
        let before = tokio::time::Instant::now();
        group.spawn_graceful("the third", std::future::pending());
        group.end().await;
        assert_eq!(before.elapsed(), STOP_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn services_end_after_tasks() {
        let mut group = TaskGroup::default();
        let (stopping, services_stopping) = (group.stopping(), group.services_stopping());
        group.spawn_service("the backend", std::future::pending());
        group.spawn_graceful("the outbox", async move {
            stopping.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!services_stopping.is_cancelled(), "it is still needed");
        });
        let before = tokio::time::Instant::now();
        group.end().await;
        assert_eq!(before.elapsed(), Duration::from_secs(1));
    }
}
