//! The watchdog: the service manager is told that all is well as long as it is, and starts us anew when it does not hear
//! that any more.
//!
//! A beat stands for a round trip through the registry's actor, and for a timer of the runtime that fired. What others do,
//! such as a bus or a disk, is no part of it: a new start would not help there.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::registry::Registry;
use crate::service::notify;

/// Beats every `pause` as long as all is well.
pub(super) async fn beat(registry: Registry, pause: Duration) {
    let mut interval = interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // An actor that hangs never answers, and one that is gone can't.
        if registry.ping().await.is_ok() {
            notify::beat().await;
        }
    }
}
