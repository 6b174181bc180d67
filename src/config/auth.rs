//! `[auth]`: who may call. The tokens themselves are in files and not read here.

use std::path::PathBuf;

use super::error::OpenListener;
use super::fragment::{Fault, Item, Table, Value};
use super::options::{Checked, Options};
use super::rules::{absolute_path, fault, list_of, quoted, wrong, wrong_shown, yes_or_no};

/// `[auth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// The tokens, each with a name of its own. Where there is one, callers have to show one.
    pub tokens: Vec<TokenSource>,
    /// Whether other machines are let in where there is no token at all.
    pub allow_unauthenticated: bool,
    /// Whether controllers of other machines may be a door to this one.
    pub doors: bool,
}

/// A token: where it is and what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    /// What the log calls it.
    pub name: String,
    /// Where it is.
    pub place: TokenPlace,
    /// What it opens.
    pub access: Access,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// A file that no other user may read; absolute.
    File(PathBuf),
    /// A file of this name in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "CREDENTIALS").
    Credential(String),
}

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Calls that change nothing.
    ReadOnly,
    /// Every call.
    ReadWrite,
}

impl Access {
    const WORDS: [(&str, Self); 2] = [("read-write", Self::ReadWrite), ("read-only", Self::ReadOnly)];
}

impl AuthSettings {
    /// Reads its options.
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        Self {
            tokens: options.get("auth.tokens", vec![], tokens),
            allow_unauthenticated: options.get("auth.allow_unauthenticated", false, yes_or_no),
            doors: options.get("auth.doors", true, yes_or_no),
        }
    }

    /// Whether this listener must not be opened.
    pub fn refuses(&self, open: &OpenListener) -> bool {
        match open {
            OpenListener::Network(_) => self.tokens.is_empty() && !self.allow_unauthenticated,
            // `allow_unauthenticated` does not count here: the same operator asks for a token at this socket.
            OpenListener::TokenRequired(_) => self.tokens.is_empty(),
        }
    }
}

fn tokens(item: &Item) -> Checked<Vec<TokenSource>> {
    let sources = list_of(|item| Ok((item.line, token(item)?)))(item)?;
    for (at, (line, source)) in sources.iter().enumerate() {
        if sources.iter().take(at).any(|(_, earlier)| earlier.name == source.name) {
            let message = format!(
                "entry {} repeats the name {}, must have each name once",
                at + 1,
                quoted(&source.name)
            );
            return Err(vec![Fault { line: Some(*line), message }]);
        }
    }
    Ok(sources.into_iter().map(|(_, source)| source).collect())
}

const FORM: &str = "{ name = \"bot\", file = \"/etc/wqcontroller/token\" } or { name = \"bot\", credential = \"token\" }, and \
                    access = \"read-only\" if it is";

fn token(item: &Item) -> Checked<TokenSource> {
    // A string may be the token itself, so it is not shown.
    let Value::Table(table) = &item.value else { return Err(wrong(item, FORM)) };
    if let Some((key, entry)) =
        table.iter().find(|(key, _)| !["name", "file", "credential", "access"].contains(&key.as_str()))
    {
        let message = format!("has the unknown key {}, must be {FORM}", quoted(key));
        return Err(fault(entry, message));
    }
    let name = match table.get("name") {
        Some(name) => word(name, "name")?,
        None => return Err(fault(item, format!("has no name, must be {FORM}"))),
    };
    Ok(TokenSource {
        name,
        place: place(item, table)?,
        access: table.get("access").map_or(Ok(Access::ReadWrite), access)?,
    })
}

fn place(item: &Item, table: &Table) -> Checked<TokenPlace> {
    match (table.get("file"), table.get("credential")) {
        (Some(file), None) => absolute_path(file).map(TokenPlace::File),
        (None, Some(credential)) => word(credential, "credential").map(TokenPlace::Credential),
        _ => Err(fault(item, format!("must have either a file or a credential: {FORM}"))),
    }
}

fn access(item: &Item) -> Checked<Access> {
    let known = match &item.value {
        Value::Text(text) => Access::WORDS.into_iter().find(|(word, _)| word == text),
        _ => None,
    };
    known.map(|(_, access)| access).ok_or_else(|| wrong_shown(item, "read-write or read-only"))
}

/// A name for people or for systemd, fit for a log line and for a file name. `what` is its key.
fn word(item: &Item, what: &str) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match &item.value {
        Value::Text(text)
            if (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain) =>
        {
            Ok(text.clone())
        }
        // Not shown: it may be the token instead of its name.
        Value::Text(_) => Err(fault(
            item,
            format!("has a {what} that must be 1 to 64 letters, digits, -, _ or ., and not begin with a dot"),
        )),
        _ => Err(wrong(item, &format!("a {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::tests::check;

    #[test]
    fn tokens_are_named_and_have_a_place() {
        let value =
            "[{ name = 'bot', file = '/t' }, { name = 'eye', credential = 'c.1', access = 'read-only' }]";
        assert_eq!(
            check(tokens, value).unwrap(),
            [
                TokenSource {
                    name: "bot".into(),
                    place: TokenPlace::File("/t".into()),
                    access: Access::ReadWrite
                },
                TokenSource {
                    name: "eye".into(),
                    place: TokenPlace::Credential("c.1".into()),
                    access: Access::ReadOnly
                },
            ]
        );
    }

    #[test]
    fn mistakes_are_told_and_what_may_be_a_token_is_not_shown() {
        for (bad, why) in [
            ("'hunter2'", "is a string, must be a list"),
            ("['hunter2']", "entry 1 is a string, must be { name"),
            ("[{ name = 'hunter2 ', file = '/t' }]", "entry 1 has a name that must be 1 to 64 letters"),
            (
                "[{ name = 'a', credential = '../hunter2' }]",
                "entry 1 has a credential that must be 1 to 64 letters",
            ),
            ("[{ name = 'a', credential = '.hunter2' }]", "entry 1 has a credential that must be 1 to 64"),
            ("[{ name = 'a', credential = 5 }]", "entry 1 is 5, must be a credential"),
            ("[{ name = 'a' }]", "entry 1 must have either a file or a credential"),
            ("[{ name = 'a', file = '/t', credential = 'c' }]", "entry 1 must have either a file or a cred"),
            ("[{ file = '/t' }]", "entry 1 has no name"),
            ("[{ name = 'a', file = 't' }]", "entry 1 is \"t\", must be an absolute path"),
            ("[{ name = 'a', token = 'hunter2' }]", "entry 1 has the unknown key \"token\""),
            (
                "[{ name = 'a', file = '/t', access = 'admin' }]",
                "is \"admin\", must be read-write or read-only",
            ),
            (
                "[{ name = 'a', file = '/t' },\n{ name = 'a', file = '/u' }]",
                "2: entry 2 repeats the name \"a\"",
            ),
        ] {
            let error = check(tokens, bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
