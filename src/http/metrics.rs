//! [`Scraping`]: the answer to a scrape of `/metrics`.

use std::sync::Arc;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};
use tracing::error;

use crate::accounts::Accounts;
use crate::blocking::BlockingTurns;
use crate::http::body::{Body, whole_body};
use crate::machines::{LinkState, Machine, Machines};
use crate::metrics::{AccountFacts, Facts, Format, MachineFacts, Metrics, ProcessKind, encode};
use crate::model::machine::MachineName;
use crate::registry::ClientView;
use crate::wire::Reply;

/// How many scrapes are answered at a time: Prometheus sends one, and people look at it now and then.
const SCRAPES: usize = 2;

/// Answers scrapes.
#[derive(Clone, Debug)]
pub struct Scraping {
    accounts: Accounts,
    machines: Machines,
    metrics: Arc<Metrics>,
    /// A thousand accounts are half a megabyte of text, for which no other request should wait.
    turns: BlockingTurns,
}

impl Scraping {
    /// Of these accounts and counters.
    pub fn new(accounts: Accounts, machines: Machines, metrics: Arc<Metrics>) -> Self {
        Self { accounts, machines, metrics, turns: BlockingTurns::new(SCRAPES) }
    }

    /// The response to a scrape.
    ///
    /// # Errors
    /// It could not be made, which the log explains.
    pub async fn answer(self, headers: HeaderMap) -> Result<Response<Body>, Reply> {
        let format = wanted(&headers);
        let Self { accounts, machines, metrics, turns } = self;
        let made = turns.run(move || {
            let mut facts = facts(&accounts, &metrics);
            facts.machines = machine_facts(&machines);
            encode(metrics, facts, format)
        });
        let text = match made.await {
            Ok(Ok(text)) => text,
            // The runtime ends, or there is a mistake in it.
            failed => {
                error!("the metrics could not be written: {failed:?}");
                return Err(Reply::busy());
            }
        };
        let mut response = Response::new(whole_body(text));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_name(ACCEPT));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// What is to be seen of all accounts now.
fn facts(accounts: &Accounts, metrics: &Metrics) -> Facts {
    let (clients, requests) =
        metrics.requests_in(|| accounts.clients.snapshot(), |list, name| list.get(name).is_some());
    let (implementations, logins) = (accounts.implementations.snapshot(), accounts.logins());
    let mut facts = Facts::default();
    facts.requests = requests;
    for (kind, list) in [(ProcessKind::Client, &clients), (ProcessKind::Implementation, &implementations)] {
        facts.write_fails[kind as usize] = list.write_error().is_some();
        list.iter().for_each(|view| facts.count(kind, view.record.phase));
    }
    let account = |(name, view): (_, &Arc<ClientView>)| {
        let implementation = implementations.get(name).map(|view| &view.record);
        AccountFacts::new(&view.record, implementation, logins.get(name).map(AsRef::as_ref))
    };
    facts.accounts = clients.named().map(account).collect();
    facts
}

/// What is to be seen of other machines.
fn machine_facts(machines: &Machines) -> Vec<MachineFacts> {
    let facts = |(name, machine): (&MachineName, &Machine)| MachineFacts {
        name: name.as_str().to_owned(),
        is_reachable: matches!(machine.link, LinkState::Reachable { .. }),
        accounts: machine.accounts.len() as u64,
    };
    machines.look(|table| table.machines().iter().map(facts).collect())
}

/// The format that a caller wants (RFC 9110, 12.5.1). OpenMetrics only for one that names it: people read the other one.
fn wanted(headers: &HeaderMap) -> Format {
    let (mut open, mut text) = (0.0_f32, 0.0_f32);
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1.0, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match (name.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(weight),
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(weight),
            _ => {}
        }
    }
    if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format::{OpenMetrics, Prometheus};

    #[test]
    fn accept_decides_on_the_format() {
        // What Prometheus 2.42 and 3.5 send.
        const EARLIER: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                               text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const LATER: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Prometheus),
            ("text/plain;version=0.0.4;q=1, */*;q=0.1", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.5", Prometheus),
            (EARLIER, OpenMetrics),
            (LATER, OpenMetrics),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wanted(&headers), format, "{accept}");
        }
        assert_eq!(wanted(&HeaderMap::new()), Prometheus);
    }
}
