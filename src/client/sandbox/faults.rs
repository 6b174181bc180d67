//! [`Faults`]: deliberate faults, to test programs against. All are regular, none is random.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::client::backend::BackendError;
use crate::client::settings::FaultSettings;

/// A fault that ends a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFault {
    /// The connection is lost; the login is still good.
    Dropped,
    /// The login is no longer good.
    Expired,
}

/// The configured faults.
pub(crate) struct Faults {
    settings: FaultSettings,
    sent: AtomicU32,
}

impl Faults {
    pub(crate) fn new(settings: FaultSettings) -> Self {
        Self { settings, sent: AtomicU32::new(0) }
    }

    /// Waits for the fault that ends a new login; forever if there is none.
    pub(crate) async fn end_of_login(&self) -> LoginFault {
        async fn after(time: Option<Duration>) {
            match time {
                Some(time) => sleep(time).await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = after(self.settings.drop) => LoginFault::Dropped,
            () = after(self.settings.expire) => LoginFault::Expired,
        }
    }

    /// Applies the faults of sending to a message.
    pub(crate) async fn before_sending(&self) -> Result<(), BackendError> {
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
