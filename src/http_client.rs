//! Outgoing HTTP: the client that everything here uses ([`client_builder`]), and the calls of `poll_api` ([`Poller`]).
//!
//! The controller calls `poll_api` regularly ([`heartbeat`]). With a redirect to the controller's own API, its server reaches
//! a controller that it can't connect to.

mod receiver;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use crate::config::{Endpoint, Settings};
use crate::model::error_chain::ErrorChain;
use crate::peers::{OwnersUnavailable, PeerPolicy};
use receiver::Receiver;
pub use receiver::{ReceiverGuard, loopback_addresses};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server may hold a call open until it has something to say; one that is silent for longer is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of a response is read, so that the connection can be reused; the rest is discarded.
const MAX_ANSWER: usize = 64 * 1024;

/// Calls `poll_api` regularly while one is configured.
pub async fn heartbeat(mut settings: watch::Receiver<Arc<Settings>>) {
    loop {
        let endpoint = settings.borrow_and_update().poll_api.clone();
        // A receiver of its own, as each remembers which change it has seen: `beat` must not hide one from `changed`.
        let current = settings.clone();
        let changed = async {
            // Most reloads leave poll_api as it is, and must not cut off a call in progress.
            while settings.changed().await.is_ok() {
                if settings.borrow_and_update().poll_api != endpoint {
                    return true;
                }
            }
            false
        };
        let again = match &endpoint {
            // A new endpoint drops a call in progress: the old one may hold it open for minutes.
            Some(endpoint) => tokio::select! {
                again = changed => again,
                () = beat(endpoint, current) => true,
            },
            None => changed.await,
        };
        if !again {
            return;
        }
        if endpoint.is_some() && settings.borrow().poll_api.is_none() {
            info!("poll_api is no longer called");
        }
    }
}

async fn beat(endpoint: &Endpoint, mut settings: watch::Receiver<Arc<Settings>>) {
    let policy = || PeerPolicy::of_controller().map(Some);
    let mut poller = Poller::new(endpoint, policy);
    loop {
        poller.call().await;
        pause(&mut settings).await;
    }
}

/// Calls a `poll_api` and follows its redirects. Logs when that begins to fail, and when it works again.
#[derive(Debug)]
pub struct Poller {
    /// None until TLS is set up: the system's certificates may be missing, and come later.
    client: Option<reqwest::Client>,
    endpoint: Endpoint,
    receiver: Receiver,
    /// The last error. It is logged when it changes, not at each call.
    trouble: Option<String>,
}

impl Poller {
    /// A poller of `endpoint`. `policy` decides whose programs on this machine may be called.
    pub fn new(
        endpoint: &Endpoint,
        policy: impl FnOnce() -> Result<Option<PeerPolicy>, OwnersUnavailable>,
    ) -> Self {
        let receiver = Receiver::of(endpoint, policy);
        info!(poll_api = %endpoint, "calling poll_api at {endpoint}");
        Self { client: None, endpoint: endpoint.clone(), receiver, trouble: None }
    }

    /// Calls once, unless another account's client listens there.
    pub async fn call(&mut self) {
        if let Err(refused) = self.receiver.check().await {
            return self.note(Some(ErrorChain(&refused).to_string()));
        }
        let called = self.call_checked().await;
        self.note(called.err());
    }

    /// Calls once. The error is for the log.
    async fn call_checked(&mut self) -> Result<(), String> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(client_for(self.endpoint.as_str(), &self.receiver)?),
        };
        let mut called = call(client, &self.endpoint).await;
        if called.as_ref().is_err_and(leads_to_https) {
            // From now on with certificates.
            *client = client_for("https:", &self.receiver)?;
            called = call(client, &self.endpoint).await;
        }
        // The URL may carry a password or a token; `Endpoint` shows neither.
        called.map_err(|error| ErrorChain(&error.without_url()).to_string())
    }

    /// Logs the result of a call, if it differs from the one before.
    fn note(&mut self, now: Option<String>) {
        match (&self.trouble, &now) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                warn!(poll_api = %self.endpoint, %error, "poll_api failed: {error}; retrying at the next interval");
            }
            (Some(_), None) => info!(poll_api = %self.endpoint, "poll_api works again"),
            _ => {}
        }
        self.trouble = now;
    }
}

/// Waits until the next call is due. A change of the interval counts at once.
async fn pause(settings: &mut watch::Receiver<Arc<Settings>>) {
    let answered = Instant::now();
    loop {
        let due = answered + settings.borrow_and_update().poll_interval;
        tokio::select! {
            () = sleep_until(due) => return,
            // When the sender is gone this branch is disabled, and the timer alone ends the wait.
            Ok(()) = settings.changed() => {}
        }
    }
}

/// Calls once. An HTTP status of an error is an error, after the response is read.
async fn call(client: &reqwest::Client, endpoint: &Endpoint) -> reqwest::Result<()> {
    let mut answer = client.get(endpoint.as_str()).send().await?;
    debug!(status = answer.status().as_u16(), "poll_api answered");
    let mut read = 0;
    while let Some(chunk) = answer.chunk().await? {
        read += chunk.len();
        // What is dropped unread takes its connection with it, which is better than reading without end.
        if read > MAX_ANSWER {
            break;
        }
    }
    answer.error_for_status_ref().map(|_| ())
}

fn client_for(url: &str, receiver: &Receiver) -> Result<reqwest::Client, String> {
    let built = receiver.resolves_for(client_builder(url)).read_timeout(READ_TIMEOUT).build();
    built.map_err(|error| format!("cannot set up TLS ({})", ErrorChain(&error)))
}

/// A redirect leads to https, but no certificates are loaded.
#[derive(Debug, thiserror::Error)]
#[error("a redirect leads to https")]
struct NeedsCertificates;

fn leads_to_https(error: &reqwest::Error) -> bool {
    // reqwest wraps the error of a redirect policy, so it is one of the sources.
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NeedsCertificates>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The most redirects that are followed, as in reqwest.
const MAX_REDIRECTS: usize = 10;

/// Makes TLS connections for other protocols than HTTP. Loads the system's certificates.
///
/// # Errors
/// There are no trusted certificates.
pub fn tls_connector() -> Result<TlsConnector, rustls::Error> {
    tls_config().map(TlsConnector::from)
}

/// What [`tls_connector`] goes by. It has all certificates that the system trusts, read from disk: for more than one connection it
/// is kept.
///
/// # Errors
/// The system's certificates can't be loaded.
pub fn tls_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    install_cryptography();
    Ok(Arc::new(ClientConfig::with_platform_verifier()?))
}

fn install_cryptography() {
    // A second call fails, and the first provider stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Builds an HTTP client for `url`. For plain HTTP the system's certificates are not loaded: they take a megabyte, and may be
/// missing. Redirects to https then fail.
pub fn client_builder(url: &str) -> reqwest::ClientBuilder {
    install_cryptography();
    let builder = reqwest::Client::builder()
        // The query may hold a secret, which the target of a redirect must not see.
        .referer(false)
        .user_agent(concat!("wqcontroller/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT);
    // In upper case as well: a URL is kept as the operator wrote it.
    if !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
        return builder;
    }
    builder.tls_certs_only([]).redirect(Policy::custom(|attempt| match attempt.url().scheme() {
        "https" => attempt.error(NeedsCertificates),
        _ => Policy::limited(MAX_REDIRECTS).redirect(attempt),
    }))
}
