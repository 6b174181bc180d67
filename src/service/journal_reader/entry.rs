//! An entry of the journal as journalctl prints it: JSON, in which a value is a text, bytes that are no text, or a list of values.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::name::ClientName;
use crate::wire::v1::log::{LogEntry, LogOrigin, cut};

/// The priority of an entry without one, as of a line: information.
const USUAL: u8 = 6;

/// Who writes the entries of an account.
#[derive(Debug)]
pub(super) struct Origins {
    pub(super) account: ClientName,
    /// The units of its client and of its implementation.
    pub(super) units: Option<[Arc<str>; 2]>,
}

impl Origins {
    /// The entry; none where it has no message.
    pub(super) fn read(&self, line: &[u8]) -> Option<LogEntry> {
        let entry: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let field = |name: &str| entry.get(name).and_then(text);
        // Microseconds, which a float has to the last one until the year 2255.
        let time: u64 = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
        let priority = field("PRIORITY").and_then(|text| text.parse().ok()).filter(|priority| *priority <= 7);
        let mut message = field("MESSAGE")?;
        let from = self.origin(&field);
        // The account, which stands before it in the log of all.
        let own = message.strip_prefix(self.account.as_str()).and_then(|rest| rest.strip_prefix(": "));
        if let Some(own) = own.filter(|_| from == LogOrigin::Controller) {
            message = own.to_owned();
        }
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let time = time as f64 / 1e6;
        Some(LogEntry { time, from, priority: priority.unwrap_or(USUAL), message: cut(message) })
    }

    fn origin(&self, field: &impl Fn(&str) -> Option<String>) -> LogOrigin {
        let unit = field("_SYSTEMD_USER_UNIT").or_else(|| field("_SYSTEMD_UNIT")).unwrap_or_default();
        match &self.units {
            Some([client, _]) if **client == *unit => return LogOrigin::Client,
            Some([_, implementation]) if **implementation == *unit => return LogOrigin::Implementation,
            _ => {}
        }
        // In the controller's unit: its own, or of a child process.
        match field("SYSLOG_IDENTIFIER").as_deref() {
            Some("wqclient")
                if field("WQ_FIELDS").is_some_and(|more| more.starts_with("implementation=")) =>
            {
                LogOrigin::Implementation
            }
            Some("wqclient") => LogOrigin::Client,
            Some("wqimpl") => LogOrigin::Implementation,
            _ => LogOrigin::Controller,
        }
    }
}

/// The text of a value; the first one of several.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => match all.first()? {
            first @ (Value::String(_) | Value::Array(_)) => text(first),
            _ => {
                let bytes: Option<Vec<u8>> =
                    all.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
                Some(String::from_utf8_lossy(&bytes?).into_owned())
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_of_all_kinds_are_read() {
        let units = Some(["wqclient@a.service".into(), "wqimpl@a.service".into()]);
        let origins = Origins { account: ClientName::new("a").unwrap(), units };
        let read = |entry: Value| {
            let entry = origins.read(entry.to_string().as_bytes())?;
            Some((entry.from, entry.priority, entry.message))
        };
        let at = "1764523445123456";
        let entry = |unit: &str, program: &str, message: Value| json!({ "__REALTIME_TIMESTAMP": at, "_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": program, "PRIORITY": "3", "MESSAGE": message });
        let own = "wqcontroller.service";
        for (entry, from, message) in [
            (
                entry("wqclient@a.service", "wqcontroller", json!("a: x\u{1b}")),
                LogOrigin::Client,
                "a: x\u{1b}",
            ),
            (entry("wqimpl@a.service", "x", json!([0xff, 0x61])), LogOrigin::Implementation, "\u{fffd}a"),
            (entry(own, "wqcontroller", json!("a: started")), LogOrigin::Controller, "started"),
            (entry(own, "wqclient", json!(["one", "two"])), LogOrigin::Client, "one"),
        ] {
            assert_eq!(read(entry), Some((from, 3, message.to_owned())));
        }
        let mut child = entry(own, "wqclient", json!("own: up"));
        child["WQ_FIELDS"] = "implementation=own".into();
        child["PRIORITY"] = "9".into();
        assert_eq!(read(child), Some((LogOrigin::Implementation, 6, "own: up".to_owned())));
        for broken in [entry(own, "x", Value::Null), json!({ "MESSAGE": "no time" }), json!([]), json!("")] {
            assert_eq!(read(broken), None);
        }
        let time = origins.read(entry(own, "x", json!("y")).to_string().as_bytes()).unwrap().time;
        assert_eq!(format!("{time:.6}"), "1764523445.123456");
    }
}
