//! Calls to the outside: the [`Poller`] of a `poll_api`, and the controller's heartbeat with it, by which a server elsewhere
//! reaches a controller that it cannot connect to (it answers with a redirect to the controller's own API).

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
use crate::model::chain::Chain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server may hold a call open until it wants something; but one that is silent for so long is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// As much of an answer is read, so that the connection can be used again; the rest is not.
const MAX_ANSWER: usize = 64 * 1024;

/// Calls `poll_api` again and again, as long as one is configured, whatever it answers.
pub async fn heartbeat(mut settings: watch::Receiver<Arc<Settings>>) {
    loop {
        let endpoint = settings.borrow_and_update().poll_api.clone();
        let current = settings.clone();
        let changed = async {
            while settings.changed().await.is_ok() {
                if settings.borrow_and_update().poll_api != endpoint {
                    return true;
                }
            }
            false
        };
        let again = match &endpoint {
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
            info!("poll_api is not called any more");
        }
    }
}

async fn beat(endpoint: &Endpoint, mut settings: watch::Receiver<Arc<Settings>>) {
    let Some(mut poller) = Poller::new(endpoint) else { return std::future::pending().await };
    loop {
        poller.call().await;
        pause(&mut settings).await;
    }
}

/// Calls a `poll_api`, follows where its answers lead, and says when that begins to fail and when it works again.
#[derive(Debug)]
pub struct Poller {
    client: reqwest::Client,
    endpoint: Endpoint,
    /// Said once per change, not once per call.
    trouble: Option<String>,
}

impl Poller {
    /// A poller of `endpoint`. None, which is logged: TLS cannot be set up.
    pub fn new(endpoint: &Endpoint) -> Option<Self> {
        let client = client_for(endpoint.as_str())?;
        info!(poll_api = %endpoint, "calling poll_api regularly");
        Some(Self { client, endpoint: endpoint.clone(), trouble: None })
    }

    /// Calls once.
    pub async fn call(&mut self) {
        let mut called = call(&self.client, &self.endpoint).await;
        if called.as_ref().is_err_and(leads_to_https)
            && let Some(client) = client_for("https:")
        {
            // From now on the certificates are there.
            self.client = client;
            called = call(&self.client, &self.endpoint).await;
        }
        let now = called.err().map(|error| Chain(&error.without_url()).to_string());
        match (&self.trouble, &now) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                warn!(poll_api = %self.endpoint, %error, "poll_api does not work, it is tried on");
            }
            (Some(_), None) => info!(poll_api = %self.endpoint, "poll_api works again"),
            _ => {}
        }
        self.trouble = now;
    }
}

/// Waits until the next call is due, also where the interval is changed in the meantime.
async fn pause(settings: &mut watch::Receiver<Arc<Settings>>) {
    let answered = Instant::now();
    loop {
        let due = answered + settings.borrow_and_update().poll_interval;
        tokio::select! {
            () = sleep_until(due) => return,
            Ok(()) = settings.changed() => {}
        }
    }
}

/// One call. An HTTP status that says no is an error, but not before the whole answer was read.
async fn call(client: &reqwest::Client, endpoint: &Endpoint) -> reqwest::Result<()> {
    let mut answer = client.get(endpoint.as_str()).send().await?;
    debug!(status = answer.status().as_u16(), "poll_api answered");
    let mut read = 0;
    while let Some(chunk) = answer.chunk().await? {
        read += chunk.len();
        if read > MAX_ANSWER {
            break;
        }
    }
    answer.error_for_status_ref().map(|_| ())
}

fn client_for(url: &str) -> Option<reqwest::Client> {
    let built = http_client(url).read_timeout(READ_TIMEOUT).build();
    built
        .inspect_err(|error| warn!(error = %Chain(error), "poll_api can't be called: TLS can't be set up"))
        .ok()
}

/// A redirect led to a URL for which the certificates are needed that were left out.
#[derive(Debug, thiserror::Error)]
#[error("a redirect leads to https")]
struct NeedsCertificates;

fn leads_to_https(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NeedsCertificates>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The most redirects that are followed, as many as reqwest follows by itself.
const MAX_REDIRECTS: usize = 10;

/// What TLS connections are made with that are not of HTTP. The system's certificates are loaded here: not before one is
/// needed.
///
/// # Errors
/// There are no certificates that could be trusted.
pub fn tls_connector() -> Result<TlsConnector, rustls::Error> {
    install_cryptography();
    Ok(TlsConnector::from(Arc::new(ClientConfig::with_platform_verifier()?)))
}

fn install_cryptography() {
    // A second installation is refused, which is fine: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What is the same in every HTTP client made here. For a plain HTTP URL the system's certificates are left out: they
/// are a megabyte that it need not load, nor depend on. It then follows no redirect to https.
pub fn http_client(url: &str) -> reqwest::ClientBuilder {
    install_cryptography();
    let builder = reqwest::Client::builder()
        // Where a redirect leads to, nobody needs to know the query that it came from: it may hold a secret.
        .referer(false)
        .user_agent(concat!("wqcontroller/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT);
    if !url.starts_with("http:") {
        return builder;
    }
    builder.tls_certs_only([]).redirect(Policy::custom(|attempt| match attempt.url().scheme() {
        "https" => attempt.error(NeedsCertificates),
        _ => Policy::limited(MAX_REDIRECTS).redirect(attempt),
    }))
}
