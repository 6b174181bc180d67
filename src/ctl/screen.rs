//! What is printed: without anything that a terminal would obey, as wide as it may be, coloured where that is wanted.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::account::Mood;
use super::failure::{Failure, Outcome};

/// The width where there is no terminal that has one.
const WIDTH: usize = 80;
const HEIGHT: usize = 24;
/// What stands in the place of what was cut off.
const ELLIPSIS: char = '…';

/// Standard output, and standard error for what is only said meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) is_terminal: bool,
    /// Whether progress is seen.
    pub(super) shows_progress: bool,
    pub(super) colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        // NO_COLOR counts if it is not empty (no-color.org); `dumb` is what has no colours.
        let set =
            |name: &str, what: &dyn Fn(&str) -> bool| std::env::var(name).is_ok_and(|value| what(&value));
        let plain = set("NO_COLOR", &|value| !value.is_empty()) || set("TERM", &|value| value == "dumb");
        Self { is_terminal, shows_progress: io::stderr().is_terminal(), colours: is_terminal && !plain }
    }

    /// Columns and lines.
    pub(super) fn size(self) -> (usize, usize) {
        let size = self.is_terminal.then(|| tcgetwinsize(io::stdout()).ok()).flatten();
        match size {
            Some(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (WIDTH, HEIGHT),
        }
    }

    /// The text in the colour of how well it goes.
    pub(super) fn coloured(self, text: &str, mood: Mood) -> String {
        let code = match mood {
            _ if !self.colours => return text.to_owned(),
            Mood::Well => "32",
            Mood::OnTheWay => "33",
            Mood::Waits => "31",
            Mood::Off => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Says what goes on, where it is seen.
    pub(super) fn progress(self, text: &str) {
        if self.shows_progress {
            let _ = writeln!(io::stderr(), "{}", printable(text));
        }
    }
}

/// Says what is wrong beside what was asked for.
pub(super) fn complain(text: &str) {
    // Unlike `eprintln`, it does not panic if standard error is closed.
    let _ = writeln!(io::stderr(), "wqctl: {}", printable(text));
}

/// Prints, and notices a reader that has gone.
pub(super) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Failure::of_output(&error))
}

/// Prints a document of JSON.
pub(super) fn print_json(value: &serde_json::Value) -> Outcome {
    // Maps have texts as keys, so it can't fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    print(&(printable_json(&text) + "\n"))
}

/// Prints JSON on one line, as programs read a stream.
pub(super) fn print_json_line(value: &serde_json::Value) -> Outcome {
    print(&(printable_json(&value.to_string()) + "\n"))
}

/// Whether a terminal would obey this character, or show what follows in another order than it is in.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with its control characters escaped, so that it stays on its line and is what it looks like.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// The same for several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// JSON escapes less than a terminal needs. Such characters are in strings only, so they can be written as `\uXXXX`; line breaks are
/// between its parts.
fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) && c != '\n' {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")))
            }
            false => shown.push(c),
        }
    }
    shown
}

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most this many columns: what is too much is cut off, and an ellipsis says so.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut shown, mut taken) = (String::new(), 0);
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        // One column is for the ellipsis.
        if taken >= columns {
            break;
        }
        shown.push(c);
    }
    if columns > 0 {
        shown.push(ELLIPSIS);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}c\u{202e}小"), "a\\u{1b}[2Jb\\n\\u{9b}c\\u{202e}小");
        let json = serde_json::json!({ "a": "\u{1b}\u{9b}\u{202e}小" }).to_string();
        let shown = printable_json(&json);
        assert_eq!(shown, "{\"a\":\"\\u001b\\u009b\\u202e小\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["a"], "\u{1b}\u{9b}\u{202e}小");
    }

    #[test]
    fn wide_characters_are_counted() {
        assert_eq!((fit("小明小红", 8), fit("小明小红", 7)), ("小明小红".to_owned(), "小明小…".to_owned()));
        assert_eq!(
            (fit("小明小红", 6), fit("abc", 2), fit("abc", 0)),
            ("小明…".into(), "a…".into(), String::new())
        );
    }

    proptest! {
        #[test]
        fn what_is_fitted_fits(text in any::<String>(), columns in 0_usize..40) {
            let shown = printable(&text);
            prop_assert!(width(&fit(&shown, columns)) <= columns);
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}
