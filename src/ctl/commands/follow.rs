//! `logs` and `events`: what comes, as it comes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Context, about, checked};
use crate::ctl::account::Account;
use crate::ctl::arguments::Logs;
use crate::ctl::client::path_of;
use crate::ctl::events::{Event, Events};
use crate::ctl::failure::{Failure, Kind, Outcome};
use crate::ctl::screen::{print, print_json, print_json_line, printable};
use crate::ctl::time::{now, shown};

/// How many attempts are made to reconnect, and the pause between them: together longer than a restart takes.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn logs(context: &Context, logs: Logs) -> Outcome {
    let name = checked(logs.name)?;
    let path = path_of(&name, &format!("/log?lines={}", logs.lines));
    let explained = |failure: Failure| about(&name)(failure.unless_next(|| "wqctl show NAME".to_owned()));
    if !logs.follow {
        let log = context.client.get(&path).await.map_err(explained)?;
        if context.json {
            return print_json(&log);
        }
        let entries = log["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        return print(&entries.iter().map(entry_line).collect::<String>());
    }
    let mut events =
        Events::open(&context.client, &format!("{path}&follow=1"), None).await.map_err(explained)?;
    loop {
        match events.next().await? {
            Some(event) if event.kind == "entry" && context.json => print_json_line(&event.data)?,
            Some(event) if event.kind == "entry" => print(&entry_line(&event.data))?,
            Some(_) => {}
            None => {
                // Without the lines that were there before: they were shown.
                let path = path_of(&name, "/log?lines=0&follow=1");
                let last = events.last_id.take();
                events = again(context, &path, last.as_deref()).await?;
            }
        }
    }
}

/// An entry of the log in a line.
pub(super) fn entry_line(entry: &Value) -> String {
    let time = entry["time"].as_f64().map_or(0, |time| time as u64);
    let from = entry["from"].as_str().unwrap_or("-");
    let message = entry["message"].as_str().unwrap_or_default();
    format!("{} {:<14} {}\n", shown(time), printable(from), printable(message))
}

pub(super) async fn events(context: &Context) -> Outcome {
    let mut events = Events::open(&context.client, "/v1/events", None).await?;
    loop {
        match events.next().await? {
            Some(event) if context.json => {
                print_json_line(&json!({ "event": event.kind, "data": event.data }))?;
            }
            Some(event) => print(&line(&event)?)?,
            None => {
                context.screen.progress("wqctl: the controller was reloaded or ends; waiting for it");
                let last = events.last_id.take();
                events = again(context, "/v1/events", last.as_deref()).await?;
            }
        }
    }
}

/// Opens a stream again, of a controller that may be away for a moment.
async fn again(context: &Context, path: &str, last_id: Option<&str>) -> Outcome<Events> {
    let mut tries = 0;
    loop {
        sleep(PAUSE).await;
        match Events::open(&context.client, path, last_id).await {
            Err(failure) if failure.kind == Kind::Unreachable && tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// An event in a line; nothing where it tells of no account.
fn line(event: &Event) -> Outcome<String> {
    let now = now();
    let text = match event.kind.as_str() {
        "account" => {
            let account = Account::of(&event.data)?;
            format!("{}  {}  {}", account.name, account.word(), account.why(now))
        }
        "gone" => format!("{}  out of the list", event.data["name"].as_str().unwrap_or_default()),
        "missed" => "some changes were missed: wqctl list".to_owned(),
        _ => return Ok(String::new()),
    };
    Ok(format!("{}  {}\n", shown(now), printable(text.trim_end())))
}
