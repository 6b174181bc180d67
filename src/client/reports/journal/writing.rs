//! How a journal is written: reports at its end, the cursor in place; and what somebody removed, anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::files::{create, is_at, is_removed, lock, segment_path};
use super::{CURSOR, Journal, Place, SEGMENT_BYTES, Segment};
use crate::client::reports::record::{Cursor, HEADER, Record, SLOT_BYTES};

impl Journal {
    /// Writes a report at the end.
    ///
    /// # Errors
    /// It cannot be written; then nothing of it is there.
    pub(in crate::client::reports) fn append(&mut self, record: &Record<&str>) -> io::Result<Place> {
        self.mend()?;
        let is_full = |last: &Segment| last.has_failed || last.bytes >= SEGMENT_BYTES;
        if self.writer.is_none() || self.segments.back().is_none_or(is_full) {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&self.writer, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment was begun"));
        };
        let encoded = record.encode();
        if let Err(error) = (self.write)(file, &encoded, segment.bytes) {
            // Half a record would hide those that come after it. Taking space away works on a full disk, too; where it
            // does not, no other record comes after it: the next goes to a segment of its own, which takes more than
            // the rest of a block that was ours, so that a disk that is full does not seem to work now and then.
            let _ = file.set_len(segment.bytes);
            segment.has_failed = true;
            if segment.bytes == HEADER.len() as u64 {
                self.drop_segment();
            }
            return Err(error);
        }
        let bytes = u32::try_from(record.text.len()).map_err(io::Error::other)?;
        let offset = segment.bytes + (encoded.len() - record.text.len()) as u64;
        segment.bytes += encoded.len() as u64;
        segment.waiting += 1;
        self.unsynced = true;
        Ok(Place { segment: segment.number, offset, bytes })
    }

    /// Writes the segment that is written to anew, if somebody removed it.
    ///
    /// # Errors
    /// It cannot be written; then it is as it was.
    pub(in crate::client::reports) fn mend(&mut self) -> io::Result<()> {
        let Some(removed) = self.writer.take_if(|file| is_removed(file)) else { return Ok(()) };
        let Some(&Segment { number, bytes, waiting, .. }) = self.segments.back() else { return Ok(()) };
        if waiting == 0 {
            self.segments.pop_back();
            return Ok(());
        }
        let mut copy = || {
            // A segment and one report at most.
            let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
            removed.read_exact_at(&mut content, 0)?;
            self.create(number, &content)
        };
        let copied = copy();
        match copied {
            Ok(file) => {
                self.writer = Some(file);
                self.unsynced = true;
                self.write_cursor(self.cursor)
            }
            Err(error) => {
                self.writer = Some(removed);
                Err(error)
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.next_segment;
        let next = number.checked_add(1).ok_or_else(|| io::Error::other("no number for a file is left"))?;
        let file = self.create(number, &HEADER)?;
        self.next_segment = next;
        self.segments.push_back(Segment::new(number));
        if let Some(full) = self.writer.replace(file).filter(|_| self.unsynced) {
            self.full.push(full);
        }
        // While there is room, so that there is when it must be.
        if self.cursor_file.is_none()
            && let Err(error) = self.write_cursor(self.cursor)
        {
            self.drop_segment();
            return Err(error);
        }
        Ok(())
    }

    /// Makes the file of a segment, and the folder, if it is gone or was never there.
    fn create(&mut self, number: u64, content: &[u8]) -> io::Result<File> {
        self.relock()?;
        let path = segment_path(&self.folder, number);
        let file = create(&path)?;
        if let Err(error) = (self.write)(&file, content, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(file)
    }

    fn relock(&mut self) -> io::Result<()> {
        if !self.lock.as_ref().is_some_and(|lock| is_at(lock, &self.folder)) {
            self.lock = Some(lock(&self.folder).map_err(io::Error::other)?);
        }
        Ok(())
    }

    /// Takes the last segment, in which nothing waits, away again.
    fn drop_segment(&mut self) {
        self.writer = None;
        if let Some(last) = self.segments.pop_back() {
            let _ = fs::remove_file(segment_path(&self.folder, last.number));
        }
    }

    /// Writes `cursor` in place of the older slot; to a new file, where there is none or somebody removed it.
    pub(super) fn write_cursor(&mut self, cursor: Cursor) -> io::Result<()> {
        if self.cursor_file.as_ref().is_none_or(is_removed) {
            self.relock()?;
            self.cursor_file = Some(create(&self.folder.join(CURSOR))?);
        }
        let slot = cursor.writes % 2 * SLOT_BYTES as u64;
        self.cursor_file.as_ref().map_or(Ok(()), |file| file.write_all_at(&cursor.encode(), slot))
    }
}
