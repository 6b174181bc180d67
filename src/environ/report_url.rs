//! `client=NAME` in the URL that a client reports to, so that the receiver can tell accounts apart.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::model::name::ClientName;

/// The characters that are escaped in a value of a query: all but the unreserved ones of RFC 3986.
const VALUE: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The characters that are escaped anywhere in a URL. `%` is not one of them: what is escaped already is not escaped again.
const ANYWHERE: AsciiSet = CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// `url` with `client=NAME` in its query: an existing `client` is replaced where it stands, all else stays as it is,
/// but that characters a URL cannot hold are percent-encoded. None for what is no http or https URL.
pub fn with_client(url: &str, name: &ClientName) -> Option<String> {
    // Parsed to be judged, and then used as it was written: a parser would change more than the query.
    let parsed =
        Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let (url, fragment) = match url.split_once('#') {
        Some((url, fragment)) => (url, Some(fragment)),
        None => (url, None),
    };
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mine = format!("client={}", utf8_percent_encode(name.as_str(), &VALUE));
    let mut pairs: Vec<&str> = Vec::new();
    // Splitting an empty text yields one empty pair.
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let key = pair.split('=').next().unwrap_or(pair);
        // Decoded, as the receiver does it: `%63lient` is the same key.
        if !percent_decode_str(key).eq("client".bytes()) {
            pairs.push(pair);
        // Only once: of two values some receivers take the first and some the last.
        } else if !pairs.contains(&mine.as_str()) {
            pairs.push(&mine);
        }
    }
    if !pairs.contains(&mine.as_str()) {
        pairs.push(&mine);
    }
    let encode = |text: &str| utf8_percent_encode(text, &ANYWHERE).to_string();
    let mut result = if base.is_ascii() {
        encode(base)
    } else {
        // Only a parser can say where the host ends, which is not percent-encoded but has an ASCII form of its own.
        let mut parsed = parsed;
        parsed.set_query(None);
        parsed.set_fragment(None);
        parsed.into()
    };
    result.push('?');
    result.push_str(&encode(&pairs.join("&")));
    if let Some(fragment) = fragment {
        result.push('#');
        result.push_str(&encode(fragment));
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(url: &str, name: &str) -> Option<String> {
        with_client(url, &ClientName::new(name).unwrap())
    }

    #[test]
    fn client_is_merged_and_the_rest_left_alone() {
        for (url, name, expected) in [
            (
                "http://127.0.0.1/post_message",
                "webqq_client_01",
                "http://127.0.0.1/post_message?client=webqq_client_01",
            ),
            ("http://h:8080", "a", "http://h:8080?client=a"),
            ("http://h/p?", "a", "http://h/p?client=a"),
            ("http://h/p?k=v", "a", "http://h/p?k=v&client=a"),
            ("http://h/p?client=x&k=%2F&K=%2f", "a", "http://h/p?client=a&k=%2F&K=%2f"),
            ("http://h/p?k=1&client=x&client=y&k=2", "a", "http://h/p?k=1&client=a&k=2"),
            ("http://h/p?%63lient=x&clients=y", "a", "http://h/p?client=a&clients=y"),
            ("http://h/p?k=a+b&e==&&x#frag?client=z", "a", "http://h/p?k=a+b&e==&&x&client=a#frag?client=z"),
            ("https://u:p%40ss@h/p", "小 明&%", "https://u:p%40ss@h/p?client=%E5%B0%8F%20%E6%98%8E%26%25"),
            (
                "http://h/路?键=值&%E9%94%AE=%",
                "a",
                "http://h/%E8%B7%AF?%E9%94%AE=%E5%80%BC&%E9%94%AE=%&client=a",
            ),
            ("http://例子.测试/路", "a", "http://xn--fsqu00a.xn--0zwm56d/%E8%B7%AF?client=a"),
        ] {
            assert_eq!(merged(url, name).as_deref(), Some(expected), "{url}");
        }
        for bad in ["", "h/p", "ftp://h/", "http://", "file:///etc/passwd", "javascript:x"] {
            assert_eq!(merged(bad, "a"), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn merging_twice_changes_nothing(query in "[a-z=%&#?+é]{0,24}") {
            let once = merged(&format!("http://h/p?{query}"), "小明").unwrap();
            prop_assert!(once.is_ascii());
            prop_assert_eq!(merged(&once, "小明").unwrap(), once);
        }
    }
}
