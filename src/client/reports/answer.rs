//! [`Answer`]: what a receiver's answer to the report of a message asks for.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::client::backend::{MAX_MUTE, Recipient};

/// For how long somebody is muted where the answer does not say, as in the original.
const USUAL_MUTE: Duration = Duration::from_secs(60);

/// Where a message came from, in ids of this login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) struct Source {
    /// Where a reply goes.
    pub reply_to: Recipient,
    /// Who wrote it.
    pub sender: String,
}

/// What is to be done in answer to a message.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) struct Answer {
    /// A text to send to where the message came from.
    pub reply: Option<String>,
    /// Mute the sender of a group message, for so long.
    pub shutup: Option<Duration>,
}

impl Answer {
    /// Reads an answer. None: it asks for nothing, which is the receiver's own business.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else { return None };
        let reply = match object.remove("reply") {
            Some(Value::String(reply)) if !reply.is_empty() => Some(reply),
            _ => None,
        };
        let shutup = number(&object, "shutup").is_some_and(|wanted| wanted != 0);
        let time = || match number(&object, "shutup_time") {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds).min(MAX_MUTE),
            _ => USUAL_MUTE,
        };
        let answer = Self { reply, shutup: shutup.then(time) };
        (answer.reply.is_some() || answer.shutup.is_some()).then_some(answer)
    }
}

/// A whole number, which programs in Perl and PHP write as text as often as not.
fn number(object: &Map<String, Value>, key: &str) -> Option<u64> {
    match object.get(key)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(set) => Some(u64::from(*set)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let read = |text: &str| Answer::read(text.as_bytes());
        let mute = |seconds| Some(Duration::from_secs(seconds));
        let reply = Some("好的".to_owned());
        assert_eq!(read(r#"{"reply":"好的","code":0}"#), Some(Answer { reply: reply.clone(), shutup: None }));
        for (text, time) in [
            (r#"{"shutup":1}"#, 60),
            (r#"{"shutup":"1","shutup_time":"5"}"#, 5),
            (r#"{"shutup":true,"shutup_time":-1}"#, 60),
            (r#"{"shutup":1,"shutup_time":18446744073709551615}"#, 30 * 24 * 60 * 60),
        ] {
            assert_eq!(read(text), Some(Answer { reply: None, shutup: mute(time) }), "{text}");
        }
        let both = r#"{"reply":"好的","shutup":1,"shutup_time":90}"#;
        assert_eq!(read(both), Some(Answer { reply, shutup: mute(90) }));
        for nothing in ["", "ok", "[]", "{}", r#"{"reply":1}"#, r#"{"reply":"","shutup":0}"#, r#"["reply"]"#]
        {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
