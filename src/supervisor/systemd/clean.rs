//! How what a unit kept on disk is removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::SystemdConnection;
use super::error::BusError;
use super::manager::{SERVICE, UNIT};
use super::{UnitKind, Units};
use crate::model::name::UnitId;

/// What is removed (systemd.exec(5), `StateDirectory=` and the like). Not the configuration, which is the operator's.
const FOLDERS: [&str; 4] = ["runtime", "state", "cache", "logs"];
/// How long the removal may take: a message queue and a login are a few files, and a disk may be slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Why what a unit kept on disk is not removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// It runs, or is about to.
    #[error("{0} runs, or has a job in systemd")]
    Busy(Arc<str>),
    /// systemd can't be reached, or refuses.
    #[error("{0}")]
    Bus(Arc<str>, #[source] BusError),
    /// A transient unit is not there any more once it has ended, and systemd does not know its folders.
    #[error("{0} is a transient unit, whose folders systemd does not know; remove them by hand")]
    Transient(Arc<str>),
    /// It is still being done.
    #[error("systemd is still removing the folders of {0}")]
    Slow(Arc<str>),
    /// systemd tried.
    #[error("systemd could not remove the folders of {0} ({1})")]
    Failed(Arc<str>, String),
}

impl CleanError {
    /// Whether the connection to systemd was lost.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Bus(_, error) if error.is_lost())
    }
}

impl Units {
    /// Removes the folders of the unit of the client with this ID: its state, cache, logs and runtime folders. Returns when they are
    /// gone. It is no error if there are none.
    ///
    /// # Errors
    /// See [`CleanError`].
    pub async fn clean(&self, id: &UnitId) -> Result<(), CleanError> {
        let unit = self.unit_of(id);
        if self.shared.settings.unit == UnitKind::Transient {
            return Err(CleanError::Transient(unit));
        }
        let failed = |error| CleanError::Bus(unit.clone(), error);
        // Only what is inactive is cleaned, and a unit that has failed is not (systemd, `unit_clean`).
        self.shared.reset(&unit).await.map_err(failed)?;
        let bus = &self.shared.bus;
        let clean = || {
            let clean = async |link: SystemdConnection| link.manager.clean_unit(&unit, &FOLDERS).await;
            bus.call("CleanUnit", clean)
        };
        let give_up = Instant::now() + PATIENCE;
        loop {
            match bus.retry(clean).await {
                Ok(()) => break,
                Err(error) if error.is_nothing_to_clean() => return Ok(()),
                // By another call, or by the one that was lost with the connection.
                Err(error) if error.is_busy() && self.is_cleaned(&unit).await.map_err(failed)? => {
                    self.wait_until_clean(&unit, give_up).await?;
                }
                Err(error) if error.is_busy() => return Err(CleanError::Busy(unit)),
                Err(error) => return Err(failed(error)),
            }
        }
        self.wait_until_clean(&unit, give_up).await?;
        let result = bus.property(&unit, SERVICE, "CleanResult").await.map_err(failed)?;
        match <&str>::try_from(&result) {
            Ok("success") => Ok(()),
            other => Err(CleanError::Failed(unit, other.unwrap_or("no result").to_owned())),
        }
    }

    /// Waits until systemd has ended the removal: the call returns when it has begun it, and there is no job.
    async fn wait_until_clean(&self, unit: &Arc<str>, give_up: Instant) -> Result<(), CleanError> {
        let mut pause = Duration::from_millis(2);
        while self.is_cleaned(unit).await.map_err(|error| CleanError::Bus(unit.clone(), error))? {
            if Instant::now() > give_up {
                return Err(CleanError::Slow(unit.clone()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Whether systemd is removing folders of a unit just now.
    async fn is_cleaned(&self, unit: &str) -> Result<bool, BusError> {
        let state = self.shared.bus.property(unit, UNIT, "ActiveState").await?;
        Ok(<&str>::try_from(&state) == Ok("maintenance"))
    }
}
