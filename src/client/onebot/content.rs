//! What a message says: parts of a OneBot message to the text of the API, and back. Pure.
//!
//! `faces.tsv` has the names of the classic faces, as the original shows them: a face is `[name]`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::wire::segment::Segment;

const FACES: &str = include_str!("faces.tsv");

struct Faces {
    names: HashMap<u32, &'static str>,
    ids: HashMap<&'static str, &'static str>,
}

static FACES_BY: LazyLock<Faces> = LazyLock::new(|| {
    let lines = FACES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'));
    let names = lines.clone().filter_map(|(id, name)| Some((id.parse().ok()?, name))).collect();
    Faces { names, ids: lines.map(|(id, name)| (name, id)).collect() }
});

/// The text of a message. `name_of` knows what somebody is called where it was said.
pub(super) fn to_text(content: &[Segment], name_of: impl Fn(u64) -> Option<String>) -> String {
    let mut text = String::new();
    for segment in content {
        match segment {
            Segment::Text(words) => text.push_str(&words.replace("\r\n", "\n")),
            Segment::Face(id) => {
                // The original takes face 0 for none.
                let name = id.filter(|id| *id != 0).and_then(|id| FACES_BY.names.get(&id));
                text.extend(["[", name.unwrap_or(&"表情"), "]"]);
            }
            Segment::Image => text.push_str("[图片]"),
            Segment::At(id, name) => {
                let name = name_of(*id).or_else(|| name.clone()).unwrap_or_else(|| id.to_string());
                text.extend(["@", &name, " "]);
            }
            Segment::AtAll => text.push_str("@全体成员 "),
            Segment::Reply => {}
            Segment::Other => text.push_str("[未识别内容]"),
        }
    }
    text
}

/// The parts of a message that says `text`. Always parts, so that nothing in the text becomes a CQ code.
pub(super) fn to_segments(text: &str) -> Value {
    let mut parts = Vec::new();
    let mut words = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, inside) = (&rest[..open], &rest[open + 1..]);
        words.push_str(before);
        // The bracket nearest to the end of a name is the one that it begins with: "[[微笑]".
        let face = inside.split_once(']').and_then(|(name, after)| Some((FACES_BY.ids.get(name)?, after)));
        match face {
            Some((id, after)) => {
                push_words(&mut parts, &mut words);
                parts.push(json!({ "type": "face", "data": { "id": id } }));
                rest = after;
            }
            None => {
                words.push('[');
                rest = inside;
            }
        }
    }
    words.push_str(rest);
    push_words(&mut parts, &mut words);
    Value::Array(parts)
}

fn push_words(parts: &mut Vec<Value>, words: &mut String) {
    if !words.is_empty() {
        parts.push(json!({ "type": "text", "data": { "text": std::mem::take(words) } }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::onebot::wire::segment::read;
    use proptest::prelude::*;

    fn shown(content: &[Segment]) -> String {
        to_text(content, |id| (id == 7).then(|| "小红".to_owned()))
    }

    #[test]
    fn what_is_shown() {
        for (segment, text) in [
            (Segment::Text("a\r\nb\nc".into()), "a\nb\nc"),
            (Segment::Face(Some(14)), "[微笑]"),
            (Segment::Face(Some(0)), "[表情]"),
            (Segment::Face(Some(9999)), "[表情]"),
            (Segment::Face(None), "[表情]"),
            (Segment::Image, "[图片]"),
            (Segment::At(7, None), "@小红 "),
            (Segment::At(7, Some("x".into())), "@小红 "),
            (Segment::At(8, Some("x".into())), "@x "),
            (Segment::At(8, None), "@8 "),
            (Segment::AtAll, "@全体成员 "),
            (Segment::Reply, ""),
            (Segment::Other, "[未识别内容]"),
        ] {
            assert_eq!(shown(std::slice::from_ref(&segment)), text, "{segment:?}");
        }
    }

    #[test]
    fn what_is_sent() {
        let words = |text: &str| json!({ "type": "text", "data": { "text": text } });
        let face = |id: &str| json!({ "type": "face", "data": { "id": id } });
        for (text, parts) in [
            ("你好", json!([words("你好")])),
            ("[微笑]", json!([face("14")])),
            ("a[微笑]b[OK]", json!([words("a"), face("14"), words("b"), face("124")])),
            ("[惊讶]", json!([face("0")])),
            ("[[微笑]]", json!([words("["), face("14"), words("]")])),
            ("[不是]", json!([words("[不是]")])),
            ("[", json!([words("[")])),
            ("[CQ:at,qq=all]&amp;", json!([words("[CQ:at,qq=all]&amp;")])),
        ] {
            assert_eq!(to_segments(text), parts, "{text}");
        }
    }

    #[test]
    fn every_face_goes_there_and_back() {
        assert_eq!(FACES_BY.names.len(), FACES_BY.ids.len());
        assert!(FACES_BY.names.len() > 100);
        for (id, name) in &FACES_BY.names {
            let text = format!("[{name}]");
            assert_eq!(to_segments(&text)[0]["data"]["id"], id.to_string());
            let back = shown(&[Segment::Face(Some(*id))]);
            assert_eq!(back, if *id == 0 { "[表情]".to_owned() } else { text });
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "(\\[|\\]|微笑|OK|\\[CQ:face,id=1\\]|\\PC){0,20}") {
            // Face 0 is the one that does not come back as it went.
            prop_assert_eq!(shown(&read(&to_segments(&text))), text);
        }
    }
}
