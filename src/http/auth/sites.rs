//! Names and web sites: by which names we are called, and whose pages may call us.

use std::net::IpAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::Refusal;
use crate::http::answer::{Body, empty};

/// How a browser says for whose page it sends a request (Fetch Metadata Request Headers, 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How much of a name from outside is shown, in characters.
const SHOWN: usize = 100;

/// What the configuration names.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// See [`crate::config::HttpSettings::hosts`].
    pub hosts: Vec<String>,
    /// See [`crate::config::HttpSettings::allowed_origins`].
    pub origins: Vec<String>,
}

impl Sites {
    /// Whether the name that a request is for is ours. In the target it counts before that in `Host` (RFC 9112, 3.2.2).
    /// A request without one, as of HTTP/1.0, comes from no browser.
    pub fn check_host(&self, uri: &Uri, headers: &HeaderMap, local: IpAddr) -> Result<(), Refusal> {
        if let Some(authority) = uri.authority() {
            return self.check_name(authority.as_str().as_bytes(), local);
        }
        headers.get_all(HOST).iter().try_for_each(|host| self.check_name(host.as_bytes(), local))
    }

    fn check_name(&self, name: &[u8], local: IpAddr) -> Result<(), Refusal> {
        let is_ours = std::str::from_utf8(name).is_ok_and(|name| self.is_ours(name, local));
        if is_ours { Ok(()) } else { Err(Refusal::Host(shown(name))) }
    }

    /// Whether `name`, a host with or without port, is ours; `local` is the address that was called. The port is not
    /// looked at: whoever forwards one to us may use another.
    fn is_ours(&self, name: &str, local: IpAddr) -> bool {
        let Some(host) = without_port(name) else { return false };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        // In brackets there are IPv6 addresses only, and nowhere else.
        let address: Option<IpAddr> = match bare {
            Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
            None => host.parse().ok().filter(IpAddr::is_ipv4),
        };
        if let Some(address) = address.map(|address| address.to_canonical()) {
            let listed = || self.hosts.iter().any(|known| known.parse() == Ok(address));
            return address.is_loopback() || address == local.to_canonical() || listed();
        }
        if bare.is_some() {
            return false;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return false;
        }
        // Resolvers know no other address for them than loopback (RFC 6761, 6.3).
        let is_local =
            host == "localhost" || host.strip_suffix(".localhost").is_some_and(|name| !name.is_empty());
        is_local || self.hosts.contains(&host)
    }

    /// Whether a browser may send this. What a browser says of itself no page can change, and programs say nothing.
    ///
    /// `same-site` is another port of the same name, so another program. Without `Sec-Fetch-Site`, which old browsers do not
    /// send, and others only where they trust the connection, there is `Origin`; it names us where it is what `Host` says.
    pub fn check_site(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.allowed_origin(headers).is_some() {
            return Ok(());
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            return match sites.find(|site| *site != "same-origin" && *site != "none") {
                None => Ok(()),
                Some(site) => Err(Refusal::Site(shown(site.as_bytes()))),
            };
        }
        let host = || headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_foreign = |origin: &&HeaderValue| {
            let origin = origin.as_bytes();
            let site = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            !site.is_some_and(|site| !site.is_empty() && site.eq_ignore_ascii_case(host()))
        };
        match headers.get_all(ORIGIN).iter().find(is_foreign) {
            None => Ok(()),
            Some(origin) => Err(Refusal::Site(shown(origin.as_bytes()))),
        }
    }

    /// The `Origin` of a request, where the configuration allows it.
    pub fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let mut all = headers.get_all(ORIGIN).iter();
        let origin = all.next().filter(|_| all.next().is_none())?;
        let allowed = self.origins.iter().any(|allowed| origin == allowed.as_str());
        allowed.then(|| origin.clone())
    }
}

/// The host of `host:port`. None where what follows the host is no port.
fn without_port(name: &str) -> Option<&str> {
    let end = match name.find(']') {
        Some(end) => end + 1,
        None => name.find(':').unwrap_or(name.len()),
    };
    let (host, port) = name.split_at_checked(end)?;
    // With nothing after its colon it is the usual one (RFC 3986, 3.2.3). Parsing takes a sign, too.
    let is_port = |port: &str| {
        port.is_empty() || port.len() <= 5 && !port.starts_with('+') && port.parse::<u16>().is_ok()
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// As much of what came from outside as is shown.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    // What has no shape of its own, or turns the direction of what follows, is not for a terminal.
    let is_harmless = |c: &char| *c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    text.chars().take(SHOWN).map(|c| if is_harmless(&c) { c } else { '?' }).collect()
}

/// Whether a browser asks if a page may send a request (the Fetch standard, "CORS-preflight request").
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that for a page of an allowed site; [`open_to`] completes it. A client must not give it, for it is no
/// client's affair, and a browser shows no token with the question.
pub fn answer_preflight() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, X-Requested-With"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets the pages of `origin`, and of no other site, read an answer.
pub fn open_to(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 5));

    fn sites() -> Sites {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Sites {
            hosts: words(&["bots.example.org", "203.0.113.9", "2001:db8::1"]),
            origins: words(&["https://console.example"]),
        }
    }

    #[test]
    fn names_that_are_ours() {
        for ours in [
            "127.0.0.1:4000",
            "127.0.0.1",
            "127.1.2.3",
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "a.localhost:4000",
            "[::1]:4000",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
            "192.168.1.5:4000",
            "[::ffff:192.168.1.5]",
            "Bots.Example.Org.",
            "bots.example.org:443",
            "203.0.113.9",
            "[2001:db8:0::1]:4000",
            "localhost:",
            "localhost:65535",
        ] {
            assert!(sites().is_ours(ours, LAN), "{ours}");
        }
    }

    #[test]
    fn names_that_are_not() {
        for foreign in [
            "",
            ":4000",
            "evil.example",
            "x",
            "192.168.1.6",
            "0.0.0.0:4000",
            "[::]",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "127.0.0.1:4000:1",
            "127.0.0.1:80x",
            "127.0.0.1:+80",
            "127.0.0.1:65536",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1/evil",
            "127.0.0.1, evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "notlocalhost",
            ".localhost",
            "localhost..",
            "a%cdef.localhost",
            "a b.localhost",
            "user:pass@a.localhost",
            "localhost\u{130}",
            "[127.0.0.1]",
            "[localhost]",
            "::1",
            "[::1",
            "[::1]evil",
            "sub.bots.example.org",
            " localhost",
        ] {
            assert!(!sites().is_ours(foreign, LAN), "{foreign}");
        }
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_target_counts_before_the_header() {
        let check = |target: &str, hosts: &[&'static str]| {
            let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            sites().check_host(&target.parse().unwrap(), &headers(&hosts), LAN).is_ok()
        };
        assert!(
            check("/", &["localhost"])
                && check("/", &[])
                && check("http://localhost:4000/", &["evil.example"])
        );
        assert!(
            !check("http://evil.example/", &["localhost"])
                && !check("http://localhost@evil.example/", &["localhost"])
        );
        assert!(!check("/", &["localhost", "evil.example"]) && !check("/", &["evil.example", "localhost"]));
    }

    #[test]
    fn browsers_that_say_for_whom() {
        let site = |all: &[_]| sites().check_site(&headers(all)).is_ok();
        for fine in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://h"), ("host", "127.0.0.1:4000")],
            &[("origin", "http://127.0.0.1:4000"), ("host", "127.0.0.1:4000")],
            &[("origin", "https://Bots.example.org"), ("host", "bots.example.org")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://console.example")],
        ] {
            assert!(site(fine), "{fine:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "Same-Origin")],
            &[("sec-fetch-site", "")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("origin", "null")],
            &[("origin", "http://localhost:3000"), ("host", "localhost:4000")],
            &[("origin", "http://evil.example"), ("host", "127.0.0.1:4000")],
            &[
                ("origin", "http://127.0.0.1:4000"),
                ("origin", "http://evil.example"),
                ("host", "127.0.0.1:4000"),
            ],
            &[("origin", "https://console.example"), ("origin", "http://evil.example")],
            &[("origin", "https://console.example.evil.example")],
            &[("origin", "http://console.example")],
            &[("origin", "http://"), ("host", "")],
            &[("origin", "http://")],
        ] {
            assert!(!site(foreign), "{foreign:?}");
        }
    }
}
