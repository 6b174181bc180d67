//! Completes a JSON file that an implementation and its user write to as well.

use serde_json::{Map, Value};

/// The name of the entry in a list that is ours.
pub(super) const OURS: &str = "wqcontroller";

/// The text of the file with `set` and `default` merged into what it holds `now`, and with our entry in its list. None where
/// it is no JSON object. An empty file counts as none.
pub(super) fn completed(
    now: Option<&[u8]>,
    (set, default): (&Value, &Value),
    entry: Option<&(&'static [&'static str], Value)>,
) -> Option<String> {
    let now = now.filter(|bytes| !bytes.trim_ascii().is_empty());
    let mut root = match now {
        None => Value::Object(Map::new()),
        // Not replaced, as what its user wrote there would be lost.
        Some(bytes) => serde_json::from_slice(bytes).ok().filter(Value::is_object)?,
    };
    merge(&mut root, default, false);
    merge(&mut root, set, true);
    if let Some((keys, entry)) = entry {
        replace_entry(&mut root, keys, entry);
    }
    let mut text = serde_json::to_string_pretty(&root).ok()?;
    text.push('\n');
    Some(text)
}

/// Merges `from` into `into`, key by key. `wins` says whether it replaces values that are there.
fn merge(into: &mut Value, from: &Value, wins: bool) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(there) => merge(there, value, wins),
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (into, from) if wins => *into = from.clone(),
        _ => {}
    }
}

/// Puts `entry` into the list at `keys`, in the place of an earlier one of the same name.
fn replace_entry(root: &mut Value, keys: &[&str], entry: &Value) {
    let mut place = root;
    for key in keys {
        // A value of another type is none that the program could use.
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        // `place` is an object, so the index makes the key.
        place = &mut place[*key];
    }
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    if let Value::Array(list) = place {
        list.retain(|there| there.get("name").and_then(Value::as_str) != Some(OURS));
        list.push(entry.clone());
    }
}
