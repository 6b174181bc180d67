//! [`Spool`]: the reports that wait, in order. Where they stand is in memory; what they say is on disk, or, where the
//! disk does not take it, in memory as well, and then far fewer.

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

/// The queue.
pub(super) struct Spool {
    entries: VecDeque<Entry>,
    journal: Option<Journal>,
    /// Whether the disk failed when it was last used.
    failing: bool,
    /// Distinguishes this run's reports from all others'.
    run: u64,
    next_seq: u64,
    most: usize,
    bytes: usize,
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
            failing: false,
            // Seeded by the system.
            run: RandomState::new().hash_one(std::process::id()),
            next_seq: 1,
            most,
            bytes: 0,
            in_memory: (0, 0),
            lost: Lost::default(),
        };
        let mut stale = Vec::new();
        let (now, clock) = (Instant::now(), unix_seconds());
        let found = |Left { record, place, attempts }| {
            // Nobody can log in with the code of a client that is gone.
            if record.is_code {
                return stale.push(place);
            }
            let age = Duration::from_secs(clock.saturating_sub(record.time));
            spool.bytes += place.bytes();
            spool.entries.push_back(Entry {
                seq: record.seq,
                run: record.run,
                came: now.checked_sub(age).unwrap_or(now),
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
                spool.failing = true;
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
        let record = Record { seq, run: self.run, time: unix_seconds(), is_code, text: text.as_str() };
        let written = self.journal.as_mut().map(|journal| journal.append(&record));
        let place = written.and_then(|written| self.note(written, "a report is kept in memory only"));
        let bytes = text.len();
        self.bytes += bytes;
        let text = match place {
            Some(place) => Text::Disk(place),
            None => {
                self.in_memory.0 += 1;
                self.in_memory.1 += bytes;
                Text::Memory(text.into_boxed_str())
            }
        };
        let (came, source) = (Instant::now(), source.map(Box::new));
        self.entries.push_back(Entry { seq, run: self.run, came, attempts: 0, bytes, is_code, text, source });
        self.make_room();
    }

    /// The oldest report, to be posted now: from here on it counts as posted once more.
    pub(super) fn attempt(&mut self) -> Option<Head> {
        loop {
            let entry = self.entries.front_mut()?;
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
                    self.advance();
                    return Some(head);
                }
                Err(error) => {
                    warn!(%error, "A report that was kept on disk cannot be read any more.");
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

    /// See [`Journal::is_unsynced`].
    pub(super) fn is_unsynced(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_unsynced)
    }

    /// Lets go of the files; those in which nothing waits are removed.
    pub(super) fn close(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.close();
        }
    }

    /// Gives up the oldest reports until the rest is within bounds. The oldest, because that is what age does as well:
    /// what a receiver gets when it is back is everything since some moment, without a hole.
    fn make_room(&mut self) {
        let too_much = |spool: &Self| {
            let (count, bytes) = spool.in_memory;
            spool.entries.len() > spool.most
                || spool.bytes > MAX_DISK_BYTES
                // One report may be as long as all together.
                || (count > 1 && (count > MAX_IN_MEMORY || bytes > MAX_MEMORY_BYTES))
        };
        while !self.entries.is_empty() && too_much(self) {
            self.lost.full += 1;
            self.remove(0);
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
        if let Some(advanced) = self.journal.as_mut().map(|journal| journal.advance(head, attempts)) {
            self.note(advanced, "reports may be repeated");
        }
    }

    /// Logs when the disk begins to fail and when it works again.
    fn note<T>(&mut self, result: io::Result<T>, so: &'static str) -> Option<T> {
        match &result {
            Ok(_) if self.failing => info!("Reports can be kept on disk again."),
            Err(error) if !self.failing => warn!(%error, "The disk fails: {so}."),
            _ => {}
        }
        self.failing = result.is_err();
        result.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: &Path) -> Spool {
        Spool::open(&folder.join("reports"), 3)
    }

    fn drain(spool: &mut Spool) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        while let Some(head) = spool.attempt() {
            spool.delivered(head.seq);
            all.push((head.text, head.attempt));
        }
        all
    }

    fn push(spool: &mut Spool, texts: &[&str]) {
        texts.iter().for_each(|text| spool.push((*text).into(), false, None));
    }

    #[tokio::test]
    async fn the_oldest_make_room() {
        let root = tempfile::tempdir().unwrap();
        let mut spool = spool(root.path());
        push(&mut spool, &["1", "2", "3"]);
        let head = spool.attempt().unwrap();
        push(&mut spool, &["4", "5"]);
        assert_eq!(spool.take_lost(), Lost { full: 2, ..Lost::default() });
        // It was given up while it was under way; nobody else's place is taken for its own.
        spool.delivered(head.seq);
        assert_eq!(drain(&mut spool), [("3".into(), 1), ("4".into(), 1), ("5".into(), 1)]);
        spool.push("x".repeat(MAX_TEXT + 1), false, None);
        assert_eq!((spool.len(), spool.take_lost().full), (0, 1));
    }

    #[tokio::test]
    async fn a_code_takes_the_place_of_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let mut first = spool(root.path());
        first.push("code 1".into(), true, None);
        push(&mut first, &["a"]);
        first.push("code 2".into(), true, None);
        let next = first.attempt().unwrap();
        assert_eq!(next.text, "a");
        assert_eq!((first.len(), first.take_lost()), (2, Lost::default()));
        drop(first);
        // And the last one goes with its client.
        let mut second = spool(root.path());
        let again = second.attempt().unwrap();
        assert_eq!((again.id, again.attempt, again.text.as_str()), (next.id, 2, "a"));
        assert_eq!(second.len(), 1);
        second.delivered(again.seq);
        second.close();
        assert!(!root.path().join("reports").exists());
    }

    #[tokio::test]
    async fn ids_are_never_used_again() {
        let root = tempfile::tempdir().unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut spool = spool(root.path());
            push(&mut spool, &["a", "b"]);
            while let Some(head) = spool.attempt() {
                spool.delivered(head.seq);
                assert!(ids.insert(head.id));
            }
            spool.close();
        }
        assert_eq!(ids.len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn age_is_counted_over_runs() {
        let root = tempfile::tempdir().unwrap();
        let mut spool = spool(root.path());
        push(&mut spool, &["1"]);
        tokio::time::advance(Duration::from_secs(60)).await;
        push(&mut spool, &["2"]);
        spool.give_up(Duration::from_secs(59));
        assert_eq!(spool.take_lost(), Lost { aged: 1, ..Lost::default() });
        assert_eq!(drain(&mut spool), [("2".into(), 1)]);
    }

    #[tokio::test]
    async fn memory_does_where_the_disk_does_not() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("reports"), "no folder").unwrap();
        let mut spool = Spool::open(&root.path().join("reports"), 10_000);
        for n in 0..MAX_IN_MEMORY + 2 {
            push(&mut spool, &[&n.to_string()]);
        }
        assert_eq!((spool.in_memory(), spool.take_lost().full), (MAX_IN_MEMORY, 2));
        assert_eq!(drain(&mut spool)[0], ("2".into(), 1));
        assert_eq!((spool.in_memory(), spool.len()), (0, 0));
    }
}
