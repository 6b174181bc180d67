//! [`LoginPolicy`]: what is done about an account that is not logged in, and which changes are news.

use std::sync::Arc;
use std::time::Duration;

use super::{Login, LoginState, Transition};

/// The pause after the first new start because of a lost login, in seconds. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: u64 = 60;
/// The longest pause between two such starts, in seconds.
const LONGEST_PAUSE: u64 = 900;
/// How long an account is online, in seconds, until its losses before count no more.
const HEALTHY: u64 = 600;
/// How long a new start counts as under way, in seconds from when its process is there, where it leads neither to a login nor to
/// a code.
const UNDER_WAY: u64 = 30;
/// The same from when it was asked for. One that fails again and again must not keep others from being started.
const UNDER_WAY_AT_MOST: u64 = 120;
/// After how many ends in a row an implementation is said to be in a crash loop.
const CRASH_LOOP: u32 = 3;

/// What the operator wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRules {
    /// How long an account is offline before something is done about it.
    pub offline_after: Duration,
    /// What is done then.
    pub when_offline: WhenOffline,
    /// What is done where the network ended a login.
    pub when_put_out: WhenPutOut,
    /// How many login codes are shown in a row without a scan. Then the implementation is held.
    pub code_attempts: u32,
}

/// What is done about an account that is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenOffline {
    /// Its implementation is started anew.
    Restart,
    /// Nothing.
    Wait,
    /// Its implementation is ended and held.
    Hold,
}

/// What is done about an account whose login the network has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenPutOut {
    /// Its implementation is started anew without its saved login, so that a scan puts it right.
    Code,
    /// Its implementation is ended and held.
    Hold,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginAction {
    /// The implementation is started anew.
    Relaunch,
    /// The implementation is started anew without its saved login, and the client where it has ended.
    AskForScan,
    /// The implementation is ended and held, for this reason.
    Hold(Arc<str>),
}

/// A change that people may want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoginEvent {
    /// The account went offline.
    Offline,
    /// It is online again.
    Online,
    /// The network ended its login.
    PutOut,
    /// A code waits to be scanned.
    CodeWaits,
    /// No code was scanned; the implementation is held.
    NotScanned,
    /// The implementation is held for another reason.
    Held,
    /// The implementation ends again and again.
    CrashLoop,
}

impl LoginEvent {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Offline,
        Self::Online,
        Self::PutOut,
        Self::CodeWaits,
        Self::NotScanned,
        Self::Held,
        Self::CrashLoop,
    ];

    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "online",
            Self::PutOut => "put_out",
            Self::CodeWaits => "code",
            Self::NotScanned => "not_scanned",
            Self::Held => "held",
            Self::CrashLoop => "crash_loop",
        }
    }

    /// The words for people: what follows the name of the account.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Offline => "is offline",
            Self::Online => "is online again",
            Self::PutOut => "was logged out by the network",
            Self::CodeWaits => "waits for its login code to be scanned",
            Self::NotScanned => "is held: none of its login codes was scanned",
            Self::Held => "is held",
            Self::CrashLoop => "has an implementation that ends again and again",
        }
    }
}

/// What is known about an account at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Unix seconds.
    pub now: u64,
    /// Where the login stands.
    pub login: &'a Login,
    /// What has just changed about it.
    pub change: Option<Transition>,
    /// When the image of its login code was written, in Unix seconds, where there is one.
    pub code_written: Option<u64>,
    /// Whether the implementation shows a new code by itself when one has expired.
    pub renews_codes: bool,
    /// Whether the implementation runs.
    pub is_up: bool,
    /// Whether the implementation is held, and its ends in a row.
    pub held: bool,
    /// How often the implementation ended in a row.
    pub failures: u32,
    /// Since when the network is there, in Unix seconds; none while it is not.
    pub network_since: Option<u64>,
    /// Whether one more may be started now.
    pub may_start: bool,
}

/// What was done about one account, and told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginPolicy {
    /// New starts since the account was well, and when the next one may follow.
    starts: u32,
    next_start: u64,
    /// When it was started anew last, while that is under way.
    started: Option<u64>,
    /// When it had no process last.
    last_down: u64,
    /// The codes that were shown since the last login, and when the last one was written.
    codes: u32,
    last_code: u64,
    /// Whether the end of the login was acted on.
    put_out_done: bool,
    /// Whether it was started after that, and the end of the login is still seen.
    is_let_go: bool,
    /// Whether a person was told of something that is not well.
    is_told: bool,
    was_held: bool,
    was_looping: bool,
    /// When it was to be held, until it is.
    holding: Option<u64>,
}

impl LoginPolicy {
    /// Whether a new start of it is under way.
    pub fn is_starting(&self, now: u64) -> bool {
        self.started.is_some_and(|started| {
            now < (started.max(self.last_down) + UNDER_WAY).min(started + UNDER_WAY_AT_MOST)
        })
    }

    /// Decides what to do, and what to tell.
    pub fn decide(
        &mut self,
        rules: &LoginRules,
        facts: &Facts<'_>,
    ) -> (Option<LoginAction>, Vec<LoginEvent>) {
        let mut events = Vec::new();
        if !facts.is_up {
            self.last_down = facts.now;
        }
        if self.holding.is_some_and(|asked| !facts.held && facts.now < asked + UNDER_WAY) {
            return (None, events);
        }
        self.holding = None;
        if self.was_held && !facts.held {
            // A call or an operator started it. Its client may not run again yet: an end of the login that was acted on is no new one.
            let is_known = self.put_out_done && facts.login.state == LoginState::PutOut;
            *self = Self {
                is_told: self.is_told,
                put_out_done: is_known,
                is_let_go: is_known,
                ..Self::default()
            };
        }
        if self.is_let_go && facts.login.state != LoginState::PutOut {
            (self.put_out_done, self.is_let_go) = (false, false);
        }
        let new_code = facts
            .code_written
            .filter(|written| facts.login.state == LoginState::Code && *written > self.last_code);
        if let Some(written) = new_code {
            (self.last_code, self.codes) = (written, self.codes.saturating_add(1));
        }
        self.follow(facts, &mut events);
        let action = match facts.held {
            true => None,
            false => self.action(rules, facts),
        };
        match &action {
            Some(LoginAction::Relaunch | LoginAction::AskForScan) => self.started = Some(facts.now),
            Some(LoginAction::Hold(_)) => {
                let is_unscanned =
                    self.codes > 0 && !self.put_out_done && facts.login.state != LoginState::Offline;
                events.push(if is_unscanned { LoginEvent::NotScanned } else { LoginEvent::Held });
                // The hold that follows is told by this.
                (self.was_held, self.holding) = (true, Some(facts.now));
            }
            None => {}
        }
        self.is_told |= events.iter().any(|event| *event != LoginEvent::Online);
        (action, events)
    }

    /// Tells what has changed.
    fn follow(&mut self, facts: &Facts<'_>, events: &mut Vec<LoginEvent>) {
        if let Some(change) = facts.change {
            if change.put_out {
                events.push(LoginEvent::PutOut);
            }
            match change.to {
                LoginState::Online => {
                    if std::mem::take(&mut self.is_told) {
                        events.push(LoginEvent::Online);
                    }
                    (self.codes, self.put_out_done, self.started) = (0, false, None);
                }
                LoginState::Offline if change.from == LoginState::Online => events.push(LoginEvent::Offline),
                // Once for all codes that follow each other.
                LoginState::Code if self.codes <= 1 => events.push(LoginEvent::CodeWaits),
                _ => {}
            }
            if change.to.waits_for_a_person() {
                self.started = None;
            }
        }
        if facts.login.state == LoginState::Online && facts.now.saturating_sub(facts.login.since) >= HEALTHY {
            (self.starts, self.next_start) = (0, 0);
        }
        let is_looping = facts.failures >= CRASH_LOOP;
        if is_looping && !self.was_looping && !facts.held {
            events.push(LoginEvent::CrashLoop);
        }
        self.was_looping = is_looping;
        if facts.held && !self.was_held {
            events.push(LoginEvent::Held);
        }
        self.was_held = facts.held;
    }

    fn action(&mut self, rules: &LoginRules, facts: &Facts<'_>) -> Option<LoginAction> {
        let put_out =
            facts.login.state == LoginState::PutOut || facts.change.is_some_and(|change| change.put_out);
        if put_out && !self.put_out_done {
            return match rules.when_put_out {
                WhenPutOut::Hold => {
                    self.put_out_done = true;
                    let why = facts.login.reason.as_deref().unwrap_or("the network ended its login");
                    Some(LoginAction::Hold(why.into()))
                }
                // It shows a code already.
                WhenPutOut::Code if facts.login.state.waits_for_a_person() => {
                    self.put_out_done = true;
                    None
                }
                WhenPutOut::Code if facts.may_start => {
                    self.put_out_done = true;
                    Some(LoginAction::AskForScan)
                }
                WhenPutOut::Code => None,
            };
        }
        if !facts.is_up {
            return None;
        }
        match facts.login.state {
            // One more than a person is given.
            LoginState::Code if self.codes > rules.code_attempts => Some(self.not_scanned()),
            // The last code has expired, and no other one follows.
            LoginState::Starting
                if !facts.renews_codes
                    && self.codes > 0
                    && facts.code_written.is_some_and(|written| written <= self.last_code) =>
            {
                match self.codes >= rules.code_attempts {
                    true => Some(self.not_scanned()),
                    false => facts.may_start.then_some(LoginAction::Relaunch),
                }
            }
            LoginState::Offline => self.when_offline(rules, facts),
            _ => None,
        }
    }

    fn not_scanned(&self) -> LoginAction {
        let why = match self.codes {
            1 => "nobody scanned its login code".to_owned(),
            codes => format!("nobody scanned any of its {codes} login codes"),
        };
        LoginAction::Hold(why.into())
    }

    fn when_offline(&mut self, rules: &LoginRules, facts: &Facts<'_>) -> Option<LoginAction> {
        // What the network's return mends by itself gets as much time for that as a loss.
        let since = facts.login.since.max(facts.network_since?);
        if Duration::from_secs(facts.now.saturating_sub(since)) < rules.offline_after {
            return None;
        }
        match rules.when_offline {
            WhenOffline::Wait => None,
            WhenOffline::Hold => {
                let why = facts.login.reason.as_deref().unwrap_or("the account is offline");
                Some(LoginAction::Hold(why.into()))
            }
            WhenOffline::Restart if !facts.may_start || facts.now < self.next_start => None,
            WhenOffline::Restart => {
                let pause = FIRST_PAUSE.saturating_mul(1 << self.starts.min(10)).min(LONGEST_PAUSE);
                self.starts = self.starts.saturating_add(1);
                self.next_start = facts.now + pause;
                Some(LoginAction::Relaunch)
            }
        }
    }
}

#[cfg(test)]
mod tests;
