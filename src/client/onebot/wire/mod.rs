//! OneBot v11 as implementations really speak it (github.com/botuniverse/onebot-11). Pure and tolerant:
//! implementations write keys twice, numbers as text, leave fields out, and send `null` or `{}` as `data`.

pub(super) mod event;
pub(super) mod lists;
pub(super) mod reply;
pub(super) mod segment;
pub(super) mod value;

use event::OneBotEvent;
use reply::ActionResponse;

use crate::model::lenient;

/// An incoming frame.
#[derive(Debug)]
pub(crate) enum OneBotFrame {
    /// The answer to the call with this `echo`.
    Reply(String, ActionResponse),
    /// An answer to no call. Some implementations refuse a token with it before they close.
    Unasked(ActionResponse),
    /// An event.
    Event(Box<OneBotEvent>, Envelope),
}

/// The fields that all events have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The time in Unix seconds.
    pub time: Option<u64>,
    /// The account.
    pub self_id: Option<u64>,
}

/// A frame, or the body of a request or an answer, as it was read.
#[derive(Debug)]
pub(crate) struct Parsed<T> {
    /// The content.
    pub what: T,
    /// Whether it was invalid JSON, so that parts of it are lost.
    pub is_repaired: bool,
}

/// Why a frame or a body is unreadable. Its text is not repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// It is not JSON.
    #[error("it is not JSON ({0})")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but not of OneBot.
    #[error("it is JSON, but neither an event nor an answer of OneBot 11")]
    Foreign,
}

impl OneBotFrame {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(text: &[u8]) -> Result<Parsed<Self>, FrameError> {
        // Read as a `Value`, which accepts duplicate keys (the last one counts); derived structs refuse them.
        let read = lenient::read(text)?;
        let (value, is_repaired) = (&read.value, read.is_repaired());
        // Before the answers, as a heartbeat has a `status`, too.
        let what = if value.get("post_type").is_some() {
            let envelope =
                Envelope { time: value::number(&value["time"]), self_id: value::id(&value["self_id"]) };
            Self::Event(Box::new(OneBotEvent::read(value)), envelope)
        } else {
            match value::opaque(&value["echo"]) {
                Some(echo) => Self::Reply(echo, ActionResponse::read(value)),
                None if value.get("retcode").is_some() || value.get("status").is_some() => {
                    Self::Unasked(ActionResponse::read(value))
                }
                None => return Err(FrameError::Foreign),
            }
        };
        Ok(Parsed { what, is_repaired })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_and_garbage_is_refused() {
        let read = |text: &str| OneBotFrame::read(text.as_bytes()).ok().map(|read| read.what);
        assert!(matches!(read(r#"{"echo":"w1","echo":"w2","retcode":0,"status":"ok","data":null}"#),
            Some(OneBotFrame::Reply(echo, _)) if echo == "w2"));
        assert!(
            matches!(read(r#"{"echo":7,"status":"ok"}"#), Some(OneBotFrame::Reply(echo, _)) if echo == "7")
        );
        assert!(matches!(
            read(r#"{"status":"failed","retcode":1403,"data":null,"echo":null}"#),
            Some(OneBotFrame::Unasked(ActionResponse::Refused { code: 1403, .. }))
        ));
        let beat = read(r#"{"post_type":"meta_event","time":"7","self_id":"10000"}"#);
        let envelope = Envelope { time: Some(7), self_id: Some(10_000) };
        assert!(matches!(beat, Some(OneBotFrame::Event(_, found)) if found == envelope));
        for garbage in
            ["", "{", "[]", "7", "\"x\"", "null", "{}", "\u{0}", r#"{"a":1}"#, &"[".repeat(100_000)]
        {
            assert!(read(garbage).is_none(), "{garbage:.20}");
        }
        assert!(OneBotFrame::read(b"\xff\xfe").is_err());
    }

    #[test]
    fn frames_with_broken_text_are_read() {
        let frame = br#"{"post_type":"message","message_type":"group","group_id":5,"user_id":7,"time":1e999,"message":"\ud83d"}"#;
        let read = OneBotFrame::read(frame).unwrap();
        assert!(read.is_repaired);
        let OneBotFrame::Event(event, envelope) = read.what else { panic!() };
        assert_eq!(envelope, Envelope::default());
        let OneBotEvent::Said(said) = *event else { panic!() };
        assert_eq!(said.content, [segment::MessageSegment::Text("\u{fffd}".into())]);
    }
}
