//! `[http]`: the controller's server, and its calls to clients.

use std::time::Duration;

use super::addresses::{host, origin, public_url};
use super::options::Options;
use super::rules::{list_of, optional, seconds, seconds_or_zero, whole};

/// `[http]`: the controller's server and its calls to clients.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// How long a connection to a client may take.
    pub connect_timeout: Duration,
    /// How long a client may take to begin its answer.
    pub header_timeout: Duration,
    /// How long a request or an answer may pause on its way through.
    pub inactivity_timeout: Duration,
    /// How long a caller may take to send its headers.
    pub request_header_timeout: Duration,
    /// How long requests may go on after the order to stop.
    pub drain_timeout: Duration,
    /// How many connections of callers there may be.
    pub max_connections: usize,
    /// How long a connection to a client may wait for its next request.
    pub idle_timeout: Duration,
    /// How many requests a client may have to answer at once.
    pub max_inflight_per_client: usize,
    /// The most bytes of request line and headers.
    pub max_request_header: usize,
    /// The largest form body, in bytes, that is searched for `client`.
    pub max_form_body: usize,
    /// How many threads carry requests.
    pub worker_threads: usize,
    /// What callers may call us in `Host`, besides `localhost` and our addresses: names and addresses, in lower case.
    pub hosts: Vec<String>,
    /// The URL by which browsers elsewhere reach us, such as that of a reverse proxy. Its host is one of `hosts`.
    pub public_url: Option<String>,
    /// Web sites whose pages may call us, as browsers name them in `Origin`.
    pub allowed_origins: Vec<String>,
}

impl HttpSettings {
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        const MIB: usize = 1024 * 1024;
        let secs = Duration::from_secs;
        Self {
            // On loopback only a full queue of the listener delays a connection, as the kernel drops its SYN.
            connect_timeout: options.get("http.connect_timeout", secs(2), seconds),
            // More than the 30 s for which `check_event` of the built-in client waits.
            header_timeout: options.get("http.header_timeout", secs(120), seconds),
            inactivity_timeout: options.get("http.inactivity_timeout", secs(120), seconds),
            request_header_timeout: options.get("http.request_header_timeout", secs(15), seconds),
            drain_timeout: options.get("http.drain_timeout", secs(5), seconds_or_zero),
            max_connections: options.get("http.max_connections", 1024, whole(1..=65_536)),
            idle_timeout: options.get("http.idle_timeout", secs(2), seconds_or_zero),
            max_inflight_per_client: options.get("http.max_inflight_per_client", 256, whole(1..=65_536)),
            // hyper's smallest buffer is 8 KiB.
            max_request_header: options.get("http.max_request_header", 16 * 1024, whole(8192..=MIB)),
            max_form_body: options.get("http.max_form_body", MIB, whole(1024..=16 * MIB)),
            worker_threads: options.get("http.worker_threads", 2, whole(1..=64)),
            hosts: options.get("http.hosts", vec![], list_of(host)),
            public_url: options.get("http.public_url", None, optional(public_url)),
            allowed_origins: options.get("http.allowed_origins", vec![], list_of(origin)),
        }
    }
}
