//! Tasks that do not fail unnoticed.

use std::panic::resume_unwind;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// Runs a task that lasts as long as the handle that is returned: one that panics is restarted. `what` names it in the log.
pub fn spawn_supervised<F>(
    what: &'static str,
    start: impl Fn() -> F + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        // The inner task would outlive an aborted outer one without a handle of this kind.
        while let Err(broken) = AbortOnDropHandle::new(tokio::spawn(start())).await {
            error!(error = %broken, "{what} failed ({broken}); restarting it in 1 s");
            // A task that panics at once would fill the log without the pause.
            sleep(Duration::from_secs(1)).await;
        }
    }))
}

/// Does work that blocks on a thread for such work. A panic there goes on in the caller: a default in the place of the result could be
/// taken for the truth.
pub async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // It was not begun, because the runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn task_that_panics_is_restarted() {
        let (began, mut begins) = mpsc::unbounded_channel();
        let times = AtomicU32::new(0);
        let _task = spawn_supervised("a test", move || {
            let (began, time) = (began.clone(), times.fetch_add(1, Ordering::Relaxed));
            async move {
                began.send(time).unwrap();
                assert!(time > 0, "a test");
                std::future::pending().await
            }
        });
        assert_eq!((begins.recv().await, begins.recv().await), (Some(0), Some(1)));
    }

    #[tokio::test]
    async fn panic_of_blocking_work_goes_on_in_its_caller() {
        assert_eq!(on_blocking_thread(|| 7).await, 7);
        let caller = tokio::spawn(on_blocking_thread(|| panic!("a test")));
        assert!(caller.await.unwrap_err().is_panic());
    }
}
