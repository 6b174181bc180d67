//! [`SendClaim`]: decides the race between sending a message and giving it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

// Two bits: a message can be begun and unwanted. If it turns out that nothing was written, `release` withdraws it.
const BEGUN: u8 = 1;
const UNWANTED: u8 = 2;

/// Shared by the caller of a send and the backend: each message is either begun or withdrawn, never both.
#[derive(Clone, Default)]
pub(crate) struct SendClaim {
    state: Arc<AtomicU8>,
    withdrawn: CancellationToken,
    /// Called with true before the first byte is written, and with false if it turns out that none was.
    on_change: Option<Arc<dyn Fn(bool) + Send + Sync>>,
}

impl SendClaim {
    /// A claim that calls `on_change` with whether the message is begun: before the first byte is written, and
    /// again if none was.
    pub(crate) fn noted(on_change: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self { on_change: Some(Arc::new(on_change)), ..Self::default() }
    }

    /// Begins the message. Must be called before the first byte is written; false means that it was withdrawn
    /// and must not be sent.
    pub(crate) fn begin(&self) -> bool {
        let is_ours = self.state.compare_exchange(0, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        // After the exchange: a withdrawn message must not be noted as begun.
        if let (true, Some(on_change)) = (is_ours, &self.on_change) {
            on_change(true);
        }
        is_ours
    }

    /// Whether it is begun, so that the message may be sent.
    pub(crate) fn is_begun(&self) -> bool {
        self.state.load(Ordering::Acquire) & BEGUN != 0
    }

    /// Reports that nothing was written after all: the message can be begun or withdrawn again.
    pub(crate) fn release(&self) {
        // Before the state changes: a `begin` in between would note true, and this call would overwrite it with false.
        if let Some(on_change) = &self.on_change {
            on_change(false);
        }
        if self.state.fetch_and(!BEGUN, Ordering::AcqRel) & UNWANTED != 0 {
            self.withdrawn.cancel();
        }
    }

    /// Gives the message up. True: it will not be sent. False: it was begun before; it is not retried if
    /// nothing of it was written.
    pub(crate) fn withdraw(&self) -> bool {
        let is_withdrawn = self.state.fetch_or(UNWANTED, Ordering::AcqRel) & BEGUN == 0;
        if is_withdrawn {
            self.withdrawn.cancel();
        }
        is_withdrawn
    }

    /// Returns once the message is withdrawn.
    pub(crate) fn withdrawn(&self) -> WaitForCancellationFuture<'_> {
        self.withdrawn.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_is_either_begun_or_withdrawn() {
        let begun = SendClaim::default();
        assert!(begun.begin() && !begun.begin(), "only once");
        assert!(!begun.withdraw() && !begun.withdrawn.is_cancelled());

        let withdrawn = SendClaim::default();
        assert!(withdrawn.withdraw() && withdrawn.withdrawn.is_cancelled());
        assert!(!withdrawn.begin());
    }

    #[test]
    fn released_claim_can_be_begun_again_unless_withdrawn() {
        let claim = SendClaim::default();
        assert!(claim.begin());
        claim.release();
        assert!(claim.begin());
        assert!(!claim.withdraw());
        claim.release();
        assert!(claim.withdrawn.is_cancelled() && !claim.begin());
    }
}
