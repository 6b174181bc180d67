//! [`Cursor`]: which reports are completed, and the format of its file. All numbers are little-endian.
//!
//! The file is a header and two slots of equal size that are written in turn, so that one of them is always
//! intact. It has its full size from the beginning: acknowledging takes no space on a full disk. Version 1, of
//! 0.1.0, was two slots of 32 bytes without a header, and had neither lanes nor timeouts.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::codec::MAX_NUMBER;

/// The first bytes of the file: a name, and the version of the format.
pub(crate) const HEADER: [u8; 16] = *b"wq-cursor\0\0\0\0\0\0\x02";

/// How many bytes of [`HEADER`] are the name.
const NAME_BYTES: usize = 10;

/// Where the slots begin, in bytes: beyond the file of version 1, which stays valid until the header is written.
pub(crate) const SLOTS: usize = 4096;

/// The size of one slot, in bytes.
pub(crate) const SLOT_BYTES: usize = 8192;

/// The size of the file, in bytes.
pub(crate) const FILE_BYTES: usize = SLOTS + 2 * SLOT_BYTES;

/// How many reports beyond the oldest waiting one may be completed.
pub(crate) const WINDOW: u64 = 32_768;

/// How many waiting reports may have been posted at least once.
pub(crate) const MAX_TRIED: usize = 64;

/// The bytes of a slot before its lists.
const FIXED_BYTES: usize = 32;

/// The bytes of one report that was tried.
const TRIED_BYTES: usize = 16;

/// The size of a slot of version 1, in bytes.
const OLD_SLOT_BYTES: usize = 32;

/// How often a waiting report was posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// All attempts.
    pub attempts: u32,
    /// The timeouts that count against the report.
    pub timeouts: u32,
}

/// Which reports are completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Counts the writes, to find the newer slot.
    pub writes: u64,
    /// Every report before this one is completed.
    head: u64,
    /// Later completed reports: bit n of byte m is the report `head / 8 * 8 + 8 * m + n`. The last byte is not
    /// 0.
    done: VecDeque<u8>,
    /// The waiting reports that were posted at least once.
    pub tried: BTreeMap<u64, Attempts>,
}

/// The content of a cursor file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CursorFile {
    /// A cursor in our format.
    Ours(Cursor),
    /// One in the format of version 1.
    Old(Cursor),
    /// One in the format of a later version.
    OtherVersion,
}

impl Cursor {
    /// The first unused sequence number. Earlier ones must not be reused even if their reports are gone: what
    /// is recorded about them would apply to the new ones.
    pub(crate) fn end(&self) -> u64 {
        let done = self.done.back().map_or(self.head, |last| {
            self.base() + 8 * self.done.len() as u64 - u64::from(last.leading_zeros())
        });
        let tried = self.tried.last_key_value().map_or(0, |(seq, _)| seq.saturating_add(1));
        done.max(tried).max(self.head)
    }

    /// Whether the report is completed.
    pub(crate) fn is_done(&self, seq: u64) -> bool {
        // The bytes below the base are dropped: all before it are completed.
        let Some(offset) = seq.checked_sub(self.base()) else { return true };
        let byte = usize::try_from(offset / 8).ok().and_then(|at| self.done.get(at));
        seq < self.head || byte.is_some_and(|byte| byte & (1 << (offset % 8)) != 0)
    }

    /// Marks the report as completed, if it is within the window.
    pub(crate) fn mark(&mut self, seq: u64) {
        self.tried.remove(&seq);
        if seq < self.head || seq - self.head >= WINDOW {
            return;
        }
        let offset = seq - self.base();
        // Within the window.
        let Ok(at) = usize::try_from(offset / 8) else { return };
        if self.done.len() <= at {
            self.done.resize(at + 1, 0);
        }
        if let Some(byte) = self.done.get_mut(at) {
            *byte |= 1 << (offset % 8);
        }
    }

    /// Marks all reports before `head` as completed.
    pub(crate) fn advance(&mut self, head: u64) {
        if head <= self.head {
            return;
        }
        let bytes = usize::try_from(head / 8 - self.head / 8).unwrap_or(usize::MAX);
        // Whole bytes alone, as `base` is a multiple of 8.
        self.done.drain(..bytes.min(self.done.len()));
        self.head = head;
        self.tried = self.tried.split_off(&head);
    }

    fn base(&self) -> u64 {
        self.head / 8 * 8
    }

    /// The bytes of a slot that are used.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut slot = vec![0; 4];
        slot.extend_from_slice(&[0; 4]);
        slot.extend_from_slice(&self.writes.to_le_bytes());
        slot.extend_from_slice(&self.head.to_le_bytes());
        // Bounded by MAX_TRIED and WINDOW.
        let tried = self.tried.iter().take(MAX_TRIED);
        slot.extend_from_slice(&u32::try_from(tried.len()).unwrap_or(0).to_le_bytes());
        slot.extend_from_slice(&u32::try_from(self.done.len()).unwrap_or(0).to_le_bytes());
        for (seq, Attempts { attempts, timeouts }) in tried {
            slot.extend_from_slice(&seq.to_le_bytes());
            slot.extend_from_slice(&attempts.to_le_bytes());
            slot.extend_from_slice(&timeouts.to_le_bytes());
        }
        slot.extend(&self.done);
        let length = u32::try_from(slot.len()).unwrap_or(0);
        slot[4..8].copy_from_slice(&length.to_le_bytes());
        // Last, because it covers the length as well.
        let checksum = crc32fast::hash(&slot[4..]);
        slot[..4].copy_from_slice(&checksum.to_le_bytes());
        slot
    }

    /// Where the slot of this cursor is in the file, in bytes.
    pub(crate) fn offset(&self) -> usize {
        SLOTS + if self.writes.is_multiple_of(2) { 0 } else { SLOT_BYTES }
    }

    /// Reads the content of a cursor file.
    pub(crate) fn read(content: &[u8]) -> CursorFile {
        if content.starts_with(&HEADER) {
            let slots = content.get(SLOTS..).unwrap_or_default().chunks(SLOT_BYTES).take(2);
            let newest = slots.filter_map(Self::decode).max_by_key(|cursor| cursor.writes);
            // Without a whole slot all reports count as waiting: repeated is better than lost.
            return CursorFile::Ours(newest.unwrap_or_default());
        }
        if content.starts_with(&HEADER[..NAME_BYTES]) {
            return CursorFile::OtherVersion;
        }
        let slots = content.as_chunks::<OLD_SLOT_BYTES>().0.iter().take(2);
        let newest = slots.filter_map(|slot| Self::decode_old(slot)).max_by_key(|cursor| cursor.writes);
        CursorFile::Old(newest.unwrap_or_default())
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let length = usize::try_from(short(slot, 4..8)?).ok()?;
        let slot = slot.get(..length)?;
        (short(slot, 0..4)? == crc32fast::hash(slot.get(4..)?)).then_some(())?;
        let (tried, done) =
            (usize::try_from(short(slot, 24..28)?).ok()?, usize::try_from(short(slot, 28..32)?).ok()?);
        let lists = slot.get(FIXED_BYTES..)?;
        (tried <= MAX_TRIED && lists.len() == tried * TRIED_BYTES + done).then_some(())?;
        let (tried, done) = lists.split_at(tried * TRIED_BYTES);
        let tries = |bytes: &[u8]| {
            let tries = Attempts { attempts: short(bytes, 8..12)?, timeouts: short(bytes, 12..16)? };
            Some((long(bytes, 0..8)?, tries))
        };
        let cursor = Self {
            writes: long(slot, 8..16)?,
            head: long(slot, 16..24)?,
            done: done.iter().copied().collect(),
            tried: tried.chunks(TRIED_BYTES).map(tries).collect::<Option<_>>()?,
        };
        cursor.is_credible().then_some(cursor)
    }

    fn decode_old(slot: &[u8]) -> Option<Self> {
        (short(slot, 0..4)? == crc32fast::hash(slot.get(4..)?)).then_some(())?;
        let (head, attempts) = (long(slot, 12..20)?, short(slot, 20..24)?);
        let tried = (attempts > 0).then_some((head, Attempts { attempts, timeouts: 0 }));
        let tried = tried.into_iter().collect();
        let cursor = Self { writes: long(slot, 4..12)?, head, done: VecDeque::new(), tried };
        cursor.is_credible().then_some(cursor)
    }

    fn is_credible(&self) -> bool {
        // `end` counts down from the last bit that is set, so the last byte must have one.
        self.writes.max(self.head) <= MAX_NUMBER && self.done.back() != Some(&0)
    }
}

fn long(bytes: &[u8], range: Range<usize>) -> Option<u64> {
    bytes.get(range)?.try_into().ok().map(u64::from_le_bytes)
}

fn short(bytes: &[u8], range: Range<usize>) -> Option<u32> {
    bytes.get(range)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(writes: u64, head: u64) -> Cursor {
        let mut cursor = Cursor { writes, ..Cursor::default() };
        cursor.advance(head);
        cursor
    }

    fn file(cursors: &[&Cursor]) -> Vec<u8> {
        let mut content = vec![0; FILE_BYTES];
        content[..HEADER.len()].copy_from_slice(&HEADER);
        for cursor in cursors {
            let slot = cursor.encode();
            content[cursor.offset()..][..slot.len()].copy_from_slice(&slot);
        }
        content
    }

    #[test]
    fn torn_cursor_slot_leaves_the_other() {
        let (mut old, new) = (at(4, 9), at(5, 10));
        old.tried.insert(9, Attempts { attempts: 7, timeouts: 2 });
        old.mark(11);
        let both = file(&[&old, &new]);
        assert_eq!(Cursor::read(&both), CursorFile::Ours(new.clone()));
        for broken in 0..new.encode().len() {
            let mut content = both.clone();
            content[new.offset() + broken] ^= 0x40;
            assert_eq!(Cursor::read(&content), CursorFile::Ours(old.clone()), "byte {broken}");
        }
        assert_eq!(Cursor::read(&both[..new.offset() + 3]), CursorFile::Ours(old));
        assert_eq!(Cursor::read(&file(&[])), CursorFile::Ours(Cursor::default()));
    }

    #[test]
    fn fullest_cursor_fits_into_its_slot() {
        let mut cursor = at(MAX_NUMBER, MAX_NUMBER - 1);
        for seq in cursor.head..cursor.head + 2 * WINDOW {
            cursor.mark(seq);
            if cursor.tried.len() < MAX_TRIED + 5 {
                cursor.tried.insert(seq, Attempts { attempts: u32::MAX, timeouts: 3 });
            }
        }
        assert!(cursor.encode().len() <= SLOT_BYTES);
        assert_eq!(cursor.end(), cursor.head + WINDOW);
    }

    #[test]
    fn excessive_cursor_numbers_are_damage() {
        for cursor in [at(u64::MAX, 1), at(1, u64::MAX)] {
            assert_eq!(Cursor::read(&file(&[&cursor])), CursorFile::Ours(Cursor::default()));
        }
    }

    #[test]
    fn cursor_version_is_read_from_the_header() {
        let mut newer = HEADER;
        newer[15] = 3;
        assert_eq!(Cursor::read(&newer), CursorFile::OtherVersion);
        assert_eq!(Cursor::read(&[0; 64]), CursorFile::Old(Cursor::default()));
        assert_eq!(Cursor::read(b""), CursorFile::Old(Cursor::default()));
    }

    proptest! {
        /// What is done with is known, over any order and through the file, and nothing else is.
        #[test]
        fn cursor_knows_exactly_the_completed_reports(seqs in prop::collection::vec(1..200_u64, 0..150), saved in any::<prop::sample::Index>()) {
            let (mut cursor, mut done) = (at(1, 1), BTreeSet::new());
            for (step, &seq) in seqs.iter().enumerate() {
                cursor.mark(seq);
                done.insert(seq);
                cursor.advance((1..).find(|seq| !done.contains(seq)).unwrap());
                if step == saved.index(seqs.len()) {
                    let read = Cursor::read(&file(&[&cursor]));
                    prop_assert_eq!(&read, &CursorFile::Ours(cursor.clone()));
                }
                prop_assert!((1..260).all(|seq| cursor.is_done(seq) == done.contains(&seq)));
                prop_assert_eq!(cursor.end(), done.last().unwrap() + 1);
            }
        }
    }
}
