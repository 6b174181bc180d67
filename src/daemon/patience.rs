//! A start that takes long, as with many clients or a bus that is slow, is not taken for one that hangs.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How much time the service manager is asked for at once.
const STEP: Duration = Duration::from_secs(30);
/// How long it is asked for more; then something is wrong.
const MOST: Duration = Duration::from_secs(600);

/// Waits for the work, and asks for more time by `extend` again and again, long before the last has passed.
pub(super) async fn patiently<T>(work: impl Future<Output = T>, extend: impl AsyncFn(Duration)) -> T {
    let mut work = std::pin::pin!(work);
    let begin = Instant::now();
    loop {
        if begin.elapsed() < MOST {
            extend(STEP).await;
        }
        if let Ok(done) = timeout(STEP / 2, &mut work).await {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::sleep;

    /// When more time was asked for while something took `seconds`, in seconds from its begin.
    async fn asked_while(seconds: u64) -> Vec<u64> {
        let (begin, asked) = (Instant::now(), Mutex::new(Vec::new()));
        let extend = async |time| {
            assert_eq!(time, STEP);
            asked.lock().unwrap().push(begin.elapsed().as_secs());
        };
        patiently(sleep(Duration::from_secs(seconds)), extend).await;
        asked.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn more_time_is_asked_for_as_long_as_it_may_take() {
        assert_eq!(asked_while(1).await, [0]);
        assert_eq!(asked_while(40).await, [0, 15, 30]);
        let asked = asked_while(3600).await;
        assert_eq!((asked.len(), asked.last()), (40, Some(&585)));
    }
}
