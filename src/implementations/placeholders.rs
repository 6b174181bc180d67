//! Command lines and templates with `{port}`, `{token}`, `{uin}` and `{dir}`.

use std::path::Path;

use super::contract::{ConfigFileError, StartValues};

/// Splits a command line at blanks. A part in single or double quotes is one argument or a piece of one; there are no escapes.
/// None where a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    // None between words, so that several blanks are one separator, and an empty pair of quotes is an empty word.
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        end if end == quote => break,
                        letter => word.push(letter),
                    }
                }
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

/// Whether it is a command line whose program is absolute and whose placeholders may be seen by other users.
pub(super) fn is_command_line(line: &str) -> bool {
    let Some(words) = words(line) else { return false };
    let is_absolute = words.first().is_some_and(|program| Path::new(program).is_absolute());
    let known = |word: &String| unknown(word).is_none() && !word.contains("{token}");
    // No argument can contain a NUL (execve(2)).
    is_absolute && !line.contains(['\0', '\n']) && words.iter().all(known)
}

/// Replaces the placeholders in a single pass from left to right. Inserted values are not expanded again.
pub(super) fn filled(text: &str, values: &StartValues) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let found = ALL.iter().find(|name| from.starts_with(**name));
        // A brace of the file's own, as in JSON.
        let Some(name) = found else {
            filled.push('{');
            rest = &from[1..];
            continue;
        };
        match *name {
            "{port}" => filled.push_str(&values.port.to_string()),
            "{token}" => filled.push_str(&values.token),
            "{uin}" => filled.push_str(&values.uin),
            _ => filled.push_str(&values.home.to_string_lossy()),
        }
        rest = &from[name.len()..];
    }
    filled + rest
}

const ALL: [&str; 4] = ["{port}", "{token}", "{uin}", "{dir}"];

/// The first placeholder that does not exist: a word of small letters in braces. Other braces are the file's own.
fn unknown(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(at, _)| {
        let end = text[at..].find('}')? + at + 1;
        let (found, name) = (&text[at..end], &text[at + 1..end - 1]);
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        (is_word && !ALL.contains(&found)).then_some(found)
    })
}

/// The text of a file, from its template.
///
/// # Errors
/// A placeholder that does not exist.
pub fn from_template(path: &Path, template: &str, values: &StartValues) -> Result<String, ConfigFileError> {
    match unknown(template) {
        Some(name) => Err(ConfigFileError::Placeholder(path.display().to_string(), name.to_owned())),
        None => Ok(filled(template, values)),
    }
}
