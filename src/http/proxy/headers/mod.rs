//! Headers on their way through: what is about one connection stays there, what tells of the way is ours to say.
//!
//! - `request`: the head of a request, as it goes on to the client
//! - `answer`: the head of an answer: what it says of its connection, and what goes on to the caller
//! - `pseudonym`: our name in `Via`, by which a request that came back is known

mod answer;
mod pseudonym;
mod request;

pub use answer::{End, Head, Malformed, set_protocol};
pub use pseudonym::{Looped, Pseudonym};
pub use request::{Hop, to_client, wanted_protocol};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Writes a header with its name as the original's programs write them, who may look for it so: `Content-Type`.
fn write_header(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let at = head.len();
    head.extend_from_slice(name.as_str().as_bytes());
    let mut begins = true;
    for byte in &mut head[at..] {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

fn is_named(named: &[&[u8]], name: &HeaderName) -> bool {
    named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Headers about a connection and not about the message (RFC 9110, 7.6.1). Whoever is asked for `Proxy-` anything is us.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "close"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    ) || name.starts_with("proxy-")
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    // One that is no text does not hide those beside it.
    lists.flat_map(tokens_of)
}

fn tokens_of(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
