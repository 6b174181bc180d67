//! How a unit is ended.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::Shared;
use super::error::BusError;
use crate::model::chain::Chain;
use crate::supervisor::StopError;

/// How long a unit may take to end after SIGKILL before it is called immortal.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) async fn stop(
        &self,
        unit: &Arc<str>,
        invocation: &str,
        pid: u32,
        grace: Duration,
    ) -> Result<(), StopError> {
        let Some(mut end) = self.bus.table().ask_stop(unit, invocation) else { return Ok(()) };
        let kill_at = Instant::now() + grace;
        let mut failure = None;
        // Asks again when the bus was lost: then it is not known whether systemd heard.
        for _ in 0..3 {
            let stop =
                self.bus.call("StopUnit", async |link| link.manager.stop_unit(unit, "replace").await).await;
            match stop {
                Ok(_) => failure = None,
                Err(error) if error.is_no_unit() => failure = None,
                Err(error) if error.is_lost() => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => failure = Some(error),
            }
            break;
        }
        if let Some(error) = failure {
            self.bus.table().take_stop_back(unit);
            return Err(StopError::Bus(unit.clone(), error));
        }
        let in_time = tokio::select! {
            biased;
            failed = ended(&mut end) => Some(failed),
            () = sleep_until(kill_at) => None,
        };
        let failed = match in_time {
            Some(failed) => failed,
            None => {
                if !grace.is_zero() {
                    warn!(unit = %unit, "the client does not end by SIGTERM, it is killed");
                }
                let kill = self.bus.call("KillUnit", async |link| {
                    link.manager.kill_unit(unit, "all", Signal::KILL.as_raw()).await
                });
                if let Err(error) = kill.await {
                    debug!(unit = %unit, error = %Chain(&error), "the unit can't be killed");
                }
                match timeout_at(kill_at.max(Instant::now()) + KILL_PATIENCE, ended(&mut end)).await {
                    Ok(failed) => failed,
                    Err(_) => {
                        self.bus.table().take_stop_back(unit);
                        return Err(StopError::Immortal { pid });
                    }
                }
            }
        };
        if failed {
            // It ended as it should, so it is not to be listed as failed.
            if let Err(error) = self.reset(unit).await {
                debug!(unit = %unit, error = %Chain(&error), "the unit can't be reset");
            }
        }
        Ok(())
    }

    /// Has systemd forget that a unit failed.
    pub(super) async fn reset(&self, unit: &str) -> Result<(), BusError> {
        let reset =
            || self.bus.call("ResetFailedUnit", async |link| link.manager.reset_failed_unit(unit).await);
        match self.bus.again(reset).await {
            Err(error) if !error.is_no_unit() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Waits for the end of a process; whether its unit then counts as failed.
async fn ended(end: &mut tokio::sync::watch::Receiver<Option<bool>>) -> bool {
    // Without a sender it is gone, too.
    end.wait_for(Option::is_some).await.map(|failed| failed.unwrap_or(false)).unwrap_or(false)
}
