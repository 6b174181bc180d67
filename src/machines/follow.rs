//! What a machine tells of its accounts: its list at first, then each change.

use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, interval, timeout_at};

use super::remote_account::RemoteAccount;
use super::target::{CallFailure, Target};
use super::{Heard, MachineNews};
use crate::model::name::ClientName;
use crate::wire::v1::event_text::{EventText, StreamEvent};

/// A controller sends something every 25 s; one that is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The time between two questions how the machine is. One that does not answer is gone.
const QUESTION: Duration = Duration::from_secs(5);

/// How many pages of a thousand accounts are read: a controller has at most 10,000.
const MAX_PAGES: usize = 20;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where the events of a machine were left.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The run of its controller, and the ID of its last event.
    last: Option<(String, String)>,
}

/// A page of `/v1/clients`.
#[derive(Deserialize)]
struct Page {
    accounts: Vec<Box<RawValue>>,
    next: Option<String>,
}

/// What `/v1/machine` answers.
#[derive(Deserialize)]
struct About {
    free_memory: Option<u64>,
}

#[derive(Deserialize)]
struct Ready {
    run: String,
}

#[derive(Deserialize)]
struct Gone {
    name: ClientName,
}

/// Reads the list of the machine and follows its events, until that ends: why, for people.
pub(super) async fn follow(target: &Target, position: &mut Position, news: &MachineNews) -> String {
    match followed(target, position, news).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

async fn followed(
    target: &Target,
    position: &mut Position,
    news: &MachineNews,
) -> Result<std::convert::Infallible, String> {
    let about = ask(target).await?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some((_, last)) = &position.last
        && let Ok(last) = HeaderValue::from_str(last)
    {
        headers.insert(LAST_EVENT_ID, last);
    }
    let events = target.get("/v1/events", &headers).await.map_err(|failure| why(&failure))?;
    let mut stream =
        Stream { body: events.into_body(), text: EventText::default(), silent: Instant::now() + SILENCE };
    // Before the list, so that no change between the two is missed.
    let first = stream.next().await?;
    let run = match first.kind.as_str() {
        "ready" => serde_json::from_str::<Ready>(&first.data).map_err(|error| unclear(&error))?.run,
        _ => return Err("what answers there is no controller".to_owned()),
    };
    let goes_on = position.last.as_ref().is_some_and(|(before, last)| {
        // Where it can't go on, `missed` follows.
        *before == run && first.id.as_ref() == Some(last)
    });
    if !goes_on {
        news.hear(Heard::All(list(target).await?)).await;
    }
    position.last = first.id.map(|id| (run.clone(), id));
    news.hear(Heard::Reachable).await;
    news.hear(Heard::FreeMemory(about.free_memory)).await;
    let mut questions = interval(QUESTION);
    loop {
        let event = tokio::select! {
            event = stream.next() => event?,
            // While an answer is waited for, events wait: they come after it, or the machine is gone.
            _ = questions.tick() => {
                news.hear(Heard::FreeMemory(ask(target).await?.free_memory)).await;
                continue;
            }
        };
        match event.kind.as_str() {
            "account" => {
                let account = RemoteAccount::of_json(event.data.as_bytes());
                news.hear(Heard::Account(account.map_err(|error| error.to_string())?)).await;
            }
            "gone" => {
                let Gone { name } = serde_json::from_str(&event.data).map_err(|error| unclear(&error))?;
                news.hear(Heard::Gone(name)).await;
            }
            "missed" => {
                news.hear(Heard::All(list(target).await?)).await;
            }
            // What it says of itself.
            _ => {}
        }
        if let Some(id) = event.id {
            position.last = Some((run.clone(), id));
        }
    }
}

/// Asks how the machine is.
async fn ask(target: &Target) -> Result<About, String> {
    let answer = target.read("/v1/machine").await.map_err(|failure| why(&failure))?;
    serde_json::from_slice(&answer).map_err(|error| unclear(&error))
}

/// All accounts of the machine.
async fn list(target: &Target) -> Result<Vec<RemoteAccount>, String> {
    let mut all = Vec::new();
    let mut after = String::new();
    for _ in 0..MAX_PAGES {
        let answer = target.read(&format!("/v1/clients?limit=1000{after}")).await;
        let page: Page = serde_json::from_slice(&answer.map_err(|failure| why(&failure))?)
            .map_err(|error| unclear(&error))?;
        for account in page.accounts {
            all.push(RemoteAccount::of_json(account.get().as_bytes()).map_err(|error| error.to_string())?);
        }
        match page.next {
            Some(next) => after = format!("&after={}", utf8_percent_encode(&next, NON_ALPHANUMERIC)),
            None => return Ok(all),
        }
    }
    Err("its list of accounts has no end".to_owned())
}

struct Stream {
    body: Incoming,
    text: EventText,
    /// When it counts as gone.
    silent: Instant,
}

impl Stream {
    /// The next event. Cancel-safe: what was received is kept.
    async fn next(&mut self) -> Result<StreamEvent, String> {
        loop {
            if let Some(event) = self.text.take() {
                return Ok(event);
            }
            match timeout_at(self.silent, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    self.silent = Instant::now() + SILENCE;
                    if let Some(data) = frame.data_ref() {
                        self.text.push(data).map_err(|error| error.to_string())?;
                    }
                }
                Ok(Some(Err(_)) | None) => return Err("its controller has closed the connection".to_owned()),
                Err(_) => return Err(format!("nothing came for {} s", SILENCE.as_secs())),
            }
        }
    }
}

fn unclear(error: &serde_json::Error) -> String {
    format!("its answer can't be read: {error}")
}

/// What a failure means, and what to do.
fn why(failure: &CallFailure) -> String {
    match failure {
        CallFailure::Status(401) => {
            "its controller wants a token: name the file with it as token_file in [machines]".to_owned()
        }
        CallFailure::Status(403) => {
            "its controller refuses the token, or to be reached through another one (auth.doors)".to_owned()
        }
        CallFailure::Status(404) => {
            "its controller is too old for this: install the same version there".to_owned()
        }
        CallFailure::Status(status) => format!("its controller answers HTTP {status}"),
        CallFailure::NoConnection => failure.to_string(),
        CallFailure::Connection(why) => why.clone(),
    }
}
