//! `explain`: why an account is as it is, and what comes next.

use serde_json::Value;

use super::{Context, about};
use crate::ctl::client::path_of;
use crate::ctl::failure::Outcome;
use crate::ctl::screen::{print, print_json, printable};
use crate::ctl::time::{now, shown};

pub(super) async fn explain(context: &Context, name: &str) -> Outcome {
    let value = context.client.get(&path_of(name, "/explain")).await;
    let value = value.map_err(|failure| about(name)(failure.unless_next(|| "wqctl show NAME".to_owned())))?;
    match context.json {
        true => print_json(&value),
        false => print(&text(&value, now())),
    }
}

fn text(value: &Value, now: u64) -> String {
    let said = |value: &Value| printable(value.as_str().unwrap_or_default());
    let mut text = said(&value["summary"]) + "\n";
    let next = &value["next"];
    if next.is_object() {
        let when = next["at"].as_u64().map(|at| format!(" (in {} s)", at.saturating_sub(now)));
        text += &format!("\nNext: {}{}\n", said(&next["text"]), when.unwrap_or_default());
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let advice = list(&value["advice"]);
    if !advice.is_empty() {
        text += "\nWhat you can do:\n";
        text.extend(advice.iter().map(|advice| format!("  {}\n", said(advice))));
    }
    let events = list(&value["events"]);
    if !events.is_empty() {
        text += "\nWhat happened:\n";
        let line = |event: &Value| {
            format!(
                "  {}  {}\n",
                shown(event["time"].as_f64().map_or(0, |time| time as u64)),
                said(&event["text"])
            )
        };
        text.extend(events.iter().map(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn explanation_is_told_in_order_and_escaped() {
        let value = json!({
            "summary": "It waits\u{1b}.", "next": { "at": 15, "text": "it is started again" },
            "advice": ["wqctl logs a"], "events": [{ "time": 0, "text": "started" }],
        });
        let expected = "It waits\\u{1b}.\n\nNext: it is started again (in 5 s)\n\nWhat you can do:\n  wqctl logs a\n\n\
                        What happened:\n  1970-01-01 00:00:00Z  started\n";
        assert_eq!(text(&value, 10), expected);
        assert_eq!(text(&json!({ "summary": "It runs.", "next": null }), 0), "It runs.\n");
    }
}
