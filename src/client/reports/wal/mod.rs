//! [`WriteAheadLog`]: waiting reports in files, so that they outlive the client.
//!
//! A folder of segments, each appended to until it is full and removed once all its reports are completed, and
//! a cursor that is overwritten in place, so that deliveries take no space on a full disk. A folder of 0.1.0 is
//! read, and converted with the first change, which does take space. Appended records survive the end of the
//! process; for a loss of power see [`WriteAheadLog::unsynced`]. If a cleaner removes the folder, it is created
//! again with the current segment.

pub(super) mod codec;
pub(super) mod cursor;
mod files;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::lane::Lane;
use crate::files::FileError;
use codec::{FormatVersion, HEADER, NextRecord, Record, origin, read_next};
use cursor::{Attempts, Cursor, CursorFile, FILE_BYTES};
use files::{lock, open_to_read, open_to_write, segment_numbers, segment_path};

/// From this size on a segment is full, in bytes.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// From this size on a segment is replaced as soon as nothing in it waits.
const RESTART_BYTES: u64 = 64 * 1024;

const CURSOR: &str = "cursor";

/// Writes bytes to a segment at an offset. Tests let it fail half-way.
type Write = fn(&File, &[u8], u64) -> io::Result<()>;

/// Why reports cannot be kept in files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// Other users can write to the folder.
    #[error("the folder for reports is refused")]
    Folder(#[source] FileError),
    /// Another client has it.
    #[error("another client uses the folder {}", .0.display())]
    Locked(PathBuf),
    /// A later version of this program wrote it.
    #[error(
        "{} was written by a later version of wqcontroller, and nothing of it was changed; install that version again, or move the folder away to go on without its reports",
        .0.display()
    )]
    OtherVersion(PathBuf),
    /// There is no number for another segment.
    #[error("{} has the last of all numbers; move the file away to go on without its reports", .0.display())]
    LastNumber(PathBuf),
    /// A file cannot be read or written.
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// The location of a report's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordLocation {
    segment: u64,
    offset: u64,
    bytes: u32,
}

impl RecordLocation {
    /// The bytes of its text.
    pub(crate) fn bytes(self) -> usize {
        self.bytes as usize
    }
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// How many of its reports wait.
    waiting: usize,
    /// Whether a write failed, so that nothing more is appended.
    has_failed: bool,
    /// Whether 0.1.0 wrote it.
    is_old: bool,
}

impl Segment {
    fn new(number: u64) -> Self {
        Self { number, bytes: HEADER.len() as u64, waiting: 0, has_failed: false, is_old: false }
    }
}

/// The files of one account, locked for the lifetime of this value.
#[derive(Debug)]
pub(crate) struct WriteAheadLog {
    folder: PathBuf,
    /// The folder. None: it could not be created yet, and is empty.
    lock: Option<File>,
    /// None: there is none yet.
    cursor_file: Option<File>,
    cursor: Cursor,
    /// Whether 0.1.0 wrote the file.
    has_old_cursor: bool,
    /// From the oldest to the current one, if there is one.
    segments: VecDeque<Segment>,
    writer: Option<File>,
    next_segment: u64,
    /// The segment that was read last.
    reader: Option<(u64, File)>,
    unsynced: bool,
    /// Full segments that are not synced yet.
    full: Vec<File>,
    write: Write,
}

/// A report of an earlier run.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The record without its text.
    pub record: Record<()>,
    /// Where.
    pub place: RecordLocation,
    /// Its conversation.
    pub lane: Lane,
}

/// Files to sync to disk. [`Unsynced::sync`] blocks.
#[derive(Debug)]
pub(crate) struct Unsynced(Vec<File>);

impl Unsynced {
    /// Waits until all is on the disk.
    pub(crate) fn sync(self) -> io::Result<()> {
        // fdatasync(2) includes the size of a file, without which appended records could not be read.
        self.0.iter().try_for_each(File::sync_data)
    }
}

impl WriteAheadLog {
    /// Opens the log in `folder`, which is created if necessary, and calls `found` with all waiting reports,
    /// oldest first; it returns false for a copy of one that it knows, which does not wait.
    /// [`WriteAheadLog::tried`] has their attempts. Also returns the next sequence number. A folder that cannot
    /// be created now is created with the first report.
    ///
    /// # Errors
    /// The folder or a file in it cannot be used. Nothing in it was changed.
    pub(crate) fn open(
        folder: &Path,
        mut found: impl FnMut(Recovered) -> bool,
    ) -> Result<(Self, u64), WalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| WalError::Io(path, error)
        };
        // Locked before the first look, as another client may be writing.
        let (lock, numbers) = match lock(folder) {
            Ok(lock) => (Some(lock), segment_numbers(folder).map_err(failed(folder))?),
            Err(_) if is_missing(folder) => (None, Vec::new()),
            Err(error) => return Err(error),
        };
        let last = numbers.last().copied().unwrap_or(0);
        let next_segment =
            last.checked_add(1).ok_or_else(|| WalError::LastNumber(segment_path(folder, last)))?;
        // All headers come before the first record: a folder of a later version is refused before any of it is used.
        let mut readers = Vec::new();
        for number in numbers {
            let path = segment_path(folder, number);
            let mut reader = BufReader::new(open_to_read(&path).map_err(failed(&path))?);
            let mut header = Vec::new();
            reader.by_ref().take(HEADER.len() as u64).read_to_end(&mut header).map_err(failed(&path))?;
            match origin(&header) {
                FormatVersion::Ours => readers.push((number, false, Some(reader))),
                FormatVersion::Old => readers.push((number, true, Some(reader))),
                // Listed, so that `remove_done` removes the file.
                FormatVersion::Nothing => readers.push((number, false, None)),
                FormatVersion::OtherVersion => return Err(WalError::OtherVersion(path)),
            }
        }

        let path = folder.join(CURSOR);
        let (mut cursor_file, mut content) = (None, Vec::new());
        if !is_missing(&path) {
            let file = open_to_write(&path).map_err(failed(&path))?;
            (&file).take(FILE_BYTES as u64).read_to_end(&mut content).map_err(failed(&path))?;
            cursor_file = Some(file);
        }
        let (cursor, has_old_cursor) = match Cursor::read(&content) {
            CursorFile::Ours(cursor) => (cursor, false),
            CursorFile::Old(cursor) => (cursor, true),
            CursorFile::OtherVersion => return Err(WalError::OtherVersion(path)),
        };

        let mut journal = Self {
            folder: folder.to_owned(),
            lock,
            cursor_file,
            cursor,
            has_old_cursor,
            segments: VecDeque::new(),
            writer: None,
            next_segment,
            reader: None,
            unsynced: false,
            full: Vec::new(),
            write: FileExt::write_all_at,
        };
        let mut next_seq = journal.cursor.end().max(1);
        for (number, is_old, reader) in readers {
            let path = segment_path(folder, number);
            let mut segment = Segment { is_old, ..Segment::new(number) };
            if let Some(reader) = reader {
                let whole = segment.read(reader, |record, place| {
                    // Completed reports count, too: no number may be used twice.
                    next_seq = next_seq.max(record.seq + 1);
                    if journal.cursor.is_done(record.seq) {
                        return false;
                    }
                    let lane = Lane::of_text(record.text);
                    let Record { seq, run, time, is_code, .. } = record;
                    found(Recovered { record: Record { seq, run, time, is_code, text: () }, place, lane })
                });
                if !whole.map_err(failed(&path))? {
                    warn!(
                        "{} is damaged after byte {}; ignoring the rest of it",
                        path.display(),
                        segment.bytes
                    );
                }
            }
            journal.segments.push_back(segment);
        }
        journal.remove_done();
        Ok((journal, next_seq))
    }

    /// The attempts of reports that an earlier run posted and that still wait.
    pub(crate) fn tried(&self) -> &BTreeMap<u64, Attempts> {
        &self.cursor.tried
    }

    /// The text of a report.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub(crate) fn read(&mut self, place: RecordLocation) -> io::Result<String> {
        let mut text = vec![0; place.bytes as usize];
        let is_written_to = self.segments.back().is_some_and(|last| last.number == place.segment);
        // By the descriptor, for a cleaner may have removed the name.
        if let Some(writer) = self.writer.as_ref().filter(|_| is_written_to) {
            writer.read_exact_at(&mut text, place.offset)?;
        } else {
            // Reports are mostly read in order, so one open segment is enough.
            let file = match self.reader.take() {
                Some((number, file)) if number == place.segment => file,
                _ => open_to_read(&segment_path(&self.folder, place.segment))?,
            };
            file.read_exact_at(&mut text, place.offset)?;
            self.reader = Some((place.segment, file));
        }
        String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Marks the report `seq`, which may be at `place`, as completed. Permanent once the cursor is written.
    pub(crate) fn release(&mut self, seq: u64, place: Option<RecordLocation>) {
        self.cursor.mark(seq);
        let Some(place) = place else { return };
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == place.segment) {
            segment.waiting = segment.waiting.saturating_sub(1);
        }
    }

    /// Writes the cursor: all reports before `head` are completed, and the attempts of the others.
    ///
    /// # Errors
    /// It cannot be written: the next run of the client will repeat reports.
    pub(crate) fn advance(&mut self, head: u64, tried: &BTreeMap<u64, Attempts>) -> io::Result<()> {
        self.cursor.advance(head);
        self.cursor.tried.clone_from(tried);
        self.cursor.writes += 1;
        // Without files the next run finds nothing to repeat.
        if self.cursor_file.is_some() || !self.segments.is_empty() {
            // A retry writes the same slot again: the other one is intact.
            self.write_cursor().inspect_err(|_| self.cursor.writes -= 1)?;
        }
        // Only after the cursor: a completed report that the cursor says waits would count as lost.
        self.remove_done();
        Ok(())
    }

    /// Lets tests replace how segments are written.
    #[cfg(test)]
    pub(crate) fn write_by(&mut self, write: Write) {
        self.write = write;
    }

    /// The files written since the last call, which a power loss may damage. The client syncs them while
    /// reports wait, not while they come and go.
    pub(crate) fn unsynced(&mut self) -> Option<Unsynced> {
        if !self.unsynced {
            return None;
        }
        // The folder as well, for the name of a new segment.
        let files = [self.writer.as_ref(), self.cursor_file.as_ref(), self.lock.as_ref()];
        let copies: io::Result<Vec<File>> = files.into_iter().flatten().map(File::try_clone).collect();
        // Out of descriptors: the flag stays set, and the next call tries again.
        let copies = copies.ok()?;
        self.unsynced = false;
        let mut files = std::mem::take(&mut self.full);
        files.extend(copies);
        Some(Unsynced(files))
    }

    /// Whether there are writes that [`WriteAheadLog::unsynced`] has not returned yet.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Removes all files if no report waits, so that a client leaves nothing behind.
    pub(crate) fn close(mut self) {
        if self.segments.iter().any(|segment| segment.waiting > 0) {
            return;
        }
        self.writer = None;
        for segment in &self.segments {
            // The next client removes what is left.
            let _ = fs::remove_file(segment_path(&self.folder, segment.number));
        }
        // After the segments: if a kill left them without it, all their reports would be repeated.
        let _ = fs::remove_file(self.folder.join(CURSOR));
        let _ = fs::remove_dir(&self.folder);
    }

    /// Removes the segments in which nothing waits.
    fn remove_done(&mut self) {
        if self.segments.iter().all(|segment| segment.waiting > 0) {
            return;
        }
        let written_to = self.segments.back().map(|last| last.number).filter(|_| self.writer.is_some());
        let mut kept = VecDeque::new();
        for segment in std::mem::take(&mut self.segments) {
            let is_written_to = Some(segment.number) == written_to;
            // A small current segment stays, so that reports that come and go do not create a file each.
            let goes_on =
                is_written_to && (!kept.is_empty() || (segment.bytes < RESTART_BYTES && !segment.has_failed));
            if segment.waiting > 0 || goes_on {
                kept.push_back(segment);
                continue;
            }
            if is_written_to {
                self.writer = None;
            }
            self.reader.take_if(|(read, _)| *read == segment.number);
            let path = segment_path(&self.folder, segment.number);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!("cannot remove {}, whose reports are all delivered: {error}", path.display());
            }
        }
        self.segments = kept;
        if self.segments.is_empty() {
            // Nothing waits, so nothing needs a sync.
            self.full.clear();
        }
    }
}

impl Segment {
    /// Reads the records of the segment after its header; `waits` decides which of them wait. False: its end is
    /// damaged.
    fn read(
        &mut self,
        mut from: impl Read,
        mut waits: impl FnMut(Record<&str>, RecordLocation) -> bool,
    ) -> io::Result<bool> {
        let mut buffer = Vec::new();
        loop {
            match read_next(&mut from, &mut buffer)? {
                NextRecord::Record(record, bytes) => {
                    let end = self.bytes + bytes as u64;
                    let offset = end - record.text.len() as u64;
                    let place = RecordLocation {
                        segment: self.number,
                        offset,
                        bytes: u32::try_from(record.text.len()).map_err(io::Error::other)?,
                    };
                    self.bytes = end;
                    self.waiting += usize::from(waits(record, place));
                }
                NextRecord::End => return Ok(true),
                NextRecord::Torn => return Ok(false),
            }
        }
    }
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
