//! What a machine tells of its accounts: its list at first, then each change.

use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::bounds::{MAX_ACCOUNTS, MAX_TEXT, TOO_MUCH, Wrongs};
use super::remote_account::RemoteAccount;
use super::target::{CallFailure, Target};
use super::{Heard, MachineNews};
use crate::model::name::ClientName;
use crate::wire::v1::event_text::{EventText, StreamEvent};

/// A controller tells a door every 5 s how its machine is. One that is silent for longer than this is gone.
const SILENCE: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where the events of a machine were left.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The run of its controller, and the ID of its last event.
    last: Option<(String, String)>,
    wrongs: Wrongs,
}

/// Why a machine is not followed any more, for people.
#[derive(Debug)]
pub(super) enum Lost {
    /// It was followed, and then the connection ended, as it does when its controller is restarted.
    Ended(String),
    /// It does not answer, so what leads there may be gone.
    Silent(String),
    /// It could not be followed.
    Failed(String),
    /// It answers, and not as a controller does that lets us in.
    Wrong(String),
}

impl From<String> for Lost {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// A page of `/v1/clients`.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    accounts: Vec<&'a RawValue>,
    next: Option<String>,
}

/// What `/v1/machine` answers, and the event `health` tells anew.
#[derive(Deserialize)]
struct About {
    free_memory: Option<u64>,
    takes_accounts: Option<bool>,
}

impl About {
    /// How much memory is free for new accounts. None where none are taken, so that none is placed there.
    fn room(&self) -> Option<u64> {
        self.free_memory.filter(|_| self.takes_accounts != Some(false))
    }
}

#[derive(Deserialize)]
struct Ready {
    run: String,
}

#[derive(Deserialize)]
struct Gone {
    name: ClientName,
}

/// Reads the list of the machine and follows its events, until that ends: why.
pub(super) async fn follow(target: &Target, position: &mut Position, news: &MachineNews) -> Lost {
    tokio::time::sleep(position.wrongs.pause()).await;
    let (began, mut is_reached) = (Instant::now(), false);
    match followed(target, position, news, &mut is_reached).await {
        Ok(never) => match never {},
        Err(Lost::Failed(why)) if is_reached => Lost::Ended(why),
        Err(lost) => {
            if matches!(lost, Lost::Wrong(_)) {
                position.wrongs.add(began.elapsed());
            }
            lost
        }
    }
}

async fn followed(
    target: &Target,
    position: &mut Position,
    news: &MachineNews,
    is_reached: &mut bool,
) -> Result<std::convert::Infallible, Lost> {
    let about = ask(target).await?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some((_, last)) = &position.last
        && let Ok(last) = HeaderValue::from_str(last)
    {
        headers.insert(LAST_EVENT_ID, last);
    }
    let events = target.get("/v1/events", &headers).await.map_err(|failure| lost(target, &failure))?;
    let mut stream =
        Stream { body: events.into_body(), text: EventText::default(), silent: Instant::now() + SILENCE };
    // Before the list, so that no change between the two is missed.
    let first = stream.next().await?;
    let run = match first.kind.as_str() {
        "ready" => serde_json::from_str::<Ready>(&first.data).map_err(|error| unclear(&error))?.run,
        _ => return Err("what answers there is no controller".to_owned().into()),
    };
    let goes_on = position.last.as_ref().is_some_and(|(before, last)| {
        // Where it can't go on, `missed` follows.
        *before == run && first.id.as_ref() == Some(last)
    });
    if !goes_on {
        take_list(target, news).await?;
    }
    position.last = first.id.map(|id| (run.clone(), id));
    news.hear(Heard::Reachable).await;
    *is_reached = true;
    news.hear(Heard::FreeMemory(about.room())).await;
    loop {
        let event = stream.next().await?;
        match event.kind.as_str() {
            "account" => {
                let account =
                    RemoteAccount::of_json(event.data.as_bytes()).map_err(|error| error.to_string())?;
                if !news.has_room(&account) {
                    return Err(TOO_MUCH.to_owned().into());
                }
                news.hear(Heard::Account(account)).await;
            }
            "gone" => {
                let Gone { name } = serde_json::from_str(&event.data).map_err(|error| unclear(&error))?;
                news.hear(Heard::Gone(name)).await;
            }
            "missed" => {
                take_list(target, news).await?;
            }
            "health" => {
                let about: About = serde_json::from_str(&event.data).map_err(|error| unclear(&error))?;
                news.hear(Heard::FreeMemory(about.room())).await;
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
async fn ask(target: &Target) -> Result<About, Lost> {
    let answer = target.read("/v1/machine").await.map_err(|failure| lost(target, &failure))?;
    Ok(serde_json::from_slice(&answer).map_err(|error| unclear(&error))?)
}

/// Reads all accounts of the machine and tells them.
async fn take_list(target: &Target, news: &MachineNews) -> Result<(), Lost> {
    // It is closed never, and then it would only be a matter of memory.
    let _turn = news.machines.0.lists.acquire().await.ok();
    news.hear(Heard::All(list(target).await?)).await;
    Ok(())
}

/// All accounts of the machine.
async fn list(target: &Target) -> Result<Vec<RemoteAccount>, Lost> {
    let mut all = Vec::new();
    let (mut after, mut text) = (String::new(), 0);
    loop {
        let answer = target.read(&format!("/v1/clients?limit=1000{after}")).await;
        let answer = answer.map_err(|failure| lost(target, &failure))?;
        let page: Page<'_> = serde_json::from_slice(&answer).map_err(|error| unclear(&error))?;
        // A page without accounts that has another one after it could have any number of them.
        let is_empty = page.accounts.is_empty();
        for account in page.accounts {
            text += account.get().len();
            if all.len() >= MAX_ACCOUNTS || text > MAX_TEXT {
                return Err(TOO_MUCH.to_owned().into());
            }
            all.push(RemoteAccount::of_json(account.get().as_bytes()).map_err(|error| error.to_string())?);
        }
        match page.next {
            Some(_) if is_empty => return Err("its list of accounts has no end".to_owned().into()),
            Some(next) => after = format!("&after={}", utf8_percent_encode(&next, NON_ALPHANUMERIC)),
            None => return Ok(all),
        }
    }
}

struct Stream {
    body: Incoming,
    text: EventText,
    /// When it counts as gone.
    silent: Instant,
}

impl Stream {
    /// The next event.
    async fn next(&mut self) -> Result<StreamEvent, Lost> {
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
                Ok(Some(Err(_)) | None) => {
                    return Err(Lost::Failed("its controller has closed the connection".to_owned()));
                }
                Err(_) => return Err(Lost::Silent(format!("nothing came for {} s", SILENCE.as_secs()))),
            }
        }
    }
}

fn unclear(error: &serde_json::Error) -> String {
    format!("its answer can't be read: {error}")
}

/// What a failure is. A controller that is restarted behind a reverse proxy is answered for by that.
fn lost(target: &Target, failure: &CallFailure) -> Lost {
    match failure {
        CallFailure::Status(status) if *status < 500 => Lost::Wrong(why(target, failure)),
        CallFailure::Late(_) => Lost::Silent(why(target, failure)),
        _ => Lost::Failed(why(target, failure)),
    }
}

/// What a failure means, and what to do.
fn why(target: &Target, failure: &CallFailure) -> String {
    match failure {
        CallFailure::Status(401) if target.token.is_some() => {
            "its controller does not know the token in token_file".to_owned()
        }
        CallFailure::Status(401) => {
            "its controller wants a token: name the file with it as token_file in [machines]".to_owned()
        }
        CallFailure::Status(421) => format!(
            "its controller does not go by the name {}: list that in hosts of [http] there",
            target.host()
        ),
        CallFailure::Status(403) => {
            "its controller refuses the token, or to be reached through another one (auth.doors)".to_owned()
        }
        CallFailure::Status(404) => {
            "its controller is too old for this: install the same version there".to_owned()
        }
        CallFailure::Status(status) if (300..=399).contains(status) => {
            format!(
                "its controller answers HTTP {status}, which leads elsewhere: set url of [machines] to where it is"
            )
        }
        CallFailure::Status(status) => format!("its controller answers HTTP {status}"),
        CallFailure::NoConnection | CallFailure::Late(_) => failure.to_string(),
        CallFailure::Connection(why) if why.contains("UnknownIssuer") => {
            "its certificate is not of an authority that this system trusts: have it trust that one, on Debian by \
             update-ca-certificates"
                .to_owned()
        }
        CallFailure::Connection(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::mpsc;
    use tokio::time::{interval, sleep};

    use super::*;
    use crate::machines::table::MachineTable;
    use crate::machines::{LinkState, Machines, NEWS, Place};
    use crate::model::machine::MachineName;

    const READY: &str = "event: ready\nid: r-0\ndata: {\"run\":\"r\"}\n\n";

    /// How long a machine tells how it is, every 5 s.
    const HEALTHY: Duration = Duration::from_secs(60);

    /// A controller with one account.
    async fn answer(mut stream: UnixStream) {
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
        let whole = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if asked.starts_with("GET /v1/machine ") {
            stream.write_all(whole(r#"{"free_memory":1}"#).as_bytes()).await.unwrap();
        } else if asked.starts_with("GET /v1/clients?") {
            let page = r#"{"accounts":[ { "name":"bot", "state":"running" } ],"next":null}"#;
            stream.write_all(whole(page).as_bytes()).await.unwrap();
        } else {
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(format!("{head}{READY}").as_bytes()).await.unwrap();
            let (began, mut ticks) = (Instant::now(), interval(Duration::from_secs(5)));
            while began.elapsed() < HEALTHY {
                ticks.tick().await;
                let health =
                    format!("event: health\ndata: {{\"free_memory\":{}}}\n\n", began.elapsed().as_secs() + 2);
                stream.write_all(health.as_bytes()).await.unwrap();
            }
            // Open, and silent.
            sleep(HEALTHY * 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn machine_is_followed_until_it_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let played = tokio::spawn(async move {
            loop {
                tokio::spawn(answer(listener.accept().await.unwrap().0));
            }
        });
        let (name, mut table) = (MachineName::new("tokyo").unwrap(), MachineTable::default());
        table.add(&name, [], 0);
        let (news, mut told) = mpsc::channel(NEWS);
        let machines = Machines::of(table, news);
        let news = MachineNews { machines: machines.clone(), name: name.clone() };
        let target = Target { place: Place::Unix(socket), prefix: String::new(), token: None, tls: None };
        let (began, mut position) = (Instant::now(), Position::default());
        let lost = follow(&target, &mut position, &news).await;
        assert!(matches!(&lost, Lost::Silent(why) if why == "nothing came for 15 s"), "{lost:?}");
        let lasted = began.elapsed();
        assert!(lasted >= HEALTHY + SILENCE && lasted < HEALTHY + SILENCE * 2, "{lasted:?}");
        machines.look(|table| {
            let machine = &table.machines()[&name];
            assert!(matches!(machine.link, LinkState::Reachable { .. }), "{:?}", machine.link);
            let names: BTreeMap<_, _> =
                machine.accounts.iter().map(|(name, one)| (name.as_str(), &*one.state)).collect();
            assert_eq!(names, BTreeMap::from([("bot", "running")]));
            assert!(machine.free_memory >= Some(HEALTHY.as_secs()), "{:?}", machine.free_memory);
        });
        // The account, and that its machine is reached.
        assert!(told.try_recv().is_ok() && told.try_recv().is_ok() && told.try_recv().is_err());
        played.abort();
    }
}
