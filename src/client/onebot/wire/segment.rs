//! The parts of a message, from an array or from text with CQ codes.

use serde_json::{Map, Value, json};

use crate::client::remote::segment::MessageSegment;
use crate::client::remote::value::{id, opaque, text};

/// Reads `message`: an array, a single part, or text with CQ codes.
pub(crate) fn read(message: &Value) -> Vec<MessageSegment> {
    match message {
        Value::Array(parts) => parts.iter().map(segment).collect(),
        Value::Object(_) => vec![segment(message)],
        Value::String(text) => coded(text),
        _ => Vec::new(),
    }
}

/// The parts of a message to send, as an array, so that nothing in a text is taken for a CQ code. Only text and faces are sent.
pub(crate) fn write(content: &[MessageSegment]) -> Value {
    let part = |part: &MessageSegment| match part {
        MessageSegment::Text(text) => Some(json!({ "type": "text", "data": { "text": text } })),
        MessageSegment::Face(Some(id)) => Some(json!({ "type": "face", "data": { "id": id.to_string() } })),
        _ => None,
    };
    content.iter().filter_map(part).collect()
}

fn segment(part: &Value) -> MessageSegment {
    // Some implementations put bare strings into the array.
    if let Value::String(text) = part {
        return MessageSegment::Text(text.clone());
    }
    kind(text(&part["type"]), &part["data"])
}

/// The part of this kind with this `data`.
pub(crate) fn kind(kind: &str, data: &Value) -> MessageSegment {
    match kind {
        "text" => MessageSegment::Text(text(&data["text"]).to_owned()),
        "face" => MessageSegment::Face(opaque(&data["id"]).and_then(|id| id.trim().parse().ok())),
        "image" | "mface" => MessageSegment::Image,
        "at" if text(&data["qq"]) == "all" => MessageSegment::AtAll,
        "at" => {
            let name = Some(text(&data["name"])).filter(|name| !name.is_empty());
            id(&data["qq"])
                .map_or(MessageSegment::Other, |id| MessageSegment::At(id, name.map(str::to_owned)))
        }
        "reply" => MessageSegment::Reply,
        _ => MessageSegment::Other,
    }
}

/// Splits text with CQ codes: `[CQ:kind,key=value,…]`.
fn coded(message: &str) -> Vec<MessageSegment> {
    let (mut parts, mut rest) = (Vec::new(), message);
    let words = |parts: &mut Vec<MessageSegment>, words: &str| {
        if !words.is_empty() {
            parts.push(MessageSegment::Text(plain(words)));
        }
    };
    while let Some((before, code)) = rest.split_once("[CQ:") {
        // A `]` or `,` in a value is escaped. A code without an end is text.
        let Some((code, after)) = code.split_once(']') else { break };
        words(&mut parts, before);
        let mut fields = code.split(',');
        let name = fields.next().unwrap_or_default();
        let data: Map<String, Value> = fields
            .filter_map(|field| field.split_once('='))
            .map(|(key, value)| (key.to_owned(), Value::String(plain(value))))
            .collect();
        parts.push(kind(name, &Value::Object(data)));
        rest = after;
    }
    words(&mut parts, rest);
    parts
}

/// Removes the escapes; `&amp;` last, since its result may look like another escape.
fn plain(text: &str) -> String {
    text.replace("&#91;", "[").replace("&#93;", "]").replace("&#44;", ",").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> MessageSegment {
        MessageSegment::Text(text.into())
    }

    #[test]
    fn segment_arrays_are_read() {
        let message = json!([
            { "type": "text", "data": { "text": "[CQ:face,id=1]" } },
            { "type": "face", "data": { "id": 14 } },
            { "type": "face", "data": { "id": "14" } },
            { "type": "face" },
            { "type": "image", "data": { "file": "x" } },
            { "type": "mface", "data": {} },
            { "type": "at", "data": { "qq": 7, "name": "小红" } },
            { "type": "at", "data": { "qq": "7" } },
            { "type": "at", "data": { "qq": "all" } },
            { "type": "at", "data": {} },
            { "type": "reply", "data": { "id": "1" } },
            { "type": "json", "data": null },
            { "type": 7 },
            "bare",
            null,
        ]);
        assert_eq!(
            read(&message),
            [
                words("[CQ:face,id=1]"),
                MessageSegment::Face(Some(14)),
                MessageSegment::Face(Some(14)),
                MessageSegment::Face(None),
                MessageSegment::Image,
                MessageSegment::Image,
                MessageSegment::At(7, Some("小红".into())),
                MessageSegment::At(7, None),
                MessageSegment::AtAll,
                MessageSegment::Other,
                MessageSegment::Reply,
                MessageSegment::Other,
                MessageSegment::Other,
                words("bare"),
                MessageSegment::Other,
            ]
        );
        assert_eq!(read(&json!({ "type": "text", "data": { "text": "one" } })), [words("one")]);
        assert_eq!((read(&json!(null)), read(&json!(7)), read(&json!(""))), (vec![], vec![], vec![]));
    }

    #[test]
    fn cq_codes_are_read() {
        let message = "a&#91;b&#93;&amp;#44;&amp;[CQ:face,id=14][CQ:at,qq=7,name=x&#44;y] c[CQ:at,qq=all][CQ:image,file=http://a?b=c&amp;d=e][CQ:reply,id=-5][CQ:shake]";
        assert_eq!(
            read(&json!(message)),
            [
                words("a[b]&#44;&"),
                MessageSegment::Face(Some(14)),
                MessageSegment::At(7, Some("x,y".into())),
                words(" c"),
                MessageSegment::AtAll,
                MessageSegment::Image,
                MessageSegment::Reply,
                MessageSegment::Other,
            ]
        );
        assert_eq!(
            read(&json!("[CQ:face,id=14")),
            [words("[CQ:face,id=14")],
            "a code without an end is text"
        );
        assert_eq!(read(&json!("[CQ:]x[x]")), [MessageSegment::Other, words("x[x]")]);
    }

    proptest! {
        #[test]
        fn escaped_text_is_unescaped(text in "[\\PC\\[\\],&#;0-9amp]{0,40}") {
            let escaped = text.replace('&', "&amp;").replace('[', "&#91;").replace(']', "&#93;");
            let expected: Vec<_> = (!text.is_empty()).then(|| words(&text)).into_iter().collect();
            prop_assert_eq!(read(&json!(escaped)), expected);
        }

        #[test]
        fn segments_never_panic(text in "(\\[CQ:|\\]|,|=|\\PC){0,30}") {
            read(&json!(text));
        }
    }
}
