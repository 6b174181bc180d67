//! [`TaskGroup`]: the tasks of the client. None of them ends unnoticed, and all end together. Services, which
//! other tasks need (the connection over which messages are answered, the delivery of reports), end last.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long tasks may take to end; a little more than each takes by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long services may take to end after that.
const SERVICES_STOP_TIMEOUT: Duration = Duration::from_millis(2500);

/// The running tasks. Dropping it aborts all of them.
#[derive(Default)]
pub(crate) struct TaskGroup {
    tasks: JoinSet<()>,
    stopping: CancellationToken,
    /// Those that other tasks need.
    services: JoinSet<()>,
    services_stopping: CancellationToken,
    /// Of both, as a task that panics cannot give its name itself.
    names: HashMap<Id, &'static str>,
}

/// On the heap: a task is kilobytes large, and the stack that it passes through would stay with the process.
type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

impl TaskGroup {
    /// Runs a task that is cancelled at any await point when the client stops.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(until_cancelled(self.stopping.clone(), Box::pin(task))).id();
        self.names.insert(id, name);
    }

    /// Runs a service that is cancelled at any await point once the tasks have ended.
    pub(crate) fn spawn_service(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.services.spawn(until_cancelled(self.services_stopping.clone(), Box::pin(task))).id();
        self.names.insert(id, name);
    }

    /// Runs a task that ends by itself after [`TaskGroup::stopping`].
    pub(crate) fn spawn_graceful(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task: BoxedTask = Box::pin(task);
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Runs a service that ends by itself after [`TaskGroup::services_stopping`].
    pub(crate) fn spawn_graceful_service(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task: BoxedTask = Box::pin(task);
        self.names.insert(self.services.spawn(task).id(), name);
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
            Some(ended) = self.tasks.join_next_with_id() => ended,
            Some(ended) = self.services.join_next_with_id() => ended,
            else => return "there are no tasks".to_owned(),
        };
        let name = |id| self.names.get(&id).copied().unwrap_or("a task");
        match ended {
            Ok((id, ())) => format!("{} ended", name(id)),
            // Before `end` no task is aborted, so the error is a panic.
            Err(panic) => format!("{}: {panic}", name(panic.id())),
        }
    }

    /// Ends all tasks, then the services. Aborts those that take too long. What comes from `events` before the services are to
    /// end goes to `report`.
    pub(crate) async fn end<E>(&mut self, events: &mut mpsc::Receiver<E>, mut report: impl FnMut(E)) {
        self.stopping.cancel();
        {
            let mut drained = std::pin::pin!(drain(&mut self.tasks, STOP_TIMEOUT));
            loop {
                tokio::select! {
                    () = &mut drained => break,
                    Some(event) = events.recv() => report(event),
                }
            }
        }
        // Services may not take reports any more once they are to end.
        while let Ok(event) = events.try_recv() {
            report(event);
        }
        self.services_stopping.cancel();
        drain(&mut self.services, SERVICES_STOP_TIMEOUT).await;
    }
}

async fn until_cancelled(until: CancellationToken, task: BoxedTask) {
    until.run_until_cancelled(task).await;
}

async fn drain(tasks: &mut JoinSet<()>, time: Duration) {
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

    async fn end(group: &mut TaskGroup) {
        group.end(&mut mpsc::channel::<()>(1).1, drop).await;
    }

    #[tokio::test]
    async fn first_exit_names_the_task() {
        let mut group = TaskGroup::default();
        group.spawn("the first", std::future::pending());
        group.spawn("the second", std::future::ready(()));
        assert_eq!(group.first_exit().await, "the second ended");
        group.spawn("the third", async { panic!("out of tape") });
        let panicked = group.first_exit().await;
        assert!(panicked.starts_with("the third: ") && panicked.contains("out of tape"), "{panicked}");
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
        end(&mut group).await;
        assert_eq!(is_done.await, Ok(()), "it had time to end by itself");

        let mut group = TaskGroup::default();
        let before = tokio::time::Instant::now();
        group.spawn_graceful("the third", std::future::pending());
        end(&mut group).await;
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
        end(&mut group).await;
        assert_eq!(before.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_reported_until_the_services_end() {
        let (mut group, (event, mut events)) = (TaskGroup::default(), mpsc::channel(1));
        let (stopping, services_stopping) = (group.stopping(), group.services_stopping());
        let last = event.clone();
        group.spawn_service("the backend", async move {
            stopping.cancelled().await;
            // More than may wait, while the outbox goes on.
            for number in 0..3 {
                event.send(number).await.unwrap();
            }
        });
        let stopping = group.stopping();
        group.spawn_graceful("the outbox", async move {
            stopping.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            last.send(3).await.unwrap();
        });
        let mut reported = Vec::new();
        let report = |event| {
            assert!(!services_stopping.is_cancelled(), "the deliverer may be gone");
            reported.push(event);
        };
        group.end(&mut events, report).await;
        assert_eq!(reported, [0, 1, 2, 3]);
    }
}
