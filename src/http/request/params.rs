//! Parameters in a query or an `application/x-www-form-urlencoded` body: read as text, or one of them taken out
//! while the rest stays unchanged byte for byte.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::multipart::MalformedMultipart;

/// Why parameters can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A decoded name or value is not UTF-8; the name, as far as it can be shown.
    #[error("parameter {0:?} is not UTF-8")]
    NotUtf8(String),
    /// A name is given twice.
    #[error("parameter {0:?} is given twice")]
    Twice(String),
    /// More parameters than [`Params::MAX_COUNT`].
    #[error("more than {} parameters", Params::MAX_COUNT)]
    TooMany,
    /// A value in JSON is an array or an object.
    #[error("parameter {0:?} is neither text nor a number")]
    NotText(String),
    /// The JSON is no object, or has too many members.
    #[error("the body is not a JSON object with parameters: send a form")]
    NotAnObject,
    /// The multipart body is malformed.
    #[error("the multipart body is malformed")]
    Malformed,
}

impl From<MalformedMultipart> for ParamError {
    fn from(_: MalformedMultipart) -> Self {
        Self::Malformed
    }
}

/// Decoded parameters in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// The most parameters of one call.
    pub const MAX_COUNT: usize = 64;

    /// Reads `raw`, a query without its `?` or a form body. A duplicate name is an error.
    pub fn parse(raw: &[u8]) -> Result<Self, ParamError> {
        let mut params = Self::default();
        for (name, value) in pairs(raw) {
            params.add(unescape(name).into_owned(), unescape(value).into_owned())?;
        }
        Ok(params)
    }

    /// Adds a parameter under the same rules.
    pub(super) fn add(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), ParamError> {
        let name = String::from_utf8(name)
            .map_err(|name| ParamError::NotUtf8(String::from_utf8_lossy(name.as_bytes()).into_owned()))?;
        let Ok(value) = String::from_utf8(value) else { return Err(ParamError::NotUtf8(name)) };
        // Also bounds the search for duplicates below, which compares with each parameter so far.
        if self.0.len() == Self::MAX_COUNT {
            return Err(ParamError::TooMany);
        }
        if self.get(&name).is_some() {
            return Err(ParamError::Twice(name));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The names of those that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    /// Adds the parameters of `other` whose names are not present.
    pub fn fill_from(&mut self, other: Self) {
        for (name, value) in other.0 {
            if self.get(&name).is_none() {
                self.0.push((name, value));
            }
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl IntoIterator for Params {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Takes every `name=…` out of `raw`. Returns the value, if there is one, and the rest byte for byte.
///
/// Only the value of `name` has to be UTF-8.
pub fn take<'a>(raw: &'a [u8], name: &str) -> Result<(Option<String>, Cow<'a, [u8]>), ParamError> {
    let is_named = |pair: &&[u8]| unescape(split_pair(pair).0) == name.as_bytes();
    let all = || raw.split(|b| *b == b'&');
    let mut named = all().filter(is_named);
    let Some(pair) = named.next() else { return Ok((None, Cow::Borrowed(raw))) };
    // Of two values one reader takes the first, another one the last.
    if named.next().is_some() {
        return Err(ParamError::Twice(name.to_owned()));
    }
    let value = unescape(split_pair(pair).1).into_owned();
    let value = String::from_utf8(value).map_err(|_| ParamError::NotUtf8(name.to_owned()))?;
    let rest: Vec<&[u8]> = all().filter(|pair| !is_named(pair)).collect();
    Ok((Some(value), Cow::Owned(rest.join(&b'&'))))
}

/// The `name=value` pairs of a query or form, still escaped. Empty ones (`a&&b`) are skipped.
fn pairs(raw: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).map(split_pair)
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|b| *b == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, b""),
    }
}

/// Resolves `+` and percent-escapes. A broken escape is kept, as in browsers and in the original.
fn unescape(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|b| matches!(b, b'+' | b'%')) {
        return Cow::Borrowed(part);
    }
    // Before the escapes are resolved: `%2B` is a plus, not a blank.
    let spaced: Vec<u8> = part.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(raw: &str) -> Result<Vec<(String, String)>, ParamError> {
        Params::parse(raw.as_bytes()).map(|params| params.into_iter().collect())
    }

    #[test]
    fn parameters_are_decoded() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            parse("client=%E5%B0%8F%E6%98%8E&a+b=c%2Bd&&empty&bad=%zz&eq=a=b").unwrap(),
            [
                pair("client", "小明"),
                pair("a b", "c+d"),
                pair("empty", ""),
                pair("bad", "%zz"),
                pair("eq", "a=b")
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("小=明").unwrap(), [pair("小", "明")]);
    }

    #[test]
    fn duplicate_or_invalid_parameters_are_refused() {
        assert_eq!(parse("a=1&b=2&a=1"), Err(ParamError::Twice("a".into())));
        assert_eq!(parse("a=1&%61=2"), Err(ParamError::Twice("a".into())));
        assert_eq!(parse("a=%ff"), Err(ParamError::NotUtf8("a".into())));
        let many: Vec<String> = (0..=Params::MAX_COUNT).map(|n| format!("p{n}=")).collect();
        assert_eq!(parse(&many.join("&")), Err(ParamError::TooMany));
        assert!(parse(&many[1..].join("&")).is_ok());
    }

    #[test]
    fn take_leaves_the_rest_unchanged() {
        for (raw, value, rest) in [
            ("client=a", Some("a"), ""),
            ("client=a&id=1", Some("a"), "id=1"),
            ("id=%ff&id=%FF&client=a%20b&x", Some("a b"), "id=%ff&id=%FF&x"),
            ("a&&client=x&b&", Some("x"), "a&&b&"),
            ("%63lient=x&Client=y", Some("x"), "Client=y"),
            ("client", Some(""), ""),
            ("id=client", None, "id=client"),
            ("", None, ""),
        ] {
            let taken = take(raw.as_bytes(), "client").unwrap();
            assert_eq!(taken, (value.map(str::to_owned), rest.as_bytes().into()), "{raw}");
        }
        assert_eq!(take(b"client=a&client=a", "client"), Err(ParamError::Twice("client".into())));
        assert_eq!(take(b"client=%ff", "client"), Err(ParamError::NotUtf8("client".into())));
        assert_eq!(take(b"\xff&client=a", "client").unwrap().1, Cow::Borrowed(&b"\xff"[..]));
    }

    proptest! {
        #[test]
        fn take_keeps_surrounding_bytes(before in "[a-z=%&+]{0,20}", after in "[a-z=%&+]{0,20}") {
            let raw = format!("{before}&token=T&{after}");
            let (value, rest) = take(raw.as_bytes(), "token").unwrap();
            prop_assert_eq!(value, Some("T".to_owned()));
            prop_assert_eq!(rest.into_owned(), format!("{before}&{after}").into_bytes());
        }
    }
}
