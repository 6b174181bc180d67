//! [`Fragment`]: one file, read and parsed into items that know their line. What the options mean, and what
//! other files say, is not known here.
//!
//! The items are the parser's spanned tree rather than `serde` structs: those end at a file's first mistake,
//! and their messages quote the value, which may be a secret.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// The largest file that is read, in bytes: many times what all options need, and soon checked.
const MAX_BYTES: usize = 1024 * 1024;
/// How many tables or lists a value may be in: about twice what options need.
const MAX_DEPTH: usize = 8;

/// The content of one configuration file.
pub(super) struct Fragment {
    pub(super) file: PathBuf,
    pub(super) root: Table,
    /// Why the file is no TOML. If there is any, `root` is empty.
    pub(super) faults: Vec<Fault>,
}

pub(super) type Table = BTreeMap<String, Item>;

/// A value and the line, from 1, on which it begins; in a table, the line of its key.
pub(super) struct Item {
    pub(super) line: usize,
    pub(super) value: Value,
}

// No `Debug`: values may be secrets, and a rule decides whether its value may be shown.
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date,
    List(Vec<Item>),
    Table(Table),
}

/// A mistake in a file. Which file it is, is known where the fault is reported.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// `None` where the file as a whole is meant.
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl Fragment {
    /// Reads and parses `file`. Only what the system refuses is an error; all that is wrong with the content
    /// becomes faults, so that the mistakes of other files are reported as well.
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let mut content = Vec::new();
        File::open(file)
            // One byte more than allowed, so that `from_bytes` notices that there is more.
            .and_then(|open| open.take(MAX_BYTES as u64 + 1).read_to_end(&mut content))
            .map_err(|source| ConfigError::Read { path: file.to_owned(), source })?;
        Ok(Self::from_bytes(file, &content))
    }

    /// Parses `content` of `file`, however much there is of it.
    pub(super) fn from_bytes(file: &Path, content: &[u8]) -> Self {
        if content.len() > MAX_BYTES {
            let message = format!("the file is too large, at most {MAX_BYTES} bytes are allowed");
            return Self::faulty(file, vec![Fault { line: None, message }]);
        }
        match std::str::from_utf8(content) {
            Ok(text) => Self::parse(file, text),
            Err(error) => {
                let good = content.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                let message = "the line is not UTF-8, the encoding that TOML requires".to_owned();
                Self::faulty(file, vec![Fault { line: Some(line), message }])
            }
        }
    }

    /// Parses `text`, the content of `file`.
    pub(super) fn parse(file: &Path, text: &str) -> Self {
        let mut reading = Reading::new(text);
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map(|span| reading.line(span.start));
            reading.fault(line, format!("not valid TOML: {}", error.message()));
        }
        // Also after errors: this finds faults of its own, and takes apart what is nested too deeply to be dropped as it is.
        let root = reading.table(tree.into_inner(), 0);
        if reading.faults.is_empty() {
            return Self { file: file.to_owned(), root, faults: Vec::new() };
        }
        // A guess at what the rest of a broken file means would only raise follow-up errors.
        Self::faulty(file, reading.faults)
    }

    fn faulty(file: &Path, faults: Vec<Fault>) -> Self {
        Self { file: file.to_owned(), root: Table::new(), faults }
    }

    /// The item of the option `name`: `key` at top level, or `table.key`.
    pub(super) fn find(&self, name: &str) -> Option<&Item> {
        let Some((table, key)) = name.split_once('.') else { return self.root.get(name) };
        match &self.root.get(table)?.value {
            Value::Table(entries) => entries.get(key),
            _ => None,
        }
    }
}

impl Value {
    /// What messages may say about any value: numbers and truth values themselves, of all others the kind.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(_) => "a string".to_owned(),
            Self::Integer(number) => number.to_string(),
            // `{:?}` keeps the `.0` that makes the difference to a whole number.
            Self::Float(number) => format!("{number:?}"),
            Self::Boolean(value) => value.to_string(),
            Self::Date => "a date or time".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

/// The way from the parser's tree to items.
struct Reading {
    /// The offset, in bytes, of each line's first byte.
    starts: Vec<usize>,
    faults: Vec<Fault>,
}

impl Reading {
    fn new(text: &str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        Self { starts, faults: Vec::new() }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Notes a fault, the first of each line only: the parser's later ones are mostly consequences.
    fn fault(&mut self, line: Option<usize>, message: String) {
        if self.faults.last().is_none_or(|last| last.line != line) {
            self.faults.push(Fault { line, message });
        }
    }

    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Table {
        table
            .into_iter()
            .map(|(key, value)| {
                let line = self.line(key.span().start);
                let value = self.value(line, value.into_inner(), depth);
                (key.into_inner().into_owned(), Item { line, value })
            })
            .collect()
    }

    fn entry(&mut self, entry: Spanned<DeValue<'_>>, depth: usize) -> Item {
        let line = self.line(entry.span().start);
        Item { line, value: self.value(line, entry.into_inner(), depth) }
    }

    /// The value at `depth` tables or lists below the file.
    fn value(&mut self, line: usize, value: DeValue<'_>, depth: usize) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(parsed.unwrap_or_else(|_| {
                    self.fault(Some(line), "not valid TOML: the number does not fit 64 bits".to_owned());
                    // Any number does: a fragment with faults loses its items.
                    0
                }))
            }
            // The parser has checked the form; what overflows is infinite and outside of every range.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(_) | DeValue::Table(_) if depth >= MAX_DEPTH => {
                let message = format!("nested too deeply, at most {MAX_DEPTH} levels are allowed");
                self.fault(Some(line), message);
                dismantle(value);
                Value::List(Vec::new())
            }
            DeValue::Array(entries) => {
                Value::List(entries.into_iter().map(|entry| self.entry(entry, depth + 1)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table, depth + 1)),
        }
    }
}

/// Drops a value of any depth. The parser limits the depth of brackets and of dotted keys each, but not of
/// both together, and an ordinary drop, which is recursive, can exhaust the stack of a thread on that.
fn dismantle(value: DeValue<'_>) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            DeValue::Array(entries) => left.extend(entries.into_iter().map(Spanned::into_inner)),
            DeValue::Table(table) => left.extend(table.into_iter().map(|(_, value)| value.into_inner())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Fragment {
        Fragment::parse(Path::new("f.toml"), text)
    }

    fn faults(content: &[u8]) -> Vec<(Option<usize>, String)> {
        let fragment = Fragment::from_bytes(Path::new("f.toml"), content);
        assert!(fragment.root.is_empty());
        fragment.faults.into_iter().map(|fault| (fault.line, fault.message)).collect()
    }

    #[test]
    fn items_know_their_lines() {
        let fragment =
            parse("\u{feff}a = 1\r\n\r\nb = [\n  2,\n  \"x\",\n]\n[t]\nc = 1.5\n[[l]]\nd = true\n");
        assert!(fragment.faults.is_empty());
        let line = |name| fragment.find(name).unwrap().line;
        assert_eq!((line("a"), line("b"), line("t"), line("t.c"), line("l")), (1, 3, 7, 8, 9));
        let Value::List(entries) = &fragment.find("b").unwrap().value else { panic!("no list") };
        assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [4, 5]);
        assert!(
            fragment.find("a.c").is_none()
                && fragment.find("t.x").is_none()
                && fragment.find("x.c").is_none()
        );
    }

    #[test]
    fn broken_toml_is_told_by_line() {
        let faults = faults(b"a = 1\nb = \nc = [1, 2\n\nd = 1\na = 2\n");
        let lines: Vec<_> = faults.iter().map(|(line, _)| line.unwrap()).collect();
        assert!(lines.contains(&2) && lines.len() > 1, "{faults:?}");
        assert!(faults[0].1.starts_with("not valid TOML: "), "{faults:?}");
    }

    #[test]
    fn number_beyond_64_bits_is_refused() {
        assert_eq!(
            faults(b"\na = 9223372036854775808\n"),
            [(Some(2), "not valid TOML: the number does not fit 64 bits".into())]
        );
        let fragment = parse("a = -0x8000\nb = 1e999\n");
        assert_eq!(fragment.faults.len(), 1, "TOML has no negative hexadecimal numbers");
    }

    #[test]
    fn file_beyond_1_mib_is_refused() {
        assert!(parse(&"#".repeat(MAX_BYTES)).faults.is_empty());
        assert_eq!(
            faults("#".repeat(MAX_BYTES + 1).as_bytes()),
            [(None, "the file is too large, at most 1048576 bytes are allowed".into())]
        );
    }

    #[test]
    fn file_that_is_not_utf_8_is_refused() {
        assert_eq!(
            faults(b"a = 1\nb = \"\xff\"\n"),
            [(Some(2), "the line is not UTF-8, the encoding that TOML requires".into())]
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        let depth = 10_000;
        for text in [
            format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)),
            format!("a = {}", "{b=".repeat(depth)),
            format!("{}b = 1", "a.".repeat(depth)),
            format!("[{}b]", "a.".repeat(depth)),
            format!("a = {}1{}", format!("{{{}b=", "a.".repeat(70)).repeat(70), "}".repeat(70)),
        ] {
            assert!(!parse(&text).faults.is_empty(), "{text:.60}");
        }
    }

    const TOMLISH: &str = r##"([a-c.=\[\]{}'"#, \n0-9_xe+-]|true|\\u|"""|\r\n){0,60}"##;

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            parse(&text);
        }

        #[test]
        fn nothing_that_looks_like_toml_panics(text in TOMLISH) {
            let fragment = parse(&text);
            prop_assert!(fragment.faults.iter().all(|fault| fault.line.is_none_or(|line| line >= 1)));
        }

        #[test]
        fn no_bytes_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            Fragment::from_bytes(Path::new("f.toml"), &content);
        }
    }
}
