//! [`Spool`]: the reports that wait, in order. Where they stand is in memory; what they say is on disk, or, while the
//! disk does not take it, in memory as well, and then far fewer.
//!
//! Those in memory are always the last ones: as long as there are any, the next one waits behind them, and all go to the
//! disk in their order as soon as it takes them. So the files are in order, and what is on disk makes room for nothing
//! that is not.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::answer::Source;
use super::journal::{Journal, Left, Place, Unsynced};
use super::record::{MAX_TEXT, Record};
use crate::client::events::unix_seconds;
use crate::model::chain::Chain;

/// The most bytes that waiting reports take on disk.
const MAX_DISK_BYTES: usize = 64 * 1024 * 1024;

/// The most reports, and the most of their bytes, that wait in memory while the disk takes none.
const MAX_IN_MEMORY: usize = 256;
const MAX_MEMORY_BYTES: usize = MAX_TEXT;

/// Where the text of a report is.
enum Text {
    Disk(Place),
    Memory(Box<str>),
}

struct Entry {
    seq: u64,
    run: u64,
    came: Instant,
    attempts: u32,
    bytes: usize,
    is_code: bool,
    text: Text,
    /// Unset for what an earlier run left: ids are those of its login.
    source: Option<Box<Source>>,
}

/// A report to be posted.
#[derive(Debug)]
pub(super) struct Head {
    /// Its place in the order.
    pub seq: u64,
    /// The same each time it is posted, and no other report's of this account.
    pub id: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The JSON text.
    pub text: String,
    /// Where the message came from that it is about, if that can be answered.
    pub source: Option<Source>,
}

/// How many reports were given up since this was last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// There were too many, or too long ones.
    pub full: u64,
    /// They waited for too long.
    pub aged: u64,
    /// They could be read no more.
    pub unreadable: u64,
}

/// How often it is said that the same thing fails again. On a full disk each file that is done with makes room for a few
/// reports.
const SAID_TIME: Duration = Duration::from_secs(60);

/// Whether something fails: said when it begins and when it ends, not each time.
#[derive(Debug, Default)]
struct Trouble {
    /// When that was said last, and whether it is so still.
    said: Option<Instant>,
    lasts: bool,
}

impl Trouble {
    /// It fails. True: this is to be said.
    fn begins(&mut self) -> bool {
        if self.lasts || self.said.is_some_and(|said| said.elapsed() < SAID_TIME) {
            return false;
        }
        (self.said, self.lasts) = (Some(Instant::now()), true);
        true
    }

    /// It works. True: this is to be said.
    fn ends(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}

/// The queue.
pub(super) struct Spool {
    entries: VecDeque<Entry>,
    journal: Option<Journal>,
    appending: Trouble,
    /// Written in place, which works on a full disk: it tells nothing about the other.
    cursor: Trouble,
    reading: Trouble,
    /// Distinguishes this run's reports from all others'.
    run: u64,
    next_seq: u64,
    most: usize,
    bytes: usize,
    /// How many of the last ones are in memory, and how many bytes they have.
    in_memory: (usize, usize),
    /// Not said yet.
    lost: Lost,
}

impl Spool {
    /// The spool in `folder`, for at most `most` reports. An unusable folder is logged, and memory must do.
    pub(super) fn open(folder: &Path, most: usize) -> Self {
        let mut spool = Self {
            entries: VecDeque::new(),
            journal: None,
            appending: Trouble::default(),
            cursor: Trouble::default(),
            reading: Trouble::default(),
            // Seeded by the system.
            run: RandomState::new().hash_one(std::process::id()),
            next_seq: 1,
            most,
            bytes: 0,
            in_memory: (0, 0),
            lost: Lost::default(),
        };
        let mut stale = Vec::new();
        let now = Instant::now();
        let found = |Left { record, place, attempts }| {
            // Nobody can log in with the code of a client that is gone.
            if record.is_code {
                return stale.push(place);
            }
            spool.bytes += place.bytes();
            spool.entries.push_back(Entry {
                seq: record.seq,
                run: record.run,
                // Not when the record says: at that time the clock may have been wrong by years, as it is after a start
                // without a battery. How many can pile up over runs is bounded all the same.
                came: now,
                attempts,
                bytes: place.bytes(),
                is_code: false,
                text: Text::Disk(place),
                source: None,
            });
        };
        match Journal::open(folder, found) {
            Ok((mut journal, next_seq)) => {
                stale.into_iter().for_each(|place| journal.release(place));
                spool.journal = Some(journal);
                spool.next_seq = next_seq;
            }
            Err(error) => {
                error!(error = %Chain(&error), "Reports cannot be kept on disk: those that wait when this client ends are lost.");
            }
        }
        if !spool.entries.is_empty() {
            info!(waiting = spool.entries.len(), "An earlier client left reports, which are posted first.");
        }
        spool.make_room();
        spool
    }

    /// Puts a report at the end. A login code takes the place of one that still waits.
    pub(super) fn push(&mut self, text: String, is_code: bool, source: Option<Source>) {
        if text.len() > MAX_TEXT {
            self.lost.full += 1;
            return;
        }
        if is_code && let Some(at) = self.entries.iter().position(|entry| entry.is_code) {
            self.remove(at);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let bytes = text.len();
        self.bytes += bytes;
        self.in_memory.0 += 1;
        self.in_memory.1 += bytes;
        let (came, text, source) =
            (Instant::now(), Text::Memory(text.into_boxed_str()), source.map(Box::new));
        self.entries.push_back(Entry { seq, run: self.run, came, attempts: 0, bytes, is_code, text, source });
        self.write_out();
        self.make_room();
    }

    /// The oldest report, to be posted now: from here on it counts as posted once more.
    ///
    /// # Errors
    /// It cannot be read now, for want of descriptors or memory, and can be later.
    pub(super) fn attempt(&mut self) -> io::Result<Option<Head>> {
        self.write_out();
        loop {
            let Some(entry) = self.entries.front_mut() else { return Ok(None) };
            let text = match (&entry.text, &mut self.journal) {
                (Text::Memory(text), _) => Ok(text.to_string()),
                (Text::Disk(place), Some(journal)) => journal.read(*place),
                (Text::Disk(_), None) => Err(io::Error::other("the journal is closed")),
            };
            match text {
                Ok(text) => {
                    entry.attempts = entry.attempts.saturating_add(1);
                    let head = Head {
                        seq: entry.seq,
                        id: format!("{:016x}-{}", entry.run, entry.seq),
                        attempt: entry.attempts,
                        text,
                        source: entry.source.as_deref().cloned(),
                    };
                    self.reading.ends();
                    self.advance();
                    return Ok(Some(head));
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => {
                    if self.reading.begins() {
                        warn!(%error, "Reports that were kept on disk cannot be read any more.");
                    }
                    self.lost.unreadable += 1;
                    self.remove(0);
                }
            }
        }
    }

    /// The report `seq` was delivered: it is never posted again, whatever happens from here on.
    pub(super) fn delivered(&mut self, seq: u64) {
        // Else it was given up while it was under way.
        if self.entries.front().is_some_and(|entry| entry.seq == seq) {
            self.remove(0);
        }
    }

    /// Gives up the oldest reports, as long as they have waited for more than `longest`.
    pub(super) fn give_up(&mut self, longest: Duration) {
        while self.entries.front().is_some_and(|entry| entry.came.elapsed() > longest) {
            self.lost.aged += 1;
            self.remove(0);
        }
    }

    /// How many reports wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them would not outlive this client.
    pub(super) fn in_memory(&self) -> usize {
        self.in_memory.0
    }

    /// How many were given up since the last call.
    pub(super) fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// See [`Journal::unsynced`].
    pub(super) fn unsynced(&mut self) -> Option<Unsynced> {
        self.journal.as_mut()?.unsynced()
    }

    /// Whether anything is to be written out, or through to the disk.
    pub(super) fn is_to_write(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_unsynced() || self.in_memory.0 > 0)
    }

    /// Writes what is in memory to the disk, if the disk takes it now: in order, and no more than the disk takes.
    pub(super) fn write_out(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let (mut written, mut some) = (journal.mend(), false);
        for entry in self.entries.range_mut(self.entries.len() - self.in_memory.0..) {
            let (Text::Memory(text), Ok(())) = (&entry.text, &written) else { break };
            let time = unix_seconds().saturating_sub(entry.came.elapsed().as_secs());
            let Entry { seq, run, is_code, bytes, .. } = *entry;
            match journal.append(&Record { seq, run, time, is_code, text }) {
                Ok(place) => {
                    entry.text = Text::Disk(place);
                    self.in_memory.0 -= 1;
                    self.in_memory.1 -= bytes;
                    some = true;
                }
                Err(error) => written = Err(error),
            }
        }
        match written {
            Err(error) if self.appending.begins() => {
                warn!(error = %Chain(&error), most = MAX_IN_MEMORY, "The disk fails: until it works again reports are kept in memory only, and few of them.");
            }
            // Not before all are there that were not.
            Ok(()) if some && self.appending.ends() => info!("Reports can be kept on disk again."),
            _ => {}
        }
    }

    /// Lets go of the files; those in which nothing waits are removed.
    pub(super) fn close(&mut self) {
        self.write_out();
        if let Some(journal) = self.journal.take() {
            journal.close();
        }
    }

    /// Gives up the oldest reports until the rest is within bounds. The oldest, because that is what age does as well,
    /// and what is new is worth more. For the bounds of the memory those in memory: what is on disk takes none.
    fn make_room(&mut self) {
        while self.entries.len() > self.most || self.bytes > MAX_DISK_BYTES {
            self.lost.full += 1;
            self.remove(0);
        }
        // One report may be as long as all together.
        while self.in_memory.0 > MAX_IN_MEMORY
            || (self.in_memory.0 > 1 && self.in_memory.1 > MAX_MEMORY_BYTES)
        {
            self.lost.full += 1;
            self.remove(self.entries.len() - self.in_memory.0);
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(entry) = self.entries.remove(at) else { return };
        self.bytes -= entry.bytes;
        match entry.text {
            Text::Disk(place) => {
                if let Some(journal) = &mut self.journal {
                    journal.release(place);
                }
            }
            Text::Memory(_) => {
                self.in_memory.0 -= 1;
                self.in_memory.1 -= entry.bytes;
            }
        }
        if at == 0 {
            self.advance();
        }
    }

    /// Has the cursor show what is at the front.
    fn advance(&mut self) {
        let (head, attempts) =
            self.entries.front().map_or((self.next_seq, 0), |entry| (entry.seq, entry.attempts));
        let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.advance(head, attempts)) else {
            self.cursor.ends();
            return;
        };
        if self.cursor.begins() {
            warn!(error = %Chain(&error), "It cannot be noted on disk which reports are done with: the next client may repeat them.");
        }
    }
}

/// Whether a file that cannot be read now may well be all right.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

#[cfg(test)]
mod tests;
