//! [`Account`]: an account as the API tells it. It is read leniently: a controller of another version may say less, or more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::failure::{Failure, Outcome, quoted};

/// An account, as far as people are shown it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) state: String,
    /// In Unix seconds.
    pub(super) since: Option<u64>,
    pub(super) desired: String,
    pub(super) reason: Option<String>,
    pub(super) needs_person: bool,
    pub(super) client: Process,
    pub(super) implementation: Option<Implementation>,
    pub(super) login: Option<Login>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) unused_parameters: Vec<String>,
    pub(super) queues: Queues,
    pub(super) backend: Option<String>,
    pub(super) limits: Option<Limits>,
    pub(super) usage: Option<Usage>,
    /// The machine on which it lives; none: the one that was asked.
    pub(super) machine: Option<String>,
    /// `unreachable` where that is so.
    machine_state: Option<String>,
    machine_reason: Option<String>,
    /// Since when it can't be reached, in Unix seconds.
    pub(super) machine_since: Option<u64>,
}

/// What waits in its client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queues {
    pub(super) reports: Option<u64>,
    pub(super) messages: Option<u64>,
}

/// What its client may use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) memory_max: Option<f64>,
}

/// A process of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) phase: String,
    pub(super) pid: Option<u32>,
    pub(super) port: Option<u16>,
    pub(super) unit: Option<String>,
    pub(super) frozen: bool,
    pub(super) held: bool,
    pub(super) exits: u32,
    pub(super) last_exit: Option<String>,
    pub(super) next_start: Option<u64>,
}

/// The program that holds it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Implementation {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) process: Option<Process>,
    pub(super) reason: Option<String>,
}

/// Where its login stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Login {
    pub(super) state: String,
    pub(super) since: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) uin: Option<String>,
    pub(super) nickname: Option<String>,
}

/// What its processes use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    /// Bytes.
    pub(super) memory: Option<f64>,
    /// Seconds of processor time since they started.
    pub(super) cpu: Option<f64>,
    /// When that was so, in Unix seconds.
    pub(super) at: Option<f64>,
}

/// How well it goes, which decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    OnTheWay,
    /// A person has to act.
    Waits,
    /// It is not to run.
    Off,
}

impl Account {
    pub(super) fn of(value: &Value) -> Outcome<Self> {
        Self::deserialize(value).map_err(|error| {
            Failure::refused(format!("the controller sent an account that can't be read: {error}"))
        })
    }

    /// Where its code is scanned, if that is in the sandbox: no phone can.
    pub(super) fn sandbox_page(&self) -> Option<String> {
        let port = self.client.port.filter(|_| self.backend.as_deref() == Some("sandbox"))?;
        let place =
            self.machine.as_ref().map(|machine| format!(" on the machine {machine}")).unwrap_or_default();
        Some(format!("http://127.0.0.1:{port}/sandbox/login{place}"))
    }

    /// Whether it does what it is there for.
    pub(super) fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Whether a code of it waits, or waited just now.
    pub(super) fn waits_for_a_scan(&self) -> bool {
        matches!(self.state.as_str(), "scaning" | "confirming")
            || self.login.as_ref().is_some_and(|login| matches!(login.state.as_str(), "code" | "confirming"))
    }

    /// Whether its code was scanned, and a button waits to be pressed on the phone.
    fn waits_for_the_phone(&self) -> bool {
        self.state == "confirming"
    }

    /// Whether one of its processes is not started again without a call.
    pub(super) fn is_held(&self) -> bool {
        let implementation = self.implementation.as_ref().and_then(|held| held.process.as_ref());
        self.client.held || implementation.is_some_and(|process| process.held)
    }

    /// Whether its machine can't be reached, so that nothing is known of it.
    pub(super) fn is_away(&self) -> bool {
        self.machine_state.as_deref() == Some("unreachable")
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.desired == "stopped"
    }

    pub(super) fn mood(&self) -> Mood {
        match () {
            () if self.is_away() => Mood::OnTheWay,
            () if self.is_stopped() => Mood::Off,
            () if self.needs_person || self.is_held() => Mood::Waits,
            () if self.is_running() => Mood::Well,
            () => Mood::OnTheWay,
        }
    }

    /// Its state in a word: that of a client that is to be stopped, or is not there, is its last one.
    pub(super) fn word(&self) -> &str {
        match (self.client.phase.as_str(), self.is_held()) {
            _ if self.is_away() => "unreachable",
            _ if self.is_stopped() => "stopped",
            (_, true) => "held",
            _ if self.client.frozen => "frozen",
            ("gone", _) => "gone",
            ("stopping", _) => "stopping",
            _ => &self.state,
        }
    }

    /// Why it is so, and what to type, or when it goes on by itself. The end is cut off where lines are short, so what a person has
    /// to type comes first.
    pub(super) fn why(&self, now: u64) -> String {
        let mut parts = [self.reason(), self.outlook(now)];
        if self.needs_person && self.client.next_start.is_none() {
            parts.reverse();
        }
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Why it is so.
    pub(super) fn reason(&self) -> String {
        if self.is_away() {
            return self.machine_reason.clone().unwrap_or_default();
        }
        if self.is_stopped() {
            return String::new();
        }
        let exit = |process: &&Process| process.phase == "gone" || process.held;
        let said = [
            self.reason.clone(),
            self.login.as_ref().and_then(|login| login.reason.clone()),
            self.implementation.as_ref().and_then(|by| by.reason.clone()),
            self.processes().filter(exit).find_map(|process| process.last_exit.clone()),
        ];
        said.into_iter().flatten().next().unwrap_or_default()
    }

    /// What to type, or when it goes on by itself.
    fn outlook(&self, now: u64) -> String {
        if self.is_away() || self.is_stopped() {
            return String::new();
        }
        let next = self.processes().filter_map(|process| process.next_start).max();
        match next {
            Some(at) => format!("starts again in {} s", at.saturating_sub(now)),
            None if self.is_held() => format!("wqctl start {}", quoted(&self.name)),
            None if self.waits_for_the_phone() => "press the button on the phone".to_owned(),
            None if self.waits_for_a_scan() && self.needs_person => {
                format!("wqctl qr {}", quoted(&self.name))
            }
            None => String::new(),
        }
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let held_by = self.implementation.as_ref().and_then(|by| by.process.as_ref());
        [Some(&self.client), held_by].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn account_of_another_version_is_read() {
        let account =
            Account::of(&json!({ "name": "a", "state": "new", "more": [1], "usage": null })).unwrap();
        assert_eq!((account.word(), account.mood(), account.why(0)), ("new", Mood::OnTheWay, String::new()));
    }

    #[test]
    fn reason_says_what_to_type() {
        let with = |more: Value| {
            let mut value =
                json!({ "name": "a", "state": "scaning", "needs_person": true, "client": { "phase": "up" } });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Account::of(&value).unwrap()
        };
        assert_eq!(with(json!({})).why(0), "wqctl qr a");
        let gone = json!({ "client": { "phase": "gone", "last_exit": "ended", "next_start": 12 } });
        assert_eq!(
            (with(gone.clone()).word(), with(gone).why(10)),
            ("gone", "ended; starts again in 2 s".to_owned())
        );
        let held = with(json!({ "client": { "phase": "gone", "held": true }, "reason": "x" }));
        assert_eq!(
            (held.word(), held.mood(), held.why(0)),
            ("held", Mood::Waits, "wqctl start a; x".to_owned())
        );
        let away =
            with(json!({ "machine_state": "unreachable", "machine_reason": "no route", "reason": "x" }));
        assert_eq!((away.word(), away.why(0)), ("unreachable", "no route".to_owned()));
        let stopped = with(json!({ "desired": "stopped", "client": { "phase": "gone", "held": true } }));
        assert_eq!((stopped.word(), stopped.mood(), stopped.why(0)), ("stopped", Mood::Off, String::new()));
    }
}
