//! `GET /v1/clients/NAME/log`: what an account said, and the controller of it; the last lines, or as they come.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use utoipa::IntoParams;

use super::events::{Ends, HEARTBEAT, stream};
use super::refusals::{OneAccount, Reading, WithQuery};
use super::{Call, text};
use crate::http::body::{self, Body, BodyError};
use crate::http::request::params::Params;
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use crate::registry::ClientView;
use crate::service::journal_reader::{JournalEntries, JournalError, JournalOf};
use crate::service::log_memory::LogMemory;
use crate::wire::v1::log::{LogEntries, LogEntry};
use crate::wire::v1::problem::Problem;

/// How many lines an answer has at most.
const MOST: usize = 1000;
/// How many it has where the caller does not say.
const USUAL: usize = 100;
/// How long lines in memory are collected before they are sent: each line of any account wakes all who listen.
const COLLECT: Duration = Duration::from_millis(50);

/// Which lines are shown.
#[derive(Debug, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// How many of the last lines.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    lines: usize,
    /// 1 also sends the lines that come, as Server-Sent Events.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1, default = 0)]
    follow: bool,
}

impl LogQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let invalid = |error: String| Problem::invalid_parameter(error);
        let mut params = Params::parse(query.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let lines = match params.remove("lines").map(|text| text.parse()) {
            None => USUAL,
            Some(Ok(lines)) if (1..=MOST).contains(&lines) => lines,
            Some(_) => return Err(invalid(format!("lines must be a number from 1 to {MOST}"))),
        };
        let follow = match params.remove("follow").as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(_) => return Err(invalid("follow must be 0 or 1".to_owned())),
        };
        match params.names().next() {
            Some(name) => Err(invalid(format!("there is no parameter {name:?} here"))),
            None => Ok(Self { lines, follow }),
        }
    }
}

/// Whether the caller asks for a stream, as a browser's `EventSource` does.
fn wants_stream(headers: &HeaderMap) -> bool {
    let mut lists = headers.get_all(ACCEPT).iter().filter_map(|list| list.to_str().ok());
    lists.any(|list| {
        list.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
    })
}

/// Shows the log of an account.
///
/// What its client, its implementation and the controller said, from the journal, or from the controller's memory where it can't read
/// that. With `follow=1`, or where `Accept` asks for `text/event-stream`: Server-Sent Events, `entry` for each line, those that are
/// there first.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/log",
    params(("name" = String, Path, description = "Its name", example = "bot"), LogQuery),
    responses(
        (status = 200, description = "The lines", content((LogEntries = "application/json"), (String = "text/event-stream"))),
        (status = 503, description = "There are too many listeners, or the journal is slow", body = Problem, content_type = "application/problem+json"),
        Reading,
        OneAccount,
        WithQuery,
    )
)]
pub(super) async fn log(call: Call, name: ClientName) -> Result<Response<Body>, Problem> {
    let query = LogQuery::parse(call.request.uri.query().unwrap_or_default())?;
    let view = call.v1.accounts.clients.client(&name).ok_or_else(Problem::no_such_account)?;
    if query.follow || wants_stream(&call.request.headers) {
        return call.follow(&view, query.lines);
    }
    let mut entries = Vec::new();
    let of = call.journal_of(&view);
    if let Some(journal) = call.v1.log.journal.as_ref().filter(|journal| journal.has(&of)) {
        entries = journal.last(&of, query.lines).await.map_err(|error| unread(&error))?;
    }
    if let Some(memory) = &call.v1.log.memory {
        entries.extend(memory.last(name.as_str(), query.lines).0);
        // Of the two of them, where the controller is no unit and its clients are.
        entries.sort_by(|one, other| one.time.total_cmp(&other.time));
        entries.drain(..entries.len().saturating_sub(query.lines));
    }
    let mut response = body::json(StatusCode::OK, text(&LogEntries { entries }));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn unread(error: &JournalError) -> Problem {
    Problem::busy(ErrorChain(error).to_string())
}

impl Call {
    /// What the journal has of an account.
    fn journal_of(&self, view: &ClientView) -> JournalOf {
        let accounts = &self.v1.accounts;
        let units =
            [&accounts.clients, &accounts.implementations].map(|kind| kind.unit_of(&view.record.spec.id));
        let units = match units {
            [Some((manager, client)), Some((_, implementation))] => Some((manager, [client, implementation])),
            _ => None,
        };
        JournalOf { account: view.record.spec.name.clone(), units }
    }

    fn follow(&self, view: &ClientView, lines: usize) -> Result<Response<Body>, Problem> {
        let place = self.v1.take_stream()?;
        let of = self.journal_of(view);
        let journal = self.v1.log.journal.as_ref().filter(|journal| journal.has(&of));
        let journal = journal.map(|journal| journal.follow(&of, lines)).transpose();
        let journal = journal.map_err(|error| unread(&error))?;
        let memory = self.v1.log.memory.clone().map(|memory| FollowedMemory::new(memory, of.account, lines));
        let follower = Follower { journal, memory, ends: Ends::new(&self.v1, &self.request), _place: place };
        Ok(stream(unfold(follower, |mut follower| async move {
            let text = follower.next().await?;
            Some((Ok::<_, BodyError>(Frame::data(text)), follower))
        })))
    }
}

/// One who follows the log of an account. Dropped, its journalctl ends.
struct Follower {
    journal: Option<JournalEntries>,
    memory: Option<FollowedMemory>,
    ends: Ends,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next piece of the stream; none when it ends.
    async fn next(&mut self) -> Option<Bytes> {
        let Self { journal, memory, ends, .. } = self;
        let of_journal = async {
            match journal {
                Some(journal) => journal.next().await.map(|entry| vec![entry]),
                None => std::future::pending().await,
            }
        };
        let of_memory = async {
            match memory {
                Some(memory) => memory.next().await,
                None => std::future::pending().await,
            }
        };
        let entries = tokio::select! {
            biased;
            () = ends.wait() => None,
            // Where journalctl has ended the stream does, and who listens comes back.
            entries = of_journal => entries,
            entries = of_memory => entries,
            () = sleep(HEARTBEAT) => return Some(Bytes::from_static(b": \n\n")),
        };
        let mut piece = Vec::new();
        for entry in entries? {
            // JSON has no line breaks of its own.
            piece.extend_from_slice(b"event: entry\ndata: ");
            piece.extend_from_slice(&text(&entry));
            piece.extend_from_slice(b"\n\n");
        }
        Some(piece.into())
    }
}

/// The lines of an account in memory, from where one who follows them is.
struct FollowedMemory {
    memory: LogMemory,
    account: ClientName,
    newest: tokio::sync::watch::Receiver<u64>,
    /// The number of the last line that was read.
    last: u64,
    /// The lines that were there.
    before: Vec<LogEntry>,
}

impl FollowedMemory {
    fn new(memory: LogMemory, account: ClientName, lines: usize) -> Self {
        let newest = memory.newest();
        let (before, last) = memory.last(account.as_str(), lines);
        Self { memory, account, newest, last, before }
    }

    /// The lines that have come; at least one. None where there will be no more. Cancel-safe.
    async fn next(&mut self) -> Option<Vec<LogEntry>> {
        if !self.before.is_empty() {
            return Some(std::mem::take(&mut self.before));
        }
        loop {
            // Before the look: a line that comes between the two wakes the wait.
            self.newest.borrow_and_update();
            let (new, last) = self.memory.after(self.account.as_str(), self.last);
            self.last = last;
            if !new.is_empty() {
                return Some(new);
            }
            self.newest.changed().await.ok()?;
            sleep(COLLECT).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_mistakes_are_named() {
        for (query, lines, follow) in
            [("", 100, false), ("lines=1&follow=0", 1, false), ("follow=1", 100, true)]
        {
            assert_eq!(LogQuery::parse(query), Ok(LogQuery { lines, follow }), "{query}");
        }
        for (query, why) in [
            ("lines=0", "lines must be a number from 1 to 1000"),
            ("lines=1001", "lines must be a number from 1 to 1000"),
            ("lines=-1", "lines must be a number from 1 to 1000"),
            ("follow=yes", "follow must be 0 or 1"),
            ("line=1", "there is no parameter \"line\" here"),
        ] {
            assert_eq!(LogQuery::parse(query).unwrap_err().detail, why, "{query}");
        }
    }

    #[test]
    fn stream_is_asked_for_by_accept() {
        for (accept, is_so) in
            [("text/event-stream", true), ("*/*", false), ("a/b, text/event-stream;q=0.5", true)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(wants_stream(&headers), is_so, "{accept}");
        }
    }
}
