//! Writing the log: reports are appended, the cursor is overwritten in place, and removed files are created
//! again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::codec::{HEADER, Record};
use super::cursor::{self, FILE_BYTES, SLOTS};
use super::files::{create, is_at, is_removed, lock, segment_path};
use super::{CURSOR, RecordLocation, SEGMENT_BYTES, Segment, WriteAheadLog};

impl WriteAheadLog {
    /// Appends a report.
    ///
    /// # Errors
    /// It cannot be written; nothing of it is left in the file.
    pub(crate) fn append(&mut self, record: &Record<&str>) -> io::Result<RecordLocation> {
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
            // Half a record would hide the ones after it. Truncating works on a full disk as well. If it fails,
            // nothing more is appended to this segment: the next record goes to a new one. That takes more
            // space than the rest of an allocated block, so a full disk does not seem to work now and then.
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
        Ok(RecordLocation { segment: segment.number, offset, bytes })
    }

    /// Writes the current segment again if it was removed.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        let Some(removed) = self.writer.take_if(|file| is_removed(file)) else { return Ok(()) };
        let Some(&Segment { number, bytes, waiting, .. }) = self.segments.back() else { return Ok(()) };
        if waiting == 0 {
            self.segments.pop_back();
            return Ok(());
        }
        let mut copy = || {
            // At most a full segment and one report.
            let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
            removed.read_exact_at(&mut content, 0)?;
            self.create(number, &content)
        };
        let copied = copy();
        match copied {
            Ok(file) => {
                self.writer = Some(file);
                self.unsynced = true;
                self.write_cursor()
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
        // Created early, so that it exists when the disk is full.
        if self.cursor_file.is_none()
            && let Err(error) = self.write_cursor()
        {
            self.drop_segment();
            return Err(error);
        }
        Ok(())
    }

    /// Creates the file of a segment, and the folder if it is missing.
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

    /// Removes the last segment, in which nothing waits.
    fn drop_segment(&mut self) {
        self.writer = None;
        if let Some(last) = self.segments.pop_back() {
            let _ = fs::remove_file(segment_path(&self.folder, last.number));
        }
    }

    /// Overwrites the older slot of the cursor. Writes a new file if there is none, it was removed, or 0.1.0
    /// wrote it.
    pub(crate) fn write_cursor(&mut self) -> io::Result<()> {
        // 0.1.0 does not know this format and would repeat reports. It refuses a folder with a segment of ours,
        // so that has to come first.
        if !self.segments.is_empty() && self.segments.iter().all(|segment| segment.is_old) {
            self.begin_segment()?;
        }
        let slot = self.cursor.encode();
        if self.cursor_file.as_ref().is_none_or(is_removed) {
            self.relock()?;
            let path = self.folder.join(CURSOR);
            let file = create(&path)?;
            if let Err(error) = (self.write)(&file, &self.whole_cursor_file(&slot), 0) {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
            (self.cursor_file, self.has_old_cursor) = (Some(file), false);
            return Ok(());
        }
        let Some(file) = &self.cursor_file else { return Ok(()) };
        if !self.has_old_cursor {
            return file.write_all_at(&slot, self.cursor.offset() as u64);
        }
        // The content of 0.1.0 is valid until the header replaces it.
        let whole = self.whole_cursor_file(&slot);
        file.write_all_at(&whole[SLOTS..], SLOTS as u64)?;
        file.write_all_at(&cursor::HEADER, 0)?;
        self.has_old_cursor = false;
        Ok(())
    }

    fn whole_cursor_file(&self, slot: &[u8]) -> Vec<u8> {
        let mut whole = vec![0; FILE_BYTES];
        whole[..cursor::HEADER.len()].copy_from_slice(&cursor::HEADER);
        let offset = self.cursor.offset();
        whole[offset..offset + slot.len()].copy_from_slice(slot);
        whole
    }
}
