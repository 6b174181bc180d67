//! Asks the service manager for more time while a start takes long, as with many clients or a slow bus.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How much time is asked for at once.
const STEP: Duration = Duration::from_secs(30);
/// How long more time is asked for. A start that takes longer hangs.
const MOST: Duration = Duration::from_secs(600);

/// Waits for the work, and calls `extend` for more time well before the last has passed.
pub(super) async fn extend_start_timeout<T>(work: impl Future<Output = T>, extend: impl Fn(Duration)) -> T {
    let mut work = std::pin::pin!(work);
    let begin = Instant::now();
    loop {
        // After that the loop only waits, and the service manager ends the start when its time is over.
        if begin.elapsed() < MOST {
            extend(STEP);
        }
        // Half of a step, so that a message that is late still comes in time. The timeout drops a borrow, and the work goes on.
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

    /// The seconds at which more time was asked for during work of `seconds`.
    async fn asked_while(seconds: u64) -> Vec<u64> {
        let (begin, asked) = (Instant::now(), Mutex::new(Vec::new()));
        let extend = |time| {
            assert_eq!(time, STEP);
            asked.lock().unwrap().push(begin.elapsed().as_secs());
        };
        extend_start_timeout(sleep(Duration::from_secs(seconds)), extend).await;
        asked.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn extends_the_start_timeout_every_15_s_for_10_min() {
        assert_eq!(asked_while(1).await, [0]);
        assert_eq!(asked_while(40).await, [0, 15, 30]);
        let asked = asked_while(3600).await;
        assert_eq!((asked.len(), asked.last()), (40, Some(&585)));
    }
}
