//! [`RemoteAccount`]: an account as its machine tells it. Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::table::LinkState;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;

/// An account of another machine. What it says of itself is kept as text, as the list is written often and read seldom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAccount {
    /// Its name there.
    pub name: ClientName,
    /// Its state.
    pub state: Box<str>,
    /// The state of its login, if it has one.
    pub login: Option<Box<str>>,
    /// Whether a person has to act.
    pub needs_person: bool,
    /// The members of the object other than its name, as JSON without braces.
    members: Box<str>,
    /// The same for `check_client`.
    checked: Box<str>,
}

/// Why an account can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not the JSON of an account.
    #[error("it is no account: {0}")]
    Json(#[from] serde_json::Error),
}

/// The state of an account that its machine has not yet told of.
const UNKNOWN: &str = "unknown";

/// What `/v1` says of such an account, so that no reader misses a key.
const NOTHING_KNOWN: &str = r#"{"id":"","state":"unknown","desired":"running","reason":null,"needs_person":false,"client":{"phase":"gone","pid":null,"port":0,"unit":null,"frozen":false,"held":false,"exits":0,"last_exit":null,"next_start":null},"implementation":null,"login":null,"parameters":{},"queues":{"reports":null,"messages":null},"backend":null}"#;

/// What is read of an account.
#[derive(Deserialize)]
struct Told {
    name: ClientName,
    #[serde(default)]
    state: String,
    #[serde(default)]
    needs_person: bool,
    login: Option<Value>,
    client: Option<Value>,
    reason: Option<Value>,
    implementation: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl RemoteAccount {
    /// An account that is known by its name alone.
    pub fn of_name(name: ClientName) -> Self {
        Self {
            name,
            state: UNKNOWN.into(),
            login: None,
            needs_person: false,
            members: bare(NOTHING_KNOWN).into(),
            checked: members(checked_of(&Value::Null, UNKNOWN)),
        }
    }

    /// Reads what `/v1` of its machine says of it.
    ///
    /// # Errors
    /// It is not an account.
    pub fn of_json(text: &[u8]) -> Result<Self, Unreadable> {
        let told: Told = serde_json::from_slice(text)?;
        let checked = told.checked();
        let Told { name, state, needs_person, login, client, reason, implementation, mut others } = told;
        let of_login = login.as_ref().and_then(|login| Some(login.get("state")?.as_str()?.into()));
        for (key, value) in
            [("client", client), ("implementation", implementation), ("login", login), ("reason", reason)]
        {
            others.insert(key.to_owned(), value.unwrap_or_default());
        }
        others.insert("state".to_owned(), state.as_str().into());
        others.insert("needs_person".to_owned(), needs_person.into());
        // What a door says of an account is its own, not that of the machine.
        others.remove("machine");
        others.remove("machine_state");
        Ok(Self {
            name,
            state: state.into(),
            login: of_login,
            needs_person,
            members: members(others),
            checked: members(checked),
        })
    }

    /// What `/v1` of the door says of it, as JSON: with its machine, and whether that can be reached. `name` is what the door calls it.
    pub fn to_json(&self, name: &str, machine: &MachineName, link: &LinkState) -> String {
        with_machine(&json!({ "name": name }), &self.members, machine, link)
    }

    /// What `check_client` of the door says of it, as JSON.
    pub fn to_checked(&self, name: &str, machine: &MachineName, link: &LinkState) -> String {
        with_machine(&json!({ "account": name }), &self.checked, machine, link)
    }
}

impl Told {
    /// What `check_client` says of an account, out of what `/v1` does.
    fn checked(&self) -> Map<String, Value> {
        let mut checked = checked_of(self.client.as_ref().unwrap_or(&Value::Null), &self.state);
        for (key, value) in [("reason", &self.reason), ("login", &self.login)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
                checked.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(name) = self.implementation.as_ref().and_then(|implementation| implementation.get("name"))
        {
            checked.insert("implementation".to_owned(), json!({ "name": name }));
        }
        checked
    }
}

/// What `check_client` says of a client in this state, out of what `/v1` says of its process.
fn checked_of(client: &Value, state: &str) -> Map<String, Value> {
    let keys = ["exits", "frozen", "held", "last_exit", "next_start", "phase", "pid", "port", "unit"];
    let of_client = keys.map(|key| (key.to_owned(), client.get(key).cloned().unwrap_or_default()));
    of_client.into_iter().chain([("state".to_owned(), state.into())]).collect()
}

/// The text of an object without its braces.
fn members(object: Map<String, Value>) -> Box<str> {
    let text = Value::Object(object).to_string();
    bare(&text).into()
}

fn with_machine(name: &Value, members: &str, machine: &MachineName, link: &LinkState) -> String {
    let of_machine = match link {
        LinkState::Reachable { .. } => json!({ "machine": machine.as_str() }),
        LinkState::Unreachable { since, why } => json!({
            "machine": machine.as_str(), "machine_state": "unreachable", "machine_since": since,
            "machine_reason": &**why,
        }),
    };
    let (name, of_machine) = (name.to_string(), of_machine.to_string());
    let parts = [bare(&name), bare(&of_machine), members];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{{{}}}", parts.join(","))
}

/// An object's text without its braces.
fn bare(object: &str) -> &str {
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Value {
        json!({
            "name": "bot", "id": "bot-1", "state": "running", "needs_person": true, "reason": null,
            "client": { "phase": "up", "pid": 7, "port": 5000, "held": false, "frozen": false, "exits": 0 },
            "implementation": { "name": "llbot", "kind": "llbot" }, "login": { "state": "online", "since": 5 },
            "of_a_newer_version": [1], "machine": "another",
        })
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_a_machine_tells_is_kept_with_its_name() {
        let account = RemoteAccount::of_json(told().to_string().as_bytes()).unwrap();
        assert_eq!(
            (&*account.state, account.login.as_deref(), account.needs_person),
            ("running", Some("online"), true)
        );
        let tokyo = MachineName::new("tokyo").unwrap();
        let shown = parsed(&account.to_json("bot@tokyo", &tokyo, &LinkState::Reachable { since: 1 }));
        let mut expected = told();
        expected["name"] = "bot@tokyo".into();
        expected["machine"] = "tokyo".into();
        assert_eq!(shown, expected);
        let away = LinkState::Unreachable { since: 9, why: "no \"route\"".into() };
        let shown = parsed(&account.to_checked("bot", &tokyo, &away));
        assert_eq!(
            shown,
            json!({
                "account": "bot", "machine": "tokyo", "machine_state": "unreachable", "machine_since": 9,
                "machine_reason": "no \"route\"", "state": "running", "pid": 7, "port": 5000, "phase": "up", "exits": 0,
                "held": false, "frozen": false, "last_exit": null, "next_start": null, "unit": null,
                "implementation": { "name": "llbot" }, "login": { "state": "online", "since": 5 },
            })
        );
    }

    #[test]
    fn account_of_which_only_the_name_is_known_is_shown_too() {
        let account = RemoteAccount::of_name(ClientName::new("小明").unwrap());
        let away = LinkState::Unreachable { since: 9, why: "x".into() };
        let shown = account.to_json("小明", &MachineName::new("tokyo").unwrap(), &away);
        let shown = parsed(&shown);
        assert_eq!(
            (&shown["name"], &shown["machine_since"], &shown["state"]),
            (&json!("小明"), &json!(9), &json!("unknown"))
        );
        assert_eq!(shown["client"]["phase"], "gone");
    }

    #[test]
    fn what_is_no_account_is_refused() {
        for text in ["", "{}", "[]", r#"{"name":""}"#, r#"{"name":"a/b"}"#, r#"{"name":7}"#, "null"] {
            assert!(RemoteAccount::of_json(text.as_bytes()).is_err(), "{text}");
        }
        // A machine may be older: what it does not say is left open.
        assert!(RemoteAccount::of_json(br#"{"name":"a"}"#).is_ok());
    }
}
