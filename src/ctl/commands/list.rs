//! `list` and `show`.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Context, about};
use crate::ctl::account::{Account, Process};
use crate::ctl::arguments::List;
use crate::ctl::client::path_of;
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::screen::{complain, print, print_json, printable};
use crate::ctl::table::Rows;
use crate::ctl::time::{now, shown, span};
use crate::model::machine::LOCAL;

/// How many pages are read. Each has a thousand accounts, and there are ten thousand at most.
const MAX_PAGES: usize = 100;

pub(super) async fn list(context: &Context, list: &List) -> Outcome {
    let Found { accounts, trouble } = fetch(context, list).await?;
    if context.json {
        let total = accounts.len();
        return print_json(&json!({ "accounts": accounts, "total": total, "trouble": trouble }));
    }
    if let Some(trouble) = &trouble {
        complain(&format!("no account can be started or stopped: {trouble}"));
    }
    let accounts: Vec<Account> = accounts.iter().map(Account::of).collect::<Outcome<_>>()?;
    if list.names {
        return print(&accounts.iter().map(|account| printable(&account.name) + "\n").collect::<String>());
    }
    if accounts.is_empty() && context.screen.is_terminal {
        return print(
            match list.part.is_none() && list.state.is_none() && list.machine.is_none() && !list.needs_person
            {
                true => "There are no accounts yet: wqctl start NAME\n",
                false => "There are no such accounts.\n",
            },
        );
    }
    let columns = (!list.wide).then(|| context.screen.size().0);
    let lines = table(&accounts).lines(context.screen, columns);
    print(&lines.iter().map(|line| line.clone() + "\n").collect::<String>())
}

/// What a query has found.
pub(super) struct Found {
    /// The accounts, as they were sent.
    pub(super) accounts: Vec<Value>,
    /// Why no account can be started or stopped just now.
    pub(super) trouble: Option<String>,
}

/// All accounts of the query.
pub(super) async fn fetch(context: &Context, list: &List) -> Outcome<Found> {
    let mut filters = String::new();
    let mut add = |name: &str, value: &str| {
        filters += &format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    };
    if let Some(part) = &list.part {
        add("q", part);
    }
    if let Some(state) = &list.state {
        add("state", state);
    }
    if list.needs_person {
        add("needs_person", "true");
    }
    if let Some(machine) = &list.machine {
        add("machine", machine);
    }
    let (mut found, mut after) = (Found { accounts: Vec::new(), trouble: None }, String::new());
    for _ in 0..MAX_PAGES {
        let mut page = context.client.get(&format!("/v1/clients?limit=1000{filters}{after}")).await?;
        match page["accounts"].take() {
            Value::Array(accounts) => found.accounts.extend(accounts),
            _ => return Err(Failure::refused("the controller sent no list of accounts")),
        }
        found.trouble = page["trouble"].as_str().map(str::to_owned);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
            None => break,
        }
    }
    Ok(found)
}

fn table(accounts: &[Account]) -> Rows {
    let now = now();
    // With a single machine the column would say nothing.
    let has_machines = accounts.iter().any(|account| account.machine.is_some());
    let mut rows = match has_machines {
        true => Rows::new(&["NAME", "STATE", "MACHINE", "PORT", "PID", "REASON"], &[3, 4]),
        false => Rows::new(&["NAME", "STATE", "PORT", "PID", "REASON"], &[2, 3]),
    };
    for account in accounts {
        let mut cells = vec![account.name.clone(), account.word().to_owned()];
        cells.extend(has_machines.then(|| account.machine.clone().unwrap_or_else(|| LOCAL.to_owned())));
        cells.extend([
            number(account.client.port.filter(|_| account.client.phase != "gone")),
            number(account.client.pid),
            account.why(now),
        ]);
        rows.add(cells, account.mood());
    }
    rows
}

/// A number, or a dash where there is none.
pub(super) fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// The accounts as lines of a table.
pub(super) fn lines(context: &Context, accounts: &[Account], columns: Option<usize>) -> Vec<String> {
    table(accounts).lines(context.screen, columns)
}

pub(super) async fn show(context: &Context, name: &str) -> Outcome {
    let value = context.client.get(&path_of(name, "")).await.map_err(about(name))?;
    if context.json {
        return print_json(&value);
    }
    let account = Account::of(&value)?;
    let now = now();
    let mut text = String::new();
    let mut add = |label: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("{label:<15} {}\n", printable(value));
        }
    };
    add("name", &account.name);
    add("id", &account.id);
    let machine = account.machine.as_deref().unwrap_or_default();
    match account.is_away() {
        true => {
            let away = with_time("unreachable", account.machine_since, now);
            add("machine", &format!("{machine}: {away}: {}", account.reason()));
            add("", "what follows is from before");
        }
        false => add("machine", machine),
    }
    add("state", &with_time(&account.state, account.since, now));
    add("desired", &account.desired);
    add("reason", &if account.is_away() { String::new() } else { account.why(now) });
    add("needs a person", if account.needs_person { "yes" } else { "no" });
    add("backend", account.backend.as_deref().unwrap_or_default());
    add("client", &process(&account.client, now));
    if let Some(by) = &account.implementation {
        let kind = by.kind.as_ref().filter(|kind| **kind != by.name).map(|kind| format!(" ({kind})"));
        let process = by
            .process
            .as_ref()
            .map(|held| process(held, now))
            .unwrap_or_else(|| "not started yet".to_owned());
        add("held by", &format!("{}{}: {process}", by.name, kind.unwrap_or_default()));
    }
    if let Some(login) = &account.login {
        add("login", &with_time(&login.state, login.since, now));
        add("number", login.uin.as_deref().unwrap_or_default());
        add("nickname", login.nickname.as_deref().unwrap_or_default());
    }
    if let Some(usage) = &account.usage {
        let most = account.limits.as_ref().and_then(|limits| limits.memory_max);
        let most = most.map(|bytes| format!(" of at most {}", mebibytes(bytes))).unwrap_or_default();
        add("memory", &usage.memory.map(|bytes| mebibytes(bytes) + &most).unwrap_or_default());
        add("processor", &usage.cpu.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default());
    }
    let queues = [(account.queues.reports, "reports"), (account.queues.messages, "messages")];
    let waiting =
        queues.into_iter().filter_map(|(count, what)| Some(format!("{} {what}", count.filter(|n| *n > 0)?)));
    add("waiting", &waiting.collect::<Vec<_>>().join(", "));
    for (place, (name, value)) in account.parameters.iter().enumerate() {
        add(if place == 0 { "parameters" } else { "" }, &format!("{name}={value}"));
    }
    if !account.unused_parameters.is_empty() {
        add("without effect", &account.unused_parameters.join(", "));
    }
    print(&text)
}

/// A state with the time since when it is so.
fn with_time(state: &str, since: Option<u64>, now: u64) -> String {
    let time = since.map(|since| format!(", since {} ({})", shown(since), span(now.saturating_sub(since))));
    state.to_owned() + &time.unwrap_or_default()
}

/// Bytes for people.
pub(super) fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}

/// A process in a line.
fn process(process: &Process, now: u64) -> String {
    let mut text = process.phase.clone();
    let mut add = |part: String| text += &format!(", {part}");
    process.pid.into_iter().for_each(|pid| add(format!("pid {pid}")));
    process.port.into_iter().for_each(|port| add(format!("port {port}")));
    process.unit.iter().for_each(|unit| add(unit.clone()));
    if process.frozen {
        add("frozen".to_owned());
    }
    if process.held {
        add("held".to_owned());
    }
    if process.exits > 0 {
        add(format!("{} unasked exits", process.exits));
    }
    process.last_exit.iter().for_each(|exit| add(exit.clone()));
    process
        .next_start
        .into_iter()
        .for_each(|at| add(format!("starts again in {} s", at.saturating_sub(now))));
    text
}
