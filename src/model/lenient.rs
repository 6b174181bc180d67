//! [`read`]: JSON as other programs really write it.
//!
//! Programs cut texts in the middle of a character, write control characters as they are, put a byte order mark in front, or
//! have numbers that no number type holds. `serde_json` refuses the whole text for any of these, so one broken nickname would
//! hide a whole list of friends. What can be understood is read; what cannot be represented becomes U+FFFD or null.

use std::borrow::Cow;

use serde_json::{Number, Value};

/// The deepest nesting that is kept; `serde_json` refuses a text from 128 levels on.
const MAX_DEPTH: usize = 100;

/// The byte order mark, in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What was read.
#[derive(Debug)]
pub struct Lenient<'a> {
    /// The value.
    pub value: Value,
    /// The text that it stands in: valid JSON. Owned where the original was not.
    pub text: Cow<'a, [u8]>,
}

impl Lenient<'_> {
    /// Whether the text was not valid JSON as it came.
    pub fn is_repaired(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }
}

/// Reads JSON that another program wrote. Valid JSON is read as it is, with its nesting bounded by `serde_json`'s own limit.
///
/// # Errors
/// It is no JSON, or not all of it. Positions in the error are those of the repaired text.
pub fn read(text: &[u8]) -> Result<Lenient<'_>, serde_json::Error> {
    // The strict parser first: nearly all texts are valid, and those need no copy.
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(Lenient { value, text: Cow::Borrowed(text) });
    }
    let repaired = repair(text);
    let value = serde_json::from_str(&repaired)?;
    Ok(Lenient { value, text: Cow::Owned(repaired.into_bytes()) })
}

/// Replaces what JSON does not allow inside of tokens. The structure stays as it is: an incomplete text stays incomplete.
fn repair(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.strip_prefix(MARK).unwrap_or(text));
    let mut repaired = String::with_capacity(text.len());
    // What is nested too deeply is left out, and null stands in its place.
    let (mut left_out, mut depth) = (String::new(), 0_usize);
    let mut rest = &*text;
    while let Some(first) = rest.chars().next() {
        let opens = matches!(first, '{' | '[');
        if opens {
            depth = depth.saturating_add(1);
            if depth == MAX_DEPTH + 1 {
                repaired.push_str("null");
            }
        }
        // What is too deep is read like the rest, since only that finds its end, and then thrown away.
        left_out.clear();
        let out = if depth > MAX_DEPTH { &mut left_out } else { &mut repaired };
        rest = match first {
            '"' => string(&rest[1..], out),
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                out.push(first);
                &rest[1..]
            }
            _ if is_word(first) => word(rest, out),
            // Between tokens there is nothing that it could mean.
            _ if first.is_control() && !first.is_ascii_whitespace() => &rest[first.len_utf8()..],
            _ => {
                out.push(first);
                &rest[first.len_utf8()..]
            }
        };
    }
    repaired
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')
}

/// Copies a number or a name that begins `text`. A number that no type holds, and those that JSON has no word for, are null.
fn word<'a>(text: &'a str, out: &mut String) -> &'a str {
    let (word, rest) = text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()));
    let is_number = word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    let is_lost = match word {
        "NaN" | "Infinity" => true,
        _ => is_number && serde_json::from_str::<Number>(word).is_err(),
    };
    out.push_str(if is_lost { "null" } else { word });
    rest
}

/// Copies a string, `text` being what follows its opening quote.
fn string<'a>(text: &'a str, out: &mut String) -> &'a str {
    out.push('"');
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                out.push('"');
                return &rest[1..];
            }
            '\\' => {
                rest = escape(&rest[1..], out);
                continue;
            }
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(first))),
            _ => out.push(first),
        }
        rest = &rest[first.len_utf8()..];
    }
    rest
}

/// Copies an escape, `text` being what follows its backslash.
fn escape<'a>(text: &'a str, out: &mut String) -> &'a str {
    match text.chars().next() {
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
            out.extend(['\\', c]);
            &text[1..]
        }
        Some('u') => {
            let Some(unit) = code_unit(text) else {
                // Cut off within its digits.
                let digits = text[1..].bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
                out.push('\u{fffd}');
                return &text[1 + digits..];
            };
            let (one, rest) = text.split_at(5);
            // A surrogate stands for a character only as one of a pair (RFC 8259, section 7).
            let pair = rest.strip_prefix('\\').filter(|rest| {
                (0xd800..0xdc00).contains(&unit)
                    && code_unit(rest).is_some_and(|unit| (0xdc00..0xe000).contains(&unit))
            });
            match pair {
                Some(pair) => {
                    let (two, rest) = pair.split_at(5);
                    out.extend(["\\", one, "\\", two]);
                    rest
                }
                None if (0xd800..0xe000).contains(&unit) => {
                    out.push('\u{fffd}');
                    rest
                }
                None => {
                    out.extend(["\\", one]);
                    rest
                }
            }
        }
        // No escape of JSON: the backslash stands for itself.
        _ => {
            out.push_str("\\\\");
            text
        }
    }
}

/// The code unit of an escape whose text is `uXXXX…`.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('u')?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn broken_text_is_repaired() {
        for (text, value) in [
            (&br#"{"a":"x\ud83d"}"#[..], json!({ "a": "x\u{fffd}" })),
            (br#"{"a":"\ude00x"}"#, json!({ "a": "\u{fffd}x" })),
            (br#"["\ud83d\ud83d\ude00"]"#, json!(["\u{fffd}\u{1f600}"])),
            (
                br#"["\ud83d\n","\ud83d","\uD83D\uD83D"]"#,
                json!(["\u{fffd}\n", "\u{fffd}", "\u{fffd}\u{fffd}"]),
            ),
            (br#"["\ud8","\u","\u00e9\ud800"]"#, json!(["\u{fffd}", "\u{fffd}", "\u{e9}\u{fffd}"])),
            (br#"["\x41\'"]"#, json!(["\\x41\\'"])),
            (b"\xef\xbb\xbf{\"a\":1}", json!({ "a": 1 })),
            (b"[\"a\x00b\nc\x1f\"]", json!(["a\0b\nc\x1f"])),
            (b"\x00[1]\x00", json!([1])),
            (b"[\"\xe5\xb0\",\"\xff\"]", json!(["\u{fffd}", "\u{fffd}"])),
            (b"[1e999,-1e999,NaN,-Infinity,+1,007,1]", json!([null, null, null, null, null, null, 1])),
            (b"[\"\\\\\\\"\",1e999]", json!(["\\\"", null])),
        ] {
            let read =
                read(text).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(text)));
            assert!(read.is_repaired());
            assert_eq!(read.value, value, "{}", String::from_utf8_lossy(text));
            assert_eq!(serde_json::from_slice::<Value>(&read.text).unwrap(), value);
        }
    }

    #[test]
    fn excessive_nesting_becomes_null() {
        let deep = format!(r#"{{"a":1,"b":{}"x"{},"c":2}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let mut value = read(deep.as_bytes()).unwrap().value;
        assert_eq!((&value["a"], &value["c"]), (&json!(1), &json!(2)));
        let mut levels = 0;
        value = value["b"].take();
        while value.is_array() {
            value = value[0].take();
            levels += 1;
        }
        assert_eq!((levels, value), (MAX_DEPTH - 1, Value::Null));
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn incomplete_json_is_refused() {
        for text in [
            "",
            "{",
            r#"{"state":"runn"#,
            r#"{"a":1"#,
            "[1,]",
            "ok",
            "<html>",
            "{a:1}",
            "[1] x",
            r#"["\ud83d"#,
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    const TOKENS: &[&[u8]] = &[
        b"\\",
        b"\"",
        b"u",
        b"d83d",
        b"\\ud83d",
        b"\\ude00",
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b",",
        b"1e999",
        b"\xff",
        b"\xe5\xb0\x8f",
        b"\x00",
        b"-",
    ];

    proptest! {
        #[test]
        fn valid_json_is_not_changed(text in "[\\PC\\n\"\\\\]{0,20}", number in any::<f64>()) {
            let value = json!({ &text: [&text, number, true, null], "n": i64::MIN });
            let written = value.to_string();
            let read = read(written.as_bytes()).unwrap();
            prop_assert!(!read.is_repaired());
            // And a repair of it changes nothing.
            prop_assert_eq!(repair(written.as_bytes()), written);
        }

        #[test]
        fn repair_never_panics(tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..30)) {
            let text = tokens.concat();
            if let Ok(read) = read(&text) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&read.text).ok(), Some(read.value));
            }
        }
    }
}
