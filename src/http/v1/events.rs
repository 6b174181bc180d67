//! `GET /v1/events`: every change of every account, as Server-Sent Events (HTML Standard, 9.2).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::V1;
use super::machine::{may_start, takes_accounts};
use super::refusals::Reading;
use crate::accounts::{ChangeKind, Changes};
use crate::config::Settings;
use crate::http::auth::{Admission, Guard, Lease};
use crate::http::body::{Body, BodyError};
use crate::machines::free_memory;
use crate::registry::Registry;
use crate::wire::door::DOOR;
use crate::wire::v1::problem::Problem;

/// The pause after which something is sent, so that a connection that is dead is noticed, and one that is alive is kept by the
/// programs on its way.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(25);

/// The time between two events `health`. A door takes a machine for gone that sends nothing for three of them.
const HEALTH: Duration = Duration::from_secs(5);

/// How many changes are sent as one piece.
const AT_ONCE: usize = 64;

/// A comment, which tells nothing but that the connection is alive.
const NOTHING: Bytes = Bytes::from_static(b": \n\n");

/// Where a browser goes on after its connection broke.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Keeps nginx from collecting the events (ngx_http_proxy_module, `proxy_buffering`).
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Sends every change of every account.
///
/// Server-Sent Events: `ready` first, then `account` with an account as it is now, and `gone` with the name of one that has left the
/// list; `controller` with its `trouble`, or null: why no account can be started or stopped; `machine` with the
/// `name` and `state` of another machine to which this one is the door; `health`, to a door alone, each 5 s with the `free_memory` of
/// this machine. `missed` says that changes are missing, so the list is to be read again. After a break, `Last-Event-ID` goes on where it was.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The ID of the last event that was received")),
    responses(
        (status = 200, description = "The events, without an end", body = String, content_type = "text/event-stream"),
        (status = 503, description = "There are too many listeners", body = Problem, content_type = "application/problem+json"),
        Reading,
    )
)]
pub(super) fn follow(v1: &Arc<V1>, request: &Parts) -> Result<Response<Body>, Problem> {
    let place = v1.take_stream()?;
    let newest = v1.changes.newest();
    let last = *newest.borrow();
    let mut listener = Listener {
        changes: v1.changes.clone(),
        newest,
        last,
        ends: Ends::new(v1, request),
        next: None,
        health: request.headers.contains_key(DOOR).then(|| Health {
            due: Instant::now(),
            clients: v1.accounts.clients.clone(),
            settings: v1.settings.clone(),
            may_start: may_start(request),
        }),
        _place: place,
    };
    listener.next = Some(listener.begin(asked(&request.headers)));
    Ok(stream(unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok::<_, BodyError>(Frame::data(text)), listener))
    })))
}

/// A response that goes on until its stream ends.
pub(super) fn stream(
    frames: impl futures_util::Stream<Item = Result<Frame<Bytes>, BodyError>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::stream(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The event after which a caller wants to go on: the run of the controller that sent it, and its number.
fn asked(headers: &HeaderMap) -> Option<(&str, Option<u64>)> {
    let id = headers.get(LAST_EVENT_ID)?.to_str().unwrap_or_default();
    let (run, number) = id.rsplit_once('-').unwrap_or((id, ""));
    Some((run, number.parse().ok()))
}

/// What ends a stream besides its caller.
#[derive(Debug)]
pub struct Ends {
    ending: CancellationToken,
    guard: watch::Receiver<Arc<Guard>>,
    /// By what its caller was let in.
    lease: Option<Lease>,
}

impl Ends {
    /// The ends of the answer to `request`, which was let in.
    pub(super) fn new(v1: &V1, request: &Parts) -> Self {
        let mut guard = v1.guard.clone();
        guard.mark_unchanged();
        let lease = request.extensions.get::<Admission>().map(|admission| admission.lease);
        Self { ending: v1.ending.clone(), guard, lease }
    }

    /// Returns when the stream has to end: the controller does, its caller has signed out or was signed in for too long, or the
    /// configuration was read again, by which this caller may not be let in any more. One that still is comes back.
    pub async fn wait(&mut self) {
        let Self { ending, guard, lease } = self;
        let watched = guard.clone();
        let over = async {
            match lease {
                Some(lease) => lease.over(watched).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ending.cancelled() => {}
            () = over => {}
            _ = guard.changed() => {}
        }
    }
}

/// One who listens.
struct Listener {
    changes: Changes,
    newest: watch::Receiver<u64>,
    /// The number of the last change that was sent.
    last: u64,
    ends: Ends,
    /// What is sent next, before any change.
    next: Option<Bytes>,
    /// Set where the listener is a door: it gets the event `health`, and no events of other machines, which it is connected to itself.
    health: Option<Health>,
    _place: OwnedSemaphorePermit,
}

/// How this machine is, for a door.
struct Health {
    /// When the next one is due.
    due: Instant,
    clients: Registry,
    settings: watch::Receiver<Arc<Settings>>,
    may_start: bool,
}

impl Health {
    fn event(&self) -> Bytes {
        let takes_accounts = takes_accounts(&self.clients, &self.settings.borrow(), self.may_start);
        let health = json!({ "free_memory": free_memory(), "takes_accounts": takes_accounts });
        format!("event: health\ndata: {health}\n\n").into()
    }
}

impl Listener {
    /// How the stream begins for a caller who wants to go on after an event.
    fn begin(&mut self, asked: Option<(&str, Option<u64>)>) -> Bytes {
        let newest = self.last;
        let goes_on = asked.map(|(run, number)| {
            number.filter(|number| {
                run == self.changes.run() && *number <= newest && self.changes.after(*number, 1).is_ok()
            })
        });
        if let Some(Some(number)) = goes_on {
            self.last = number;
        }
        let mut text = self.event("ready", &json!({ "run": self.changes.run() }).to_string(), self.last);
        if goes_on == Some(None) {
            text += &self.event("missed", "{}", self.last);
        }
        text.into()
    }

    fn event(&self, kind: &str, data: &str, number: u64) -> String {
        format!("event: {kind}\nid: {}-{number}\ndata: {data}\n\n", self.changes.run())
    }

    /// The next piece of the stream; none when it ends.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(text) = self.next.take() {
            return Some(text);
        }
        loop {
            // Before changes, which may come without a pause.
            let now = Instant::now();
            if let Some(health) = self.health.as_mut().filter(|health| health.due <= now) {
                health.due = now + HEALTH;
                return Some(health.event());
            }
            // Before the read: a change that comes between the two wakes the wait.
            let newest = *self.newest.borrow_and_update();
            let Ok(changes) = self.changes.after(self.last, AT_ONCE) else {
                self.last = newest;
                return Some(self.event("missed", "{}", newest).into());
            };
            let (mut text, is_read) = (String::new(), !changes.is_empty());
            for change in changes {
                let kind = match change.kind {
                    ChangeKind::Account => "account",
                    ChangeKind::Gone => "gone",
                    ChangeKind::Controller => "controller",
                    ChangeKind::Elsewhere => "account",
                    ChangeKind::GoneElsewhere => "gone",
                    ChangeKind::Machine => "machine",
                };
                self.last = change.number;
                if change.kind.is_elsewhere() && self.health.is_some() {
                    continue;
                }
                // JSON has no line breaks of its own, and writing to a text can't fail.
                let _ = write!(text, "event: {kind}\nid: {}-{}\ndata: ", self.changes.run(), change.number);
                text.push_str(&String::from_utf8_lossy(&change.text));
                text.push_str("\n\n");
            }
            if !text.is_empty() {
                return Some(text.into());
            }
            if is_read {
                return Some(NOTHING);
            }
            tokio::select! {
                biased;
                () = self.ends.wait() => return None,
                changed = self.newest.changed() => changed.ok()?,
                () = sleep_until(self.health.as_ref().map_or(now + HEARTBEAT, |health| health.due)) => {
                    if self.health.is_none() {
                        return Some(NOTHING);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_events_are_read() {
        let asked_with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, HeaderValue::from_str(id).unwrap());
            asked(&headers).map(|(run, number)| (run.to_owned(), number))
        };
        assert_eq!(asked_with("a-b-7"), Some(("a-b".into(), Some(7))));
        assert_eq!(asked_with("a-b-"), Some(("a-b".into(), None)));
        assert_eq!(asked_with(""), Some((String::new(), None)));
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
