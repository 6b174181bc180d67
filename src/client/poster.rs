//! Reports: what happens is posted to `post_api` as JSON, in order, by one task. A receiver that hangs delays
//! reports, and nothing else.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, redirect};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backend::Recipient;
use super::events::{Event, Message};
use super::log::MESSAGES;
use super::outbox::Outbox;
use super::queue::{self, PushError};
use crate::config::Endpoint;
use crate::model::chain::Chain;
use crate::outbound::http_client;

/// How many reports may wait.
const WAITING_REPORTS: usize = 256;

/// How many bytes the waiting reports may have together: some of the longest (a message of 1 MiB, escaped).
const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// How long one report may take, its answer included.
const REPORT_TIME: Duration = Duration::from_secs(30);

/// How long waiting reports may take when the client stops.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The longest answer to a report that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why reports cannot be posted at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum PosterError {
    /// No HTTP client can be made: for an https URL, most likely no CA certificates are installed.
    #[error("no HTTP client can be made for reports")]
    Client(#[source] reqwest::Error),
}

struct Report {
    /// What it is about, for the log.
    what: &'static str,
    json: String,
    /// Where the answer's `reply` goes.
    reply_to: Option<Recipient>,
}

/// Takes reports; never waits.
#[derive(Clone)]
pub(super) struct Reporter {
    /// None where nobody wants reports.
    reports: Option<queue::Sender<Report>>,
    events: bool,
}

impl Reporter {
    /// A reporter to whom nobody listens.
    pub(super) fn to_nobody() -> Self {
        Self { reports: None, events: false }
    }

    /// Reports an event that is no message.
    pub(super) fn event(&self, event: &Event) {
        if self.events {
            self.push(event.name(), None, || event.to_json());
        }
    }

    /// Reports a message.
    pub(super) fn message(&self, message: &Message) {
        self.push("message", message.reply_to(), || message.to_json());
    }

    fn push(&self, what: &'static str, reply_to: Option<Recipient>, json: impl FnOnce() -> Value) {
        let Some(reports) = &self.reports else { return };
        let json = json().to_string();
        let bytes = json.len();
        match reports.push(Report { what, json, reply_to }, bytes) {
            Ok(()) => {}
            Err(PushError::Full) => warn!(what, "A report was dropped: too many wait to be posted."),
            // The last moments of the client.
            Err(PushError::Closed) => debug!(what, "A report was dropped: the client ends."),
        }
    }
}

/// The task that posts reports.
pub(super) struct Poster {
    reports: queue::Receiver<Report>,
    client: Client,
    /// Shows itself without what may be secret in it.
    url: Endpoint,
}

/// A reporter, and the poster that posts to `url` what it is told. `events`: whether to report more than messages.
///
/// # Errors
/// No HTTP client can be made.
pub(super) fn open(url: &Endpoint, events: bool) -> Result<(Reporter, Poster), PosterError> {
    let client = http_client(url.as_str())
        .timeout(REPORT_TIME)
        .pool_max_idle_per_host(1)
        // What is reported is private: it goes where the operator said, and nowhere else.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(PosterError::Client)?;
    let (sender, receiver) = queue::bounded(WAITING_REPORTS, WAITING_BYTES);
    let poster = Poster { reports: receiver, client, url: url.clone() };
    Ok((Reporter { reports: Some(sender), events }, poster))
}

impl Poster {
    /// Posts reports until `stop`, then those that wait, as far as time allows. Replies go to `outbox`.
    pub(super) async fn run(mut self, stop: CancellationToken, outbox: Outbox) {
        let cut = async {
            stop.cancelled().await;
            sleep(FLUSH_TIME).await;
        };
        tokio::select! {
            () = self.post_all(&stop, &outbox) => {}
            // The one that was under way counts, too.
            () = cut => warn!(lost = self.reports.len() + 1, "The last reports were not posted in time."),
        }
    }

    async fn post_all(&mut self, stop: &CancellationToken, outbox: &Outbox) {
        let mut open = true;
        loop {
            let report = tokio::select! {
                () = stop.cancelled(), if open => {
                    self.reports.close();
                    open = false;
                    continue;
                }
                report = self.reports.next() => report,
            };
            let Some(report) = report else { return };
            self.post(&report, outbox).await;
        }
    }

    async fn post(&self, report: &Report, outbox: &Outbox) {
        let what = report.what;
        let request = self.client.post(self.url.as_str()).header(CONTENT_TYPE, "application/json");
        let mut response = match request.body(report.json.clone()).send().await {
            Ok(response) => response,
            Err(error) => {
                // Its own words would contain the URL.
                let error = error.without_url();
                warn!(what, to = %self.url, error = %Chain(&error), "A report could not be posted.");
                return;
            }
        };
        if !response.status().is_success() {
            let status = response.status().as_u16();
            warn!(what, to = %self.url, status, "A report was not accepted.");
            return;
        }
        debug!(what, "A report was posted.");
        let Some(recipient) = &report.reply_to else { return };
        let Some(answer) = read(&mut response).await else {
            warn!(to = %self.url, "The answer to a message's report broke off or is too long.");
            return;
        };
        let Some(reply) = reply_in(&answer) else { return };
        match outbox.submit(recipient.clone(), reply) {
            Ok(_) => info!(target: MESSAGES, "A reply to a message was queued."),
            Err(error) => warn!(%error, "A reply to a message was dropped."),
        }
    }
}

/// The body, unless it breaks off or has more than [`MAX_ANSWER`] bytes.
async fn read(response: &mut Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// The text of `reply` in an answer. Anything else a receiver answers is its own business.
fn reply_in(answer: &[u8]) -> Option<String> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(answer) else { return None };
    match answer.remove("reply") {
        Some(Value::String(reply)) if !reply.is_empty() => Some(reply),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_is_a_reply() {
        assert_eq!(reply_in(r#"{"reply":"好的","code":0}"#.as_bytes()), Some("好的".into()));
        for other in ["", "ok", "[]", "{}", r#"{"reply":1}"#, r#"{"reply":""}"#, r#"["reply"]"#] {
            assert_eq!(reply_in(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_receiver_that_is_away_delays_nothing() {
        let url = Endpoint::new("http://127.0.0.1:9/").unwrap();
        let (reporter, _poster) = open(&url, true).unwrap();
        for _ in 0..=WAITING_REPORTS {
            reporter.event(&Event::Stop);
        }
        assert_eq!(_poster.reports.len(), WAITING_REPORTS);
    }
}
