//! [`RemoteAccount`]: an account as its machine tells it. Pure.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value};

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
    /// Where in them stands what `check_client` shows as well.
    checked: Checked,
}

/// Where in the members stands what `check_client` shows of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checked {
    /// The members of the client.
    client: Part,
    /// The value of each of these; empty where there is none.
    reason: Part,
    login: Part,
    /// The name and the kind of the implementation, as members, and what of its process is shown beside them.
    implementation: Part,
    process: Part,
}

/// From where to where a part of the text is.
type Part = (u32, u32);

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

/// What `check_client` shows of an implementation that was not started yet.
const NO_PROCESS: &str = r#""phase":"gone","pid":null"#;

/// What is not kept: what a door says of an account itself, and what its processes use, which is another number soon and is no part of
/// events.
const NOT_KEPT: [&str; 5] = ["machine", "machine_state", "machine_since", "machine_reason", "usage"];

/// What `check_client` shows of an implementation beside its process.
const OF_IMPLEMENTATION: [&str; 2] = ["name", "kind"];

/// What `check_client` shows of a process, whatever the version of the machine.
const OF_PROCESS: [&str; 9] =
    ["exits", "frozen", "held", "last_exit", "next_start", "phase", "pid", "port", "unit"];

impl RemoteAccount {
    /// An account that is known by its name alone.
    pub fn of_name(name: ClientName) -> Self {
        // Our own text, which is an object.
        let told = serde_json::from_str(NOTHING_KNOWN).unwrap_or_default();
        let (members, checked) = members(told);
        Self { name, state: UNKNOWN.into(), login: None, needs_person: false, members, checked }
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
        for key in NOT_KEPT {
            told.remove(key);
        }
        let login = told.get("login").and_then(|login| Some(login.get("state")?.as_str()?.into()));
        let (members, checked) = members(told);
        Ok(Self { name, state, login, needs_person, members, checked })
    }

    /// How much text of it is kept, in bytes.
    pub(super) fn text_len(&self) -> usize {
        self.members.len()
    }

    /// Writes what `/v1` of the door says of it, as JSON. `name` is what the door calls it; `of_machine` is what is the same for all
    /// accounts of the machine: members of an object.
    pub fn write_json(&self, text: &mut String, name: &str, of_machine: &str) {
        write_object(text, ("name", name), [of_machine, &*self.members]);
    }

    /// Writes what `check_client` of the door says of it, as JSON.
    pub fn write_checked(&self, text: &mut String, name: &str, of_machine: &str) {
        let Checked { client, reason, login, implementation, process } = self.checked;
        write_object(text, ("account", name), [of_machine, self.part(client)]);
        // What follows is a part of the object, which is closed again.
        text.pop();
        text.push_str(",\"state\":");
        push_text(text, &self.state);
        for (key, part, end) in [
            (",\"reason\":", reason, ""),
            (",\"login\":", login, ""),
            (",\"implementation\":{", implementation, ""),
        ] {
            let value = self.part(part);
            if !value.is_empty() {
                text.extend([key, value, end]);
            }
        }
        if !self.part(implementation).is_empty() {
            let process = Some(self.part(process)).filter(|process| !process.is_empty());
            text.extend([",", process.unwrap_or(NO_PROCESS), "}"]);
        }
        text.push('}');
    }

    fn part(&self, (from, to): Part) -> &str {
        self.members.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// The members of an account but its name, as text, and where in it stands what `check_client` shows.
fn members(mut told: Map<String, Value>) -> (Box<str>, Checked) {
    let (mut text, mut checked) = (String::new(), Checked::default());
    text.push_str("\"client\":");
    checked.client = push_process(&mut text, told.remove("client"));
    for (key, part) in [("reason", &mut checked.reason), ("login", &mut checked.login)] {
        let value = told.remove(key).unwrap_or_default();
        text.extend([",\"", key, "\":"]);
        let at = push_value(&mut text, &value);
        if !value.is_null() {
            *part = at;
        }
    }
    text.push_str(",\"implementation\":");
    match told.remove("implementation") {
        Some(Value::Object(mut implementation)) => {
            let shown = OF_IMPLEMENTATION.map(|key| (key, implementation.remove(key).unwrap_or_default()));
            text.push('{');
            checked.implementation = push_members(&mut text, shown);
            if let Some(process @ Value::Object(_)) = implementation.remove("process") {
                text.push_str(",\"process\":");
                checked.process = push_process(&mut text, Some(process));
            }
            if !implementation.is_empty() {
                text.push(',');
                push_members(&mut text, implementation);
            }
            text.push('}');
        }
        other => drop(push_value(&mut text, &other.unwrap_or_default())),
    }
    if !told.is_empty() {
        text.push(',');
        push_members(&mut text, told);
    }
    (text.into(), checked)
}

/// Writes a process. Returns where what `check_client` shows of it stands, which comes first.
fn push_process(text: &mut String, process: Option<Value>) -> Part {
    let mut process = match process {
        Some(Value::Object(process)) => process,
        _ => Map::new(),
    };
    text.push('{');
    let shown = OF_PROCESS.map(|key| (key, process.remove(key).unwrap_or_default()));
    let part = push_members(text, shown);
    if !process.is_empty() {
        text.push(',');
        push_members(text, process);
    }
    text.push('}');
    part
}

/// Writes an object with a name and members that are text already.
fn write_object(text: &mut String, (key, name): (&str, &str), members: [&str; 2]) {
    text.extend(["{\"", key, "\":"]);
    push_text(text, name);
    for members in members.into_iter().filter(|members| !members.is_empty()) {
        text.extend([",", members]);
    }
    text.push('}');
}

/// Writes members of an object.
fn push_members(text: &mut String, members: impl IntoIterator<Item = (impl AsRef<str>, Value)>) -> Part {
    let from = position(text);
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_text(text, key.as_ref());
        text.push(':');
        push_value(text, &value);
    }
    (from, position(text))
}

fn push_value(text: &mut String, value: &Value) -> Part {
    let from = position(text);
    // Writing to a text can't fail.
    let _ = write!(text, "{value}");
    (from, position(text))
}

fn push_text(text: &mut String, value: &str) {
    // A text as JSON can't fail.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

fn position(text: &str) -> u32 {
    // No answer of a machine is that long.
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// An object's text without its braces.
pub(super) fn bare(object: &str) -> &str {
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole_process() -> Value {
        json!({ "phase": "up", "pid": 8, "port": 15000, "held": false, "frozen": false, "exits": 0, "since": 4 })
    }

    fn told() -> Value {
        json!({
            "name": "bot", "id": "bot-1", "state": "running", "needs_person": true, "reason": null,
            "client": { "phase": "up", "pid": 7, "port": 5000, "held": false, "frozen": false, "exits": 0 },
            "implementation": { "name": "llbot", "kind": "llbot", "process": whole_process() }, "login": { "state": "online", "since": 5 },
            "of_a_newer_version": [1], "machine": "another", "machine_reason": "none of its business",
            "usage": { "memory": 5 },
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
        for key in ["last_exit", "next_start", "unit"] {
            expected["client"][key] = Value::Null;
            expected["implementation"]["process"][key] = Value::Null;
        }
        for key in ["machine_reason", "usage"] {
            expected.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(written(|text| account.write_json(text, "bot@tokyo", r#""machine":"tokyo""#)), expected);
        assert_eq!(
            written(|text| account.write_checked(text, "a \"b\"", "")),
            json!({
                "account": "a \"b\"", "state": "running", "pid": 7, "port": 5000, "phase": "up", "exits": 0,
                "held": false, "frozen": false, "last_exit": null, "next_start": null, "unit": null,
                "implementation": {
                    "name": "llbot", "kind": "llbot", "phase": "up", "pid": 8, "port": 15000, "exits": 0,
                    "held": false, "frozen": false, "last_exit": null, "next_start": null, "unit": null,
                },
                "login": { "state": "online", "since": 5 },
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
    }

    #[test]
    fn what_an_older_machine_leaves_out_is_null() {
        for text in [r#"{"name":"a"}"#, r#"{"name":"a","client":null,"implementation":[],"login":null}"#] {
            let account = RemoteAccount::of_json(text.as_bytes()).unwrap();
            let shown = written(|text| account.write_json(text, "a", ""));
            assert_eq!((&shown["client"]["pid"], &shown["login"]), (&Value::Null, &Value::Null), "{text}");
            let checked = written(|text| account.write_checked(text, "a", ""));
            assert_eq!(checked.as_object().unwrap().len(), 2 + OF_PROCESS.len(), "{checked}");
        }
        let text =
            r#"{"name":"a","reason":"小 \"x\"","client":{"since":1},"implementation":{"name":"i"},"z":1}"#;
        let account = RemoteAccount::of_json(text.as_bytes()).unwrap();
        let checked = written(|text| account.write_checked(text, "a", ""));
        assert_eq!(
            (&checked["reason"], &checked["implementation"]),
            (&json!("小 \"x\""), &json!({ "name": "i", "kind": null, "phase": "gone", "pid": null }))
        );
        let shown = written(|text| account.write_json(text, "a", ""));
        assert_eq!((&shown["client"]["since"], &shown["z"]), (&json!(1), &json!(1)));
    }
}
