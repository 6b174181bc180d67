//! [`RemoteAccount`]: an account as its machine tells it. Pure.

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

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

/// What a door says of an account itself: that of the machine is not kept.
const OF_DOOR: [&str; 4] = ["machine", "machine_state", "machine_since", "machine_reason"];

/// The keys of which no reader misses one, whatever the version of the machine.
const ALWAYS: [&str; 4] = ["client", "implementation", "login", "reason"];

impl RemoteAccount {
    /// An account that is known by its name alone.
    pub fn of_name(name: ClientName) -> Self {
        Self {
            name,
            state: UNKNOWN.into(),
            login: None,
            needs_person: false,
            members: bare(NOTHING_KNOWN).into(),
            checked: members(checked(&Map::from_iter([("state".to_owned(), UNKNOWN.into())]))),
        }
    }

    /// Reads what `/v1` of its machine says of it.
    ///
    /// # Errors
    /// It is not an account.
    pub fn of_json(text: &[u8]) -> Result<Self, Unreadable> {
        // Read whole, although it is kept as text: what a machine sends goes to callers of the door, and has to be JSON that they can read.
        let mut told: Map<String, Value> = serde_json::from_slice(text)?;
        let name = told.remove("name").ok_or_else(|| serde_json::Error::missing_field("name"))?;
        let name = ClientName::deserialize(name)?;
        // A machine may be older: what it does not say is left open.
        let state = told.entry("state").or_insert_with(|| "".into());
        let state: Box<str> = <&str>::deserialize(&*state)?.into();
        let needs_person = bool::deserialize(&*told.entry("needs_person").or_insert(Value::Bool(false)))?;
        for key in ALWAYS {
            told.entry(key).or_insert(Value::Null);
        }
        for key in OF_DOOR {
            told.remove(key);
        }
        let login = told.get("login").and_then(|login| Some(login.get("state")?.as_str()?.into()));
        let checked = members(checked(&told));
        Ok(Self { name, state, login, needs_person, members: members(told), checked })
    }

    /// Writes what `/v1` of the door says of it, as JSON. `name` is what the door calls it; `of_machine` is what is the same for all
    /// accounts of the machine: members of an object.
    pub fn write_json(&self, text: &mut String, name: &str, of_machine: &str) {
        write_object(text, ("name", name), [of_machine, &*self.members]);
    }

    /// Writes what `check_client` of the door says of it, as JSON.
    pub fn write_checked(&self, text: &mut String, name: &str, of_machine: &str) {
        write_object(text, ("account", name), [of_machine, &*self.checked]);
    }
}

/// What `check_client` says of an account, out of what `/v1` does.
fn checked(told: &Map<String, Value>) -> Map<String, Value> {
    let of_client =
        |key: &str| told.get("client").and_then(|client| client.get(key)).cloned().unwrap_or_default();
    let keys = ["exits", "frozen", "held", "last_exit", "next_start", "phase", "pid", "port", "unit"];
    let mut checked: Map<_, _> = keys.map(|key| (key.to_owned(), of_client(key))).into_iter().collect();
    checked.insert("state".to_owned(), told.get("state").cloned().unwrap_or_default());
    for key in ["reason", "login"] {
        if let Some(value) = told.get(key).filter(|value| !value.is_null()) {
            checked.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(name) = told.get("implementation").and_then(|implementation| implementation.get("name")) {
        checked.insert("implementation".to_owned(), json!({ "name": name }));
    }
    checked
}

/// The text of an object without its braces.
fn members(object: Map<String, Value>) -> Box<str> {
    let text = Value::Object(object).to_string();
    bare(&text).into()
}

/// Writes an object with a name and members that are text already.
fn write_object(text: &mut String, (key, name): (&str, &str), members: [&str; 2]) {
    text.push_str("{\"");
    text.push_str(key);
    text.push_str("\":");
    // A text can't fail.
    text.push_str(&serde_json::to_string(name).unwrap_or_default());
    for members in members.into_iter().filter(|members| !members.is_empty()) {
        text.push(',');
        text.push_str(members);
    }
    text.push('}');
}

/// An object's text without its braces.
pub(super) fn bare(object: &str) -> &str {
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
            "of_a_newer_version": [1], "machine": "another", "machine_reason": "none of its business",
        })
    }

    fn written(write: impl FnOnce(&mut String)) -> Value {
        let mut text = String::new();
        write(&mut text);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_a_machine_tells_is_kept_with_its_name() {
        let account = RemoteAccount::of_json(told().to_string().as_bytes()).unwrap();
        assert_eq!(
            (&*account.state, account.login.as_deref(), account.needs_person),
            ("running", Some("online"), true)
        );
        let mut expected = told();
        expected["name"] = "bot@tokyo".into();
        expected["machine"] = "tokyo".into();
        expected.as_object_mut().unwrap().remove("machine_reason");
        assert_eq!(written(|text| account.write_json(text, "bot@tokyo", r#""machine":"tokyo""#)), expected);
        assert_eq!(
            written(|text| account.write_checked(text, "a \"b\"", "")),
            json!({
                "account": "a \"b\"", "state": "running", "pid": 7, "port": 5000, "phase": "up", "exits": 0,
                "held": false, "frozen": false, "last_exit": null, "next_start": null, "unit": null,
                "implementation": { "name": "llbot" }, "login": { "state": "online", "since": 5 },
            })
        );
    }

    #[test]
    fn account_of_which_only_the_name_is_known_is_shown_too() {
        let account = RemoteAccount::of_name(ClientName::new("小明").unwrap());
        let shown = written(|text| account.write_json(text, "小明", r#""machine":"tokyo""#));
        assert_eq!((&shown["name"], &shown["state"]), (&json!("小明"), &json!("unknown")));
        assert_eq!(shown["client"]["phase"], "gone");
        assert_eq!(written(|text| account.write_checked(text, "小明", ""))["state"], "unknown");
    }

    #[test]
    fn what_is_no_account_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"name":""}"#,
            r#"{"name":"a/b"}"#,
            r#"{"name":7}"#,
            r#"{"name":"a","state":7}"#,
            r#"{"name":"a","needs_person":"no"}"#,
            // JSON that some readers of the list would give up at.
            r#"{"name":"a","x":1e999}"#,
            r#"{"name":"a","x":"\ud800"}"#,
        ] {
            assert!(RemoteAccount::of_json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(RemoteAccount::of_json(br#"{"name":"a"}"#).is_ok());
    }
}
