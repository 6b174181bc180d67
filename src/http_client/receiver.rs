//! [`Receiver`]: whose program a call of `poll_api` may reach on this machine.
//!
//! While the receiver is down, any user may listen at its loopback port. If an account's client did, its redirect would turn
//! the next call into a command to the caller's own API, from a user that is let in.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::warn;

use super::CONNECT_TIMEOUT;
use crate::config::Endpoint;
use crate::locks::locked;
use crate::peers::{ListenerRefusal, OwnersUnavailable, PeerPolicy};

/// Why a receiver is not called.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiverError {
    #[error("cannot look up the host {host}")]
    LookUp { host: String, source: io::Error },
    #[error(transparent)]
    Refused(#[from] ListenerRefusal),
}

/// The receiver of the calls to a `poll_api`.
///
/// The check comes before the connection, so a program that takes the port in between is called once. Connections that
/// are kept for the next call belong to the program that was checked.
#[derive(Debug)]
pub(super) struct Receiver(Option<CheckedReceiver>);

/// A receiver that is checked before each call, as it may be on this machine.
#[derive(Debug)]
struct CheckedReceiver {
    destination: Destination,
    policy: PeerPolicy,
    addresses: Arc<CheckedAddresses>,
}

impl Receiver {
    /// The receiver at `endpoint`. `policy` decides whose programs on this machine may be called.
    pub(super) fn of(
        endpoint: &Endpoint,
        policy: impl FnOnce() -> Result<Option<PeerPolicy>, OwnersUnavailable>,
    ) -> Self {
        Self(destination(endpoint.as_str()).and_then(|(host, destination)| {
            let policy = policy().inspect_err(|error| {
                warn!(%error, "cannot tell who listens at the port of poll_api ({error}); calling it anyway");
            });
            Some(CheckedReceiver {
                destination,
                policy: policy.ok().flatten()?,
                addresses: Arc::new(CheckedAddresses::new(host, LookUp(look_up))),
            })
        }))
    }

    /// Has a client connect to the addresses that were checked. If it looked the name up itself, it could get other ones.
    pub(super) fn resolves_for(&self, client: ClientBuilder) -> ClientBuilder {
        match &self.0 {
            Some(receiver) => client.dns_resolver(receiver.addresses.clone()),
            None => client,
        }
    }

    /// Checks that no client of another account listens there.
    ///
    /// # Errors
    /// One does, or the name cannot be looked up.
    pub(super) async fn check(&self) -> Result<(), ReceiverError> {
        let Some(CheckedReceiver { destination, policy, addresses }) = &self.0 else { return Ok(()) };
        let found = match destination {
            Destination::Loopback(found) => found.clone(),
            // Looked up for each call: any name may lead to this machine, and to another one tomorrow.
            Destination::Name(port) => {
                let host = &addresses.host;
                // The connect timeout of reqwest does not cover this look-up, and a resolver may hang much longer.
                let found = timeout(CONNECT_TIMEOUT, (addresses.look_up.0)(host.clone(), *port)).await;
                let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                found.map_err(|source| ReceiverError::LookUp { host: host.clone(), source })?
            }
        };
        for address in found.iter().filter(|address| address.ip().to_canonical().is_loopback()) {
            policy.check_receiver(*address).await?;
        }
        // Only after all checks: from here on the client connects to any of these.
        *locked(&addresses.checked) = found;
        Ok(())
    }
}

/// Decides before each report whose program may get it. Only for a receiver at a loopback address: a name would have to be looked
/// up for each report.
#[derive(Debug, Default)]
pub struct ReceiverGuard {
    policy: Option<PeerPolicy>,
    addresses: Vec<SocketAddr>,
}

impl ReceiverGuard {
    /// The guard of the receiver at `endpoint`. `policy` decides whose programs on this machine may be called.
    pub fn of(
        endpoint: &Endpoint,
        policy: impl FnOnce() -> Result<Option<PeerPolicy>, OwnersUnavailable>,
    ) -> Self {
        let addresses = loopback_addresses(endpoint.as_str());
        if addresses.is_empty() {
            return Self::default();
        }
        let policy = policy().inspect_err(|error| {
            warn!(%error, "cannot tell who listens at {endpoint} ({error}); posting to it anyway");
        });
        Self { policy: policy.ok().flatten(), addresses }
    }

    /// Checks that no process of an account listens there.
    ///
    /// # Errors
    /// One does.
    pub async fn check(&self) -> Result<(), ListenerRefusal> {
        let Some(policy) = &self.policy else { return Ok(()) };
        for address in &self.addresses {
            policy.check_receiver(*address).await?;
        }
        Ok(())
    }
}

/// The loopback addresses of a URL that needs no look-up: an address, or `localhost`. Empty for any other host.
pub fn loopback_addresses(url: &str) -> Vec<SocketAddr> {
    match destination(url) {
        Some((_, Destination::Loopback(addresses))) => addresses,
        Some((_, Destination::Name(_))) | None => Vec::new(),
    }
}

/// How a host name and a port become addresses.
#[derive(Clone, Copy)]
struct LookUp(fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>);

impl fmt::Debug for LookUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LookUp")
    }
}

fn look_up(host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    async move { Ok(lookup_host((host, port)).await?.collect()) }.boxed()
}

/// Leads to the addresses of the last check. Other names, to which a redirect leads, are looked up.
#[derive(Debug)]
struct CheckedAddresses {
    host: String,
    checked: Mutex<Vec<SocketAddr>>,
    look_up: LookUp,
}

impl CheckedAddresses {
    fn new(host: String, look_up: LookUp) -> Self {
        Self { host, checked: Mutex::default(), look_up }
    }
}

impl Resolve for CheckedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let found = match without_dot(name.as_str()) == self.host {
            true => std::future::ready(Ok(locked(&self.checked).clone())).boxed(),
            false => (self.look_up.0)(name.as_str().to_owned(), 0),
        };
        async move {
            let mut found = found.await?;
            // The port is that of the URL, which a redirect may change.
            found.iter_mut().for_each(|address| address.set_port(0));
            Ok(Box::new(found.into_iter()) as Addrs)
        }
        .boxed()
    }
}

/// Where the URL of a receiver leads that is on this machine, or may be.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    /// To these addresses of this machine.
    Loopback(Vec<SocketAddr>),
    /// To this port, wherever the name leads.
    Name(u16),
}

/// Where a URL leads, with its host. None for another machine, and for an address of this one that is not on loopback.
fn destination(url: &str) -> Option<(String, Destination)> {
    let url = Url::parse(url).ok()?;
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    let host = without_dot(host);
    let ips = match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_loopback() => vec![ip],
        // Linux connects to loopback for the unspecified address.
        Ok(ip) if ip.is_unspecified() => both.to_vec(),
        Ok(_) => return None,
        // RFC 6761, 6.3.
        Err(_) if host == "localhost" || host.ends_with(".localhost") => both.to_vec(),
        Err(_) => return Some((host.to_owned(), Destination::Name(port))),
    };
    let addresses = ips.into_iter().map(|ip| (ip, port).into()).collect();
    Some((host.to_owned(), Destination::Loopback(addresses)))
}

fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn loopback_urls_are_recognized() {
        for (url, addresses) in [
            ("http://127.0.0.1:81/poll", &["127.0.0.1:81"][..]),
            ("http://127.8.9.1/", &["127.8.9.1:80"]),
            ("https://[::1]/", &["[::1]:443"]),
            ("http://[::ffff:127.0.0.1]:81/", &["127.0.0.1:81"]),
            ("http://LOCALHOST:81/", &["127.0.0.1:81", "[::1]:81"]),
            ("http://a.localhost.:81/", &["127.0.0.1:81", "[::1]:81"]),
            ("http://0.0.0.0:81/", &["127.0.0.1:81", "[::1]:81"]),
            ("http://[::]:81/", &["127.0.0.1:81", "[::1]:81"]),
        ] {
            let expected = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let found = destination(url).map(|(_, destination)| destination);
            assert_eq!(found, Some(Destination::Loopback(expected)), "{url}");
        }
        assert_eq!(destination("http://192.0.2.1:81/"), None);
        for (url, name, port) in [
            ("https://example.org/", "example.org", 443),
            ("http://localhost.example.org./", "localhost.example.org", 80),
        ] {
            assert_eq!(destination(url), Some((name.into(), Destination::Name(port))), "{url}");
        }
    }

    /// Leads somewhere else each time: to 127.0.0.1, then to 127.0.0.2.
    fn changing(_: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        static LAST: AtomicU8 = AtomicU8::new(0);
        let last = LAST.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(Ok(vec![(Ipv4Addr::new(127, 0, 0, last), port).into()])).boxed()
    }

    fn receiver(url: &str, look_up: LookUp) -> Receiver {
        let (host, destination) = destination(url).unwrap();
        let policy = PeerPolicy::of_controller().unwrap();
        Receiver(Some(CheckedReceiver {
            destination,
            policy,
            addresses: Arc::new(CheckedAddresses::new(host, look_up)),
        }))
    }

    #[tokio::test]
    async fn address_that_was_checked_is_the_one_that_is_called() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let url = format!("http://changes.example:{port}/");
        let receiver = receiver(&url, LookUp(changing));
        let client =
            receiver.resolves_for(crate::http_client::client_builder(&url)).no_proxy().build().unwrap();
        receiver.check().await.unwrap();
        let answer = async {
            let (mut caller, _) = first.accept().await.unwrap();
            assert!(caller.read(&mut [0; 1024]).await.unwrap() > 0);
            caller.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (called, ()) = tokio::join!(client.get(&url).send(), answer);
        assert_eq!(called.unwrap().status().as_u16(), 204);
        // The next call goes where the name leads then, and no program listens there.
        receiver.check().await.unwrap();
        let addresses = receiver.0.unwrap().addresses;
        let found: Vec<_> =
            addresses.resolve("CHANGES.example.".to_lowercase().parse().unwrap()).await.unwrap().collect();
        assert_eq!(found, ["127.0.0.2:0".parse().unwrap()]);
        // To another host, which a redirect names.
        let found: Vec<_> = addresses.resolve("other.example".parse().unwrap()).await.unwrap().collect();
        assert_eq!(found, ["127.0.0.3:0".parse().unwrap()]);
    }

    #[tokio::test]
    async fn name_that_cannot_be_looked_up_is_said() {
        let fails = |_, _| std::future::ready(Err(io::Error::other("no such name"))).boxed();
        let error = receiver("http://gone.example/", LookUp(fails)).check().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot look up the host gone.example");
    }
}
