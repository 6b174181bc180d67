//! The names in a registry of Mojo::Webqq's Perl controller: a hash of accounts in the format of Perl's Storable module.
//!
//! Only as much of the format is read as is needed to find the keys of the outermost hash (Storable.xs, `do_store` and
//! `SX_*`). Whatever else is in the file, nothing of it is used.

/// How many names are kept; the original allows 100 clients unless told otherwise.
const MAX_NAMES: usize = 1000;
/// The longest name that is kept, in bytes.
const MAX_NAME: usize = 256;
/// How deeply values may be nested: an account is a hash of plain values.
const MAX_DEPTH: u32 = 16;

/// The names that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In the order of the file, which is that of a Perl hash: none.
    pub names: Vec<String>,
    /// Whether these are all.
    pub complete: bool,
}

/// Whether a file is one of Storable's.
pub fn is_storable(content: &[u8]) -> bool {
    content.starts_with(b"pst0")
}

/// Reads the keys of the outermost hash, as many as can be read.
pub fn names(content: &[u8]) -> Names {
    let mut found = Names::default();
    found.complete = Reader::open(content).and_then(|reader| reader.keys(&mut found.names)).is_some();
    found
}

/// Reads on through a file. `None` everywhere means that it is damaged, or of a kind that is not known here.
struct Reader<'a> {
    rest: &'a [u8],
    /// Whether lengths have their most significant byte first.
    big_endian: bool,
    /// The size of a whole number in the machine's own format, in bytes.
    integer: usize,
    /// The size of a floating-point number in the machine's own format, in bytes.
    double: usize,
}

impl<'a> Reader<'a> {
    /// Reads the header: as `nstore` writes it, for every machine alike, or as `store` does, for one like its own.
    fn open(content: &'a [u8]) -> Option<Self> {
        let rest = content.strip_prefix(b"pst0")?;
        let mut reader = Self { rest, big_endian: true, integer: 8, double: 8 };
        let flags = reader.byte()?;
        let minor = reader.byte()?;
        if flags & 1 == 0 {
            let length = reader.byte()?.into();
            // The digits of 12345678, or of 1234, in the order of the machine's bytes.
            let order = reader.take(length)?;
            reader.big_endian = *order.first()? != b'1';
            reader.integer = order.len();
            // The sizes of int, long and a pointer, and since minor version 2 that of a double.
            reader.take(3)?;
            if minor >= 2 {
                reader.double = reader.byte()?.into();
            }
        }
        Some(reader)
    }

    /// The keys of the hash that begins here, as far as they can be read.
    fn keys(mut self, names: &mut Vec<String>) -> Option<()> {
        let flagged = match self.byte()? {
            3 => false,
            25 => {
                self.take(1)?;
                true
            }
            _ => return None,
        };
        // A false length ends with the file, since each element takes at least a byte.
        for _ in 0..self.length()? {
            self.skip(0)?;
            let key = self.key(flagged)?;
            if names.len() == MAX_NAMES || key.len() > MAX_NAME {
                return None;
            }
            names.push(String::from_utf8_lossy(key).into_owned());
        }
        Some(())
    }

    /// Passes one value.
    fn skip(&mut self, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.byte()? {
            // Something that was there before, by its number.
            0 => self.take(4).map(drop),
            // A text with a long, or with a short length; of bytes, or of characters.
            1 | 24 => {
                let length = self.length()?;
                self.take(length).map(drop)
            }
            10 | 23 => {
                let length = self.byte()?.into();
                self.take(length).map(drop)
            }
            2 => {
                for _ in 0..self.length()? {
                    self.skip(depth + 1)?;
                }
                Some(())
            }
            3 => self.skip_hash(depth, false),
            25 => {
                self.take(1)?;
                self.skip_hash(depth, true)
            }
            // A reference, strong or weak.
            4 | 27 => self.skip(depth + 1),
            // Nothing, true and false.
            5 | 14..=16 | 31 | 40 | 41 => Some(()),
            6 => self.take(self.integer).map(drop),
            7 => self.take(self.double).map(drop),
            8 => self.take(1).map(drop),
            9 => self.take(4).map(drop),
            _ => None,
        }
    }

    fn skip_hash(&mut self, depth: u32, flagged: bool) -> Option<()> {
        for _ in 0..self.length()? {
            self.skip(depth + 1)?;
            self.key(flagged)?;
        }
        Some(())
    }

    fn key(&mut self, flagged: bool) -> Option<&'a [u8]> {
        if flagged {
            self.take(1)?;
        }
        let length = self.length()?;
        self.take(length)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A count, or a length in bytes.
    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        let length = if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(length).ok()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(content: &[u8]) -> (Vec<String>, bool) {
        let Names { mut names, complete } = names(content);
        names.sort();
        (names, complete)
    }

    /// `nstore({a => {pid => 77, port => 5000}})`
    const NETWORK_ORDER: &[u8] =
        b"pst0\x05\x0b\x03\0\0\0\x01\x03\0\0\0\x02\x08\xcd\0\0\0\x03pid\x09\0\0\x13\x88\0\0\0\x04port\0\0\0\x01a";
    /// `store({a => {port => 5000}})`
    const LITTLE_ENDIAN: &[u8] = b"pst0\x04\x0b\x0812345678\x04\x08\x08\x08\x03\x01\0\0\0\x03\x01\0\0\0\
                                   \x06\x88\x13\0\0\0\0\0\0\x04\0\0\0port\x01\0\0\0a";
    /// The same by a 32-bit machine of the other order, with a flagged hash.
    const BIG_ENDIAN: &[u8] = b"pst0\x04\x0b\x044321\x04\x04\x04\x08\x19\0\0\0\0\x01\x03\0\0\0\x01\
                                \x06\0\0\x13\x88\0\0\0\x04port\x01\0\0\0\x01a";

    #[test]
    fn storable_names_in_every_byte_order() {
        for content in [NETWORK_ORDER, LITTLE_ENDIAN, BIG_ENDIAN] {
            assert_eq!(sorted(content), (vec!["a".to_owned()], true));
        }
        assert_eq!(sorted(b"pst0\x05\x0b\x03\0\0\0\0"), (vec![], true), "none at all");
    }

    #[test]
    fn storable_names_before_the_damage() {
        let two =
            [&b"pst0\x05\x0b\x03\0\0\0\x02\x05\0\0\0\x01a"[..], b"\x05\0\0\0\x06\xe5\xb0\x8f\xe6\x98\x8e"]
                .concat();
        assert_eq!(sorted(&two), (vec!["a".to_owned(), "小明".to_owned()], true));
        assert_eq!(sorted(&two[..two.len() - 1]), (vec!["a".to_owned()], false));
        for bad in
            [&b""[..], b"pst0", b"pst0\x05\x0b\x02\0\0\0\0", b"pst0\x05\x0b\x03\xff\xff\xff\xff", b"{}"]
        {
            assert_eq!(sorted(bad), (vec![], false));
        }
        let deep = [&b"pst0\x05\x0b\x03\0\0\0\x01"[..], &[4; 100_000]].concat();
        assert_eq!(sorted(&deep), (vec![], false));
    }

    proptest! {
        #[test]
        fn storable_never_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            names(&content);
            let after_header = |header: &[u8]| names(&[header, &content].concat());
            after_header(b"pst0\x05\x0b\x03\0\0\0\x02");
            after_header(b"pst0\x04\x0b\x0812345678\x04\x08\x08\x08\x03\x02\0\0\0");
        }
    }
}
