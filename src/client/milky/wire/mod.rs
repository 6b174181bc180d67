//! Milky as implementations really speak it. Pure and tolerant: versions differ, keys are missing, objects are empty.

pub(super) mod event;
pub(super) mod segment;

use crate::client::remote::frame::{Envelope, FrameError, Parsed, RemoteFrame};
use crate::client::remote::value;
use crate::model::lenient;

/// Reads what came by the event stream. There is nothing else than events.
///
/// # Errors
/// It is none.
pub(super) fn read_frame(text: &[u8]) -> Result<Parsed<RemoteFrame>, FrameError> {
    let read = lenient::read(text)?;
    let event = &read.value;
    if event.get("event_type").is_none() {
        return Err(FrameError::Foreign);
    }
    let envelope = Envelope { time: value::number(&event["time"]), self_id: value::id(&event["self_id"]) };
    let what = RemoteFrame::Event(Box::new(event::read(event)), envelope);
    Ok(Parsed { what, is_repaired: read.is_repaired() })
}

/// What identifies a message: a sequence number is of one chat. They begin with 1; 0 is none.
pub(super) fn message_number(scene: &str, peer: u64, seq: u64) -> Option<String> {
    (seq > 0).then(|| format!("{scene}:{peer}:{seq}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::remote::event::RemoteEvent;
    use serde_json::json;

    #[test]
    fn events_are_read_and_all_else_is_refused() {
        let event =
            json!({ "time": 9, "self_id": 10001, "event_type": "bot_offline", "data": { "reason": "x" } });
        let RemoteFrame::Event(event, envelope) = read_frame(event.to_string().as_bytes()).unwrap().what
        else {
            panic!()
        };
        assert_eq!((*event, envelope.self_id), (RemoteEvent::Offline("x".into()), Some(10001)));
        for garbage in
            ["", "{", "[]", "7", "null", "{}", r#"{"retcode":0,"status":"ok"}"#, &"[".repeat(100_000)]
        {
            assert!(read_frame(garbage.as_bytes()).is_err(), "{garbage:.20}");
        }
        // Half a character is no reason to lose a message.
        let half = br#"{"event_type":"message_receive","self_id":10001,"data":{"message_scene":"group","peer_id":10005,
            "sender_id":10007,"message_seq":1,"segments":[{"type":"text","data":{"text":"\ud83d"}}]}}"#;
        let read = read_frame(half).unwrap();
        assert!(
            read.is_repaired
                && matches!(read.what, RemoteFrame::Event(event, _) if matches!(*event, RemoteEvent::Said(_)))
        );
    }
}
