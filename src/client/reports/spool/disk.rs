//! The spool's side towards its files.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::lanes::Lanes;
use super::trouble::FailureLog;
use super::{DroppedReports, MAX_IN_MEMORY, QueuedReport, Spool, TextLocation};
use crate::client::process::unix_seconds;
use crate::client::reports::wal::codec::Record;
use crate::client::reports::wal::{Recovered, Unsynced, WriteAheadLog};
use crate::model::error_chain::ErrorChain;

impl Spool {
    /// Opens the spool in `folder`, for at most `most` reports. An unusable folder is logged, and reports are
    /// kept in memory.
    pub(crate) fn open(folder: &Path, most: usize) -> Self {
        let mut spool = Self {
            entries: BTreeMap::new(),
            lanes: Lanes::default(),
            tried: BTreeMap::new(),
            journal: None,
            appending: FailureLog::default(),
            cursor: FailureLog::default(),
            reading: FailureLog::default(),
            // Seeded by the system.
            run: RandomState::new().hash_one(std::process::id()),
            next_seq: 1,
            most,
            bytes: 0,
            in_memory: (VecDeque::new(), 0),
            dropped: DroppedReports::default(),
        };
        let mut stale = Vec::new();
        let now = Instant::now();
        let found = |Recovered { record, place, lane }| {
            // The login code of an earlier client has expired.
            if record.is_code {
                stale.push((record.seq, place));
                return true;
            }
            // A record may occur twice, as after a file was restored from a copy.
            if spool.entries.contains_key(&record.seq) {
                return false;
            }
            spool.bytes += place.bytes();
            let entry = QueuedReport {
                run: record.run,
                lane,
                // Not the time of the record, when the clock may have been wrong by years, as after a start
                // without a battery. The number of reports that pile up over runs is bounded all the same.
                came: now,
                bytes: place.bytes(),
                is_code: false,
                text: TextLocation::Disk(place),
                source: None,
            };
            spool.entries.insert(record.seq, entry);
            spool.lanes.push(lane, record.seq);
            true
        };
        match WriteAheadLog::open(folder, found) {
            Ok((mut journal, next_seq)) => {
                // Only here, because there is no journal yet while it is read.
                stale.into_iter().for_each(|(seq, place)| journal.release(seq, Some(place)));
                spool.tried.clone_from(journal.tried());
                // Attempts without a report would take up places of the cursor for ever.
                spool.tried.retain(|seq, _| spool.entries.contains_key(seq));
                spool.journal = Some(journal);
                spool.next_seq = next_seq;
            }
            Err(error) => {
                error!(
                    "cannot keep reports on disk: {}; those that wait when this client ends are lost",
                    ErrorChain(&error)
                );
            }
        }
        if !spool.entries.is_empty() {
            info!("delivering {} reports that an earlier run left", spool.entries.len());
        }
        spool.enforce_limits();
        spool
    }

    /// See [`WriteAheadLog::unsynced`].
    pub(crate) fn unsynced(&mut self) -> Option<Unsynced> {
        self.journal.as_mut()?.unsynced()
    }

    /// Whether anything has to be written or synced.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_unsynced() || !self.in_memory.0.is_empty())
    }

    /// Writes texts in memory to disk, in order, as far as the disk accepts them.
    pub(crate) fn flush_to_disk(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let (mut written, mut some) = (journal.mend(), false);
        while let (Some(&seq), Ok(())) = (self.in_memory.0.front(), &written) {
            let Some(entry) = self.entries.get_mut(&seq) else { break };
            let TextLocation::Memory(text) = &entry.text else { break };
            let time = unix_seconds().saturating_sub(entry.came.elapsed().as_secs());
            match journal.append(&Record { seq, run: entry.run, time, is_code: entry.is_code, text }) {
                Ok(place) => {
                    entry.text = TextLocation::Disk(place);
                    self.in_memory.0.pop_front();
                    self.in_memory.1 -= entry.bytes;
                    some = true;
                }
                Err(error) => written = Err(error),
            }
        }
        match written {
            Err(error) if self.appending.should_log_failure() => {
                warn!(
                    "cannot write reports to disk: {}; keeping at most {MAX_IN_MEMORY} in memory until it works again",
                    ErrorChain(&error)
                );
            }
            // Only once all of them are written.
            Ok(()) if some && self.appending.should_log_recovery() => {
                info!("reports can be written to disk again")
            }
            _ => {}
        }
    }

    /// Closes the files. Removes those in which nothing waits.
    pub(crate) fn close(&mut self) {
        self.flush_to_disk();
        if let Some(journal) = self.journal.take() {
            journal.close();
        }
    }

    /// Writes to the cursor what is completed and what was posted.
    pub(super) fn advance(&mut self) {
        let head = self.entries.first_key_value().map_or(self.next_seq, |(seq, _)| *seq);
        let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.advance(head, &self.tried)) else {
            self.cursor.should_log_recovery();
            return;
        };
        if self.cursor.should_log_failure() {
            warn!(
                "cannot record on disk which reports were delivered: {}; the next start may repeat them",
                ErrorChain(&error)
            );
        }
    }
}
