//! [`Options`]: one option at a time out of several fragments. This is where later files win and where
//! everything that is wrong is gathered; which options there are and what they allow is not known here.

use super::error::{ConfigError, Overridden, Problem};
use super::fragment::{Fault, Fragment, Item, Value};

/// What a rule makes of an item: a value, or all that is wrong with it, as the end of a sentence that begins
/// with the option's name.
pub(super) type Checked<T> = Result<T, Vec<Fault>>;

/// Reads options. Each name that is read becomes known; a key that was not read when all options were is a mistake.
pub(super) struct Options<'a> {
    fragments: &'a [Fragment],
    known: Vec<&'static str>,
    /// Each with its fragment's place in the order.
    faults: Vec<(usize, Fault)>,
    overridden: Vec<Overridden>,
}

/// Where a value stands: the fragment's place in the order, and the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    fragment: usize,
    line: usize,
}

impl Origin {
    /// This line of the same fragment.
    pub(super) fn with_line(self, line: usize) -> Self {
        Self { line, ..self }
    }
}

impl<'a> Options<'a> {
    /// Reads from `fragments`, of which later ones win.
    pub(super) fn new(fragments: &'a [Fragment]) -> Self {
        Self { fragments, known: Vec::new(), faults: Vec::new(), overridden: Vec::new() }
    }

    /// The value of the option `name` (`key` at top level, or `table.key`) in the last fragment that has it, or
    /// `default`.
    ///
    /// The rule checks the value of every fragment: a mistake that a later file overrides would else appear when that
    /// file is removed. What the rule returns is replaced as a whole, never merged.
    pub(super) fn get<T>(&mut self, name: &'static str, default: T, rule: impl Fn(&Item) -> Checked<T>) -> T {
        let mut given = self.each(name, |_, item| rule(item));
        for pair in given.windows(2) {
            if let [(earlier, _), (later, _)] = pair {
                self.overrides(name, *earlier, *later);
            }
        }
        given.pop().map_or(default, |(_, value)| value)
    }

    /// Like [`Options::get`], for an option whose parts are merged: its value in each fragment that has it, in order.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        rule: impl Fn(Origin, &Item) -> Checked<T>,
    ) -> Vec<(Origin, T)> {
        self.known.push(name);
        let mut given = Vec::new();
        for (at, fragment) in self.fragments.iter().enumerate() {
            let Some(item) = fragment.find(name) else { continue };
            let origin = Origin { fragment: at, line: item.line };
            match rule(origin, item) {
                Ok(value) => given.push((origin, value)),
                Err(faults) => self.faults.extend(faults.into_iter().map(|fault| {
                    (at, Fault { line: fault.line, message: format!("`{name}` {}", fault.message) })
                })),
            }
        }
        given
    }

    /// Notes that the value of `name` at `earlier` does not count, because of the one at `later`.
    pub(super) fn overrides(&mut self, name: &str, earlier: Origin, later: Origin) {
        let place = |origin: Origin| {
            let file = self.fragments.get(origin.fragment).map(|fragment| fragment.file.clone());
            (file.unwrap_or_default(), origin.line)
        };
        self.overridden.push(Overridden {
            name: name.to_owned(),
            earlier: place(earlier),
            later: place(later),
        });
    }

    /// The values that do not count because a later file has the same option.
    pub(super) fn take_overridden(&mut self) -> Vec<Overridden> {
        std::mem::take(&mut self.overridden)
    }

    /// Like [`Options::object`], about a value at a known place.
    pub(super) fn object_at(&mut self, name: &str, origin: Origin, why: &str) {
        if !self.is_broken() {
            let message = format!("`{name}` {why}");
            self.faults.push((origin.fragment, Fault { line: Some(origin.line), message }));
        }
    }

    /// Reports that the option `name` contradicts another one, at the last fragment that has it. It is not reported while
    /// there are other mistakes, since it may follow from them.
    pub(super) fn object(&mut self, name: &str, why: &str) {
        let found = |(at, fragment): (usize, &'a Fragment)| Some((at, fragment.find(name)?.line));
        let last = self.fragments.iter().enumerate().rev().find_map(found);
        if let Some((fragment, line)) = last {
            self.object_at(name, Origin { fragment, line }, why);
        }
    }

    fn is_broken(&self) -> bool {
        !self.faults.is_empty() || self.fragments.iter().any(|fragment| !fragment.faults.is_empty())
    }

    /// To be called when every option has been read.
    ///
    /// # Errors
    /// All that is wrong in any file, by file and line.
    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        for (at, fragment) in self.fragments.iter().enumerate() {
            let mut faults = fragment.faults.clone();
            for (key, item) in &fragment.root {
                self.check_key(key, item, &mut faults);
            }
            self.faults.extend(faults.into_iter().map(|fault| (at, fault)));
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        // A fault of a whole file has no line and so comes before its others. The sort is stable.
        self.faults.sort_by_key(|(at, fault)| (*at, fault.line));
        let problems = self.faults.into_iter().filter_map(|(at, fault)| {
            let file = self.fragments.get(at)?.file.clone();
            Some(Problem { file, line: fault.line, message: fault.message })
        });
        Err(ConfigError::Invalid(problems.collect()))
    }

    /// The names asked for so far.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    fn check_key(&self, key: &str, item: &Item, faults: &mut Vec<Fault>) {
        if self.known.contains(&key) {
            return;
        }
        if self.keys_of(Some(key)).next().is_none() {
            return faults.push(self.unknown(None, key, item));
        }
        let Value::Table(entries) = &item.value else {
            let message = format!("`{key}` is {}, must be a table: [{key}]", item.value.shown());
            return faults.push(Fault { line: Some(item.line), message });
        };
        let unknown =
            entries.iter().filter(|(entry, _)| !self.keys_of(Some(key)).any(|known| known == **entry));
        faults.extend(unknown.map(|(entry, item)| self.unknown(Some(key), entry, item)));
    }

    /// The known keys of a table, or those at top level.
    fn keys_of(&self, table: Option<&str>) -> impl Iterator<Item = &'static str> {
        self.known.iter().filter_map(move |name| match (table, name.split_once('.')) {
            (None, None) => Some(*name),
            (Some(table), Some((of, key))) if of == table => Some(key),
            _ => None,
        })
    }

    /// The known tables, each once.
    fn tables(&self) -> Vec<&'static str> {
        let mut tables: Vec<_> = self.known.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        // The options of a table are read one after the other, so equal names are neighbours.
        tables.dedup();
        tables
    }

    fn unknown(&self, table: Option<&str>, key: &str, item: &Item) -> Fault {
        let mut known: Vec<String> = self.keys_of(table).map(str::to_owned).collect();
        if table.is_none() {
            known.extend(self.tables().into_iter().map(|table| format!("[{table}]")));
        }
        let name = match table {
            Some(table) => format!("{table}.{}", shortened(key)),
            None => shortened(key),
        };
        let of = table.map(|table| format!(" in [{table}]")).unwrap_or_default();
        let message = match self.elsewhere(key).or_else(|| nearest(key, &known)) {
            // All that there are would hide it in a line of the journal.
            Some(suggestion) => format!("unknown key `{name}` (did you mean {suggestion}?)"),
            None => format!("unknown key `{name}`, known{of} are {}", known.join(", ")),
        };
        Fault { line: Some(item.line), message }
    }

    /// Where else `key` would be right: TOML makes it easy to write a key below the wrong table header.
    fn elsewhere(&self, key: &str) -> Option<String> {
        self.known.iter().find_map(|name| match name.split_once('.') {
            None if *name == key => Some(format!("`{key}` above the first table")),
            Some((table, of_table)) if of_table == key => Some(format!("`{key}` in [{table}]")),
            _ => None,
        })
    }
}

/// A key that came from outside, fit for one line of a message.
fn shortened(key: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut shown: String = key.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if key.chars().nth(MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The known key that `key` was most likely meant to be, if one is near enough.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    // With more than a third of the letters wrong it is another word, not a slip.
    let allowed = key.chars().count().div_ceil(3).min(3);
    let (distance, best) = known
        .iter()
        // A key may be as long as its file, and the time that `distance` takes grows with it.
        .filter(|known| known.len().abs_diff(key.len()) <= 8)
        .map(|known| (distance(key, known.trim_matches(['[', ']'])), known))
        .min()?;
    (distance <= allowed).then(|| format!("`{best}`"))
}

/// How many letters must be inserted, removed or replaced to turn one text into the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    // `row[n]` is the distance of what has been read of `from` to the first `n` letters of `to`.
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (removed, letter) in from.chars().enumerate() {
        let mut next = vec![removed + 1];
        let mut left = removed + 1;
        for (pair, other) in row.windows(2).zip(to.chars()) {
            let [diagonal, above] = *pair else { continue };
            left = (diagonal + usize::from(letter != other)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn number(item: &Item) -> Checked<i64> {
        match item.value {
            Value::Integer(number) => Ok(number),
            _ => Err(vec![Fault { line: Some(item.line), message: "must be a number".into() }]),
        }
    }

    /// The values of `a`, `t.b` and `u.c`, and the problems.
    fn read(files: &[&str]) -> ([i64; 3], String) {
        let parse = |(at, text): (usize, &&str)| Fragment::parse(Path::new(&format!("{at}")), text);
        let fragments: Vec<_> = files.iter().enumerate().map(parse).collect();
        let mut options = Options::new(&fragments);
        let values = ["alpha", "table.bravo", "untaken.charlie"].map(|name| options.get(name, -1, number));
        (values, options.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn later_wins_and_tables_merge_by_key() {
        assert_eq!(read(&[]), ([-1; 3], String::new()));
        let files = ["alpha = 1\n[table]\nbravo = 2", "alpha = 3\n[untaken]\ncharlie = 4", "[table]"];
        assert_eq!(read(&files), ([3, 2, 4], String::new()));
    }

    #[test]
    fn mistake_in_an_overridden_value_is_reported() {
        let (values, problems) = read(&["alpha = 'x'", "alpha = 3"]);
        assert_eq!((values[0], problems.as_str()), (3, "0:1: `alpha` must be a number"));
    }

    #[test]
    fn mistakes_are_sorted_by_file_and_line() {
        let (_, problems) = read(&[
            "zulu = 1\nalpha = 'x'\n[table]\nbravo = 'x'\nzulu = 1",
            "= 1",
            "table = 5\nuntaken = []",
        ]);
        let lines: Vec<_> = problems.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "0:1: unknown key `zulu`, known are alpha, [table], [untaken]",
                "0:2: `alpha` must be a number",
                "0:4: `table.bravo` must be a number",
                "0:5: unknown key `table.zulu`, known in [table] are bravo",
            ]
        );
        assert!(lines[4].starts_with("1:1: not valid TOML: "), "{problems}");
        assert_eq!(
            lines[5..],
            [
                "2:1: `table` is 5, must be a table: [table]",
                "2:2: `untaken` is a list, must be a table: [untaken]"
            ]
        );
    }

    #[test]
    fn unknown_key_gets_a_suggestion() {
        for (text, suggestion) in [
            ("alfa = 1", Some("`alpha`")),
            ("[tabel]", Some("`[table]`")),
            ("[table]\nbravoo = 1", Some("`bravo`")),
            ("[table]\nalpha = 1", Some("`alpha` above the first table")),
            ("[table]\ncharlie = 1", Some("`charlie` in [untaken]")),
            ("bravo = 1", Some("`bravo` in [table]")),
            ("omega = 1", None),
            ("'' = 1", None),
        ] {
            let (_, problems) = read(&[text]);
            let expected = suggestion.map(|text| format!("` (did you mean {text}?)"));
            match expected {
                Some(expected) => assert!(problems.ends_with(&expected), "{text}: {problems}"),
                None => assert!(problems.contains("`, known"), "{text}: {problems}"),
            }
        }
    }

    #[test]
    fn unknown_key_is_escaped_and_cut() {
        let (_, problems) = read(&[&format!("\"a\\n{}\" = 1", "x".repeat(100))]);
        assert!(problems.starts_with(&format!("0:1: unknown key `a\\n{}...`", "x".repeat(58))), "{problems}");
    }

    #[test]
    fn levenshtein_distances() {
        for (from, to, letters) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("小明", "小", 1)]
        {
            assert_eq!(distance(from, to), letters, "{from} {to}");
        }
    }
}
