//! What stands in the files of a [`journal`](super::journal), byte by byte. All numbers are little-endian.
//!
//! A segment is a header and then records: the length of the payload, its CRC-32, the payload. The cursor is two slots
//! of equal size that are written in turn, so that one of them is whole whatever happens to the other.

use std::io::{self, Read};
use std::ops::Range;

/// The first bytes of a segment: what it is, and the version of the format.
pub(super) const HEADER: [u8; 16] = *b"wq-reports\0\0\0\0\0\x01";

/// How many bytes of [`HEADER`] say what the file is. The rest is the version.
const NAME_BYTES: usize = 10;

/// The bytes before a payload: its length and its checksum.
const FRAME_BYTES: usize = 8;

/// The bytes of a payload before the text.
const FIXED_BYTES: usize = 25;

/// The longest text of a report, in bytes: a message of 1 MiB in which every byte is escaped, with room.
pub(super) const MAX_TEXT: usize = 8 * 1024 * 1024;

/// The largest number that is believed. No counting comes that far, and from here there is room to count on.
const MAX_NUMBER: u64 = u64::MAX / 2;

/// The size of one slot of the cursor, in bytes.
pub(super) const SLOT_BYTES: usize = 32;

/// A report, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record<T> {
    /// Its place in the order; it never comes again as long as the journal is there.
    pub seq: u64,
    /// The run of the client that it comes from, a random number: with `seq` it is unique for good.
    pub run: u64,
    /// When it came, in Unix seconds, for people who look: nothing depends on it.
    pub time: u64,
    /// Whether it is about a login code, which is worth nothing after its client ended.
    pub is_code: bool,
    /// The JSON text.
    pub text: T,
}

impl Record<&str> {
    /// The frame and the payload, in one piece for one `write(2)`. The text is at its end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = FIXED_BYTES + self.text.len();
        let mut bytes = Vec::with_capacity(FRAME_BYTES + length);
        bytes.extend_from_slice(&[0; FRAME_BYTES]);
        for number in [self.seq, self.run, self.time] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(u8::from(self.is_code));
        bytes.extend_from_slice(self.text.as_bytes());
        let checksum = crc32fast::hash(&bytes[FRAME_BYTES..]);
        // At most MAX_TEXT and a little more, which the spool sees to.
        bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes[4..FRAME_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A whole record, and how many bytes it takes with its frame.
    Record(Record<&'a str>, usize),
    /// The end, exactly after a record.
    End,
    /// The end, in the middle of a record or with bytes that are none: what a loss of power leaves.
    Torn,
}

/// Reads the next record of a segment; `buffer` holds its text.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read_next<'a>(from: &mut impl Read, buffer: &'a mut Vec<u8>) -> io::Result<Next<'a>> {
    buffer.clear();
    from.take(FRAME_BYTES as u64).read_to_end(buffer)?;
    let Ok(frame) = <[u8; FRAME_BYTES]>::try_from(buffer.as_slice()) else {
        return Ok(if buffer.is_empty() { Next::End } else { Next::Torn });
    };
    let [a, b, c, d, rest @ ..] = frame;
    let (length, checksum) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes(rest));
    if !(FIXED_BYTES..=FIXED_BYTES + MAX_TEXT).contains(&length) {
        return Ok(Next::Torn);
    }
    buffer.clear();
    from.take(length as u64).read_to_end(buffer)?;
    if buffer.len() != length || crc32fast::hash(buffer) != checksum {
        return Ok(Next::Torn);
    }
    let (fixed, text) = buffer.split_at(FIXED_BYTES);
    let number = |at: usize| fixed[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let Ok(text) = std::str::from_utf8(text) else { return Ok(Next::Torn) };
    if number(0) > MAX_NUMBER {
        return Ok(Next::Torn);
    }
    let record = Record { seq: number(0), run: number(8), time: number(16), is_code: fixed[24] != 0, text };
    Ok(Next::Record(record, FRAME_BYTES + length))
}

/// Whose a segment is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written in our format.
    Ours,
    /// Written by another version, which may know more than we do.
    OtherVersion,
    /// Not the beginning of a segment: it was never written whole.
    Nothing,
}

/// Whose a segment with these first bytes is.
pub(super) fn origin(header: &[u8]) -> Origin {
    if header == HEADER {
        Origin::Ours
    } else if header.len() == HEADER.len() && header[..NAME_BYTES] == HEADER[..NAME_BYTES] {
        Origin::OtherVersion
    } else {
        Origin::Nothing
    }
}

/// How far delivery has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Counts the writes, so that the newer one of two slots is known.
    pub writes: u64,
    /// Every report before this one is done with.
    pub head: u64,
    /// How often the report `head` was posted.
    pub attempts: u32,
}

impl Cursor {
    /// The bytes of a slot.
    pub(super) fn encode(self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[4..12].copy_from_slice(&self.writes.to_le_bytes());
        slot[12..20].copy_from_slice(&self.head.to_le_bytes());
        slot[20..24].copy_from_slice(&self.attempts.to_le_bytes());
        let checksum = crc32fast::hash(&slot[4..]);
        slot[..4].copy_from_slice(&checksum.to_le_bytes());
        slot
    }

    /// The newer one of the whole slots in the content of a cursor file.
    pub(super) fn newest(content: &[u8]) -> Option<Self> {
        let slots = content.as_chunks::<SLOT_BYTES>().0.iter();
        slots.filter_map(|slot| Self::decode(slot)).max_by_key(|cursor| cursor.writes)
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let number = |range: Range<usize>| slot.get(range)?.try_into().ok().map(u64::from_le_bytes);
        let short = |range: Range<usize>| slot.get(range)?.try_into().ok().map(u32::from_le_bytes);
        (short(0..4)? == crc32fast::hash(slot.get(4..)?)).then_some(())?;
        let cursor = Self { writes: number(4..12)?, head: number(12..20)?, attempts: short(20..24)? };
        (cursor.writes.max(cursor.head) <= MAX_NUMBER).then_some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(seq: u64, text: &str) -> Record<&str> {
        Record { seq, run: 7, time: 1_700_000_000, is_code: seq % 2 == 1, text }
    }

    fn read_all(mut bytes: &[u8]) -> (Vec<u64>, bool) {
        let (mut seqs, mut buffer) = (Vec::new(), Vec::new());
        loop {
            match read_next(&mut bytes, &mut buffer).unwrap() {
                Next::Record(record, _) => seqs.push(record.seq),
                Next::End => return (seqs, false),
                Next::Torn => return (seqs, true),
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = record(3, r#"{"content":"你好"}"#);
        let bytes = written.encode();
        let mut buffer = Vec::new();
        assert_eq!(
            read_next(&mut bytes.as_slice(), &mut buffer).unwrap(),
            Next::Record(written, bytes.len())
        );
    }

    #[test]
    fn numbers_that_leave_no_next_are_damage() {
        assert_eq!(read_all(&record(MAX_NUMBER, "x").encode()), (vec![MAX_NUMBER], false));
        assert_eq!(read_all(&record(MAX_NUMBER + 1, "x").encode()), (vec![], true));
        let cursor = Cursor { writes: 1, head: 1, attempts: u32::MAX };
        assert_eq!(Cursor::newest(&cursor.encode()), Some(cursor));
        assert_eq!(Cursor::newest(&Cursor { writes: u64::MAX, ..cursor }.encode()), None);
        assert_eq!(Cursor::newest(&Cursor { head: u64::MAX, ..cursor }.encode()), None);
    }

    #[test]
    fn segments_are_known_by_their_beginning() {
        assert_eq!(origin(&HEADER), Origin::Ours);
        let mut newer = HEADER;
        newer[15] = 2;
        assert_eq!(origin(&newer), Origin::OtherVersion);
        assert_eq!(origin(&HEADER[..15]), Origin::Nothing);
        assert_eq!(origin(&[0; 16]), Origin::Nothing);
    }

    #[test]
    fn a_half_written_slot_leaves_the_other() {
        let (old, new) =
            (Cursor { writes: 4, head: 9, attempts: 2 }, Cursor { writes: 5, head: 10, attempts: 0 });
        let both = [old.encode(), new.encode()].concat();
        assert_eq!(Cursor::newest(&both), Some(new));
        for broken in SLOT_BYTES..2 * SLOT_BYTES {
            let mut content = both.clone();
            content[broken] ^= 0x40;
            assert_eq!(Cursor::newest(&content), Some(old), "byte {broken}");
        }
        assert_eq!(Cursor::newest(&both[..SLOT_BYTES + 3]), Some(old));
        assert_eq!(Cursor::newest(&[0; 64]), None);
    }

    proptest! {
        /// Wherever a segment ends or is damaged, what stands before is read, and nothing that is wrong.
        #[test]
        fn a_torn_tail_costs_only_the_tail(texts in prop::collection::vec("\\PC{0,40}", 1..6), cut: prop::sample::Index, flip: prop::sample::Index) {
            let records: Vec<Vec<u8>> = (0..).zip(&texts).map(|(seq, text)| record(seq, text).encode()).collect();
            let bytes = records.concat();
            let whole_before = |at: usize| {
                let mut end = 0;
                records.iter().take_while(|record| { end += record.len(); end <= at }).count() as u64
            };
            let cut = cut.index(bytes.len());
            let (seqs, _) = read_all(&bytes[..cut]);
            prop_assert_eq!(seqs, (0..whole_before(cut)).collect::<Vec<_>>());
            let flip = flip.index(bytes.len());
            let mut damaged = bytes.clone();
            damaged[flip] ^= 1;
            let (seqs, torn) = read_all(&damaged);
            prop_assert_eq!(seqs, (0..whole_before(flip)).collect::<Vec<_>>());
            prop_assert!(torn);
        }
    }
}
