//! [`Faults`]: what goes wrong on purpose, so that a program can be tried against it. All is regular, nothing random.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::client::backend::BackendError;
use crate::client::settings::FaultSettings;

/// What ends a login on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is lost; the login is still good.
    Dropped,
    /// The login is no longer good.
    Expired,
}

/// What goes wrong on purpose.
pub(super) struct Faults {
    settings: FaultSettings,
    sent: AtomicU32,
}

impl Faults {
    pub(super) fn new(settings: FaultSettings) -> Self {
        Self { settings, sent: AtomicU32::new(0) }
    }

    /// Waits for what ends a login that has just begun; for ever, where nothing is to.
    pub(super) async fn end_of_login(&self) -> Fault {
        async fn after(time: Option<Duration>) {
            match time {
                Some(time) => sleep(time).await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = after(self.settings.drop) => Fault::Dropped,
            () = after(self.settings.expire) => Fault::Expired,
        }
    }

    /// What every message goes through first.
    pub(super) async fn before_sending(&self) -> Result<(), BackendError> {
        if let Some(delay) = self.settings.delay {
            sleep(delay).await;
        }
        let sent = self.sent.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        match self.settings.fail {
            Some(every) if sent.is_multiple_of(every) => {
                Err(BackendError::Refused("sandbox_fault_fail lets this message fail".into()))
            }
            _ => Ok(()),
        }
    }
}
