//! The answer of `check_client`, and the object in it of each client.

use serde_json::{Value, json};

use crate::model::client::{ClientRecord, Exit, Phase};
use crate::model::login::Login;

/// The answer of `check_client`: the given objects, already JSON, in a list.
pub fn client_list(objects: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    // By hand, as the snapshot has the JSON of clients ready. The keys are in alphabetical order, as in every reply.
    let mut text = br#"{"client":["#.to_vec();
    for (index, object) in objects.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(object.as_ref());
    }
    text.extend_from_slice(br#"],"code":0}"#);
    text
}

/// The text for an exit that was not requested.
fn unasked(exit: Exit) -> String {
    if exit.is_success() { format!("ended by itself: {exit}") } else { exit.to_string() }
}

/// What `check_client` says of one client: its state file's keys, then what the controller knows better, and then what the
/// original did not tell: how far it got, how often its process ended unasked, how the last one did and why, whether the
/// controller leaves it so, whether an operator froze it, when it starts it again (`next_start`, Unix seconds), and the `unit`
/// of systemd that it is when it runs, where clients are units.
pub fn client_object(record: &ClientRecord, next_start: Option<u64>, unit: Option<&str>) -> Value {
    let mut object = record.report.as_ref().map(|report| report.fields()).unwrap_or_default();
    let history = &record.history;
    // While there is a process its state file may say why it does not get on.
    if let Phase::Gone(_) = record.phase {
        match &history.reason {
            Some(reason) => object.insert("reason".to_owned(), json!(reason)),
            None => object.remove("reason"),
        };
    }
    for (key, value) in [
        ("account", json!(record.spec.name.as_str())),
        ("state", json!(record.state().as_str())),
        ("pid", json!(record.pid())),
        ("port", json!(record.port)),
        ("phase", json!(record.phase.as_str())),
        ("exits", json!(history.exits)),
        ("last_exit", json!(history.last_exit.map(unasked))),
        ("held", json!(history.held)),
        ("frozen", json!(record.frozen)),
        ("next_start", json!(next_start)),
        // A client that runs may be one from before the configuration asked for another kind of unit.
        ("unit", json!(record.unit().or(unit))),
    ] {
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

/// What `check_client` says of the implementation of an account: the operator's name for it, its kind, and the state of its
/// process. `process` is its record, the time of its next start and its unit; none before its first start.
pub fn implementation_object(
    (name, kind): (&str, Option<&str>),
    process: Option<(&ClientRecord, Option<u64>, Option<&str>)>,
) -> Value {
    let Some((record, next_start, unit)) = process else {
        return json!({ "name": name, "kind": kind, "phase": "gone", "pid": null });
    };
    let history = &record.history;
    let is_gone = matches!(record.phase, Phase::Gone(_));
    json!({
        "name": name,
        "kind": kind,
        "phase": record.phase.as_str(),
        "pid": record.pid(),
        "port": record.port,
        "unit": record.unit().or(unit),
        "exits": history.exits,
        "last_exit": history.last_exit.map(unasked),
        // The last end is not followed by a start while it waits or is held.
        "restarts": history.exits.saturating_sub(u32::from(is_gone)),
        "held": history.held,
        "reason": history.reason.as_deref().filter(|_| is_gone),
        "next_start": next_start,
    })
}

/// What `check_client` says of the login of an account.
pub fn login_object(login: &Login) -> Value {
    json!({
        "state": login.state.as_str(),
        "since": login.since,
        "reason": login.reason,
        "uin": login.uin,
        "nickname": login.nickname,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{Generation, Handle, RestartHistory};
    use crate::model::state::StateReport;
    use crate::wire::spec;
    use std::sync::Arc;

    #[test]
    fn state_file_overrides_no_controller_keys() {
        let report = StateReport::parse(
            br#"{"state":"running","account":"root","pid":1,"port":1,"log_path":null,"plugin":[{"name":"x"}]}"#,
        );
        let handle = Handle::Direct { pid: 77, start_ticks: 1, boot_id: "b".into() };
        let mut record = ClientRecord {
            spec: spec(&[]),
            port: 5000,
            generation: Generation(1),
            phase: Phase::Up,
            handle: Some(handle),
            report: Some(Arc::new(report.unwrap())),
            frozen: false,
            history: RestartHistory::default(),
        };
        let mut known = json!({"account": "webqq_client_01", "state": "init", "pid": 77, "port": 5000, "phase": "up",
                               "exits": 0, "last_exit": null, "held": false, "frozen": false, "next_start": null, "unit": null});
        let mut expected = known.clone();
        for (key, value) in
            [("state", json!("running")), ("log_path", json!(null)), ("plugin", json!([{"name": "x"}]))]
        {
            expected[key] = value;
        }
        assert_eq!(client_object(&record, None, None), expected);
        record.report = None;
        assert_eq!(client_object(&record, None, None), known);
        record.phase = Phase::Stopping;
        assert_eq!(client_object(&record, None, None)["state"], "stop");
        record.phase = Phase::Gone(Exit::Signal(9));
        record.handle = None;
        record.history =
            RestartHistory { exits: 3, last_exit: Some(Exit::Signal(9)), ..RestartHistory::default() };
        for (key, value) in [
            ("state", json!("stop")),
            ("pid", json!(null)),
            ("phase", json!("gone")),
            ("exits", json!(3)),
            ("last_exit", json!("was ended by signal 9")),
            ("next_start", json!(1_700_000_000)),
        ] {
            known[key] = value;
        }
        assert_eq!(client_object(&record, Some(1_700_000_000), None), known);
        known["unit"] = json!("wqclient@a.service");
        assert_eq!(client_object(&record, Some(1_700_000_000), Some("wqclient@a.service")), known);
    }

    #[test]
    fn client_list_joins_objects() {
        let list = |objects: &[&str]| String::from_utf8(client_list(objects)).unwrap();
        assert_eq!(list(&[]), r#"{"client":[],"code":0}"#);
        assert_eq!(list(&["{}", "{\"a\":1}"]), r#"{"client":[{},{"a":1}],"code":0}"#);
    }
}
