//! [`Deliverer`]: the task that posts reports, one after another, again and again until they are taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, Response, redirect};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::{Answer, Source};
use super::recent::Recent;
use super::reporter::{Outgoing, Reporter};
use super::settings::ReportSettings;
use super::spool::{Head, Lost, Spool};
use crate::client::backoff::{Backoff, Dice, Failure};
use crate::config::Endpoint;
use crate::model::chain::Chain;
use crate::outbound::http_client;
use crate::service::lines::Lines;

/// Says which report this is: the same each time it is posted.
const DELIVERY_ID: &str = "x-delivery-id";

/// Says how often it was posted, this time included.
const DELIVERY_ATTEMPT: &str = "x-delivery-attempt";

/// How long one report may take, its answer included.
const REPORT_TIME: Duration = Duration::from_secs(30);

/// How long waiting reports may take when the client stops.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// How long a connection is kept for the next report. Shorter than most servers keep one.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// How long reports that wait may be where a loss of power takes them.
const SYNC_TIME: Duration = Duration::from_secs(1);

/// The longest answer to a report that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why reports cannot be posted at all.
#[derive(Debug, thiserror::Error)]
pub(in crate::client) enum DelivererError {
    /// No HTTP client can be made: for an https URL, most likely no CA certificates are installed.
    #[error("no HTTP client can be made for reports")]
    Client(#[source] reqwest::Error),
}

/// The task that posts reports.
pub(in crate::client) struct Deliverer {
    outgoing: Arc<Outgoing>,
    client: Client,
    /// Shows itself without what may be secret in it.
    url: Endpoint,
    keep: Duration,
    backoff: Backoff,
    dice: Dice,
    /// What does not work; said once per change, not once per attempt.
    trouble: Option<String>,
    lost: Lost,
}

/// A reporter, and, where there is somebody to post to, the deliverer that posts what it is told. `printed`: where each
/// report is printed, if anywhere.
///
/// # Errors
/// No HTTP client can be made.
pub(in crate::client) fn open(
    settings: &ReportSettings,
    printed: Option<Lines>,
    recent: Recent,
) -> Result<(Reporter, Option<Deliverer>), DelivererError> {
    let Some(url) = &settings.post_api else {
        return Ok((Reporter::new(settings, None, printed, recent), None));
    };
    let client = http_client(url.as_str())
        .timeout(REPORT_TIME)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_TIME)
        // What is reported is private: it goes where the operator said, and nowhere else.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(DelivererError::Client)?;
    let outgoing = Outgoing::new(Spool::open(&settings.folder, settings.queue));
    let deliverer = Deliverer {
        outgoing: outgoing.clone(),
        client,
        url: url.clone(),
        keep: settings.keep,
        backoff: Backoff::new(settings.pauses.0, settings.pauses.1),
        dice: Dice::default(),
        trouble: None,
        lost: Lost::default(),
    };
    Ok((Reporter::new(settings, Some(outgoing), printed, recent), Some(deliverer)))
}

/// What became of an attempt.
enum Outcome {
    /// An answer came that is one; where the message's sender can be answered, the answer of a success.
    Taken(Option<Response>),
    /// It is to be tried again.
    Failed(Failure, String),
}

impl Deliverer {
    /// Posts reports until `stop`, then those that wait, as far as they are taken and time allows; the rest stays on
    /// disk. `act` does what the answer to a message's report asks for, once.
    pub(in crate::client) async fn run(
        mut self,
        stop: CancellationToken,
        mut act: impl FnMut(Source, Answer) + Send,
    ) {
        let cut = async {
            stop.cancelled().await;
            sleep(FLUSH_TIME).await;
        };
        tokio::select! {
            () = self.deliver(&stop, &mut act) => {}
            () = cut => {}
        }
        self.say_lost(true);
        let mut spool = self.outgoing.spool();
        // Before it is counted, for it is the last chance to be written.
        spool.close();
        let (waiting, in_memory) = (spool.len(), spool.in_memory());
        if in_memory > 0 {
            warn!(to = %self.url, lost = in_memory, "Reports that could not be kept on disk were not posted and are lost.");
        }
        if waiting > in_memory {
            info!(to = %self.url, waiting = waiting - in_memory, "The last reports were not posted in time; the next client goes on with them.");
        }
    }

    async fn deliver(&mut self, stop: &CancellationToken, act: &mut (impl FnMut(Source, Answer) + Send)) {
        loop {
            self.say_lost(false);
            let head = self.outgoing.spool().attempt();
            let Some(head) = head.transpose() else {
                if stop.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.outgoing.came.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            };
            let (failure, error) = match head {
                Ok(head) => match self.post(&head).await {
                    Outcome::Taken(answer) => {
                        // Before anything is done about it, so that it is not done twice.
                        self.outgoing.spool().delivered(head.seq);
                        self.works();
                        self.answered(answer, head.source, act).await;
                        continue;
                    }
                    Outcome::Failed(failure, error) => (failure, error),
                },
                Err(error) => (Failure::Unavailable, format!("it cannot be read now: {error}")),
            };
            self.fails(error);
            let pause = self.backoff.failed(failure, self.dice.throw());
            self.outgoing.spool().give_up(self.keep);
            let was_stopping = stop.is_cancelled();
            self.pause(pause, stop).await;
            // One last attempt, for the end of the client tells nothing about the receiver.
            if was_stopping {
                return;
            }
        }
    }

    async fn post(&self, head: &Head) -> Outcome {
        let request = self.client.post(self.url.as_str()).header(CONTENT_TYPE, "application/json");
        let request = request.header(DELIVERY_ID, &head.id).header(DELIVERY_ATTEMPT, head.attempt);
        match request.body(head.text.clone()).send().await {
            Ok(response) => {
                let status = response.status();
                if let Some(failure) = unavailable(status, response.headers()) {
                    return Outcome::Failed(failure, format!("it answered with status {}", status.as_u16()));
                }
                if !status.is_success() {
                    warn!(to = %self.url, id = head.id, status = status.as_u16(), "A report was not accepted.");
                    return Outcome::Taken(None);
                }
                debug!(id = head.id, attempt = head.attempt, "A report was posted.");
                Outcome::Taken(Some(response))
            }
            Err(error) => {
                let patient = error.is_connect() || error.is_timeout();
                let failure = if patient { Failure::Unavailable } else { Failure::BrokeOff };
                // Its own words would contain the URL.
                Outcome::Failed(failure, Chain(&error.without_url()).to_string())
            }
        }
    }

    async fn answered(
        &self,
        response: Option<Response>,
        source: Option<Source>,
        act: &mut (impl FnMut(Source, Answer) + Send),
    ) {
        let Some(mut response) = response else { return };
        // Read in any case, so that the connection can be used again.
        let Some(body) = read(&mut response).await else {
            if source.is_some() {
                warn!(to = %self.url, "The answer to a message's report broke off or is too long.");
            }
            return;
        };
        match (Answer::read(&body), source) {
            (Some(answer), Some(source)) => act(source, answer),
            // An event has no sender, and the ids of an earlier login are worth nothing in this one.
            (Some(_), None) => {
                info!(to = %self.url, "A receiver's answer asks for a reply or a mute, which an event or a report of an earlier run cannot have.");
            }
            (None, _) => {}
        }
    }

    /// Waits for the next attempt. What came lately is written through to the disk meanwhile, and what the disk did not
    /// take is tried again.
    async fn pause(&self, pause: Duration, stop: &CancellationToken) {
        let until = Instant::now() + pause;
        let sync = async {
            loop {
                let came = self.outgoing.came.notified();
                if self.outgoing.spool().is_to_write() {
                    sleep(SYNC_TIME).await;
                    self.outgoing.spool().write_out();
                    self.sync().await;
                } else {
                    came.await;
                }
            }
        };
        tokio::select! {
            () = sleep_until(until) => {}
            () = stop.cancelled() => {}
            () = sync => {}
        }
    }

    async fn sync(&self) {
        let Some(unsynced) = self.outgoing.spool().unsynced() else { return };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || unsynced.sync()).await {
            warn!(%error, "Reports that wait could not be written through to the disk.");
        }
    }

    fn works(&mut self) {
        self.backoff.succeeded();
        if self.trouble.take().is_some() {
            let waiting = self.outgoing.spool().len();
            info!(to = %self.url, waiting, "Reports can be posted again.");
        }
    }

    fn fails(&mut self, error: String) {
        if self.trouble.as_ref() == Some(&error) {
            return debug!(error, "A report could not be posted.");
        }
        let keep = self.keep.as_secs();
        warn!(to = %self.url, error, keep, "A report could not be posted. It is tried again, for `keep` seconds.");
        self.trouble = Some(error);
    }

    /// Says how many reports were given up: when that begins, when it ends, and at the end of all.
    fn say_lost(&mut self, is_end: bool) {
        let new = self.outgoing.spool().take_lost();
        let begins = self.lost == Lost::default() && new != Lost::default();
        self.lost.full += new.full;
        self.lost.aged += new.aged;
        self.lost.unreadable += new.unreadable;
        let Lost { full, aged, unreadable } = self.lost;
        if begins {
            warn!(to = %self.url, full, aged, unreadable, "Reports are being dropped: too many wait, or for too long.");
        }
        if self.lost != Lost::default() && (is_end || self.trouble.is_none()) {
            warn!(to = %self.url, full, aged, unreadable, "Reports were dropped.");
            self.lost = Lost::default();
        }
    }
}

/// Whether an answer is none: the receiver, or what stands before it, cannot take the report now.
fn unavailable(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return None;
    }
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Some(
        asked
            .and_then(|text| retry_after(text, SystemTime::now()))
            .map_or(Failure::Unavailable, Failure::Asked),
    )
}

/// The time that a `Retry-After` header asks for, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The body, unless it breaks off or has more than [`MAX_ANSWER`] bytes.
async fn read(response: &mut Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let whole = async {
        while let Some(chunk) = response.chunk().await.ok()? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(())
    };
    timeout(REPORT_TIME, whole).await.ok().flatten()?;
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_answers_are_none() {
        let with = |status: u16, after: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(after.map(|after| (RETRY_AFTER, after.parse().unwrap())));
            unavailable(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 204, 302, 400, 404, 408, 500, 501, 505] {
            assert_eq!(with(status, Some("1")), None, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(with(status, None), Some(Failure::Unavailable), "{status}");
            assert_eq!(with(status, Some("7")), Some(Failure::Asked(Duration::from_secs(7))));
        }
        assert_eq!(with(503, Some("soon")), Some(Failure::Unavailable));
    }

    #[test]
    fn patience_as_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let then = httpdate::parse_http_date(date).unwrap();
        assert_eq!(retry_after(date, then - Duration::from_secs(5)), Some(Duration::from_secs(5)));
        assert_eq!(retry_after(date, then + Duration::from_secs(5)), Some(Duration::ZERO));
        assert_eq!(retry_after("-1", then), None);
    }
}
