//! The format of the files of a [`write-ahead log`](super), byte by byte. All numbers are little-endian.
//!
//! A segment is a header and then records: the length of the payload, its CRC-32, the payload. Versions 1 and 2
//! have the same records, but from version 2 on a report may be completed while an earlier one waits, which
//! 0.1.0 cannot represent. So 0.1.0 refuses segments of version 2.

use std::io::{self, Read};

/// The first bytes of a segment: a name, and the version of the format.
pub(crate) const HEADER: [u8; 16] = *b"wq-reports\0\0\0\0\0\x02";

/// The header of version 1, which 0.1.0 wrote.
pub(crate) const OLD_HEADER: [u8; 16] = *b"wq-reports\0\0\0\0\0\x01";

/// How many bytes of [`HEADER`] are the name. The rest is the version.
const NAME_BYTES: usize = 10;

/// The bytes before a payload: its length and its checksum.
const FRAME_BYTES: usize = 8;

/// The bytes of a payload before the text.
const FIXED_BYTES: usize = 25;

/// The longest text of a report, in bytes: a message of 1 MiB with every byte escaped, and some room.
pub(crate) const MAX_TEXT: usize = 8 * 1024 * 1024;

/// The largest credible number. No counter gets that far, and there is room to count on.
pub(crate) const MAX_NUMBER: u64 = u64::MAX / 2;

/// A report as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<T> {
    /// Its sequence number, unique as long as the log exists.
    pub seq: u64,
    /// The run that it comes from, a random number: unique together with `seq`.
    pub run: u64,
    /// When it came, in Unix seconds. Informational.
    pub time: u64,
    /// Whether it is about a login code, which expires with its client.
    pub is_code: bool,
    /// The JSON text.
    pub text: T,
}

impl Record<&str> {
    /// Frame and payload in one buffer for one `write(2)`. The text is at the end.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = FIXED_BYTES + self.text.len();
        let mut bytes = Vec::with_capacity(FRAME_BYTES + length);
        bytes.extend_from_slice(&[0; FRAME_BYTES]);
        for number in [self.seq, self.run, self.time] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(u8::from(self.is_code));
        bytes.extend_from_slice(self.text.as_bytes());
        let checksum = crc32fast::hash(&bytes[FRAME_BYTES..]);
        // The spool limits texts to MAX_TEXT.
        bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes[4..FRAME_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// The next item of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextRecord<'a> {
    /// A record, and its size with the frame.
    Record(Record<&'a str>, usize),
    /// The end, exactly after a record.
    End,
    /// A damaged end, as after a loss of power.
    Torn,
}

/// Reads the next record of a segment; `buffer` holds its text.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_next<'a>(from: &mut impl Read, buffer: &'a mut Vec<u8>) -> io::Result<NextRecord<'a>> {
    buffer.clear();
    // Not `read_exact`, which cannot tell the end of the file from half a frame.
    from.take(FRAME_BYTES as u64).read_to_end(buffer)?;
    let Ok(frame) = <[u8; FRAME_BYTES]>::try_from(buffer.as_slice()) else {
        return Ok(if buffer.is_empty() { NextRecord::End } else { NextRecord::Torn });
    };
    let [a, b, c, d, rest @ ..] = frame;
    let (length, checksum) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes(rest));
    // Before the payload is read: a damaged length could be 4 GiB.
    if !(FIXED_BYTES..=FIXED_BYTES + MAX_TEXT).contains(&length) {
        return Ok(NextRecord::Torn);
    }
    buffer.clear();
    from.take(length as u64).read_to_end(buffer)?;
    if buffer.len() != length || crc32fast::hash(buffer) != checksum {
        return Ok(NextRecord::Torn);
    }
    let (fixed, text) = buffer.split_at(FIXED_BYTES);
    let number = |at: usize| fixed[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let Ok(text) = std::str::from_utf8(text) else { return Ok(NextRecord::Torn) };
    // The reader counts on from it, which must not overflow.
    if number(0) > MAX_NUMBER {
        return Ok(NextRecord::Torn);
    }
    let record = Record { seq: number(0), run: number(8), time: number(16), is_code: fixed[24] != 0, text };
    Ok(NextRecord::Record(record, FRAME_BYTES + length))
}

/// The version of a segment, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatVersion {
    /// Our version.
    Ours,
    /// Version 1.
    Old,
    /// Another version, which may have features unknown to us.
    OtherVersion,
    /// No header: the file was never completely written.
    Nothing,
}

/// The version of a segment with these first bytes.
pub(crate) fn origin(header: &[u8]) -> FormatVersion {
    if header == HEADER {
        FormatVersion::Ours
    } else if header == OLD_HEADER {
        FormatVersion::Old
    } else if header.len() == HEADER.len() && header[..NAME_BYTES] == HEADER[..NAME_BYTES] {
        FormatVersion::OtherVersion
    } else {
        FormatVersion::Nothing
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
                NextRecord::Record(record, _) => seqs.push(record.seq),
                NextRecord::End => return (seqs, false),
                NextRecord::Torn => return (seqs, true),
            }
        }
    }

    #[test]
    fn records_survive_a_round_trip() {
        let written = record(3, r#"{"content":"你好"}"#);
        let bytes = written.encode();
        let mut buffer = Vec::new();
        assert_eq!(
            read_next(&mut bytes.as_slice(), &mut buffer).unwrap(),
            NextRecord::Record(written, bytes.len())
        );
    }

    #[test]
    fn excessive_sequence_numbers_are_damage() {
        assert_eq!(read_all(&record(MAX_NUMBER, "x").encode()), (vec![MAX_NUMBER], false));
        assert_eq!(read_all(&record(MAX_NUMBER + 1, "x").encode()), (vec![], true));
    }

    #[test]
    fn segment_version_is_read_from_the_header() {
        assert_eq!(origin(&HEADER), FormatVersion::Ours);
        let mut newer = HEADER;
        newer[15] = 3;
        assert_eq!(origin(&OLD_HEADER), FormatVersion::Old);
        assert_eq!(origin(&newer), FormatVersion::OtherVersion);
        assert_eq!(origin(&HEADER[..15]), FormatVersion::Nothing);
        assert_eq!(origin(&[0; 16]), FormatVersion::Nothing);
    }

    proptest! {
        /// Wherever a segment ends or is damaged, what stands before is read, and nothing that is wrong.
        #[test]
        fn torn_tail_costs_only_the_tail(texts in prop::collection::vec("\\PC{0,40}", 1..6), cut: prop::sample::Index, flip: prop::sample::Index) {
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
