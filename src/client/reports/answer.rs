//! [`ReceiverAnswer`]: what a receiver asks for in its answer to the report of a message.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::client::backend::MAX_MUTE;
use crate::client::backend::message::Recipient;
use crate::model::lenient::{self, Lenient};

/// The length of a mute if the answer has none, as in the original.
const USUAL_MUTE: Duration = Duration::from_secs(60);

/// The message that a report is about. Ids are those of this login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportedMessage {
    /// The id of the message.
    pub id: String,
    /// Whether the own account wrote it.
    pub is_own: bool,
    /// The recipient of a reply.
    pub reply_to: Recipient,
    /// The sender.
    pub sender: String,
}

/// The actions that an answer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReceiverAnswer {
    /// A text to send to the chat of the message.
    pub reply: Option<String>,
    /// Whether `format` is not text. The original ignores it for received messages.
    pub is_other_format: bool,
    /// Mute the sender of a group message for this long.
    pub shutup: Option<Duration>,
}

impl ReceiverAnswer {
    /// Reads an answer, whatever its `Content-Type`: many receivers print JSON as `text/html`. None: it asks
    /// for nothing.
    ///
    /// # Errors
    /// It seems to ask for something, but is unusable: why.
    pub(crate) fn read(body: &[u8]) -> Result<Option<Self>, &'static str> {
        let is_text = std::str::from_utf8(body).is_ok();
        let mut object = match lenient::read(body.trim_ascii()) {
            // A repaired text would not be what was meant, and people would receive it.
            Ok(Lenient { value: Value::Object(_), .. }) if !is_text => return Err("it is not UTF-8"),
            Ok(Lenient { value: Value::Object(object), .. }) => object,
            Ok(_) => return Ok(None),
            // Most likely meant as an answer, so the operator should see it. Other texts are what web servers print anyway.
            Err(_) if body.trim_ascii_start().starts_with(b"{") => {
                return Err("it begins like a JSON object and is none");
            }
            Err(_) => return Ok(None),
        };
        // The types that the original turns into text.
        let reply = match object.remove("reply") {
            None | Some(Value::Null) => None,
            Some(Value::String(reply)) => Some(reply).filter(|reply| !reply.is_empty()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Bool(set)) => Some(u8::from(set).to_string()),
            Some(Value::Array(_) | Value::Object(_)) => return Err("its reply is a list or an object"),
        };
        let is_other_format =
            object.get("format").is_some_and(|format| !format.is_null() && format != "text");
        let shutup = number(&object, "shutup").is_some_and(|wanted| wanted != 0.0);
        let time = || match number(&object, "shutup_time") {
            // Bounded first: `from_secs_f64` panics on what no Duration holds.
            Some(seconds) if seconds >= 1.0 => Duration::from_secs_f64(seconds.min(MAX_MUTE.as_secs_f64())),
            _ => USUAL_MUTE,
        };
        let answer = Self { reply, is_other_format, shutup: shutup.then(time) };
        Ok((answer.reply.is_some() || answer.shutup.is_some()).then_some(answer))
    }
}

/// A number. Programs in Perl and PHP often write it as text.
fn number(object: &Map<String, Value>, key: &str) -> Option<f64> {
    match object.get(key)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Bool(set) => Some(f64::from(u8::from(*set))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ReceiverAnswer> {
        ReceiverAnswer::read(text.as_bytes()).unwrap()
    }

    fn reply(text: &str) -> ReceiverAnswer {
        ReceiverAnswer { reply: Some(text.to_owned()), is_other_format: false, shutup: None }
    }

    #[test]
    fn reply_of_an_answer_is_read_like_the_original() {
        for (text, expected) in [
            (r#"{"reply":"好的","code":0}"#, "好的"),
            ("\u{feff} {\"reply\":\"好的\"}\n", "好的"),
            (r#"{"reply":"x","format":"text"}"#, "x"),
            (r#"{"reply":"x","format":null}"#, "x"),
            (r#"{"reply":17}"#, "17"),
            (r#"{"reply":1.5}"#, "1.5"),
            (r#"{"reply":true}"#, "1"),
            // As programs write it that cut texts.
            ("\u{feff}{\"reply\":\"好\\ud83d\",\"time\":1e999}", "好\u{fffd}"),
        ] {
            assert_eq!(read(text), Some(reply(expected)), "{text}");
        }
        let media = read(r#"{"reply":"x","format":"media"}"#);
        assert_eq!(media, Some(ReceiverAnswer { is_other_format: true, ..reply("x") }));
    }

    #[test]
    fn mute_of_an_answer_is_read_from_any_number() {
        for (text, seconds) in [
            (r#"{"shutup":1}"#, 60),
            (r#"{"shutup":1.0,"shutup_time":90.0}"#, 90),
            (r#"{"shutup":"1","shutup_time":"5"}"#, 5),
            (r#"{"shutup":true,"shutup_time":-1}"#, 60),
            (r#"{"shutup":1,"shutup_time":0}"#, 60),
            (r#"{"shutup":1,"shutup_time":"1e999"}"#, 60),
            (r#"{"shutup":1,"shutup_time":18446744073709551615}"#, 30 * 24 * 60 * 60),
        ] {
            let shutup = Some(Duration::from_secs(seconds));
            assert_eq!(
                read(text),
                Some(ReceiverAnswer { reply: None, is_other_format: false, shutup }),
                "{text}"
            );
        }
        let both = read(r#"{"reply":"x","shutup":1,"shutup_time":90}"#);
        assert_eq!(both, Some(ReceiverAnswer { shutup: Some(Duration::from_secs(90)), ..reply("x") }));
    }

    #[test]
    fn empty_answers_differ_from_unusable_ones() {
        for nothing in
            ["", "ok", "[]", "{}", r#"{"reply":null}"#, r#"{"reply":"","shutup":0}"#, r#"["reply"]"#]
        {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        for unusable in [&br#"{"reply":"x""#[..], br#"{"reply":["x"]}"#, b"{\"reply\":\"\xc4\xe3\"}"] {
            assert!(ReceiverAnswer::read(unusable).is_err(), "{unusable:?}");
        }
    }
}
