//! Refuses requests that hyper accepts, but that two readers can understand differently.
//!
//! hyper resolves some ambiguities itself, each in a way that leaves one meaning: Transfer-Encoding overrides
//! Content-Length, and equal Content-Lengths count as one. Such connections are closed after the response, by
//! hyper and by `server/request_reader.rs`; so are those whose body others may see end elsewhere (`body.rs`).
//! hyper refuses different lengths, folded headers, blanks before a colon, and Transfer-Encoding in HTTP/1.0. In
//! any case the proxy writes the head anew (`proxy/headers`).

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Version};

use crate::wire::Reply;

/// Refuses an ambiguous request. The connection then has to be closed: the next bytes may be part of the
/// request.
pub fn check<B>(request: &Request<B>) -> Result<(), Reply> {
    let headers = request.headers();
    // hyper takes what follows a CONNECT for a tunnel, which no check here would see.
    if request.method() == Method::CONNECT {
        return Err(Reply::bad_request("CONNECT is not offered"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Reply::bad_request("the only Transfer-Encoding understood is \"chunked\""));
    }
    let mut expected = headers.get_all(EXPECT).iter();
    if expected.any(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Reply::bad_request("the only Expect understood is \"100-continue\""));
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next().map(|host| host.as_bytes()), hosts.next()) {
        (Some(host), None) => {
            if !host.iter().all(|byte| is_of_host(*byte)) {
                return Err(Reply::bad_request("the Host header is malformed"));
            }
            // A target in absolute form also names the host (RFC 9112, 3.2.2).
            let in_target = request.uri().authority();
            if in_target.is_some_and(|named| !named.as_str().as_bytes().eq_ignore_ascii_case(host)) {
                return Err(Reply::bad_request("the Host header is not that of the target"));
            }
            Ok(())
        }
        // A server has to refuse two, and HTTP/1.1 without any (RFC 9112, 3.2).
        (Some(_), Some(_)) => Err(Reply::bad_request("there are two Host headers")),
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => Err(Reply::bad_request("there is no Host header")),
    }
}

/// Whether a byte may occur in a host name, an address or a port.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".:-_~[]%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn exactly_one_host_header_is_required() {
        assert!(checked("GET", "/x", &[("host", "[::1]:4000")]));
        assert!(checked("GET", "http://h:1/x", &[("host", "H:1")]));
        for headers in [
            &[][..],
            &[("host", "a"), ("host", "a")],
            &[("host", "a b")],
            &[("host", "a\"b")],
            &[("host", "a,b")],
            &[("host", "me@a")],
            &[("host", "a/b")],
        ] {
            assert!(!checked("GET", "/x", headers), "{headers:?}");
        }
        assert!(!checked("GET", "http://other/x", &[("host", "h")]));
        let old = Request::builder().version(Version::HTTP_10).uri("/x").body(()).unwrap();
        assert!(check(&old).is_ok(), "HTTP/1.0 had no Host");
    }

    #[test]
    fn unsupported_transfer_encoding_expect_and_connect_are_refused() {
        let with = |name, value| checked("POST", "/x", &[("host", "h"), (name, value)]);
        assert!(with("transfer-encoding", "Chunked") && with("expect", "100-Continue"));
        for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;q=1"] {
            assert!(!with("transfer-encoding", coding), "{coding}");
        }
        assert!(!with("expect", "200-maybe"));
        let chunked = ("transfer-encoding", "chunked");
        assert!(!checked("POST", "/x", &[("host", "h"), chunked, chunked]));
        assert!(!checked("CONNECT", "h:1", &[("host", "h:1")]));
    }
}
