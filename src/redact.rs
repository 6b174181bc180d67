//! Texts without their secrets: for what people show to others, such as a report of a bug.
//!
//! Pure. It errs on the safe side: of a URL only scheme and host are left, as the path of a hook is its key.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// The ends of names whose values are secrets, in lower case and without `-` and `_`.
const SECRET_NAMES: [&str; 14] = [
    "pwd",
    "passwd",
    "password",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "session",
    "signature",
];

/// Words that announce a secret behind a space, as in headers (RFC 7235).
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// Takes secrets out of texts.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<String>,
    names: Vec<String>,
}

impl Redactor {
    /// The shortest value that is searched for: a shorter one would be found in words that are none.
    const SHORTEST: usize = 4;

    /// Hides this value wherever it stands.
    pub fn hide_value(&mut self, value: &str) {
        let value = value.trim();
        if value.len() >= Self::SHORTEST {
            self.values.push(value.to_owned());
            // A value that is a part of another one must not leave the rest of it.
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// Hides the values of this name, as of those that are known to be secrets.
    pub fn hide_name(&mut self, name: &str) {
        self.names.push(plain(name));
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), HIDDEN));
            }
        }
        let text = without_urls(&text);
        text.split_inclusive('\n').map(|line| self.without_values(line)).collect()
    }

    /// A line without the values of secret names: `name=value`, `"name": "value"`, `--name value`, `Bearer value`.
    fn without_values(&self, line: &str) -> String {
        let mut shown = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find(is_of_name) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c| !is_of_name(c)).unwrap_or(from.len());
            let (name, after) = from.split_at(end);
            shown.push_str(before);
            shown.push_str(name);
            rest = after;
            let is_flag = name.starts_with("--");
            let announced = SCHEMES.contains(&name.to_ascii_lowercase().as_str());
            let skipped = match announced {
                true => after.len() - after.trim_start_matches(' ').len(),
                false if self.is_secret(name) => separator(after, is_flag),
                false => 0,
            };
            if skipped > 0 {
                let (between, value) = after.split_at(skipped);
                let length = value_length(value, between);
                if length > 0 {
                    shown.push_str(between);
                    shown.push_str(HIDDEN);
                    rest = &value[length..];
                }
            }
        }
        shown + rest
    }

    fn is_secret(&self, name: &str) -> bool {
        let name = plain(name);
        SECRET_NAMES.iter().any(|secret| name.ends_with(secret)) || self.names.contains(&name)
    }
}

/// The text without secrets that can be told by their names, and without what URLs have behind the host.
pub fn redact(text: &str) -> String {
    Redactor::default().redact(text)
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// A name in lower case, without what stands between its words.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// How many bytes stand between a name and its value; 0 where none follows.
fn separator(after: &str, is_flag: bool) -> usize {
    let mut rest = after;
    // The end of a quoted name, also of one in a text that is quoted itself.
    for quote in ["\\\"", "\"", "'"] {
        rest = rest.strip_prefix(quote).unwrap_or(rest);
    }
    let spaced = rest.trim_start_matches([' ', '\t']);
    let rest = match spaced.strip_prefix(['=', ':']) {
        Some(rest) => rest.trim_start_matches([' ', '\t', '>']),
        None if is_flag && spaced.len() < rest.len() => spaced,
        None => return 0,
    };
    let rest = rest.strip_prefix('\\').unwrap_or(rest);
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    after.len() - rest.len()
}

/// How long a value is, by what stands before it.
fn value_length(value: &str, between: &str) -> usize {
    let quote = between.chars().next_back().filter(|c| matches!(c, '"' | '\''));
    let end = match quote {
        Some(quote) => value.find([quote, '\n']),
        None => {
            // `Authorization: Bearer value`: the scheme belongs to the value.
            let first = value.split([' ', '\n']).next().unwrap_or_default();
            let scheme = SCHEMES.contains(&first.to_ascii_lowercase().as_str());
            let from = if scheme { (first.len() + 1).min(value.len()) } else { 0 };
            let ends =
                |c: char| c.is_whitespace() || matches!(c, ',' | '&' | ';' | '}' | ')' | ']' | '"' | '\'');
            value[from..].find(ends).map(|end| from + end)
        }
    };
    end.unwrap_or(value.len())
}

/// The text with scheme and host of each URL alone.
fn without_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        let end = url
            .find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '`'));
        let (url, after) = url.split_at(end.unwrap_or(url.len()));
        let host_end = url.find(['/', '?', '#', '\\']).unwrap_or(url.len());
        let (authority, path) = url.split_at(host_end);
        shown.push_str(before);
        // A password may have an @ of its own, and even a slash where a URL is written by hand.
        match (authority.rsplit_once('@'), path.rsplit_once('@')) {
            (Some((_, host)), _) => shown.push_str(&format!("{HIDDEN}@{host}")),
            (None, Some(_)) => shown.push_str(HIDDEN),
            (None, None) => shown.push_str(authority),
        }
        match path.trim_end_matches([',', '.', ';', ':', ')', ']', '}']) {
            "" | "/" => shown.push_str(path),
            kept => {
                shown.push('/');
                shown.push_str(HIDDEN);
                shown.push_str(&path[kept.len()..]);
            }
        }
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_of_secret_names_are_hidden() {
        for (text, shown) in [
            ("pwd=hunter2&x=1", "pwd=***&x=1"),
            ("MOJO_WEBQQ_PWD=hunter2 next", "MOJO_WEBQQ_PWD=*** next"),
            ("{\"token\": \"hun ter2\", \"a\": 1}", "{\"token\": \"***\", \"a\": 1}"),
            ("{\\\"token\\\":\\\"hunter2\\\"}", "{\\\"token\\\":\\\"***\"}"),
            ("access-token: 'hunter2'", "access-token: '***'"),
            ("--token hunter2 --port 5", "--token *** --port 5"),
            ("--token=hunter2", "--token=***"),
            ("Authorization: Bearer hunter2, x", "Authorization: ***, x"),
            ("sent Bearer hunter2 to it", "sent Bearer *** to it"),
            ("Set-Cookie: wq=hunter2; Path=/", "Set-Cookie: ***; Path=/"),
            ("password => hunter2", "password => ***"),
            ("the token of bot", "the token of bot"),
            ("token_file = \"/etc/token\"", "token_file = \"/etc/token\""),
            ("auth.tokens = [{ name = \"bot\" }]", "auth.tokens = [{ name = \"bot\" }]"),
            ("小明 密 pwd：x pwd=秘密 。", "小明 密 pwd：x pwd=*** 。"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn urls_keep_scheme_and_host() {
        for (text, shown) in [
            ("at http://h:1/ and", "at http://h:1/ and"),
            ("http://me:hunter2@h/", "http://***@h/"),
            ("http://me:hun@ter2@h/x", "http://***@h/***"),
            ("http://me:hun/ter2@h", "http://***/***"),
            ("ws://h/?access_token=hunter2.", "ws://h/***."),
            ("see https://hooks.example/T0/hunter2, then", "see https://hooks.example/***, then"),
            ("(http://h)", "(http://h)"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn known_values_and_names_are_hidden() {
        let mut redactor = Redactor::default();
        redactor.hide_value("hunter2");
        redactor.hide_value("hunter2-and-more\n");
        redactor.hide_value("a");
        redactor.hide_name("Key_1");
        assert_eq!(redactor.redact("a hunter2-and-more hunter2 key1=x key=y"), "a *** *** key1=*** key=y");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), tail in r#"[a-z"'=:/@& \\-]{0,40}"#) {
            redact(&text);
            redact(&format!("{text}pwd={tail}://{tail}"));
        }
    }
}
