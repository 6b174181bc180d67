//! [`post`]: one attempt to post a report, from the request to the end of the answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, Response, redirect};
use tracing::{debug, warn};

use crate::client::backoff::AttemptFailure;
use crate::client::reports::reporter::ReportQueue;
use crate::client::reports::spool::PendingReport;
use crate::config::Endpoint;
use crate::http_client::client_builder;
use crate::model::error_chain::ErrorChain;

/// Identifies the report: the same for each attempt.
const DELIVERY_ID: &str = "x-delivery-id";

/// The number of the attempt.
const DELIVERY_ATTEMPT: &str = "x-delivery-attempt";

/// How long an idle connection is kept. Shorter than most servers keep one.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// The timeout of connecting, at most half of the time for the whole attempt.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// The longest answer to a report that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The outcome of an attempt.
#[derive(Debug)]
pub(crate) enum PostOutcome {
    /// The receiver answered, which completes the report.
    Taken(Acceptance),
    /// There was a connection, but no answer in time.
    TimedOut,
    /// The receiver cannot accept reports now.
    Failed(AttemptFailure, String),
}

/// The answer to a completed report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// A success, with this body.
    Answer(Vec<u8>),
    /// A success whose body broke off or is too long.
    BrokenAnswer,
    /// Any other status.
    Refusal,
}

/// An HTTP client for posts. `keeps`: it keeps its connection for the next report.
///
/// # Errors
/// It cannot be created: for an https URL, most likely because no CA certificates are installed.
pub(crate) fn client(url: &Endpoint, post_timeout: Duration, keeps: bool) -> reqwest::Result<Client> {
    client_builder(url.as_str())
        .timeout(post_timeout)
        // A timeout of its own distinguishes an absent host from a slow receiver.
        .connect_timeout(CONNECT_TIME.min(post_timeout / 2))
        .pool_max_idle_per_host(usize::from(keeps))
        .pool_idle_timeout(IDLE_TIME)
        // Reports are private: they go to the configured URL and nowhere else.
        .redirect(redirect::Policy::none())
        .build()
}

/// Posts a report. Once it is answered it is recorded as delivered, before the rest of the answer is read, so
/// that nothing the answer asks for is done twice.
pub(crate) async fn post(
    client: Client,
    (url, content_type): (&Endpoint, &'static str),
    head: &PendingReport,
    outgoing: &Arc<ReportQueue>,
) -> PostOutcome {
    let request = client.post(url.as_str()).header(CONTENT_TYPE, content_type);
    let request = request.header(DELIVERY_ID, &head.id).header(DELIVERY_ATTEMPT, head.attempt);
    let response = match request.body(head.text.clone()).send().await {
        Ok(response) => response,
        // Without a connection the receiver is away, whatever the report is; with one, this report may be the reason.
        Err(error) if error.is_timeout() && !error.is_connect() => return PostOutcome::TimedOut,
        Err(error) => {
            let failure =
                if error.is_connect() { AttemptFailure::Unavailable } else { AttemptFailure::BrokeOff };
            // The error's own text would contain the URL.
            return PostOutcome::Failed(failure, ErrorChain(&error.without_url()).to_string());
        }
    };
    let status = response.status();
    if let Some(failure) = unavailable(status, response.headers()) {
        return PostOutcome::Failed(failure, format!("it answered with status {}", status.as_u16()));
    }
    outgoing.spool().delivered(head);
    if !status.is_success() {
        warn!("{url} refused report {} with HTTP {}; it is not sent again", head.id, status.as_u16());
        return PostOutcome::Taken(Acceptance::Refusal);
    }
    debug!("report {} delivered (attempt {})", head.id, head.attempt);
    // Read in any case, so that the connection can be reused. Its task has to notice that, or the next report
    // opens another one.
    let answer = read(response).await;
    tokio::task::yield_now().await;
    PostOutcome::Taken(answer.map_or(Acceptance::BrokenAnswer, Acceptance::Answer))
}

/// Whether an answer only says that the receiver, or a proxy before it, is unavailable.
fn unavailable(status: StatusCode, headers: &HeaderMap) -> Option<AttemptFailure> {
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return None;
    }
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Some(
        asked
            .and_then(|text| retry_after(text, SystemTime::now()))
            .map_or(AttemptFailure::Unavailable, AttemptFailure::RetryAfter),
    )
}

/// The delay of a `Retry-After` header, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The body, unless it breaks off, is late, or exceeds [`MAX_ANSWER`] bytes.
async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailable_statuses_are_retried() {
        let with = |status: u16, after: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(after.map(|after| (RETRY_AFTER, after.parse().unwrap())));
            unavailable(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 204, 302, 400, 404, 408, 500, 501, 505] {
            assert_eq!(with(status, Some("1")), None, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(with(status, None), Some(AttemptFailure::Unavailable), "{status}");
            assert_eq!(with(status, Some("7")), Some(AttemptFailure::RetryAfter(Duration::from_secs(7))));
        }
        assert_eq!(with(503, Some("soon")), Some(AttemptFailure::Unavailable));
    }

    #[test]
    fn retry_after_may_be_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let then = httpdate::parse_http_date(date).unwrap();
        assert_eq!(retry_after(date, then - Duration::from_secs(5)), Some(Duration::from_secs(5)));
        assert_eq!(retry_after(date, then + Duration::from_secs(5)), Some(Duration::ZERO));
        assert_eq!(retry_after("-1", then), None);
    }
}
