//! [`Segment`]: the parts of a message, from an array or from text with CQ codes.

use serde_json::{Map, Value};

use super::value::{id, opaque, text};

/// A part of a message, as far as there is something to show of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client::onebot) enum Segment {
    /// Words.
    Text(String),
    /// A classic face, by its number; none where it is none of those.
    Face(Option<u32>),
    /// An image, or a face that is one.
    Image,
    /// Somebody is named: the number, and the name where the implementation gives it.
    At(u64, Option<String>),
    /// Everybody is named.
    AtAll,
    /// It answers another message.
    Reply,
    /// Anything else.
    Other,
}

/// The parts of `message`: an array, one part by itself, or text with CQ codes.
pub(in crate::client::onebot) fn read(message: &Value) -> Vec<Segment> {
    match message {
        Value::Array(parts) => parts.iter().map(segment).collect(),
        Value::Object(_) => vec![segment(message)],
        Value::String(text) => coded(text),
        _ => Vec::new(),
    }
}

fn segment(part: &Value) -> Segment {
    // A bare string in an array is somebody's habit, too.
    if let Value::String(text) = part {
        return Segment::Text(text.clone());
    }
    kind(text(&part["type"]), &part["data"])
}

fn kind(kind: &str, data: &Value) -> Segment {
    match kind {
        "text" => Segment::Text(text(&data["text"]).to_owned()),
        "face" => Segment::Face(opaque(&data["id"]).and_then(|id| id.trim().parse().ok())),
        "image" | "mface" => Segment::Image,
        "at" if text(&data["qq"]) == "all" => Segment::AtAll,
        "at" => {
            let name = Some(text(&data["name"])).filter(|name| !name.is_empty());
            id(&data["qq"]).map_or(Segment::Other, |id| Segment::At(id, name.map(str::to_owned)))
        }
        "reply" => Segment::Reply,
        _ => Segment::Other,
    }
}

/// Splits text with CQ codes: `[CQ:kind,key=value,…]`.
fn coded(message: &str) -> Vec<Segment> {
    let (mut parts, mut rest) = (Vec::new(), message);
    let words = |parts: &mut Vec<Segment>, words: &str| {
        if !words.is_empty() {
            parts.push(Segment::Text(plain(words)));
        }
    };
    while let Some((before, code)) = rest.split_once("[CQ:") {
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

/// Takes the escapes out; `&amp;` last, for what it stands for may look like another.
fn plain(text: &str) -> String {
    text.replace("&#91;", "[").replace("&#93;", "]").replace("&#44;", ",").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn words(text: &str) -> Segment {
        Segment::Text(text.into())
    }

    #[test]
    fn arrays() {
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
                Segment::Face(Some(14)),
                Segment::Face(Some(14)),
                Segment::Face(None),
                Segment::Image,
                Segment::Image,
                Segment::At(7, Some("小红".into())),
                Segment::At(7, None),
                Segment::AtAll,
                Segment::Other,
                Segment::Reply,
                Segment::Other,
                Segment::Other,
                words("bare"),
                Segment::Other,
            ]
        );
        assert_eq!(read(&json!({ "type": "text", "data": { "text": "one" } })), [words("one")]);
        assert_eq!((read(&json!(null)), read(&json!(7)), read(&json!(""))), (vec![], vec![], vec![]));
    }

    #[test]
    fn text_with_codes() {
        let message = "a&#91;b&#93;&amp;#44;&amp;[CQ:face,id=14][CQ:at,qq=7,name=x&#44;y] c[CQ:at,qq=all][CQ:image,file=http://a?b=c&amp;d=e][CQ:reply,id=-5][CQ:shake]";
        assert_eq!(
            read(&json!(message)),
            [
                words("a[b]&#44;&"),
                Segment::Face(Some(14)),
                Segment::At(7, Some("x,y".into())),
                words(" c"),
                Segment::AtAll,
                Segment::Image,
                Segment::Reply,
                Segment::Other,
            ]
        );
        assert_eq!(
            read(&json!("[CQ:face,id=14")),
            [words("[CQ:face,id=14")],
            "a code without an end is text"
        );
        assert_eq!(read(&json!("[CQ:]x[x]")), [Segment::Other, words("x[x]")]);
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[\\PC\\[\\],&#;0-9amp]{0,40}") {
            let escaped = text.replace('&', "&amp;").replace('[', "&#91;").replace(']', "&#93;");
            let expected: Vec<_> = (!text.is_empty()).then(|| words(&text)).into_iter().collect();
            prop_assert_eq!(read(&json!(escaped)), expected);
        }

        #[test]
        fn nothing_panics(text in "(\\[CQ:|\\]|,|=|\\PC){0,30}") {
            read(&json!(text));
        }
    }
}
