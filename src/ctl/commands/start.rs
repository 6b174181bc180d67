//! `start`: starts an account, and shows its states as they come.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Context, about, checked, qr};
use crate::ctl::account::Account;
use crate::ctl::arguments::Start;
use crate::ctl::client::{EXPLAIN, path_of};
use crate::ctl::events::{Event, Events};
use crate::ctl::failure::{Failure, Kind, Outcome};
use crate::ctl::screen::{complain, print, print_json, printable};
use crate::ctl::time::now;
use crate::model::machine::LOCAL;

/// The most bytes of a file of parameters.
const MAX_FILE: u64 = 1024 * 1024;

pub(super) async fn start(context: &Context, start: Start) -> Outcome {
    let name = checked(start.name)?;
    let mut parameters = BTreeMap::new();
    if let Some(file) = &start.parameters_file {
        let text = read(file)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.try_for_each(|line| add(&mut parameters, line, true))?;
    }
    start.parameters.iter().try_for_each(|text| add(&mut parameters, text, false))?;
    // Before the start: what happens in between would be missed.
    let mut events = match start.no_wait {
        true => None,
        false => Some(Events::open(&context.client, "/v1/events", None).await?),
    };
    let mut following = Following { context, name: &name, shown: String::new() };
    let new = (parameters, start.machine.as_deref());
    let started = begin(context, &name, new, events.as_mut(), &mut following).await?;
    let Some(events) = events else { return finish(context, &name, &started) };
    let waiting = following.until_settled(started, events);
    let ended = match timeout(Duration::from_secs(start.timeout), waiting).await {
        Ok(ended) => ended?,
        Err(_) => {
            let text = format!("{}: it does not run yet after {} seconds; it goes on", name, start.timeout);
            return Err(
                Failure::refused(text).next(format!("wqctl explain {}", crate::ctl::failure::quoted(&name)))
            );
        }
    };
    // A code was there, and a person is at the terminal.
    let ended = match ended.is_running() {
        true => context.client.get(&path_of(&name, "")).await.map_err(about(&name))?,
        false => {
            qr::until_logged_in(context, &name).await?;
            context.client.get(&path_of(&name, "")).await.map_err(about(&name))?
        }
    };
    finish(context, &name, &ended)
}

fn finish(context: &Context, name: &str, account: &Value) -> Outcome {
    if context.json {
        return print_json(account);
    }
    let account = Account::of(account)?;
    if !account.unused_parameters.is_empty() {
        let unused = account.unused_parameters.join(", ");
        complain(&format!(
            "{name}: these parameters have no effect: {unused}; man 8 wqclient has those that there are"
        ));
    }
    match account.is_running() {
        true => print(&format!("{} runs\n", printable(name))),
        false => print(&format!("{} is {}\n", printable(name), printable(account.word()))),
    }
}

/// A file of parameters, or standard input.
fn read(file: &Path) -> Outcome<String> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|open| open.take(MAX_FILE).read_to_string(&mut text)),
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(Failure::usage(format!("the parameters can't be read: {}: {error}", file.display())))
        }
    }
}

/// Adds a parameter. One of a file may be a secret, so it is not shown.
fn add(parameters: &mut BTreeMap<String, String>, text: &str, is_secret: bool) -> Outcome {
    let shown = if is_secret { "a line of the file" } else { text };
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        let failure = Failure::usage(format!("{shown} is no parameter: it has the form KEY=VALUE"));
        return Err(failure.next("wqctl start --help"));
    };
    match parameters.insert(key.to_owned(), value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("the parameter {key} is given twice"))),
    }
}

/// Starts it, and shows what happens meanwhile.
async fn begin(
    context: &Context,
    name: &str,
    (parameters, machine): (BTreeMap<String, String>, Option<&str>),
    mut events: Option<&mut Events>,
    following: &mut Following<'_>,
) -> Outcome<Value> {
    let is_known = match context.client.get(&path_of(name, "")).await {
        Ok(account) => {
            let lives = account["machine"].as_str().unwrap_or(LOCAL);
            if machine.is_some_and(|wanted| wanted != lives) {
                return Err(about(name)(Failure::refused(format!("it lives on the machine {lives}"))));
            }
            true
        }
        Err(failure) if failure.kind == Kind::NoAccount => false,
        Err(failure) => return Err(about(name)(failure)),
    };
    let query = machine.map(|machine| format!("?machine={}", utf8_percent_encode(machine, NON_ALPHANUMERIC)));
    let put = path_of(name, &query.unwrap_or_default());
    let post = path_of(name, "/start");
    let (method, path, body) = match (is_known, parameters.is_empty()) {
        (true, true) => (Method::POST, &post, None),
        (_, false) => (Method::PUT, &put, Some(json!({ "parameters": parameters, "desired": "running" }))),
        (false, true) => (Method::PUT, &put, Some(json!({ "desired": "running" }))),
    };
    let mut answer = pin!(context.client.act(method, path, body));
    loop {
        let next = async {
            match &mut events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = &mut answer => return answer.map_err(|failure| {
                // One that could not be registered has nothing to explain.
                let failure = match failure.next.as_deref() {
                    Some(EXPLAIN) if !is_known => failure.next("wqctl check"),
                    _ => failure,
                };
                about(name)(failure)
            }),
            event = next => match event? {
                Some(event) => following.see(&event).map(drop)?,
                // The answer says what became of it.
                None => events = None,
            },
        }
    }
}

/// Shows the states of an account, each once.
struct Following<'a> {
    context: &'a Context,
    name: &'a str,
    shown: String,
}

impl Following<'_> {
    /// Shows an event, and returns the account if it is about this one.
    fn see(&mut self, event: &Event) -> Outcome<Option<Account>> {
        if event.kind != "account" || event.data["name"] != self.name {
            return Ok(None);
        }
        let account = Account::of(&event.data)?;
        self.show(&account);
        Ok(Some(account))
    }

    fn show(&mut self, account: &Account) {
        let why = account.why(now());
        let line = match why.is_empty() {
            true => account.word().to_owned(),
            false => format!("{:<12}{why}", account.word()),
        };
        if self.shown != line {
            self.context.screen.progress(&line);
            self.shown = line;
        }
    }

    /// Waits until it runs, or, at a terminal, until a code waits to be scanned.
    async fn until_settled(&mut self, started: Value, mut events: Events) -> Outcome<Account> {
        let mut account = Account::of(&started)?;
        let is_here =
            self.context.screen.is_terminal && self.context.screen.shows_progress && !self.context.json;
        loop {
            self.show(&account);
            if account.is_running() || is_here && account.waits_for_a_scan() && account.needs_person {
                return Ok(account);
            }
            if account.is_held() || account.is_stopped() {
                let why = Some(account.reason()).filter(|why| !why.is_empty());
                let text = why.unwrap_or_else(|| "it was stopped meanwhile".to_owned());
                return Err(Failure::refused(text).next("wqctl logs NAME").about(self.name));
            }
            account = loop {
                match events.next().await? {
                    Some(event) if event.kind == "gone" && event.data["name"] == self.name => {
                        return Err(Failure::refused("it was taken out of the list").about(self.name));
                    }
                    Some(event) if event.kind == "missed" => break self.look().await?,
                    Some(event) => match self.see(&event)? {
                        Some(account) => break account,
                        None => continue,
                    },
                    // The controller was reloaded, or is started anew.
                    None => {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        events = Events::open(&self.context.client, "/v1/events", None).await?;
                        break self.look().await?;
                    }
                }
            };
        }
    }

    async fn look(&self) -> Outcome<Account> {
        Account::of(&self.context.client.get(&path_of(self.name, "")).await.map_err(about(self.name))?)
    }
}
