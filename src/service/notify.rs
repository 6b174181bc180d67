//! What the service manager is told (sd_notify(3)), and how often it wants to hear that all is well.
//!
//! Without a service manager (`NOTIFY_SOCKET` is not set) nothing is sent. A message waits as long as the service manager
//! takes none, so each is sent on a thread where that holds up nobody.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Whether somebody listens.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// All is set up, or was read again.
pub async fn ready(status: String) {
    tell(move || sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])).await;
}

/// How it goes, in one line.
pub async fn status(status: String) {
    tell(move || sd_notify::notify(&[NotifyState::Status(&status)])).await;
}

/// The configuration is being read again; [`ready`] follows.
pub async fn reloading() {
    // The moment tells systemd from version 253 that this is the answer to its order, and not to an earlier one.
    tell(|| sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])).await;
}

/// The end has begun, and takes no longer than `time`.
pub async fn stopping(time: Duration) {
    tell(move || sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros(time))]))
        .await;
}

/// What goes on now takes no longer than `time` from now, whatever was allowed for it.
pub async fn extend(time: Duration) {
    tell(move || sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros(time))])).await;
}

/// All is well.
pub async fn beat() {
    tell(|| sd_notify::notify(&[NotifyState::Watchdog])).await;
}

/// Why this is the end. `errno` is the error that the system gave, if it was one. Waits for the service manager, so only
/// the last thing that is done.
pub fn failed(why: &str, errno: Option<i32>) {
    // Its protocol has one line for each word.
    let why = why.replace('\n', "; ");
    let mut words = vec![NotifyState::Status(&why)];
    words.extend(errno.and_then(|errno| u32::try_from(errno).ok()).map(NotifyState::Errno));
    // As below; there is nobody else to tell.
    let _ = sd_notify::notify(&words);
}

/// The time between two beats: half of what the service manager waits for one (sd_watchdog_enabled(3)). None where it
/// waits for none.
pub fn beat_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}

async fn tell(send: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    if !is_heard() {
        return;
    }
    // Fails only when the runtime ends.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(send).await {
        debug!(%error, "the service manager can't be told how it goes");
    }
}

fn micros(time: Duration) -> u32 {
    // An hour and more: as far as the field goes.
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
