//! One spelling for each path, so that routing, tokens and clients all see the same one.
//!
//! Percent-encoded unreserved characters are decoded, which never changes the meaning of a URI (RFC 3986,
//! 6.2.2.2). Slashes at the end are dropped, as the original's router drops one. Nothing is decoded twice, and
//! no other byte changes.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use crate::wire::calls::ROOT;

/// Rewrites the path of `uri` to its usual spelling. Query, scheme and authority are unchanged.
pub fn normalize(uri: &mut Uri) {
    let Cow::Owned(path) = normalized(uri.path()) else { return };
    let mut target = path.into_bytes();
    if let Some(query) = uri.query() {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    let mut parts = std::mem::take(uri).into_parts();
    // Both are parts of a URI, and only unreserved characters were added, so neither can fail.
    parts.path_and_query = PathAndQuery::from_maybe_shared(Bytes::from(target)).ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

fn normalized(path: &str) -> Cow<'_, str> {
    let path = match path.contains('%') {
        true => decode_unreserved(path),
        false => Cow::Borrowed(path),
    };
    let shorter = path.trim_end_matches('/');
    let is_spelling = shorter.len() < path.len() && shorter.len() > ROOT.len() && shorter.starts_with(ROOT);
    if is_spelling { Cow::Owned(shorter.to_owned()) } else { path }
}

/// A path with a malformed escape is left unchanged: `%%361` would become the escape `%61`.
fn decode_unreserved(path: &str) -> Cow<'_, str> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        let Some((digits, behind)) = after.split_at_checked(2) else { return Cow::Borrowed(path) };
        let Some(byte) = escaped_byte(digits) else { return Cow::Borrowed(path) };
        decoded.push_str(before);
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            decoded.push(byte.into());
        } else {
            decoded.push('%');
            decoded.push_str(digits);
        }
        rest = behind;
    }
    decoded.push_str(rest);
    if decoded.len() == path.len() { Cow::Borrowed(path) } else { Cow::Owned(decoded) }
}

/// The byte for two hexadecimal digits.
fn escaped_byte(digits: &str) -> Option<u8> {
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    // `from_str_radix` also takes a sign, as in `+1`.
    u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelled(target: &str) -> String {
        let mut uri: Uri = target.parse().unwrap();
        normalize(&mut uri);
        uri.to_string()
    }

    #[test]
    fn path_is_normalized() {
        for (target, usual) in [
            ("/openqq/check_client/", "/openqq/check_client"),
            ("/openqq/stop_client//", "/openqq/stop_client"),
            ("/openqq/stop_client%2F///?client=a", "/openqq/stop_client%2F?client=a"),
            ("/openqq/%63heck_client", "/openqq/check_client"),
            ("/openqq/check%5Fclient/?client=%61/", "/openqq/check_client?client=%61/"),
            ("/%6fpenqq/%7e%7E%2e%2D", "/openqq/~~.-"),
            ("http://h:1/openqq/x%41/?a", "http://h:1/openqq/xA?a"),
            ("/openqq/x?", "/openqq/x?"),
        ] {
            assert_eq!(spelled(target), usual, "{target}");
        }
    }

    #[test]
    fn path_with_other_meaning_is_unchanged() {
        for target in [
            "/openqq/",
            "/openqq//",
            "/",
            "*",
            "/other/",
            "/openqq/%2573top_client",
            "/openqq/a%2Fb",
            "/openqq/a%2fb%00%20%3F%25",
            "/openqq/%",
            "/openqq/%6",
            "/openqq/%zz%c3%a9",
            "/openqq/%+61",
            "/openqq/%%373top_client",
            "/openqq/%é%61",
            "/openqq/x?%63=%2f/",
        ] {
            assert_eq!(spelled(target), target);
        }
    }

    proptest! {
        #[test]
        fn normalization_is_idempotent_and_keeps_query(path in "/openqq/[a-z/%0-9A-F]{0,20}", query in "[a-z%=&/]{0,9}") {
            let mut uri: Uri = format!("{path}?{query}").parse().unwrap();
            normalize(&mut uri);
            prop_assert_eq!(uri.query(), Some(&query[..]));
            let usual = uri.path().to_owned();
            let decoded = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
            let same = |path: &str| decoded(path) == decoded(&usual);
            prop_assert!(same(&path) || same(path.trim_end_matches('/')), "{path} {usual}");
            prop_assert_eq!(decode_unreserved(&usual), &usual[..], "nothing is decoded twice");
            prop_assert_eq!(normalized(&usual), &usual[..], "the usual spelling has no other");
        }
    }
}
