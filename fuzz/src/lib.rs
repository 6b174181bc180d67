//! What the fuzz targets do with their input, and what must hold whatever it is. `tests/it/fuzz.rs` includes this file
//! and does the same with every committed input.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use wqcontroller::config::{Access, Settings};
use wqcontroller::http::auth::{Entrance, Guard, Tokens, allowed_to_read};
use wqcontroller::http::framing;
use wqcontroller::http::params::{Params, take};
use wqcontroller::http::proxy::headers as proxied;
use wqcontroller::http::serve::Peer;
use wqcontroller::model::name::ClientName;
use wqcontroller::model::saved::Saved;
use wqcontroller::model::state::StateReport;

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
    if let Ok(saved) = Saved::parse(data)
        && let Ok(text) = serde_json::to_vec(&saved)
    {
        assert_eq!(Saved::parse(&text).ok(), Some(saved), "what is written is read");
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
    let guard = Guard::new(&settings, Tokens::of([("key", TOKEN, Access::ReadOnly)]));
    let local = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 5));
    let (before, reads) = (request.uri().clone(), allowed_to_read(request.method(), request.uri()));
    let host = before.authority().map(|host| host.as_str().to_owned());
    let named = request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
    let without_token = Guard::new(&settings, Tokens::default());
    let open = without_token.admit(&mut request.clone(), Entrance::Tcp { local }).is_ok();
    let admitted = guard.admit(&mut request, Entrance::Tcp { local }).is_ok();
    assert!(open || !admitted, "a token replaces no other rule");
    if open && let Some(host) = host.or(named) {
        // Another reader of names must find the same machine.
        let url =
            url::Url::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{host:?}: {error}"));
        let ours = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback() || IpAddr::V4(address) == local,
            Some(url::Host::Ipv6(address)) => {
                let address = IpAddr::V6(address).to_canonical();
                address.is_loopback() || address == local
            }
            Some(url::Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "bots.example" || name == "localhost" || name.ends_with(".localhost")
            }
            None => false,
        };
        assert!(ours, "{host:?} is {:?}", url.host());
    }
    if admitted {
        assert!(reads, "read-only");
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
    if framing::check(request).is_err() {
        return;
    }
    assert!(request.method() != Method::CONNECT && request.headers().get_all("host").iter().count() <= 1);
    let before = request.headers();
    let (mut parts, ()) = request.clone().into_parts();
    let protocol = proxied::wanted_protocol(&parts, length != Some(0));
    assert!(protocol.is_none() || length == Some(0), "where a body ends must be clear");
    let remote: SocketAddr = ([192, 168, 1, 9], 1).into();
    let us = proxied::Pseudonym::default();
    let peer = Peer::Tcp { remote, local: remote };
    assert!(proxied::to_client(&mut parts, 5000, peer, &us, length).is_ok(), "nobody knows the new name");
    let after = &parts.headers;

    assert_eq!(values(after, "host"), [b"127.0.0.1:5000"]);
    assert_eq!(values(after, "x-forwarded-for"), [b"192.168.1.9"]);
    assert_eq!((values(after, "forwarded").len(), values(after, "x-forwarded-proto").len()), (1, 1));
    assert_eq!(values(after, "x-forwarded-host"), values(before, "host"));
    // Those of others are before it, unless they were meant for us alone.
    let via = values(after, "via");
    assert!(via.last().is_some_and(|last| last.ends_with(us.name().as_bytes())));
    let ours = ["host", "via", "content-length", "transfer-encoding"];
    let ours = |name: &str| ours.contains(&name) || name.starts_with("x-forwarded-") || name == "forwarded";
    go_on(before, after, ours);
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

    let mut tunnel = parts.headers.clone();
    if let Some(protocol) = protocol {
        let name = protocol.as_bytes().to_ascii_lowercase();
        assert!(!name.starts_with(b"h2") && !name.starts_with(b"http") && request.method() == Method::GET);
        proxied::set_protocol(&mut tunnel, protocol);
        assert_eq!(
            (values(&tunnel, "connection"), values(&tunnel, "upgrade").len()),
            (vec![&b"upgrade"[..]], 1)
        );
    }
}

/// The head of a client's answer: whether it is taken, and what of it goes on to a caller.
pub fn answers(data: &[u8]) {
    let Some(answer) = answer(data) else { return };
    for method in [Method::GET, Method::HEAD] {
        let (mut parts, ()) = answer.clone().into_parts();
        if !proxied::is_sound(&parts, &method) {
            continue;
        }
        let before = answer.headers();
        // What no two readers can take for different messages.
        let codings = values(before, "transfer-encoding");
        let mut lengths = values(before, "content-length");
        assert!(codings.len() <= 1 && codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")));
        assert!(codings.is_empty() || lengths.is_empty());
        lengths.dedup();
        assert!(lengths.len() <= 1);
        let kept_open = proxied::kept_open(before);
        assert!(kept_open.is_none() || before.contains_key("keep-alive"));

        proxied::to_caller(&mut parts, &method);
        assert_eq!(parts.version, Version::HTTP_11);
        go_on(before, &parts.headers, |name| name == "content-length" && method == Method::HEAD);
        let said = values(&parts.headers, "content-length");
        assert!(said.len() <= usize::from(method == Method::HEAD), "hyper says the length of a body");
        assert!(values(&parts.headers, "transfer-encoding").is_empty());
    }
}

/// Only what is for the other end goes on, and nothing in it ends a line.
fn go_on(before: &HeaderMap, after: &HeaderMap, ours: impl Fn(&str) -> bool) {
    let listed =
        ["connection", "keep-alive", "proxy-authorization", "te", "trailer", "upgrade", "http2-settings"];
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
        assert!(!listed.contains(&name) && !name.starts_with("proxy-"), "{name}");
        assert!(!named.contains(&name.as_bytes().to_vec()), "{name} was meant for us");
        assert_eq!(values(after, name), values(before, name), "{name}");
    }
    // And all of that does.
    for name in before.keys().map(HeaderName::as_str) {
        let stays = listed.contains(&name) || name.starts_with("proxy-") || name == "transfer-encoding";
        let stays = stays || named.contains(&name.as_bytes().to_vec()) || ours(name);
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

/// An answer as the HTTP client would make it of these bytes.
fn answer(data: &[u8]) -> Option<Response<()>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(data).ok()?;
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
    *answer.version_mut() = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    add_headers(answer.headers_mut(), parsed.headers)?;
    Some(answer)
}

fn add_headers(headers: &mut HeaderMap, parsed: &[httparse::Header<'_>]) -> Option<()> {
    for header in parsed.iter().take_while(|header| !header.name.is_empty()) {
        let name: HeaderName = header.name.parse().ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(())
}
