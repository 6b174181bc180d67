//! OneBot v11 as implementations really speak it (github.com/botuniverse/onebot-11). Pure and tolerant:
//! implementations write keys twice, numbers as text, leave fields out, and send `null` or `{}` as `data`.

pub(super) mod event;
pub(in crate::client) mod segment;

use crate::client::remote::frame::{Envelope, FrameError, Parsed, RemoteFrame};
use crate::client::remote::reply::ActionResponse;
use crate::client::remote::value;
use crate::model::lenient;

/// Reads a frame.
///
/// # Errors
/// It is none.
pub(super) fn read_frame(text: &[u8]) -> Result<Parsed<RemoteFrame>, FrameError> {
    // Read as a `Value`, which accepts duplicate keys (the last one counts); derived structs refuse them.
    let read = lenient::read(text)?;
    let is_repaired = read.is_repaired();
    let value = read.value;
    // Before the answers, as a heartbeat has a `status`, too.
    let what = if value.get("post_type").is_some() {
        let envelope =
            Envelope { time: value::number(&value["time"]), self_id: value::id(&value["self_id"]) };
        RemoteFrame::Event(Box::new(event::read(&value)), envelope)
    } else {
        match value::opaque(&value["echo"]) {
            Some(echo) => RemoteFrame::Reply(echo, ActionResponse::read(value)),
            None if value.get("retcode").is_some() || value.get("status").is_some() => {
                RemoteFrame::Unasked(ActionResponse::read(value))
            }
            None => return Err(FrameError::Foreign),
        }
    };
    Ok(Parsed { what, is_repaired })
}

/// An event as it came. None for meta events, as each application has its own connection.
pub(super) fn application_event(frame: &[u8]) -> Option<String> {
    let read = lenient::read(frame).ok()?;
    if read.value["post_type"] == "meta_event" {
        return None;
    }
    // Repaired, if it was not valid.
    Some(read.value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::remote::event::RemoteEvent;
    use crate::client::remote::segment::MessageSegment;

    #[test]
    fn frames_are_read_and_garbage_is_refused() {
        let read = |text: &str| read_frame(text.as_bytes()).ok().map(|read| read.what);
        assert!(matches!(read(r#"{"echo":"w1","echo":"w2","retcode":0,"status":"ok","data":null}"#),
            Some(RemoteFrame::Reply(echo, _)) if echo == "w2"));
        assert!(
            matches!(read(r#"{"echo":7,"status":"ok"}"#), Some(RemoteFrame::Reply(echo, _)) if echo == "7")
        );
        assert!(matches!(
            read(r#"{"status":"failed","retcode":1403,"data":null,"echo":null}"#),
            Some(RemoteFrame::Unasked(ActionResponse::Refused { code: 1403, .. }))
        ));
        let beat = read(r#"{"post_type":"meta_event","time":"7","self_id":"10000"}"#);
        let envelope = Envelope { time: Some(7), self_id: Some(10_000) };
        assert!(matches!(beat, Some(RemoteFrame::Event(_, found)) if found == envelope));
        for garbage in
            ["", "{", "[]", "7", "\"x\"", "null", "{}", "\u{0}", r#"{"a":1}"#, &"[".repeat(100_000)]
        {
            assert!(read(garbage).is_none(), "{garbage:.20}");
        }
        assert!(read_frame(b"\xff\xfe").is_err());
    }

    #[test]
    fn frames_with_broken_text_are_read() {
        let frame = br#"{"post_type":"message","message_type":"group","group_id":5,"user_id":7,"time":1e999,"message":"\ud83d"}"#;
        let read = read_frame(frame).unwrap();
        assert!(read.is_repaired);
        let RemoteFrame::Event(event, envelope) = read.what else { panic!() };
        assert_eq!(envelope, Envelope::default());
        let RemoteEvent::Said(said) = *event else { panic!() };
        assert_eq!(said.content, [MessageSegment::Text("\u{fffd}".into())]);
    }
}
