//! [`DiskSync`]: when waiting reports are synced to disk.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::at;
use crate::client::reports::reporter::ReportQueue;

/// How long waiting reports may stay unsynced, where a power loss would lose them.
const SYNC_TIME: Duration = Duration::from_secs(1);

/// Syncs new reports to disk while reports are held up, but not while they come and go. Retries what the disk
/// did not accept.
#[derive(Default)]
pub(crate) struct DiskSync {
    due: Option<Instant>,
    running: Option<JoinHandle<std::io::Result<()>>>,
}

impl DiskSync {
    /// Schedules a sync if reports are held up.
    pub(crate) fn arrange(&mut self, outgoing: &ReportQueue, is_held_up: bool) {
        if !is_held_up {
            // Reports flow again, and those that come and go need no sync.
            self.due = None;
        } else if self.due.is_none() && self.running.is_none() && outgoing.spool().has_unwritten() {
            // Further reports do not put a sync off. One at a time, as a slow disk must not fill the blocking threads.
            self.due = Some(Instant::now() + SYNC_TIME);
        }
    }

    /// Does the next due step, and returns. Cancel-safe.
    pub(crate) async fn due(&mut self, outgoing: &ReportQueue) {
        if let Some(running) = &mut self.running {
            // By reference: if this future is dropped, the next call waits for the same sync.
            let synced = running.await;
            self.running = None;
            if let Ok(Err(error)) = synced {
                warn!("cannot sync waiting reports to disk: {error}; a power loss would lose them");
            }
            return;
        }
        at(self.due).await;
        self.due = None;
        let mut spool = outgoing.spool();
        spool.flush_to_disk();
        // On a thread: fdatasync(2) may take seconds on a busy disk.
        self.running = spool.unsynced().map(|unsynced| tokio::task::spawn_blocking(move || unsynced.sync()));
    }
}
