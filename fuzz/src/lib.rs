//! What the fuzz targets do with their input, and what must hold whatever it is. `tests/it/fuzz.rs` includes this file
//! and does the same with every committed input.

mod request_reading;

use std::path::Path;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use serde_json::Value;
use wqcontroller::client::applications::{cq_code, read_frame};
use wqcontroller::config::{Access, Settings};
use wqcontroller::http::auth::{Guard, ListenerKind, Tokens};
use wqcontroller::http::proxy::body_decoder::BodyDecoder;
use wqcontroller::http::proxy::headers::{self as proxied, BodyEnd, ResponseHead};
use wqcontroller::http::request::form::FormKind;
use wqcontroller::http::request::framing;
use wqcontroller::http::request::params::{Params, take};
use wqcontroller::model::name::ClientName;
use wqcontroller::model::persisted::PersistedState;
use wqcontroller::model::state::StateReport;
use wqcontroller::wire::calls::only_reads;

pub use request_reading::requests;

/// Parameters, and the names in them.
pub fn params(data: &[u8]) {
    if let Ok(params) = Params::parse(data) {
        assert!(params.iter().count() <= Params::MAX_COUNT);
        for (name, value) in params.iter() {
            assert_eq!(params.get(name), Some(value), "a name stands once");
        }
    }
    if let Ok((value, rest)) = take(data, "client") {
        // What was taken is gone, and the rest is what it was.
        assert_eq!(take(&rest, "client").map(|(value, _)| value), Ok(None));
        assert!(rest.len() <= data.len() && (value.is_some() || *rest == *data));
        if let Some(Ok(name)) = value.map(ClientName::new) {
            let text = name.as_str();
            assert!((1..=48).contains(&text.len()) && !text.contains('/') && text != "." && text != "..");
            assert!(!text.chars().any(char::is_control));
        }
    }
}

/// A form of any kind: what is taken out of it is gone, and the rest is what it was.
pub fn forms(data: &[u8]) {
    for kind in [FormKind::Multipart("x".into()), FormKind::Json, FormKind::UrlEncoded] {
        if let Ok(params) = kind.parse(data) {
            assert!(params.iter().count() <= Params::MAX_COUNT);
        }
        let Ok((value, rest)) = kind.take(data, "client") else { continue };
        let (rest, left) = match rest {
            wqcontroller::http::request::form::RemainingForm::Same(rest) => (rest.into_owned(), kind),
            wqcontroller::http::request::form::RemainingForm::UrlEncoded(rest) => {
                (rest.into_bytes(), FormKind::UrlEncoded)
            }
        };
        assert_eq!(left.take(&rest, "client").map(|(value, _)| value), Ok(None));
        assert!(value.is_some() || left == FormKind::UrlEncoded || rest == data);
    }
}

/// A configuration file.
pub fn config(data: &[u8]) {
    let file = Path::new("fuzz.toml");
    match Settings::parse(file, data) {
        Ok(settings) => assert!(!settings.listen.is_empty() && settings.backend_start_port >= 1024),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.lines().all(|line| line.starts_with("fuzz.toml:") || line.starts_with("and ")),
                "{text}"
            );
        }
    }
}

/// A client's state file.
pub fn state_file(data: &[u8]) {
    if let Ok(report) = StateReport::parse(data) {
        assert!(report.fields().contains_key("state"));
        let word = report.state.as_str();
        assert!(word.len() <= 32 && !word.chars().any(char::is_control), "{word:?}");
    }
}

/// The registry file.
pub fn registry_file(data: &[u8]) {
    if let Ok(saved) = PersistedState::parse(data)
        && let Ok(text) = serde_json::to_vec(&saved)
    {
        assert_eq!(PersistedState::parse(&text).ok(), Some(saved), "what is written is read");
    }
}

/// A message as one text: what is read of it and written is read the same again.
pub fn cq_codes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let segments = cq_code::parse(&text);
    for segment in &segments {
        let kind = segment["type"].as_str().unwrap_or_default();
        assert!(!kind.is_empty() && segment["data"].is_object(), "{segment}");
        assert!(segment["data"].as_object().into_iter().flatten().all(|(_, value)| value.is_string()));
    }
    // Five bytes for each code, and a text between any two of them.
    assert!(segments.len() <= text.len() / 3 + 1);
    let written = cq_code::write(&segments);
    assert!(written.len() <= text.len() * 5, "each character is at most `&#91;`");
    let again = cq_code::parse(&written);
    assert_eq!(cq_code::write(&again), written);
    // What is no code is kept to the letter.
    if !text.contains("[CQ:") && !text.contains('&') {
        let plain = if text.is_empty() { vec![] } else { vec![text.clone().into_owned()] };
        let found: Vec<_> =
            segments.iter().map(|one| one["data"]["text"].as_str().unwrap_or_default()).collect();
        assert_eq!(found, plain);
    }
}

/// A frame of an application: an action, something that is not answered, or something whose answer says what is wrong.
pub fn frames(data: &[u8]) {
    let read: Option<Value> = serde_json::from_slice(data).ok();
    let echo = read.as_ref().and_then(|frame| frame.get("echo"));
    match read_frame(data) {
        Ok(None) => assert!(read.as_ref().is_some_and(|frame| frame.get("action").is_none())),
        Ok(Some((name, params, repeated))) => {
            let Some(frame) = read.as_ref() else { unreachable!("it was read") };
            assert!(frame["action"].as_str().is_some_and(|action| action.starts_with(&name)));
            assert_eq!(repeated.as_ref(), echo);
            assert!(params.is_empty() || frame["params"] == Value::Object(params));
        }
        Err(answer) => {
            assert_eq!((&answer["status"], &answer["retcode"]), (&"failed".into(), &1400.into()));
            assert_eq!(answer.get("echo"), echo, "an answer goes back to its call");
        }
    }
}

/// The token of [`headers`].
const TOKEN: &str = "0123456789abcdef";

/// The head of a request: whether it is let in, what is left of it, and what of it goes on to a client.
pub fn headers(data: &[u8]) {
    let Some(mut request) = request(data) else { return };
    for length in [None, Some(0), Some(7)] {
        forwarded(&request, length);
    }
    let sites = "http.hosts = ['bots.example']\nhttp.allowed_origins = ['https://console.example']";
    let Ok(settings) = Settings::parse(Path::new("fuzz.toml"), sites.as_bytes()) else {
        unreachable!("a constant");
    };
    let guard =
        Guard::new(&settings, Tokens::of([("key", TOKEN, Access::ReadOnly)]), Default::default(), false);
    let brings_body = values(request.headers(), "content-length").iter().any(|length| *length != b"0")
        || request.headers().contains_key("transfer-encoding");
    let (before, reads) = (request.uri().clone(), only_reads(request.method(), request.uri().path()));
    let host = before.authority().map(|host| host.as_str().to_owned());
    let named = request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
    let without_token = Guard::new(&settings, Tokens::default(), Default::default(), false);
    let open = without_token.admit(&mut request.clone(), ListenerKind::Tcp).is_ok();
    let admitted = guard.admit(&mut request, ListenerKind::Tcp).is_ok();
    assert!(open || !admitted, "a token replaces no other rule");
    if open && let Some(host) = host.or(named) {
        // Another reader of names must find the same machine.
        let url =
            url::Url::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{host:?}: {error}"));
        let ours = match url.host() {
            // A page cannot make an address lead elsewhere.
            Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
            Some(url::Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "bots.example" || name == "localhost" || name.ends_with(".localhost")
            }
            None => false,
        };
        assert!(ours, "{host:?} is {:?}", url.host());
    }
    if admitted {
        assert!(reads && !brings_body, "read-only");
        assert_eq!(request.uri().path(), before.path());
        let query = request.uri().query().unwrap_or_default();
        assert!(take(query.as_bytes(), "token").is_ok_and(|(token, _)| token.is_none()), "{query}");
        assert!(
            !request.headers().contains_key("authorization") && !request.headers().contains_key("referer")
        );
    }
}

/// What goes on to a client of a request whose body has this length, where it is known.
fn forwarded(request: &Request<()>, length: Option<u64>) {
    // Nothing goes on but what has a path.
    if framing::check(request).is_err() || !request.uri().path().starts_with('/') {
        return;
    }
    assert!(request.method() != Method::CONNECT && request.headers().get_all("host").iter().count() <= 1);
    let before = request.headers();
    let (parts, ()) = request.clone().into_parts();
    let protocol = proxied::wanted_protocol(&parts, length != Some(0));
    assert!(protocol.is_none() || length == Some(0), "where a body ends must be clear");
    let us = proxied::ViaToken::default();
    let hop = proxied::Hop { address: "192.168.1.9", to: proxied::NextHop::Client(5000), via_token: &us };
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let sent = proxied::to_next_hop(&parts, query, hop, length, protocol.as_ref());
    let Ok(sent) = sent else { unreachable!("nobody knows the new name") };
    // What is written is one head, and all of that.
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut lines);
    assert_eq!(parsed.parse(&sent), Ok(httparse::Status::Complete(sent.len())));
    assert_eq!((parsed.method, parsed.version), (Some(request.method().as_str()), Some(1)));
    let target = parsed.path.unwrap_or_default();
    assert_eq!(target.split('?').next(), Some(request.uri().path()));
    let mut after = HeaderMap::new();
    assert!(add_headers(&mut after, parsed.headers).is_some());
    let after = &after;

    assert_eq!(values(after, "host"), [b"127.0.0.1:5000"]);
    assert_eq!(values(after, "x-forwarded-for"), [b"192.168.1.9"]);
    assert_eq!((values(after, "forwarded").len(), values(after, "x-forwarded-proto").len()), (1, 1));
    assert_eq!(values(after, "x-forwarded-host"), values(before, "host"));
    // Those of others are before it, unless they were meant for us alone.
    let via = values(after, "via");
    assert!(via.last().is_some_and(|last| last.ends_with(us.name().as_bytes())));
    let ours = ["host", "via", "content-length", "transfer-encoding", "connection", "upgrade"];
    let ours = |name: &str| ours.contains(&name) || name.starts_with("x-forwarded-") || name == "forwarded";
    // A program that hands headers on as variables takes an underscore for a hyphen.
    let is_twin = |name: &str| {
        let twin = name.replace('_', "-");
        name.contains('_') && (ours(&twin) || is_about_connection(&twin))
    };
    assert!(!after.keys().any(|name| is_twin(name.as_str())), "{after:?}");
    go_on(before, after, |name| ours(name) || is_twin(name));
    assert!(values(after, "expect").is_empty());
    let framing = (values(after, "transfer-encoding"), values(after, "content-length"));
    match length {
        None => assert_eq!(framing, (vec![&b"chunked"[..]], vec![])),
        Some(length) => {
            assert!(
                framing.0.is_empty() && framing.1.iter().all(|said| *said == length.to_string().as_bytes())
            );
            assert!(framing.1.len() <= 1);
        }
    }

    let asked = (values(after, "connection"), values(after, "upgrade"));
    let Some(protocol) = protocol else { return assert_eq!(asked, (vec![], vec![])) };
    let name = protocol.as_bytes().to_ascii_lowercase();
    assert!(!name.starts_with(b"h2") && !name.starts_with(b"http") && request.method() == Method::GET);
    assert_eq!(asked, (vec![&b"upgrade"[..]], vec![protocol.as_bytes()]));
}

/// What a client sends for an answer: whether it is taken, what of its head goes on to a caller, and its body.
pub fn answers(data: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        let whole = read_answer(data, &method, data.len().max(1));
        for size in [1, 7] {
            assert_eq!(read_answer(data, &method, size), whole, "however it comes");
        }
    }
    let Ok(Some(head)) = ResponseHead::take(&mut BytesMut::from(data), &mut HeaderMap::new()) else { return };
    let before = &sent_headers(data);
    // Where the end is clear, no two readers can take that for different messages.
    let codings = values(before, "transfer-encoding");
    let mut lengths = values(before, "content-length");
    assert!(head.has_duplicate_length == (lengths.len() > 1));
    lengths.dedup();
    match head.end {
        BodyEnd::Chunks => {
            assert!(lengths.is_empty() && codings[0].eq_ignore_ascii_case(b"chunked") && codings.len() == 1)
        }
        BodyEnd::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1 && lengths[0].iter().all(u8::is_ascii_digit));
            assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(length));
        }
        BodyEnd::Close => assert!(codings.is_empty() && lengths.is_empty()),
        BodyEnd::Ambiguous => {}
    }
    assert!(head.keep_alive.is_none() || before.contains_key("keep-alive"));
    assert_eq!(head.protocol.as_ref(), before.get("upgrade"));
    for method in [Method::GET, Method::HEAD] {
        let parts = head.clone().into_parts(&method);
        assert_eq!(parts.version, Version::HTTP_11);
        go_on(before, &parts.headers, |name| name == "content-length" && method == Method::HEAD);
        let said = values(&parts.headers, "content-length");
        assert!(method == Method::HEAD || said.is_empty(), "hyper says the length of a body");
        assert!(values(&parts.headers, "transfer-encoding").is_empty());
    }
}

/// The headers of an answer as they were sent.
fn sent_headers(data: &[u8]) -> HeaderMap {
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut lines);
    parsed.parse(data).expect("it was taken for a head");
    let header = |line: &httparse::Header| {
        let name = HeaderName::from_bytes(line.name.as_bytes()).expect("it was taken for one");
        (name, HeaderValue::from_bytes(line.value).expect("it was taken for one"))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in parsed.headers.iter().map(header) {
        headers.append(name, value);
    }
    headers
}

/// The body of an answer that comes in pieces of this size and then breaks off, and what was left; none where it is none.
fn read_answer(data: &[u8], method: &Method, size: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut read, mut decoder, mut body) = (BytesMut::new(), None::<BodyDecoder>, Vec::new());
    for piece in data.chunks(size) {
        read.extend_from_slice(piece);
        if decoder.is_none() {
            let head = ResponseHead::take(&mut read, &mut HeaderMap::new()).ok()?;
            // What has no clear end is none.
            decoder = head.map(|head| BodyDecoder::of(&head, method).ok_or(())).transpose().ok()?;
        }
        let Some(decoder) = &mut decoder else { continue };
        while let Some(piece) = decoder.take(&mut read).ok()? {
            assert!(!piece.is_empty(), "there is an end to it");
            body.extend_from_slice(&piece);
        }
    }
    let mut decoder = decoder?;
    if !decoder.is_done() {
        decoder.close().ok()?;
    }
    Some((body, read.to_vec()))
}

/// Whether a header is about the connection and not about the message.
fn is_about_connection(name: &str) -> bool {
    let listed = [
        "connection",
        "close",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    listed.contains(&name) || name.starts_with("proxy-")
}

/// Only what is for the other end goes on, and nothing in it ends a line.
fn go_on(before: &HeaderMap, after: &HeaderMap, ours: impl Fn(&str) -> bool) {
    let named: Vec<Vec<u8>> = values(before, "connection")
        .into_iter()
        .flat_map(|list| list.split(|byte| *byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect();
    for (name, value) in after {
        let name = name.as_str();
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}: {value:?}");
        if ours(name) {
            continue;
        }
        assert!(!is_about_connection(name), "{name}");
        assert!(!named.contains(&name.as_bytes().to_vec()), "{name} was meant for us");
        assert_eq!(values(after, name), values(before, name), "{name}");
    }
    // And all of that does.
    for name in before.keys().map(HeaderName::as_str) {
        let named = named.contains(&name.as_bytes().to_vec());
        let stays = is_about_connection(name) || named || ours(name);
        assert!(stays || after.contains_key(name) || ["expect", "content-length"].contains(&name), "{name}");
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// A request as the HTTP server would make it of these bytes.
fn request(data: &[u8]) -> Option<Request<()>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(data).ok()?;
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?).body(()).ok()?;
    *request.version_mut() = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    add_headers(request.headers_mut(), parsed.headers)?;
    Some(request)
}

fn add_headers(headers: &mut HeaderMap, parsed: &[httparse::Header<'_>]) -> Option<()> {
    for header in parsed.iter().take_while(|header| !header.name.is_empty()) {
        let name: HeaderName = header.name.parse().ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(())
}
