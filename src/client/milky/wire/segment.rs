//! The parts of a message.

use serde_json::{Value, json};

use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value::{id, opaque, text};

/// Reads `segments`.
pub(crate) fn read(segments: &Value) -> Vec<MessageSegment> {
    segments.as_array().into_iter().flatten().map(segment).collect()
}

fn segment(part: &Value) -> MessageSegment {
    let data = &part["data"];
    match text(&part["type"]) {
        "text" => MessageSegment::Text(text(&data["text"]).to_owned()),
        "face" => MessageSegment::Face(opaque(&data["face_id"]).and_then(|id| id.trim().parse().ok())),
        "image" | "market_face" => MessageSegment::Image,
        "mention_all" => MessageSegment::AtAll,
        "mention" => {
            // Since 1.2, without the `@`; earlier versions have no name.
            let name = Some(text(&data["name"])).filter(|name| !name.is_empty()).map(str::to_owned);
            id(&data["user_id"]).map_or(MessageSegment::Other, |id| MessageSegment::At(id, name))
        }
        "reply" => MessageSegment::Reply,
        "file" => MessageSegment::Text(format!("共享文件 [{}]", text(&data["file_name"]))),
        _ => MessageSegment::Other,
    }
}

/// The parts of a message to send. Only text and faces are sent.
pub(crate) fn write(content: &[MessageSegment]) -> Value {
    let part = |part: &MessageSegment| match part {
        MessageSegment::Text(text) => Some(json!({ "type": "text", "data": { "text": text } })),
        MessageSegment::Face(Some(id)) => {
            Some(json!({ "type": "face", "data": { "face_id": id.to_string() } }))
        }
        _ => None,
    };
    content.iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read() {
        let segments = json!([
            { "type": "text", "data": { "text": "a" } },
            { "type": "face", "data": { "face_id": "14", "is_large": false } },
            { "type": "face", "data": {} },
            { "type": "image", "data": { "resource_id": "x" } },
            { "type": "market_face", "data": {} },
            { "type": "mention", "data": { "user_id": 10007, "name": "小红" } },
            { "type": "mention", "data": { "user_id": 10007 } },
            { "type": "mention", "data": {} },
            { "type": "mention_all", "data": {} },
            { "type": "reply", "data": { "message_seq": 1 } },
            { "type": "file", "data": { "file_name": "f.txt" } },
            { "type": "xml", "data": {} },
            null,
        ]);
        let at = |name: Option<&str>| MessageSegment::At(10007, name.map(str::to_owned));
        assert_eq!(
            read(&segments),
            [
                MessageSegment::Text("a".into()),
                MessageSegment::Face(Some(14)),
                MessageSegment::Face(None),
                MessageSegment::Image,
                MessageSegment::Image,
                at(Some("小红")),
                at(None),
                MessageSegment::Other,
                MessageSegment::AtAll,
                MessageSegment::Reply,
                MessageSegment::Text("共享文件 [f.txt]".into()),
                MessageSegment::Other,
                MessageSegment::Other,
            ]
        );
        assert_eq!((read(&json!(null)), read(&json!("x"))), (vec![], vec![]));
    }
}
