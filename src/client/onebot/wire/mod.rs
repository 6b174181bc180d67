//! OneBot v11 as implementations really speak it (github.com/botuniverse/onebot-11). Pure, and tolerant: a key twice, a
//! number as text, a field that is not there and `data` that is `null` or `{}` are all somebody's habit.

pub(super) mod event;
pub(super) mod lists;
pub(super) mod reply;
pub(super) mod segment;
pub(super) mod value;

use serde_json::Value;

use event::Event;
use reply::Reply;

/// What comes in one frame.
#[derive(Debug)]
pub(super) enum Frame {
    /// The answer to the call with this `echo`.
    Reply(String, Reply),
    /// An answer to nobody: how some refuse a token, before they close.
    Unasked(Reply),
    /// Something happened, at this time in Unix seconds where that is said.
    Event(Box<Event>, Option<u64>),
}

impl Frame {
    /// Reads a frame; none where it is no object of JSON.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        // First as a value, in which the last of two equal keys counts: derived structs refuse such a text.
        let value: Value = serde_json::from_slice(text).ok()?;
        if !value.is_object() {
            return None;
        }
        if value.get("post_type").is_some() {
            return Some(Self::Event(Box::new(Event::read(&value)), value::number(&value["time"])));
        }
        match value::opaque(&value["echo"]) {
            Some(echo) => Some(Self::Reply(echo, Reply::read(&value))),
            None if value.get("retcode").is_some() || value.get("status").is_some() => {
                Some(Self::Unasked(Reply::read(&value)))
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_kind_and_garbage() {
        let read = |text: &str| Frame::read(text.as_bytes());
        assert!(matches!(read(r#"{"echo":"w1","echo":"w2","retcode":0,"status":"ok","data":null}"#),
            Some(Frame::Reply(echo, _)) if echo == "w2"));
        assert!(matches!(read(r#"{"echo":7,"status":"ok"}"#), Some(Frame::Reply(echo, _)) if echo == "7"));
        assert!(matches!(
            read(r#"{"status":"failed","retcode":1403,"data":null,"echo":null}"#),
            Some(Frame::Unasked(Reply::Refused { code: 1403, .. }))
        ));
        assert!(matches!(read(r#"{"post_type":"meta_event","time":"7"}"#), Some(Frame::Event(_, Some(7)))));
        for garbage in
            ["", "{", "[]", "7", "\"x\"", "null", "{}", "\u{0}", r#"{"a":1}"#, &"[".repeat(100_000)]
        {
            assert!(read(garbage).is_none(), "{garbage:.20}");
        }
        assert!(Frame::read(b"\xff\xfe").is_none());
    }
}
