//! [`Login`]: whether an account with an implementation is logged in, as far as that is known, and [`LoginTracker`], which
//! concludes it from what the implementation, its process, its login code and the client say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::state::ClientState;

/// Where the login of an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginState {
    /// The implementation starts, or logs in with what it saved.
    Starting,
    /// A code waits to be scanned.
    Code,
    /// The code was scanned, and waits for the press of a button on the phone.
    Confirming,
    /// Logged in.
    Online,
    /// Logged in before, and out of reach of the network for now.
    Offline,
    /// The network ended the login: elsewhere, or by a person.
    PutOut,
    /// The implementation does not tell.
    Unknown,
}

impl LoginState {
    /// The word for callers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Code => "code",
            Self::Confirming => "confirming",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::PutOut => "put_out",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a person with a phone is expected to act. Nothing may be started anew meanwhile.
    pub fn waits_for_a_person(self) -> bool {
        matches!(self, Self::Code | Self::Confirming)
    }
}

/// What an implementation says about its login, before it is compared with what else is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is logged in.
    Online,
    /// It is not logged in, and does not say more.
    NotLoggedIn,
    /// It starts, or logs in with what it saved.
    Starting,
    /// It waits for a scan.
    Code,
    /// It waits for the press of a button on the phone.
    Confirming,
    /// It was logged in, and has no connection to the network, or has lost its login.
    Offline,
    /// It can't tell.
    Unknown,
}

/// An answer of an implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginAnswer {
    /// What it says.
    pub said: Said,
    /// Why it is so, in its words.
    pub reason: Option<Arc<str>>,
    /// The number of the account.
    pub uin: Option<String>,
    /// Its name on the network.
    pub nickname: Option<String>,
}

impl LoginAnswer {
    /// The longest name that is kept, in bytes; a longer one is cut.
    pub const NAME_MAX: usize = 200;
    /// The longest reason that is kept, in bytes; a longer one is cut.
    pub const REASON_MAX: usize = 500;

    /// An answer with nothing more to it.
    pub fn of(said: Said) -> Self {
        Self { said, reason: None, uin: None, nickname: None }
    }

    /// The same with a reason. Control characters become spaces, since it becomes part of a log line.
    pub fn because(self, reason: &str) -> Self {
        let reason = cut(reason.trim(), Self::REASON_MAX).replace(char::is_control, " ");
        Self { reason: (!reason.is_empty()).then(|| reason.into()), ..self }
    }

    /// The same with the account's number and name, as the implementation wrote them.
    pub fn named(self, uin: Option<&str>, nickname: Option<&str>) -> Self {
        let is_uin = |uin: &&str| {
            (1..=20).contains(&uin.len()) && uin.bytes().all(|byte| byte.is_ascii_digit()) && *uin != "0"
        };
        let nickname = nickname.map(|name| cut(name, Self::NAME_MAX)).filter(|name| !name.is_empty());
        Self {
            uin: uin.filter(is_uin).map(str::to_owned),
            nickname: nickname.map(|name| name.replace(char::is_control, " ")),
            ..self
        }
    }
}

/// The beginning of a text, at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The login of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The state.
    pub state: LoginState,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Why it is so.
    pub reason: Option<Arc<str>>,
    /// The number of the account, once the implementation told it.
    pub uin: Option<String>,
    /// Its name on the network, once the implementation told it.
    pub nickname: Option<String>,
    /// The end of its last login, if the network ended that and it was not logged in since.
    pub put_out: Option<PutOut>,
}

/// A login that the network has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOut {
    /// When, in Unix seconds.
    pub at: u64,
    /// Why, as far as that was told.
    pub reason: Option<Arc<str>>,
}

impl fmt::Display for PutOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the network ended its login")?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

impl Login {
    /// A login of which nothing is known yet.
    pub fn starting(now: u64) -> Self {
        Self {
            state: LoginState::Starting,
            since: now,
            reason: None,
            uin: None,
            nickname: None,
            put_out: None,
        }
    }

    /// The state of the account in the words of the original: never `running` while the account is not logged in. `client` is
    /// what its client says.
    pub fn client_state(&self, client: ClientState) -> ClientState {
        // A client that has ended, or is about to, is in no other state.
        if client == ClientState::Stop {
            return client;
        }
        match self.state {
            LoginState::Code => ClientState::Scaning,
            LoginState::Confirming => ClientState::Confirming,
            LoginState::Starting | LoginState::Offline | LoginState::PutOut
                if client == ClientState::Running =>
            {
                ClientState::Loading
            }
            _ => client,
        }
    }
}

/// What the process of an implementation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSays<'a> {
    /// It is being started, or waits for that.
    Starting,
    /// It runs. The answer to the last question, if there was one; none where it did not answer.
    Up(Option<&'a LoginAnswer>),
    /// It has ended, and why.
    Gone(Option<&'a str>),
}

/// What is known besides the answer of the implementation.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The age of the image of its login code, if there is one of this start.
    pub code_age: Option<Duration>,
    /// How long such a code can be scanned.
    pub code_lifetime: Duration,
    /// What the account's client says.
    pub client: &'a ClientState,
    /// Why the client is in that state.
    pub client_reason: Option<&'a str>,
    /// Whether the client ended because the network ended the login.
    pub client_put_out: bool,
}

/// A change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: LoginState,
    /// The state now.
    pub to: LoginState,
    /// The network has ended the login.
    pub put_out: bool,
}

/// Concludes from all that is known where the login of one account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginTracker {
    login: Login,
    /// Whether this process of the implementation was logged in.
    was_online: bool,
    /// Whether this process of the client reached the account through it.
    was_running: bool,
    /// Since when it says that it is logged in while the client does not reach the account, in Unix seconds.
    unreached_since: Option<u64>,
    /// When it was online last, in Unix seconds. A code from before was the one that was scanned.
    last_online: u64,
    /// Why it was offline last, in the words of its implementation.
    offline_reason: Option<Arc<str>>,
}

impl LoginTracker {
    /// A tracker that knows nothing yet.
    pub fn new(now: u64) -> Self {
        Self {
            login: Login::starting(now),
            was_online: false,
            was_running: false,
            unreached_since: None,
            last_online: 0,
            offline_reason: None,
        }
    }

    /// The login as it is known.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Another process has the account. What the last one said counts no more.
    pub fn process_changed(&mut self) {
        (self.was_online, self.was_running, self.unreached_since) = (false, false, None);
    }

    /// Another process is its client, which has to reach the account first.
    pub fn client_changed(&mut self) {
        (self.was_running, self.unreached_since) = (false, None);
    }

    /// Concludes anew. Returns what has changed.
    pub fn conclude(
        &mut self,
        now: u64,
        process: ProcessSays<'_>,
        evidence: &Evidence<'_>,
    ) -> Option<Transition> {
        let (state, reason) = match process {
            _ if evidence.client_put_out => (LoginState::PutOut, evidence.client_reason.map(Into::into)),
            ProcessSays::Starting => (LoginState::Starting, None),
            ProcessSays::Gone(why) => (LoginState::Offline, why.map(Into::into)),
            // Asked and not answered: it hangs, or does not listen yet.
            ProcessSays::Up(None) if self.was_online => (LoginState::Offline, Some(SILENT.into())),
            ProcessSays::Up(None) => (LoginState::Starting, None),
            ProcessSays::Up(Some(answer)) => self.of_answer(now, answer, evidence),
        };
        let was_known = self.login.state == LoginState::PutOut;
        let put_out =
            !was_known && (state == LoginState::PutOut || self.was_online && state.waits_for_a_person());
        match state {
            LoginState::Online => {
                (self.was_online, self.last_online) = (true, now);
                (self.login.put_out, self.offline_reason) = (None, None);
            }
            // It logs in from the start again. What comes next is no loss.
            _ if put_out => {
                (self.was_online, self.was_running) = (false, false);
                // With a code, it has already forgotten why.
                let reason = reason.clone().or_else(|| self.offline_reason.take());
                self.login.put_out = Some(PutOut { at: now, reason });
            }
            _ => {}
        }
        if let ProcessSays::Up(Some(answer)) = process {
            // What it does not repeat has not changed.
            for (known, told) in
                [(&mut self.login.uin, &answer.uin), (&mut self.login.nickname, &answer.nickname)]
            {
                if told.is_some() {
                    known.clone_from(told);
                }
            }
        }
        self.login.reason = reason;
        let from = std::mem::replace(&mut self.login.state, state);
        (from != state).then(|| {
            self.login.since = now;
            Transition { from, to: state, put_out }
        })
    }

    fn of_answer(
        &mut self,
        now: u64,
        answer: &LoginAnswer,
        evidence: &Evidence<'_>,
    ) -> (LoginState, Option<Arc<str>>) {
        let reason = answer.reason.clone();
        match answer.said {
            Said::Online => self.of_client(now, reason, evidence),
            Said::NotLoggedIn => {
                match evidence.code_age.filter(|age| now.saturating_sub(age.as_secs()) > self.last_online) {
                    Some(age) if age < evidence.code_lifetime => (LoginState::Code, reason),
                    _ if self.was_online => (LoginState::Offline, reason),
                    Some(_) => (LoginState::Starting, Some(EXPIRED.into())),
                    None => (LoginState::Starting, reason),
                }
            }
            Said::Starting if self.was_online && !self.was_running => self.unreached(now, reason, evidence),
            Said::Starting if self.was_online => (LoginState::Offline, reason),
            Said::Starting => (LoginState::Starting, reason),
            Said::Code => (LoginState::Code, reason),
            Said::Confirming => (LoginState::Confirming, reason),
            Said::Offline => {
                self.offline_reason = reason.clone().or_else(|| self.offline_reason.take());
                (LoginState::Offline, reason)
            }
            Said::Unknown => (LoginState::Unknown, reason),
        }
    }

    /// Concludes from what the client says of an account that is logged in, by what its implementation says. Calls go through the
    /// client; and LLBot says that it is logged in while it has no connection to the network, which the client learns by the
    /// heartbeats.
    fn of_client(
        &mut self,
        now: u64,
        reason: Option<Arc<str>>,
        evidence: &Evidence<'_>,
    ) -> (LoginState, Option<Arc<str>>) {
        match evidence.client {
            // A client that ends says nothing more.
            ClientState::Stop if self.login.state == LoginState::Offline => {
                (LoginState::Offline, self.login.reason.clone())
            }
            ClientState::Init | ClientState::Loading => self.unreached(now, reason, evidence),
            client => {
                self.was_running |= matches!(client, ClientState::Running | ClientState::Updating);
                self.unreached_since = None;
                (LoginState::Online, reason)
            }
        }
    }

    /// Concludes where the client does not reach an account that should be online.
    fn unreached(
        &mut self,
        now: u64,
        reason: Option<Arc<str>>,
        evidence: &Evidence<'_>,
    ) -> (LoginState, Option<Arc<str>>) {
        let reason = evidence.client_reason.map(Into::into).or(reason);
        let since = *self.unreached_since.get_or_insert(now);
        if self.was_running || now.saturating_sub(since) >= REACHED_WITHIN {
            return (LoginState::Offline, reason);
        }
        match self.login.state {
            // Its client begins anew, which says nothing about the login.
            LoginState::Online | LoginState::Offline => (self.login.state, self.login.reason.clone()),
            _ => (LoginState::Starting, reason),
        }
    }
}

/// How long a client may take to reach an account that is logged in, in seconds.
const REACHED_WITHIN: u64 = 60;

/// The reason where an implementation that was logged in is silent.
const SILENT: &str = "its implementation does not answer";
/// The reason where it has shown no new code.
const EXPIRED: &str = "its login code has expired";

#[cfg(test)]
mod tests;
