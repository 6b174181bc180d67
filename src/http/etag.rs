//! Entity tags (RFC 9110, 8.8.3): what a caller has already is not sent again.

use http::HeaderMap;
use http::header::{HeaderValue, IF_NONE_MATCH};

/// The entity tag of a text: its checksum and length.
pub fn of(text: &[u8]) -> HeaderValue {
    let tag = format!("\"{:08x}{:x}\"", crc32fast::hash(text), text.len());
    // Hexadecimal digits in quotes are a header's value.
    HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Whether the caller has this version already (RFC 9110, 13.1.2: weak comparison, as a proxy that compresses makes a tag weak).
pub fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_compared_weakly() {
        let tag = HeaderValue::from_static("\"abc\"");
        let known = |value: &str| {
            is_known(&[(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap())].into_iter().collect(), &tag)
        };
        assert!(known("\"abc\"") && known("W/\"abc\"") && known("\"x\", \"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc") && !known(""));
        assert_ne!(of(b"a"), of(b"b"));
    }
}
