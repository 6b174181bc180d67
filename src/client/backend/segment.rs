//! [`Segment`]: a part of a message, as OneBot v11 has them (onebot-11, `message/segment.md`). Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::applications::cq_code;
use crate::client::onebot::segment_of;
use crate::client::remote::content;
use crate::client::remote::segment::MessageSegment;

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    /// What it is, such as `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its parameters. Single values are texts.
    pub data: Map<String, Value>,
}

impl Segment {
    /// A part of this kind.
    pub(crate) fn new(kind: &str, data: &[(&str, &str)]) -> Self {
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        Self { kind: kind.to_owned(), data }
    }

    /// Text as it is.
    pub(crate) fn text(text: &str) -> Self {
        Self::new("text", &[("text", text)])
    }

    /// A parameter; empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.data.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a parameter.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.data.insert(name.to_owned(), value.into());
    }

    /// Reads `{"type": …, "data": …}`. None: it is none.
    fn read(value: &Value) -> Option<Self> {
        // Some programs put bare texts among the parts.
        if let Value::String(text) = value {
            return Some(Self::text(text));
        }
        let kind = value.get("type")?.as_str()?.to_owned();
        let data = match value.get("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data.clone(),
            Some(_) => return None,
        };
        // `{"qq": 7}` and `{"qq": "7"}` are the same, so that nobody who reads it has to look for both.
        let as_text = |value: Value| match value {
            Value::Number(number) => number.to_string().into(),
            Value::Bool(flag) => (if flag { "1" } else { "0" }).into(),
            other => other,
        };
        let data = data.into_iter().filter(|(_, value)| !value.is_null());
        Some(Self { kind, data: data.map(|(name, value)| (name, as_text(value))).collect() })
    }
}

/// Reads a `message` of the standard: a text with CQ codes (or without, if it is `plain`), a part, or a list of parts. None: it is
/// none of them.
pub(crate) fn read(message: &Value, plain: bool) -> Option<Vec<Segment>> {
    match message {
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        Value::String(text) if plain => Some(vec![Segment::text(text)]),
        Value::String(text) => cq_code::parse(text).iter().map(Segment::read).collect(),
        Value::Array(parts) => parts.iter().map(Segment::read).collect(),
        Value::Object(_) => Some(vec![Segment::read(message)?]),
        _ => None,
    }
}

/// The parts as a text with CQ codes.
pub(crate) fn raw(segments: &[Segment]) -> String {
    let parts: Vec<Value> =
        segments.iter().map(|segment| json!({ "type": segment.kind, "data": segment.data })).collect();
    cq_code::write(&parts)
}

/// How the content of a file begins that is in the message itself.
const CONTENT: &str = "base64://";

/// The parts as reports have them: without the content of files, which may be megabytes.
pub(crate) fn without_content(segments: &[Segment]) -> Vec<Segment> {
    fn strip(value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with(CONTENT) => text.truncate(CONTENT.len()),
            Value::Array(values) => values.iter_mut().for_each(strip),
            // The parts of a forwarded message.
            Value::Object(members) => members.values_mut().for_each(strip),
            _ => {}
        }
    }
    let mut all = segments.to_vec();
    // A text that begins so is a text.
    for part in all.iter_mut().filter(|part| part.kind != "text") {
        part.data.values_mut().for_each(strip);
    }
    all
}

/// About how long the parts are, in bytes.
pub(crate) fn bytes(segments: &[Segment]) -> usize {
    let of = |segment: &Segment| {
        let data = segment.data.iter().map(|(name, value)| match value {
            Value::String(text) => name.len() + text.len(),
            // A list of parts of a forwarded message.
            other => name.len() + other.to_string().len(),
        });
        segment.kind.len() + data.sum::<usize>()
    };
    segments.iter().map(of).sum()
}

/// The parts as the text of the old API. `name_of` is the display name of a person in that chat.
pub(crate) fn text_of(segments: &[Segment], name_of: impl Fn(u64) -> Option<String>) -> String {
    let parts: Vec<MessageSegment> = segments
        .iter()
        .map(|segment| match segment.kind.as_str() {
            // As the original shows a file of a group.
            "file" => MessageSegment::Text(format!("共享文件 [{}]", segment.get("name"))),
            kind => segment_of(kind, &Value::Object(segment.data.clone())),
        })
        .collect();
    content::to_text(&parts, name_of)
}

/// The parts of a text of the old API: text and faces.
pub(crate) fn of_text(text: &str) -> Vec<Segment> {
    of_content(&content::to_segments(text))
}

/// The parts of what a network with other words said, as far as is known of them.
pub(crate) fn of_content(content: &[MessageSegment]) -> Vec<Segment> {
    let one = |part: &MessageSegment| match part {
        MessageSegment::Text(text) => Some(Segment::text(text)),
        MessageSegment::Face(id) => {
            Some(Segment::new("face", &[("id", &id.map(|id| id.to_string()).unwrap_or_default())]))
        }
        MessageSegment::Image => Some(Segment::new("image", &[])),
        MessageSegment::At(uid, name) => {
            let mut at = Segment::new("at", &[("qq", &uid.to_string())]);
            if let Some(name) = name {
                at.set("name", name.as_str());
            }
            Some(at)
        }
        MessageSegment::AtAll => Some(Segment::new("at", &[("qq", "all")])),
        // Of these nothing is known that would help anybody.
        MessageSegment::Reply | MessageSegment::Other => None,
    };
    content.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_forms_are_read() {
        let parts = json!([{ "type": "at", "data": { "qq": 7, "x": null } }, "a", { "type": "dice" }]);
        let segments = read(&parts, false).unwrap();
        assert_eq!(
            segments,
            [Segment::new("at", &[("qq", "7")]), Segment::text("a"), Segment::new("dice", &[])]
        );
        assert_eq!(raw(&segments), "[CQ:at,qq=7]a[CQ:dice]");
        assert_eq!(read(&json!(raw(&segments)), false), Some(segments));
        assert_eq!(read(&json!("[CQ:dice]"), true), Some(vec![Segment::text("[CQ:dice]")]));
        assert_eq!(
            read(&json!({ "type": "face", "data": { "id": true } }), false).unwrap()[0].get("id"),
            "1"
        );
        assert_eq!(read(&json!(""), false), Some(vec![]));
        for wrong in
            [json!(null), json!(7), json!([7]), json!({ "data": {} }), json!({ "type": "a", "data": 1 })]
        {
            assert_eq!(read(&wrong, false), None, "{wrong}");
        }
    }

    #[test]
    fn reports_have_no_content_of_files() {
        let node = json!({ "content": [{ "type": "image", "data": { "file": "base64://eA==" } }] });
        let mut forwarded = Segment::new("node", &[]);
        forwarded.data = node.as_object().unwrap().clone();
        let parts = [
            Segment::new("image", &[("file", "base64://eA==")]),
            Segment::new("image", &[("file", "http://x/y")]),
            Segment::text("base64://eA=="),
            forwarded,
        ];
        let stripped = without_content(&parts);
        assert_eq!((stripped[0].get("file"), &stripped[1..3]), ("base64://", &parts[1..3]));
        assert_eq!(stripped[3].data["content"][0]["data"]["file"], "base64://");
    }

    #[test]
    fn old_api_has_a_text_for_each_part() {
        let parts = json!([
            { "type": "reply", "data": { "id": 5 } }, { "type": "at", "data": { "qq": 7 } },
            { "type": "at", "data": { "qq": "all" } }, { "type": "text", "data": { "text": "[x]" } },
            { "type": "face", "data": { "id": 14 } }, { "type": "image", "data": {} },
            { "type": "file", "data": { "name": "f.txt" } }, { "type": "json", "data": {} },
        ]);
        let text = text_of(&read(&parts, false).unwrap(), |uid| (uid == 7).then(|| "小红".to_owned()));
        assert_eq!(text, "@小红 @全体成员 [x][微笑][图片]共享文件 [f.txt][未识别内容]");
        assert_eq!(of_text("a[微笑]"), [Segment::text("a"), Segment::new("face", &[("id", "14")])]);
    }
}
