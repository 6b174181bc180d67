//! [`Spool`]: the queue of reports. Their order is in memory. Their texts are on disk or, while the disk fails,
//! in memory within a much smaller bound.
//!
//! Texts in memory always belong to the newest reports: while there are any, new reports queue behind them, and
//! all are written in order as soon as the disk works. So the files are in order.
//!
//! Reports of one conversation are posted one after another, independent of other conversations: see [`Lanes`].

mod disk;
mod lanes;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::answer::ReportedMessage;
use super::lane::Lane;
use super::wal::codec::MAX_TEXT;
use super::wal::cursor::{Attempts, MAX_TRIED, WINDOW};
use super::wal::{RecordLocation, WriteAheadLog};
use lanes::Lanes;
use trouble::FailureLog;

/// The most bytes that waiting reports may take on disk.
const MAX_DISK_BYTES: usize = 64 * 1024 * 1024;

/// The most reports, and the most bytes, that wait in memory while the disk fails.
const MAX_IN_MEMORY: usize = 256;
const MAX_MEMORY_BYTES: usize = MAX_TEXT;

/// How often a report is posted again after a timeout.
const TIMEOUT_REPEATS: u32 = 3;

/// Where the text of a report is.
enum TextLocation {
    Disk(RecordLocation),
    Memory(Box<str>),
}

struct QueuedReport {
    run: u64,
    lane: Lane,
    came: Instant,
    bytes: usize,
    is_code: bool,
    text: TextLocation,
    /// None for a report of an earlier run, whose ids were those of its login.
    source: Option<Box<ReportedMessage>>,
}

/// A report to be posted.
#[derive(Debug)]
pub(crate) struct PendingReport {
    /// Its sequence number.
    pub seq: u64,
    /// Its lane.
    lane: Lane,
    /// Identifies the report for its receiver: unique for this account, and the same for each attempt.
    pub id: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The JSON text.
    pub text: String,
    /// The message that it is about, if that can be answered.
    pub source: Option<ReportedMessage>,
}

/// How many reports were dropped since the last log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DroppedReports {
    /// The queue was full, or the report too long.
    pub full: u64,
    /// They waited too long.
    pub aged: u64,
    /// They could not be read any more.
    pub unreadable: u64,
}

/// What happens to a report after a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimedOut {
    /// It is posted again.
    Repeat,
    /// It was given up after this many attempts.
    GivenUp(u32),
}

/// The queue.
pub(crate) struct Spool {
    entries: BTreeMap<u64, QueuedReport>,
    lanes: Lanes,
    /// The attempts of reports that were posted at least once.
    tried: BTreeMap<u64, Attempts>,
    journal: Option<WriteAheadLog>,
    appending: FailureLog,
    /// Separate from `appending`: the cursor is written in place, which works on a full disk.
    cursor: FailureLog,
    reading: FailureLog,
    /// A random number that identifies this run.
    run: u64,
    next_seq: u64,
    most: usize,
    bytes: usize,
    /// The reports in memory, which are the newest, and their bytes.
    in_memory: (VecDeque<u64>, usize),
    /// Not logged yet.
    dropped: DroppedReports,
}

impl Spool {
    /// Appends a report. A login code replaces one that still waits.
    pub(crate) fn push(&mut self, text: String, is_code: bool, source: Option<ReportedMessage>) {
        // The log takes a longer record for damage when it is read back.
        if text.len() > MAX_TEXT {
            self.dropped.full += 1;
            return;
        }
        if is_code && let Some(before) = self.entries.iter().find(|(_, entry)| entry.is_code) {
            self.remove(*before.0);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let (bytes, lane) = (text.len(), Lane::of_text(&text));
        self.bytes += bytes;
        // By way of memory even while the disk works: so texts in memory always belong to the newest reports.
        self.in_memory.0.push_back(seq);
        self.in_memory.1 += bytes;
        let (came, text, source) =
            (Instant::now(), TextLocation::Memory(text.into_boxed_str()), source.map(Box::new));
        self.entries.insert(seq, QueuedReport { run: self.run, lane, came, bytes, is_code, text, source });
        self.lanes.push(lane, seq);
        self.flush_to_disk();
        self.enforce_limits();
    }

    /// Takes the oldest report that may be posted. It counts as posted once more, and its lane is busy until
    /// [`Spool::finish`].
    ///
    /// # Errors
    /// It cannot be read now, for lack of descriptors or memory, but may be later.
    pub(crate) fn attempt(&mut self) -> io::Result<Option<PendingReport>> {
        self.flush_to_disk();
        self.lanes.wake(Instant::now());
        while let Some(seq) = self.next() {
            let Some(entry) = self.entries.get(&seq) else { return Ok(None) };
            let text = match (&entry.text, &mut self.journal) {
                (TextLocation::Memory(text), _) => Ok(text.to_string()),
                (TextLocation::Disk(place), Some(journal)) => journal.read(*place),
                (TextLocation::Disk(_), None) => Err(io::Error::other("the journal is closed")),
            };
            match text {
                Ok(text) => {
                    let tries = self.tried.entry(seq).or_default();
                    tries.attempts = tries.attempts.saturating_add(1);
                    let head = PendingReport {
                        seq,
                        lane: entry.lane,
                        id: format!("{:016x}-{seq}", entry.run),
                        attempt: tries.attempts,
                        text,
                        source: entry.source.as_deref().cloned(),
                    };
                    self.lanes.start(head.lane);
                    self.reading.should_log_recovery();
                    // The attempt is on disk before the post begins, so a kill hides none.
                    self.advance();
                    return Ok(Some(head));
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => {
                    if self.reading.should_log_failure() {
                        warn!("cannot read saved reports any more: {error}; dropping them");
                    }
                    self.dropped.unreadable += 1;
                    self.remove(seq);
                }
            }
        }
        Ok(None)
    }

    /// The next report for [`Spool::attempt`], within the bounds of the cursor's file.
    fn next(&self) -> Option<u64> {
        let first = self.lanes.first()?;
        if self.tried.len() >= MAX_TRIED && !self.tried.contains_key(&first) {
            // The cursor has no place for another attempt: those that have one go first.
            return self.tried.keys().copied().find(|seq| self.lanes.is_ready(*seq));
        }
        let oldest = *self.entries.first_key_value()?.0;
        // Beyond the window the cursor could not mark it as completed, and the next run would repeat it.
        (first - oldest < WINDOW).then_some(first)
    }

    /// When [`Spool::attempt`] may have a report again, if nothing else happens.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.lanes.next_wake()
    }

    /// Records that the report was delivered: it is never posted again, even after a crash. Its lane stays busy
    /// until [`Spool::finish`].
    pub(crate) fn delivered(&mut self, head: &PendingReport) {
        // It may have been given up while it was posted.
        if self.entries.contains_key(&head.seq) {
            self.remove(head.seq);
        }
    }

    /// The post ended: its lane goes on, with the same report unless it was delivered.
    pub(crate) fn finish(&mut self, head: &PendingReport) {
        self.lanes.finish(head.lane, head.seq, None);
    }

    /// The report timed out; its lane goes on after `pause`. After three repeats it is given up. If other
    /// reports time out as well, only the oldest one is given up, since the receiver as a whole may hang.
    pub(crate) fn timed_out(
        &mut self,
        head: &PendingReport,
        others_were_taken: bool,
        pause: Duration,
    ) -> TimedOut {
        let is_oldest = self.entries.first_key_value().is_some_and(|(seq, _)| *seq == head.seq);
        let mut outcome = TimedOut::Repeat;
        if (others_were_taken || is_oldest)
            && let Some(tries) = self.tried.get_mut(&head.seq)
        {
            tries.timeouts = tries.timeouts.saturating_add(1);
            if tries.timeouts > TIMEOUT_REPEATS {
                outcome = TimedOut::GivenUp(tries.attempts);
                self.remove(head.seq);
            } else {
                // On disk, so that the timeouts of several runs add up.
                self.advance();
            }
        }
        // After `remove`, so that a report that was given up leaves no pause to the next of its lane.
        self.lanes.finish(head.lane, head.seq, Some(Instant::now() + pause));
        outcome
    }

    /// Drops the oldest reports that have waited for more than `longest`.
    pub(crate) fn expire(&mut self, longest: Duration) {
        while let Some((&seq, entry)) = self.entries.first_key_value()
            && entry.came.elapsed() > longest
        {
            self.dropped.aged += 1;
            self.remove(seq);
        }
    }

    /// How many reports wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are in memory only.
    pub(crate) fn in_memory(&self) -> usize {
        self.in_memory.0.len()
    }

    /// How many were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> DroppedReports {
        std::mem::take(&mut self.dropped)
    }

    /// Drops the oldest reports until the rest is within bounds: new reports are worth more, and age drops the
    /// oldest as well. The bounds of memory apply to reports in memory alone.
    fn enforce_limits(&mut self) {
        // A report that is being posted may go as well: `delivered` and `finish` expect that.
        while (self.entries.len() > self.most || self.bytes > MAX_DISK_BYTES)
            && let Some((&oldest, _)) = self.entries.first_key_value()
        {
            self.dropped.full += 1;
            self.remove(oldest);
        }
        // A single report may use the whole bound.
        while (self.in_memory.0.len() > MAX_IN_MEMORY
            || (self.in_memory.0.len() > 1 && self.in_memory.1 > MAX_MEMORY_BYTES))
            && let Some(&oldest) = self.in_memory.0.front()
        {
            self.dropped.full += 1;
            self.remove(oldest);
        }
    }

    fn remove(&mut self, seq: u64) {
        let Some(entry) = self.entries.remove(&seq) else { return };
        self.bytes -= entry.bytes;
        self.lanes.remove(entry.lane, seq);
        self.tried.remove(&seq);
        let place = match entry.text {
            TextLocation::Disk(place) => Some(place),
            TextLocation::Memory(_) => {
                self.in_memory.0.retain(|waiting| *waiting != seq);
                self.in_memory.1 -= entry.bytes;
                None
            }
        };
        if let Some(journal) = &mut self.journal {
            journal.release(seq, place);
        }
        self.advance();
    }
}

/// Whether a read failed for a reason that passes.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

#[cfg(test)]
mod tests;
