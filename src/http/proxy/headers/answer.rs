//! What the head of a client's answer says, and what of it goes on to the caller.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Version, response};

use super::{is_hop_by_hop, is_named, tokens, write_header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Whether a client's answer has just one meaning.
pub fn is_sound(answer: &response::Parts) -> bool {
    let headers = &answer.headers;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // HTTP/1.0 knew none.
        return answer.version == Version::HTTP_11
            && codings.next().is_none()
            && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
            && !headers.contains_key(CONTENT_LENGTH);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(length) = lengths.next() else { return true };
    let is_number = !length.is_empty() && length.len() < 20 && length.iter().all(u8::is_ascii_digit);
    is_number && lengths.all(|other| other == length)
}

/// For how long the client promises to keep the connection of this answer open, less a second for what is on its way; none
/// where it says nothing. (`Keep-Alive: timeout=`, as servers have written it since RFC 2068, 19.7.1.)
pub fn kept_open(headers: &HeaderMap) -> Option<Duration> {
    let timeout = tokens(headers, KEEP_ALIVE).find_map(|token| token.strip_prefix(b"timeout="))?;
    let seconds: u32 = std::str::from_utf8(timeout).ok()?.trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1).into()))
}

/// Whether an answer is the last one of its connection, by its own account.
pub fn is_last(answer: &response::Parts) -> bool {
    answer.version < Version::HTTP_11
        || tokens(&answer.headers, CONNECTION).any(|token| token.eq_ignore_ascii_case(b"close"))
}

/// Whether the length of an answer was said once at most.
pub fn says_length_once(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none()
}

/// Whether an answer with this status has a body, unless it is one to HEAD.
pub fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Makes the headers of an answer those for the caller.
pub fn to_caller(answer: &mut response::Parts, method: &Method) {
    let headers = &mut answer.headers;
    // Most answers name nothing here that would not go anyhow, and are spared a list.
    let goes_anyhow =
        |token: &&[u8]| token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close");
    let named = tokens(headers, CONNECTION).filter(|token| !goes_anyhow(token));
    let mut gone: Vec<HeaderName> = named.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    headers.remove(CONNECTION);
    gone.extend(headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned());
    // Of HEAD the length is not that of a body, and said once; elsewhere hyper derives it from the body.
    let length = headers.remove(CONTENT_LENGTH);
    for name in gone {
        headers.remove(name);
    }
    if let Some(length) = length
        && *method == Method::HEAD
        && may_have_body(answer.status)
    {
        headers.insert(CONTENT_LENGTH, length);
    }
    answer.version = Version::HTTP_11;
}

/// The head of an interim answer (RFC 9110, 15.2) as it goes on to the caller.
pub fn announcement(head: &response::Parts) -> Vec<u8> {
    let named: Vec<&[u8]> = tokens(&head.headers, CONNECTION).collect();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in &head.headers {
        let stays = is_hop_by_hop(name.as_str()) || name == CONTENT_LENGTH || is_named(&named, name);
        if !stays {
            write_header(&mut text, name, value);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Grants a change of protocol.
pub fn set_protocol(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn answer(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_promise_to_keep_a_connection_is_taken_at_its_word() {
        let kept = |value: &str| {
            kept_open(&answer(200, &[("keep-alive", value)]).headers).map(|time| time.as_secs())
        };
        assert_eq!(
            (kept("timeout=5, max=100"), kept("max=3,timeout=2"), kept("timeout=\"2\"")),
            (Some(4), Some(1), Some(1))
        );
        assert_eq!((kept("timeout=1"), kept("timeout=0")), (Some(0), Some(0)), "too short to be of use");
        assert_eq!(
            (kept("max=3"), kept("timeout=x"), kept("timeout=-1"), kept("")),
            (None, None, None, None)
        );
    }

    #[test]
    fn an_answer_has_one_length_or_none() {
        let sound = |headers: &[(&str, &str)]| is_sound(&answer(200, headers));
        let length = |value| ("content-length", value);
        let coding = |value| ("transfer-encoding", value);
        for headers in [&[][..], &[coding("Chunked")], &[length("5")], &[length("5"), length("5")]] {
            assert!(sound(headers), "{headers:?}");
        }
        for headers in [
            &[coding("chunked"), length("5")][..],
            &[coding("gzip, chunked")],
            &[coding("gzip")],
            &[coding("identity")],
            &[coding("chunked"), coding("chunked")],
            &[length("5"), length("6")],
            &[length("5, 5")],
            &[length("x")],
            &[length("-1")],
            &[length("+1")],
            &[length("")],
            &[length("10000000000000000000000")],
        ] {
            assert!(!sound(headers), "{headers:?}");
        }
    }

    #[test]
    fn an_answer_of_http_1_0_has_no_coding() {
        let mut old = answer(200, &[("transfer-encoding", "chunked")]);
        assert!(is_sound(&old));
        old.version = Version::HTTP_10;
        assert!(!is_sound(&old));
    }

    #[test]
    fn an_announcement_is_as_sound_as_an_answer() {
        let head =
            answer(103, &[("link", "</a>"), ("connection", "x-a"), ("x-a", "1"), ("content-length", "4")]);
        assert_eq!(announcement(&head), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert_eq!(announcement(&answer(199, &[])), b"HTTP/1.1 199 \r\n\r\n");
    }
}
