//! [`Sites`]: by which host names we may be called, and for which web sites.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName,
    HeaderValue, ORIGIN, VARY, VIA,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::Refusal;
use crate::http::body::{Body, empty};

/// How a browser says for whose page it sends a request (Fetch Metadata Request Headers, 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The most characters of a foreign name that are shown.
const SHOWN: usize = 100;

/// Hosts and web sites of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// See [`crate::config::HttpSettings::hosts`].
    pub hosts: Vec<String>,
    /// See [`crate::config::HttpSettings::allowed_origins`].
    pub origins: Vec<String>,
}

impl Sites {
    /// Checks the host that a request is for. An authority in the target overrides `Host` (RFC 9112, 3.2.2). A
    /// request without either is HTTP/1.0 and comes from no browser.
    pub fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(authority) = uri.authority() {
            return self.check_name(authority.as_str().as_bytes());
        }
        headers.get_all(HOST).iter().try_for_each(|host| self.check_name(host.as_bytes()))
    }

    fn check_name(&self, name: &[u8]) -> Result<(), Refusal> {
        let is_ours = std::str::from_utf8(name).is_ok_and(|name| self.is_ours(name));
        if is_ours { Ok(()) } else { Err(Refusal::Host(shown(name))) }
    }

    /// Whether `name`, a host with or without port, is ours. The port is ignored, since a port forwarding may
    /// change it. Any address is accepted: NAT and `docker run -p` change addresses too, and a page can't rebind
    /// an address, which needs no DNS. The exceptions are those that [lead to loopback](leads_here).
    fn is_ours(&self, name: &str) -> bool {
        let Some(host) = without_port(name) else { return false };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        // Only IPv6 addresses are in brackets, and they always are.
        if let Some(bare) = bare {
            return bare.parse().is_ok_and(|ip: Ipv6Addr| !leads_here(ip) || self.names(&ip.to_string()));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return !ip.is_unspecified() || self.names(host);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // `.localhost` accepts anything before it, so odd characters are refused first.
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return false;
        }
        // Resolvers only know loopback for these names (RFC 6761, 6.3).
        let is_local =
            host == "localhost" || host.strip_suffix(".localhost").is_some_and(|name| !name.is_empty());
        is_local || self.names(&host)
    }

    /// Whether the configuration lists `host`, in lower case, an address without brackets.
    fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known == host)
    }

    /// Checks for which site a browser sends a request. A page can't change what a browser says here, and other
    /// programs say nothing.
    ///
    /// `same-site` means another port of the same host, so another program. Old browsers send no
    /// `Sec-Fetch-Site`, and new ones only over connections they trust; then `Origin` decides, which is ours if
    /// it equals `Host`.
    pub fn check_site(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        // First, as a page of an allowed site is `cross-site` for the browser all the same.
        if self.allowed_origin(headers).is_some() {
            return Ok(());
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            // `none`: the user typed the address or chose a bookmark (Fetch Metadata Request Headers, 2.3).
            return match sites.find(|site| *site != "same-origin" && *site != "none") {
                None => Ok(()),
                Some(site) => Err(Refusal::Site(shown(site.as_bytes()))),
            };
        }
        // Without `Host` this is empty, hence the check for an empty site below.
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

    /// Checks a request to a client: its host, and for which site a browser sends it. With `Via` it came through the
    /// controller, which has checked it; a page can't set that header (the Fetch standard, "forbidden request-header").
    pub fn check_direct(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if headers.contains_key(VIA) {
            return Ok(());
        }
        self.check_host(uri, headers)?;
        self.check_site(headers)
    }

    /// The `Origin` of a request, if the configuration allows it.
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

/// Whether Linux connects to loopback for an address that browsers do not treat as loopback: the unspecified
/// address, and IPv4 loopback mapped into IPv6. Any page can send a request there, without `Origin` or
/// `Sec-Fetch-Site`.
fn leads_here(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_unspecified() || ip.is_loopback())
}

/// The host of `host:port`; none if what follows the host is no port.
fn without_port(name: &str) -> Option<&str> {
    let end = match name.find(']') {
        Some(end) => end + 1,
        None => name.find(':').unwrap_or(name.len()),
    };
    let (host, port) = name.split_at_checked(end)?;
    // An empty port means the default one (RFC 3986, 3.2.3). `parse` would accept a sign.
    let is_port = |port: &str| {
        port.is_empty() || port.len() <= 5 && !port.starts_with('+') && port.parse::<u16>().is_ok()
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// The part of a foreign text that is shown.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    // Invisible characters, and those that change the direction of text, are not for a terminal.
    let is_harmless = |c: &char| *c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    text.chars().take(SHOWN).map(|c| if is_harmless(&c) { c } else { '?' }).collect()
}

/// Whether a request is a CORS preflight (the Fetch standard, "CORS-preflight request").
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight from an allowed site; [`open_to`] completes it. The controller answers it, not a
/// client: browsers send no token with a preflight.
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

/// Lets pages of `origin`, and of no other site, read a response.
pub fn open_to(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    // A client's word: with it the browser would send its cookies and stored logins along.
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> Sites {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Sites { hosts: words(&["bots.example.org"]), origins: words(&["https://console.example"]) }
    }

    #[test]
    fn own_hosts_are_accepted() {
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
            "192.168.1.5:4000",
            "192.168.1.6",
            "[::ffff:192.168.1.5]",
            "Bots.Example.Org.",
            "bots.example.org:443",
            "203.0.113.9",
            "[2001:db8:0::1]:4000",
            "localhost:",
            "localhost:65535",
        ] {
            assert!(sites().is_ours(ours), "{ours}");
        }
    }

    #[test]
    fn foreign_hosts_are_refused() {
        for foreign in [
            "",
            ":4000",
            "0.0.0.0:4000",
            "0.0.0.0",
            "0.0.0.0.",
            "[::]:4000",
            "[::]",
            "[0:0::0.0.0.0]",
            "[::ffff:0.0.0.0]:4000",
            "[::ffff:127.0.0.1]:1",
            "[::FFFF:7f08:901]",
            "evil.example",
            "x",
            "[fe80::1%eth0]",
            "1.2.3.4.5",
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
            assert!(!sites().is_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn address_leading_to_loopback_is_accepted_if_configured() {
        let sites = |host: &str| Sites { hosts: vec![host.into()], ..Sites::default() };
        assert!(sites("0.0.0.0").is_ours("0.0.0.0:4000") && !sites("0.0.0.0").is_ours("[::]:4000"));
        assert!(sites("::").is_ours("[::]:4000") && !sites("::").is_ours("0.0.0.0:4000"));
        // Addresses in the configuration are canonical, so it does not list the mapped one.
        assert!(!sites("127.0.0.1").is_ours("[::ffff:127.0.0.1]:4000"));
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn authority_in_target_overrides_host_header() {
        let check = |target: &str, hosts: &[&'static str]| {
            let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            sites().check_host(&target.parse().unwrap(), &headers(&hosts)).is_ok()
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
    fn direct_request_of_another_site_is_refused_unless_it_came_through_the_controller() {
        let check = |all: &[_]| Sites::default().check_direct(&"/".parse().unwrap(), &headers(all)).is_ok();
        let (host, rebound) = (("host", "127.0.0.1:5000"), ("host", "evil.example:5000"));
        let foreign = ("sec-fetch-site", "cross-site");
        assert!(check(&[]) && check(&[host]) && check(&[host, ("sec-fetch-site", "none")]));
        assert!(!check(&[rebound]) && !check(&[host, foreign]));
        assert!(!check(&[host, ("origin", "http://127.0.0.1:4000")]), "another port is another program");
        assert!(check(&[host, foreign, ("via", "1.1 wqcontroller-1")]));
    }

    #[test]
    fn sec_fetch_site_and_origin_decide_for_browsers() {
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
