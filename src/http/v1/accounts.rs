//! The list of accounts, by filters and in pages, and one account.

use http::Response;
use http::request::Parts;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::refusals::{OneAccount, Reading, WithQuery};
use super::{V1, text, unless_known, unless_tagged};
use crate::config::Settings;
use crate::http::body::Body;
use crate::http::etag;
use crate::http::request::params::Params;
use crate::machines::ListedElsewhere;
use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;
use crate::wire::door::DOOR;
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::account::Account;
use crate::wire::v1::problem::Problem;

/// The most accounts of one page.
const MOST: usize = 1000;

/// Accounts, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountPage {
    /// The accounts of this page.
    accounts: Vec<Account>,
    /// How many accounts the filters leave, on all pages.
    #[schema(example = 12)]
    total: usize,
    /// For `after` of the next page; none on the last one.
    next: Option<String>,
    /// Why no account can be started or stopped just now, such as a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// An account of a list.
enum Listed<'a> {
    /// One of this machine.
    Here(Box<Account>),
    /// One of another machine.
    Elsewhere(ListedElsewhere<'a>),
}

impl Listed<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Here(account) => &account.name,
            Self::Elsewhere(account) => &account.name,
        }
    }

    fn write_json(&self, text: &mut String) {
        match self {
            // Our own type: no map of it has keys other than text, so it can't fail.
            Self::Here(account) => text.push_str(&serde_json::to_string(account).unwrap_or_default()),
            Self::Elsewhere(account) => account.write_json(text),
        }
    }
}

/// Which accounts are listed, and which page of them. What is not given leaves all.
#[derive(Debug, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
struct AccountQuery {
    /// A part of the name.
    q: Option<String>,
    /// The `state`.
    #[param(example = "running")]
    state: Option<String>,
    /// The state of the login.
    #[param(example = "online")]
    login: Option<String>,
    /// Whether a person has to act.
    needs_person: Option<bool>,
    /// The machine; `local` is the one that is called.
    #[param(example = "tokyo")]
    machine: Option<String>,
    /// Only accounts that follow this name.
    after: Option<String>,
    /// How many accounts a page has.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
}

impl AccountQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let invalid = |error: String| Problem::invalid_parameter(error);
        let mut params = Params::parse(query.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let mut take = |name: &str| params.remove(name);
        let needs_person = match take("needs_person").as_deref() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(invalid("needs_person must be true or false".to_owned())),
        };
        let limit = match take("limit").map(|text| text.parse()) {
            None => None,
            Some(Ok(limit)) if (1..=MOST).contains(&limit) => Some(limit),
            Some(_) => return Err(invalid(format!("limit must be a number from 1 to {MOST}"))),
        };
        let query = Self {
            q: take("q"),
            state: take("state"),
            login: take("login"),
            needs_person,
            machine: take("machine"),
            after: take("after"),
            limit,
        };
        match params.names().next() {
            Some(name) => Err(invalid(format!("there is no parameter {name:?} here"))),
            None => Ok(query),
        }
    }

    fn takes(&self, account: &Looked<'_>) -> bool {
        self.q.as_deref().is_none_or(|part| account.name.contains(part))
            && self.state.as_deref().is_none_or(|state| account.state == state)
            && self.login.as_deref().is_none_or(|state| account.login == Some(state))
            && self.needs_person.is_none_or(|needs| account.needs_person == needs)
            && self.machine.as_deref().is_none_or(|machine| account.machine == machine)
    }
}

/// What a query looks at.
struct Looked<'a> {
    name: &'a str,
    state: &'a str,
    login: Option<&'a str>,
    needs_person: bool,
    machine: &'a str,
}

/// Lists accounts.
///
/// All of them, or those of a query, in the order of their names.
#[utoipa::path(
    get,
    path = "/v1/clients",
    params(AccountQuery),
    responses(
        (status = 200, description = "The accounts", body = AccountPage),
        (status = 304, description = "What `If-None-Match` names is still so"),
        Reading,
        WithQuery,
    )
)]
pub(super) fn list(v1: &V1, settings: &Settings, request: &Parts) -> Result<Response<Body>, Problem> {
    let query = AccountQuery::parse(request.uri.query().unwrap_or_default())?;
    if let Some(machine) = query.machine.as_deref().filter(|machine| *machine != LOCAL)
        && !MachineName::new(machine)
            .is_ok_and(|name| v1.machines.look(|table| table.machines().contains_key(&name)))
    {
        return Err(Problem::from(&MachineRefusal::NoSuchMachine(machine.to_owned())));
    }
    let (accounts, goes_on) = (&v1.accounts, !request.headers.contains_key(DOOR));
    let snapshot = accounts.clients.snapshot();
    let usages = accounts.usages();
    let account = |view| Account { usage: usages.of(view), ..accounts.account(view, settings) };
    let own: Vec<_> = snapshot.named().map(|(name, view)| (name, account(view))).collect();
    let trouble = accounts.write_error().as_deref().map(str::to_owned);
    let text = v1.machines.look(|table| {
        let mut found = Found { query: &query, total: 0, listed: Vec::new() };
        for (name, mut account) in own {
            if goes_on && table.hides_own(name) {
                continue;
            }
            if goes_on && table.knows(name) {
                account.name = format!("{}@{LOCAL}", account.name);
            }
            found.add(Listed::Here(Box::new(account)));
        }
        if goes_on {
            let names = snapshot.named().map(|(name, _)| name);
            table.each_account(names, |account| found.add(Listed::Elsewhere(account)));
        }
        found.page(trouble)
    });
    Ok(unless_known(request, text.into()))
}

/// What a query has found.
struct Found<'a> {
    query: &'a AccountQuery,
    /// How many accounts it takes.
    total: usize,
    /// Those of them that follow `after`.
    listed: Vec<Listed<'a>>,
}

impl<'a> Found<'a> {
    fn add(&mut self, listed: Listed<'a>) {
        let looked = match &listed {
            Listed::Here(account) => Looked {
                name: &account.name,
                state: &account.state,
                login: account.login.as_ref().map(|login| login.state.as_str()),
                needs_person: account.needs_person,
                machine: LOCAL,
            },
            Listed::Elsewhere(ListedElsewhere { name, machine, account, .. }) => Looked {
                name,
                state: &account.state,
                login: account.login.as_deref(),
                needs_person: account.needs_person,
                machine: machine.as_str(),
            },
        };
        if self.query.takes(&looked) {
            self.total += 1;
            if self.query.after.as_deref().is_none_or(|after| listed.name() > after) {
                self.listed.push(listed);
            }
        }
    }

    /// The first page of what was found, as JSON.
    fn page(self, trouble: Option<String>) -> String {
        let Self { query, total, mut listed } = self;
        let limit = query.limit.unwrap_or(MOST);
        let has_next = listed.len() > limit;
        if has_next {
            // All need not be sorted for a part of them.
            listed.select_nth_unstable_by(limit, |one, other| one.name().cmp(other.name()));
            listed.truncate(limit);
        }
        listed.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let next = listed.last().filter(|_| has_next).map(|last| last.name().to_owned());
        // Accounts are put into a page without any: what other machines tell is text already.
        let page = AccountPage { accounts: Vec::new(), total, next, trouble };
        let page = serde_json::to_string(&page).unwrap_or_default();
        let (begin, end) = page.split_once(']').unwrap_or_default();
        let mut text = begin.to_owned();
        for (index, account) in listed.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            account.write_json(&mut text);
        }
        text.push(']');
        text.push_str(end);
        text
    }
}

/// Shows an account.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 304, description = "What `If-None-Match` names is still so"),
        Reading,
        OneAccount,
    )
)]
pub(super) async fn one(
    v1: &V1,
    settings: &Settings,
    request: &Parts,
    name: &ClientName,
) -> Result<Response<Body>, Problem> {
    let accounts = &v1.accounts;
    let view = accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
    let account = accounts.account(&view, settings);
    // Its tag is that of all else: what it uses is another number each time.
    let tag = etag::of(&text(&account));
    let account = Account { usage: accounts.usage(&view).await, ..account };
    Ok(unless_tagged(request, &tag, text(&account)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_mistakes_are_named() {
        let query = AccountQuery::parse("q=bot&state=running&needs_person=true&after=a&limit=10").unwrap();
        let expected = AccountQuery {
            q: Some("bot".into()),
            state: Some("running".into()),
            login: None,
            needs_person: Some(true),
            machine: None,
            after: Some("a".into()),
            limit: Some(10),
        };
        assert_eq!(query, expected);
        assert_eq!(AccountQuery::parse(""), Ok(AccountQuery::default()));
        for (query, why) in [
            ("limit=0", "limit must be a number from 1 to 1000"),
            ("limit=1001", "limit must be a number from 1 to 1000"),
            ("limit=x", "limit must be a number from 1 to 1000"),
            ("needs_person=1", "needs_person must be true or false"),
            ("page=2", "there is no parameter \"page\" here"),
            ("q=a&q=b", "parameter \"q\" is given twice"),
        ] {
            assert_eq!(AccountQuery::parse(query).unwrap_err().detail, why, "{query}");
        }
    }
}
