//! What the fuzz targets do with their input, and what must hold whatever it is. `tests/it/fuzz.rs` includes this file
//! and does the same with every committed input.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use http::{HeaderName, HeaderValue, Request};
use wqcontroller::config::{Access, Settings};
use wqcontroller::http::auth::{Entrance, Guard, Tokens, allowed_to_read};
use wqcontroller::http::params::{Params, take};
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

/// The head of a request: whether it is let in, and what is left of it.
pub fn headers(data: &[u8]) {
    let Some(mut request) = request(data) else { return };
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

/// A request as the HTTP server would make it of these bytes.
fn request(data: &[u8]) -> Option<Request<()>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(data).ok()?;
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?).body(()).ok()?;
    for header in parsed.headers.iter().take_while(|header| !header.name.is_empty()) {
        let name: HeaderName = header.name.parse().ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(request)
}
