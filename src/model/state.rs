//! [`ClientState`]: what a client *says* about itself, by the names of the wire, and [`StateReport`], the content of its state
//! file.
//!
//! What the controller *knows* about the process is [`super::client::Phase`]; the two are never merged.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::lenient;

/// The state of a client, in the original's order. Its usual way is `Init` to `Stop`, downwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientState {
    /// Created, nothing done yet.
    #[default]
    Init,
    /// Loading plugins, or loading again after a lost login.
    Loading,
    /// Waits for its QR code to be scanned. `scaning` on the wire; the spelling is part of the contract.
    Scaning,
    /// Scanned; waits for a press of the confirm button on the phone.
    Confirming,
    /// Loads friends and groups.
    Updating,
    /// Logged in; the only state in which messages flow.
    Running,
    /// Stopped, or about to be.
    Stop,
    /// Another word than those of the contract, kept as it is (at most [`ClientState::OTHER_MAX`] bytes).
    Other(String),
}

impl ClientState {
    /// The longest unknown state that is kept, in bytes; a longer one is cut.
    pub const OTHER_MAX: usize = 32;

    /// The word of the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Init => "init",
            Self::Loading => "loading",
            Self::Scaning => "scaning",
            Self::Confirming => "confirming",
            Self::Updating => "updating",
            Self::Running => "running",
            Self::Stop => "stop",
            Self::Other(word) => word,
        }
    }

    /// Reads the word of the wire. An unknown one becomes [`ClientState::Other`].
    pub fn from_word(word: &str) -> Self {
        match word {
            "init" => Self::Init,
            "loading" => Self::Loading,
            "scaning" => Self::Scaning,
            "confirming" => Self::Confirming,
            "updating" => Self::Updating,
            "running" => Self::Running,
            "stop" => Self::Stop,
            other => {
                // Cut and without control characters, since replies and log lines repeat it.
                let cut: String = other
                    .char_indices()
                    .take_while(|(at, c)| at + c.len_utf8() <= Self::OTHER_MAX)
                    .map(|(_, c)| if c.is_control() { ' ' } else { c })
                    .collect();
                Self::Other(cut)
            }
        }
    }
}

impl fmt::Display for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ClientState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ClientState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_word(&String::deserialize(deserializer)?))
    }
}

/// What waits in a client, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Queues {
    /// Reports that wait for their receiver; none where nothing is posted.
    pub reports: Option<u64>,
    /// Messages that wait to be sent.
    pub messages: Option<u64>,
}

/// The content of a client's state file: a JSON object with a `state`. Its other keys are passed on to callers
/// of `check_client` as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct StateReport {
    /// What the client says it does.
    pub state: ClientState,
    /// Since when it does that, in Unix seconds, if the client says so.
    pub since: Option<u64>,
    /// What waits in it.
    pub queues: Queues,
    /// The network that it is on, if the client says so: the built-in one does.
    pub backend: Option<Box<str>>,
    /// The parameters of its start that have no effect, if the client says so.
    pub unused: Box<[Box<str>]>,
    reason: Option<Arc<str>>,
    /// The file, as valid JSON: a tenth of what its keys and values take in memory, and there are many clients.
    text: Box<[u8]>,
}

/// Why the content of a state file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not JSON: most often a file that is only half written yet.
    #[error("not complete JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, but not an object with a text `state`.
    #[error("not a JSON object with a text `state`")]
    Shape,
}

impl StateReport {
    /// The largest state file that is read, in bytes.
    pub const MAX_BYTES: u64 = 64 * 1024;

    /// Parses the content of a state file, leniently, since any program may have written it.
    ///
    /// # Errors
    /// It is not, or not yet, a JSON object with a `state`.
    pub fn parse(content: &[u8]) -> Result<Self, ReportError> {
        let read = lenient::read(content).map_err(ReportError::Json)?;
        let Value::Object(fields) = read.value else { return Err(ReportError::Shape) };
        let Some(state) = fields.get("state").and_then(Value::as_str) else { return Err(ReportError::Shape) };
        // Read here: `fields` reads the whole file again, and lists and scrapes of `/metrics` want these of all clients.
        let reason = fields.get("reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
        let unused = fields.get("unused_parameters").and_then(Value::as_array);
        let number = |key: &str| fields.get(key).and_then(Value::as_u64);
        Ok(Self {
            state: ClientState::from_word(state),
            since: number("state_since"),
            backend: fields
                .get("backend")
                .and_then(Value::as_str)
                .filter(|name| is_word(name))
                .map(Into::into),
            queues: Queues { reports: number("reports_waiting"), messages: number("messages_waiting") },
            unused: unused.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect(),
            reason: reason.map(Into::into),
            text: read.text.into(),
        })
    }

    /// The reason that the client gives for its trouble or exit, if it does.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.reason.clone()
    }

    /// Every key of the file.
    pub fn fields(&self) -> Map<String, Value> {
        // It was parsed as JSON before.
        serde_json::from_slice(&self.text).unwrap_or_default()
    }
}

/// Whether a text may stand in a sentence.
fn is_word(text: &str) -> bool {
    (1..=ClientState::OTHER_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_state_words() {
        for word in ["init", "loading", "scaning", "confirming", "updating", "running", "stop"] {
            let state = ClientState::from_word(word);
            assert!(!matches!(state, ClientState::Other(_)), "{word}");
            assert_eq!(state.as_str(), word);
        }
        assert_eq!(ClientState::from_word("scanning"), ClientState::Other("scanning".into()));
        assert_eq!(ClientState::from_word(&"界".repeat(20)).as_str(), "界".repeat(10));
    }

    #[test]
    fn state_report_is_parsed() {
        let report = StateReport::parse(br#"{"state":"running","pid":1,"log_path":null}"#).unwrap();
        assert_eq!(report.state, ClientState::Running);
        assert_eq!(
            (&report.fields()["pid"], report.since, report.queues),
            (&1.into(), None, Queues::default())
        );
        let waiting = |value: &str| {
            let text = format!(r#"{{"state":"running","reports_waiting":{value}}}"#);
            StateReport::parse(text.as_bytes()).unwrap().queues.reports
        };
        assert_eq!(
            (waiting("7"), waiting("-1"), waiting("\"7\""), waiting("null")),
            (Some(7), None, None, None)
        );
        assert!(matches!(StateReport::parse(br#"{"state":"runn"#), Err(ReportError::Json(_))));
        assert!(matches!(StateReport::parse(br#"{"state":7}"#), Err(ReportError::Shape)));
        assert!(matches!(StateReport::parse(b"[]"), Err(ReportError::Shape)));
        assert!(matches!(StateReport::parse(b""), Err(ReportError::Json(_))));
    }

    #[test]
    fn state_report_with_broken_text_is_parsed() {
        let report = StateReport::parse(
            b"\xef\xbb\xbf{\"state\":\"running\",\"name\":\"\\ud83d\xff\x01\",\"n\":1e999}",
        );
        let report = report.unwrap();
        assert_eq!(report.state, ClientState::Running);
        assert_eq!(report.fields()["name"], "\u{fffd}\u{fffd}\u{1}");
        assert_eq!(report.fields()["n"], Value::Null);
    }
}
