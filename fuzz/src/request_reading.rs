//! The fuzz target `requests`: what the HTTP server makes of the bytes that callers send.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wqcontroller::http::server::request_reader::{HeadTracker, RequestReader};

/// A request as the HTTP server read it.
#[derive(Debug)]
struct ReadRequest {
    method: Method,
    target: String,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Whether the body came to its end.
    is_complete: bool,
    /// Whether other readers may see the request end elsewhere, as far as was known when it was answered.
    is_doubtful: bool,
}

/// Method, target, version, headers, body, and whether the body is complete.
type Content<'a> = (&'a Method, &'a str, Version, &'a HeaderMap, &'a [u8], bool);

impl ReadRequest {
    /// What does not depend on how the bytes came.
    fn content(&self) -> Content<'_> {
        (&self.method, &self.target, self.version, &self.headers, &self.body, self.is_complete)
    }
}

fn contents(requests: &[ReadRequest]) -> Vec<Content<'_>> {
    requests.iter().map(ReadRequest::content).collect()
}

/// What callers send: what the HTTP server makes of it is what it would make of it alone, but for targets that it refuses.
pub fn requests(data: &[u8]) {
    if data.is_empty() || data.len() > 4096 {
        return;
    }
    let whole = read_requests(data, data.len(), true);
    check_doubts(data, &whole);
    for size in [1, 7] {
        let in_pieces = read_requests(data, size, true);
        assert_eq!(contents(&in_pieces), contents(&whole), "however it comes");
        check_doubts(data, &in_pieces);
    }
    let mut alone = read_requests(data, data.len(), false);
    assert!(alone.len() <= whole.len(), "{alone:?} {whole:?}");
    for request in &mut alone {
        let encoded = request.target.bytes().map(|byte| match byte {
            b'"' | b'<' | b'>' | b'`' | 0x7f.. => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        });
        request.target = encoded.collect();
    }
    assert_eq!(contents(&alone), contents(&whole[..alone.len()]));
}

/// A request whose end another reader may see elsewhere has to be doubtful, so that its answer is the last one of the
/// connection: one with two lengths, or with a chunked body that is not in its plainest form.
fn check_doubts(data: &[u8], requests: &[ReadRequest]) {
    let mut rest = data;
    for request in requests {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut parsed = httparse::Request::new(&mut headers);
        // The reader encodes bytes in targets that this parser refuses: what follows can't be followed here.
        let Ok(httparse::Status::Complete(size)) = parsed.parse(rest) else { return };
        let all = |name: &str| -> Vec<&[u8]> {
            let named = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value).collect()
        };
        let lengths = all("content-length");
        assert!(lengths.len() < 2 || request.is_doubtful, "two lengths: {request:?}");
        rest = &rest[size..];
        let body = if all("transfer-encoding").is_empty() {
            let length = lengths.first().and_then(|length| std::str::from_utf8(length).ok());
            length.map_or(Some(0), |length| length.trim().parse().ok())
        } else {
            let plain = plain_chunks(rest);
            assert!(
                plain.is_some() || !request.is_complete || request.is_doubtful,
                "odd chunks: {request:?}"
            );
            plain
        };
        let Some(after) = body.and_then(|size| rest.get(size..)) else { return };
        rest = after;
    }
}

/// The size of the chunked body that `data` begins with, if it has neither extensions nor trailers, and all lines end with
/// CR and LF.
fn plain_chunks(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let digits = data[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&data[at..at + digits]).ok()?, 16).ok()?;
        at += digits;
        at += data[at..].starts_with(b"\r\n").then_some(2)?;
        at = at.checked_add(size).filter(|at| *at <= data.len())?;
        at += data[at..].starts_with(b"\r\n").then_some(2)?;
        if size == 0 {
            return Some(at);
        }
    }
}

/// The requests that the HTTP server reads from a connection on which `data` comes in pieces of `size`, then nothing.
fn read_requests(data: &[u8], size: usize, with_reader: bool) -> Vec<ReadRequest> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without anything");
    runtime.block_on(async {
        let (caller, ours) = tokio::io::duplex(size);
        let (mut answers, mut requests) = tokio::io::split(caller);
        let calling = async {
            // What is refused need not be read to its end.
            let writing = async {
                let _ = requests.write_all(data).await;
                let _ = requests.shutdown().await;
            };
            let mut read = Vec::new();
            let _ = tokio::join!(writing, answers.read_to_end(&mut read));
        };
        let heads = Arc::new(HeadTracker::default());
        let serving = async {
            match with_reader {
                true => serve(RequestReader::new(ours, 1 << 16, heads.clone()), &heads).await,
                false => serve(ours, &heads).await,
            }
        };
        tokio::join!(serving, calling).0
    })
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, heads: &HeadTracker) -> Vec<ReadRequest> {
    let seen = &Mutex::new(Vec::<ReadRequest>::new());
    let service = service_fn(|request: Request<Incoming>| {
        heads.note(&request);
        let (parts, mut body) = request.into_parts();
        let mut all = seen.lock().expect("no thread panics while it holds the lock");
        let number = all.len();
        all.push(ReadRequest {
            method: parts.method,
            target: parts.uri.to_string(),
            version: parts.version,
            headers: parts.headers,
            body: Vec::new(),
            is_complete: false,
            is_doubtful: false,
        });
        async move {
            let is_complete = loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        let data = frame.into_data().unwrap_or_default();
                        seen.lock().expect("no thread panics while it holds the lock")[number]
                            .body
                            .extend_from_slice(&data);
                    }
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            let request = &mut seen.lock().expect("no thread panics while it holds the lock")[number];
            (request.is_complete, request.is_doubtful) = (is_complete, heads.is_doubtful());
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    let _ = server.half_close(true).serve_connection(TokioIo::new(io), service).await;
    std::mem::take(&mut *seen.lock().expect("no thread panics while it holds the lock"))
}
