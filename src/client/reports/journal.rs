//! [`Journal`]: reports that wait, in files, so that they outlive the client.
//!
//! A folder with segments, each appended to until it is full and removed when all in it are done with, and a cursor
//! that is overwritten in place, so that delivering takes no space on a disk that is full. What was appended survives
//! the end of the process, however it ends; for a loss of power see [`Journal::unsynced`]. Where a cleaner removes the
//! folder under way, it is made anew, with the segment that is written to.

mod files;
mod writing;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use self::files::{lock, open_to_read, open_to_write, segment_numbers, segment_path};
use super::record::{Cursor, HEADER, Next, Origin, Record, SLOT_BYTES, origin, read_next};
use crate::files::FileError;

/// From this size on a segment takes no more reports, in bytes.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// From this size on a segment is begun anew as soon as nothing in it waits.
const RESTART_BYTES: u64 = 64 * 1024;

const CURSOR: &str = "cursor";

/// How bytes come into a segment, at an offset. Tests have it fail half-way.
type Write = fn(&File, &[u8], u64) -> io::Result<()>;

/// Why reports cannot be kept in files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The folder is not ours alone.
    #[error("the folder for reports is refused")]
    Folder(#[source] FileError),
    /// Another client has it.
    #[error("another client uses the folder {}", .0.display())]
    Locked(PathBuf),
    /// It was left by a version of this program that writes other files.
    #[error("{} was written by another version; move the file away to go on without its reports", .0.display())]
    OtherVersion(PathBuf),
    /// No further segment could be named.
    #[error("{} has the last of all numbers; move the file away to go on without its reports", .0.display())]
    LastNumber(PathBuf),
    /// A file cannot be read or written.
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// Where a report stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: u64,
    offset: u64,
    bytes: u32,
}

impl Place {
    /// The bytes of its text.
    pub(super) fn bytes(self) -> usize {
        self.bytes as usize
    }
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// How many of its reports wait.
    waiting: usize,
    /// Whether nothing is appended any more, though there would be room.
    has_failed: bool,
}

impl Segment {
    fn new(number: u64) -> Self {
        Self { number, bytes: HEADER.len() as u64, waiting: 0, has_failed: false }
    }
}

/// The files of one account, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    /// The folder. None: it could not be made yet, and nothing waits in it.
    lock: Option<File>,
    /// None: there is none yet.
    cursor_file: Option<File>,
    cursor: Cursor,
    /// From the oldest to the one that is written to, which may be none.
    segments: VecDeque<Segment>,
    writer: Option<File>,
    next_segment: u64,
    /// The segment that was read last.
    reader: Option<(u64, File)>,
    unsynced: bool,
    /// Segments that were written to since, and are not any more.
    full: Vec<File>,
    write: Write,
}

/// A report that an earlier run left.
#[derive(Debug)]
pub(super) struct Left {
    /// What stands there, but for the text.
    pub record: Record<()>,
    /// Where.
    pub place: Place,
    /// How often it was posted.
    pub attempts: u32,
}

/// What must be written through to the disk. Does so in [`Unsynced::sync`], which blocks.
#[derive(Debug)]
pub(super) struct Unsynced(Vec<File>);

impl Unsynced {
    /// Waits until all is on the disk.
    pub(super) fn sync(self) -> io::Result<()> {
        self.0.iter().try_for_each(File::sync_data)
    }
}

impl Journal {
    /// Opens the journal in `folder`, which is made if need be, and tells `found` of all reports that wait, the oldest
    /// first. Also returns the `seq` for the next one. A folder that cannot be made now is made with the first report.
    ///
    /// # Errors
    /// The folder or a file in it cannot be used. Nothing in it was changed then.
    pub(super) fn open(folder: &Path, mut found: impl FnMut(Left)) -> Result<(Self, u64), JournalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| JournalError::Io(path, error)
        };
        let (lock, numbers) = match lock(folder) {
            Ok(lock) => (Some(lock), segment_numbers(folder).map_err(failed(folder))?),
            Err(_) if is_missing(folder) => (None, Vec::new()),
            Err(error) => return Err(error),
        };
        let last = numbers.last().copied().unwrap_or(0);
        let next_segment =
            last.checked_add(1).ok_or_else(|| JournalError::LastNumber(segment_path(folder, last)))?;
        let mut readers = Vec::new();
        for number in numbers {
            let path = segment_path(folder, number);
            let mut reader = BufReader::new(open_to_read(&path).map_err(failed(&path))?);
            let mut header = Vec::new();
            reader.by_ref().take(HEADER.len() as u64).read_to_end(&mut header).map_err(failed(&path))?;
            match origin(&header) {
                Origin::Ours => readers.push((number, Some(reader))),
                Origin::Nothing => readers.push((number, None)),
                Origin::OtherVersion => return Err(JournalError::OtherVersion(path)),
            }
        }

        let path = folder.join(CURSOR);
        let (mut cursor_file, mut content) = (None, Vec::new());
        if !is_missing(&path) {
            let file = open_to_write(&path).map_err(failed(&path))?;
            (&file).take(2 * SLOT_BYTES as u64).read_to_end(&mut content).map_err(failed(&path))?;
            cursor_file = Some(file);
        }
        let cursor = Cursor::newest(&content).unwrap_or_default();

        let mut journal = Self {
            folder: folder.to_owned(),
            lock,
            cursor_file,
            cursor,
            segments: VecDeque::new(),
            writer: None,
            next_segment,
            reader: None,
            unsynced: false,
            full: Vec::new(),
            write: FileExt::write_all_at,
        };
        let mut next_seq = cursor.head.max(1);
        for (number, reader) in readers {
            let path = segment_path(folder, number);
            let mut segment = Segment::new(number);
            if let Some(reader) = reader {
                let whole = segment.read(
                    reader,
                    |record, place| {
                        next_seq = next_seq.max(record.seq + 1);
                        if record.seq >= cursor.head {
                            let attempts = if record.seq == cursor.head { cursor.attempts } else { 0 };
                            found(Left { record, place, attempts });
                        }
                    },
                    cursor.head,
                );
                if !whole.map_err(failed(&path))? {
                    warn!(path = %path.display(), after = segment.bytes, "The end of a file of reports is damaged and left out.");
                }
            }
            journal.segments.push_back(segment);
        }
        journal.remove_done();
        Ok((journal, next_seq))
    }

    /// The text of a report.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub(super) fn read(&mut self, place: Place) -> io::Result<String> {
        let mut text = vec![0; place.bytes as usize];
        let is_written_to = self.segments.back().is_some_and(|last| last.number == place.segment);
        if let Some(writer) = self.writer.as_ref().filter(|_| is_written_to) {
            writer.read_exact_at(&mut text, place.offset)?;
        } else {
            let file = match self.reader.take() {
                Some((number, file)) if number == place.segment => file,
                _ => open_to_read(&segment_path(&self.folder, place.segment))?,
            };
            file.read_exact_at(&mut text, place.offset)?;
            self.reader = Some((place.segment, file));
        }
        String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Notes that the report at `place` is done with. It is for good once the cursor is beyond it.
    pub(super) fn release(&mut self, place: Place) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == place.segment) {
            segment.waiting = segment.waiting.saturating_sub(1);
        }
    }

    /// Notes that all before `head` are done with, and how often `head` itself was posted.
    ///
    /// # Errors
    /// It cannot be written: the next run of the client will repeat reports.
    pub(super) fn advance(&mut self, head: u64, attempts: u32) -> io::Result<()> {
        let cursor = Cursor { writes: self.cursor.writes + 1, head, attempts };
        // Where nothing is, the next run finds nothing to repeat.
        if self.cursor_file.is_some() || !self.segments.is_empty() {
            self.write_cursor(cursor)?;
        }
        self.cursor = cursor;
        // Not before: what is done with but still said to wait would be taken for lost.
        self.remove_done();
        Ok(())
    }

    /// Has tests say what becomes of what is written to segments from here on.
    #[cfg(test)]
    pub(super) fn write_by(&mut self, write: Write) {
        self.write = write;
    }

    /// What was written since the last call and may be lost with the power: the client has the kernel write it through
    /// while reports wait, not while they come and go.
    pub(super) fn unsynced(&mut self) -> Option<Unsynced> {
        if !self.unsynced {
            return None;
        }
        // The folder, too, for the name of a new segment.
        let files = [self.writer.as_ref(), self.cursor_file.as_ref(), self.lock.as_ref()];
        let copies: io::Result<Vec<File>> = files.into_iter().flatten().map(File::try_clone).collect();
        let copies = copies.ok()?;
        self.unsynced = false;
        let mut files = std::mem::take(&mut self.full);
        files.extend(copies);
        Some(Unsynced(files))
    }

    /// Whether something was written that [`Journal::unsynced`] has not returned yet.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Removes all files, if nothing in them waits: what a client leaves behind that has nothing to say.
    pub(super) fn close(mut self) {
        if self.segments.iter().any(|segment| segment.waiting > 0) {
            return;
        }
        self.writer = None;
        for segment in &self.segments {
            // Were any to stay, the next client would remove it.
            let _ = fs::remove_file(segment_path(&self.folder, segment.number));
        }
        let _ = fs::remove_file(self.folder.join(CURSOR));
        let _ = fs::remove_dir(&self.folder);
    }

    /// Removes the oldest segments as long as nothing in them waits.
    fn remove_done(&mut self) {
        while let Some(first) = self.segments.front().filter(|segment| segment.waiting == 0) {
            let is_written_to = self.segments.len() == 1 && self.writer.is_some();
            if is_written_to && first.bytes < RESTART_BYTES && !first.has_failed {
                return;
            }
            if is_written_to {
                self.writer = None;
            }
            let number = first.number;
            self.reader.take_if(|(read, _)| *read == number);
            let path = segment_path(&self.folder, number);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %error, "A file of reports that are done with cannot be removed.");
            }
            self.segments.pop_front();
        }
        if self.segments.is_empty() {
            self.full.clear();
        }
    }
}

impl Segment {
    /// Reads all records of the segment, whose header was read already. False: its end is damaged.
    fn read(
        &mut self,
        mut from: impl Read,
        mut found: impl FnMut(Record<()>, Place),
        head: u64,
    ) -> io::Result<bool> {
        let mut buffer = Vec::new();
        loop {
            match read_next(&mut from, &mut buffer)? {
                Next::Record(Record { seq, run, time, is_code, text }, bytes) => {
                    let end = self.bytes + bytes as u64;
                    let offset = end - text.len() as u64;
                    let place = Place {
                        segment: self.number,
                        offset,
                        bytes: u32::try_from(text.len()).map_err(io::Error::other)?,
                    };
                    self.bytes = end;
                    self.waiting += usize::from(seq >= head);
                    found(Record { seq, run, time, is_code, text: () }, place);
                }
                Next::End => return Ok(true),
                Next::Torn => return Ok(false),
            }
        }
    }
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
