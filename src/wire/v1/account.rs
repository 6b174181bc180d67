//! [`Account`]: what `/v1` says of an account.

use std::collections::BTreeMap;

use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::model::client::{ClientRecord, Phase};
use crate::model::login::{Login, LoginState};
use crate::model::state::{ClientState, Queues};
use crate::wire::v1::requests::DesiredState;
use crate::wire::v1::usage::Usage;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Account {
    /// Its name, unique on this controller.
    #[schema(example = "小明")]
    pub name: String,
    /// The ID in the names of its units and folders.
    #[schema(example = "bot-1")]
    pub id: String,
    /// How far it is: `init`, `loading`, `scaning`, `confirming`, `updating`, `running` or `stop`, as in check_client; a client that
    /// is not the built-in one may say another word.
    #[schema(example = "running")]
    pub state: String,
    /// Since when it is that, in Unix seconds. Left out where it is not known: of some accounts, after the controller was started
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// What callers want it to be.
    pub desired: DesiredState,
    /// Why it does not get on, if that is known.
    pub reason: Option<String>,
    /// Whether it stays as it is until a person acts: scans a code, or starts it again.
    pub needs_person: bool,
    /// Its client.
    pub client: Process,
    /// The program that holds it, if the controller runs one.
    pub implementation: Option<Implementation>,
    /// Where its login stands, if the controller runs the program that holds it.
    pub login: Option<LoginStatus>,
    /// What it was started with, without secrets.
    pub parameters: BTreeMap<String, String>,
    /// The names of parameters that have no effect, such as a misspelt one. Only the built-in client says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unused_parameters: Vec<String>,
    /// What waits in its client, while that says so. The built-in one counts every 15 s.
    pub queues: Queues,
    /// The network that its client is on, such as `onebot`, `milky` or `sandbox`, a made-up world to try programs in; null where the
    /// client does not say, as a program other than the built-in one, or one that has ended.
    #[schema(example = "sandbox")]
    pub backend: Option<String>,
    /// What its client may use at most. Left out where clients are no units of systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What its processes use: in lists at most some 30 s old, of one account as it is now. Left out while it is not known, and of
    /// an account without a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A process of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Process {
    /// What the controller knows of it.
    pub phase: ProcessPhase,
    /// Since when that is so, in Unix seconds. Left out while nothing has changed since the controller was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Its pid, while there is one.
    pub pid: Option<u32>,
    /// Its port on 127.0.0.1.
    #[schema(example = 5000)]
    pub port: u16,
    /// The unit of systemd that it is when it runs, where processes are units.
    #[schema(example = "wqclient@bot-1.service")]
    pub unit: Option<String>,
    /// Whether an operator froze it.
    pub frozen: bool,
    /// Whether it is not started again without a call.
    pub held: bool,
    /// How often it ended unasked since a caller started it.
    pub exits: u32,
    /// How it ended the last time.
    #[schema(example = "was ended by signal 9")]
    pub last_exit: Option<String>,
    /// When it is started again, in Unix seconds.
    pub next_start: Option<u64>,
}

/// What the controller knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessPhase {
    /// It has a port, and is not launched yet.
    Reserved,
    /// It is being launched.
    Starting,
    /// It runs.
    Up,
    /// It is being stopped.
    Stopping,
    /// There is none.
    Gone,
}

/// The program of another project that holds an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Implementation {
    /// Its name in the configuration.
    #[schema(example = "llbot")]
    pub name: String,
    /// What it is; none where the configuration has no such implementation any more.
    #[schema(example = "llbot")]
    pub kind: Option<&'static str>,
    /// Its process; none before its first start.
    pub process: Option<Process>,
    /// Why it ended, or could not be started.
    pub reason: Option<String>,
}

/// Where the login of an account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LoginStatus {
    /// The state.
    pub state: LoginState,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Why it is so.
    pub reason: Option<String>,
    /// The number of the account, once it is known.
    pub uin: Option<String>,
    /// Its name on the network, once it is known.
    pub nickname: Option<String>,
    /// The end of its last login, if the network ended that and it was not logged in since.
    pub put_out: Option<PutOut>,
}

/// A login that the network has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PutOut {
    /// When, in Unix seconds.
    pub at: u64,
    /// Why, as far as that was told.
    pub reason: Option<String>,
}

/// What the client of an account may use, by `[limits]` of the configuration. Null: as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Limits {
    /// Bytes of memory; a client that needs more is killed.
    pub memory_max: Option<u64>,
    /// Bytes of memory; a client that needs more is slowed down.
    pub memory_high: Option<u64>,
    /// Microseconds of processor time in each second, of all processors together.
    pub cpu_quota: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}

/// The parameter that the controller adds to each start.
const REGISTRATION: &str = "registration";

/// A process as a registry has it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// What is known of it.
    pub record: &'a ClientRecord,
    /// Since when its phase is what it is, in Unix seconds.
    pub since: Option<u64>,
    /// When it is started again, in Unix seconds.
    pub next_start: Option<u64>,
    /// Its unit, also while it does not run.
    pub unit: Option<&'a str>,
}

impl Process {
    fn new(recorded: Recorded) -> Self {
        let Recorded { record, since, next_start, unit } = recorded;
        let history = &record.history;
        Self {
            phase: record.phase.into(),
            since,
            pid: record.pid(),
            port: record.port,
            unit: record.unit().or(unit).map(str::to_owned),
            frozen: record.frozen,
            held: history.held,
            exits: history.exits,
            last_exit: history.last_exit.map(|exit| exit.to_string()),
            next_start,
        }
    }
}

/// A text to be shown: of a URL, neither the user nor the query, which may hold a password or a token.
fn without_credentials(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !has_user && url.query().is_none() {
        return text.to_owned();
    }
    // Only a URL without a host has no place for a user, and then there is none to be hidden.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.into()
}

impl Account {
    /// An account without an implementation.
    pub fn new(client: Recorded) -> Self {
        let record = client.record;
        let state = record.state();
        let process = Process::new(client);
        // What a process that is gone said last holds no more.
        let report = record.report.as_ref().filter(|_| process.phase != ProcessPhase::Gone);
        let reason = match process.phase {
            ProcessPhase::Gone => record.history.reason.clone(),
            _ => report.and_then(|report| report.reason()),
        };
        // Its client sees what the controller itself sets as well.
        let given = |name: &&str| {
            *name != REGISTRATION && record.spec.params.keys().any(|given| given.eq_ignore_ascii_case(name))
        };
        let unused = report.iter().flat_map(|report| report.unused.iter().map(|name| &**name)).filter(given);
        let parameters = record.spec.params.iter().filter(|(_, value)| !value.secret);
        let parameters = parameters.map(|(name, value)| (name.clone(), without_credentials(&value.text)));
        Self {
            name: record.spec.name.to_string(),
            id: record.spec.id.to_string(),
            state: state.as_str().to_owned(),
            since: report.and_then(|report| report.since).or(client.since),
            desired: match record.history.stopped {
                true => DesiredState::Stopped,
                false => DesiredState::Running,
            },
            reason: reason.as_deref().map(str::to_owned),
            needs_person: process.held && !record.history.stopped
                || matches!(state, ClientState::Scaning | ClientState::Confirming),
            client: process,
            implementation: None,
            login: None,
            unused_parameters: unused.map(str::to_owned).collect(),
            parameters: parameters.collect(),
            queues: report.map(|report| report.queues).unwrap_or_default(),
            backend: report.and_then(|report| report.backend.as_deref().map(str::to_owned)),
            limits: None,
            usage: None,
        }
    }

    /// The same with its implementation: its name, its kind, and its process.
    pub fn with_implementation(
        mut self,
        (name, kind): (&str, Option<&'static str>),
        process: Option<Recorded>,
    ) -> Self {
        let gone =
            process.map(|process| process.record).filter(|record| matches!(record.phase, Phase::Gone(_)));
        let reason = gone.and_then(|record| record.history.reason.as_deref().map(str::to_owned));
        let process = process.map(Process::new);
        self.needs_person |= process.as_ref().is_some_and(|process| process.held);
        // What the controller itself reads has an effect.
        self.unused_parameters.retain(|name| name != "implementation" && name != "uin");
        self.implementation = Some(Implementation { name: name.to_owned(), kind, process, reason });
        self
    }

    /// The same with its login; `client` is what its client says.
    pub fn with_login(mut self, login: &Login, client: ClientState) -> Self {
        self.state = login.client_state(client).as_str().to_owned();
        self.since = Some(login.since);
        // While it logs in, calls of the client fail as they must. What counts then is what the implementation says.
        match (&login.put_out, login.state) {
            (Some(ended), _) => self.reason = Some(ended.to_string()),
            (None, LoginState::Starting | LoginState::Code | LoginState::Confirming) => {
                self.reason = login.reason.as_deref().map(str::to_owned);
            }
            _ => {}
        }
        self.needs_person |= login.state.waits_for_a_person() || login.state == LoginState::PutOut;
        self.login = Some(LoginStatus {
            state: login.state,
            since: login.since,
            reason: login.reason.as_deref().map(str::to_owned),
            uin: login.uin.clone(),
            nickname: login.nickname.clone(),
            put_out: login
                .put_out
                .as_ref()
                .map(|ended| PutOut { at: ended.at, reason: ended.reason.as_deref().map(str::to_owned) }),
        });
        self
    }
}

impl From<Phase> for ProcessPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Reserved => Self::Reserved,
            Phase::Starting => Self::Starting,
            Phase::Up => Self::Up,
            Phase::Stopping => Self::Stopping,
            Phase::Gone(_) => Self::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_not_shown() {
        for (text, shown) in [
            ("http://user:word@host:1/x?token=y", "http://host:1/x?..."),
            ("http://word@host/", "http://host/"),
            ("http://host/x", "http://host/x"),
            ("HTTP://host", "HTTP://host"),
            ("debug", "debug"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }
}
