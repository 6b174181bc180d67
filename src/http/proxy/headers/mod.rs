//! Headers on their way through. Those about one connection are not passed on, and those about the way are
//! written anew.
//!
//! - `request`: the head of a request, as the client gets it
//! - `response`: the head of a response: its framing, and what the caller gets
//! - `via`: our name in `Via`, which detects loops

mod request;
mod response;
mod via;

pub use request::{Hop, NextHop, to_next_hop, wanted_protocol};
pub use response::{BodyEnd, MalformedHead, ResponseHead, set_protocol};
pub use via::{LoopDetected, ViaToken};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Writes a header with its name in the original's spelling (`Content-Type`), which programs may compare.
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

/// Whether a header is about the connection and not about the message (RFC 9110, 7.6.1). `Proxy-` headers are
/// for us.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            // Reserved, as it would collide with the option of `Connection` (RFC 9112, 9.6).
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
    // One that is not text does not hide those beside it.
    lists.flat_map(tokens_of)
}

fn tokens_of(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
