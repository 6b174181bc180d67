//! The watchdog of the service manager, which restarts a controller that hangs.
//!
//! A beat proves a round trip through the actor of each registry and a timer of the runtime that fired. A slow bus, a slow
//! disk and threads that all wait do not stop it: a restart would not help there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::service::notify::Notifier;

/// How often the registries are asked where the unit has no `WatchdogSec=`, for the metrics alone.
const PAUSE: Duration = Duration::from_secs(10);

/// Sends a beat every `pause` while both registries answer; without a pause only `metrics` get one.
pub(super) async fn beat(
    registries: [Registry; 2],
    notifier: Notifier,
    metrics: Arc<Metrics>,
    pause: Option<Duration>,
) {
    let mut interval = interval(pause.unwrap_or(PAUSE));
    // A late beat is not made up for: several at once prove no more than one.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // An actor that hangs never answers; one that is gone is an error.
        let [clients, implementations] = &registries;
        if clients.ping().await.and(implementations.ping().await).is_ok() {
            metrics.beat();
            if pause.is_some() {
                notifier.beat().await;
            }
        }
    }
}
