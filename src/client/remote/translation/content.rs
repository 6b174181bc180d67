//! Message content: the segments of a message to the text of the API, and back. Pure.
//!
//! `faces.tsv` has the names of the classic faces, as the original shows them: a face is `[name]`.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::client::remote::segment::MessageSegment;

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

/// The text of a message. `name_of` returns the display name of a person in that chat.
pub(crate) fn to_text(content: &[MessageSegment], name_of: impl Fn(u64) -> Option<String>) -> String {
    let mut text = String::new();
    for segment in content {
        match segment {
            MessageSegment::Text(words) => text.push_str(&words.replace("\r\n", "\n")),
            MessageSegment::Face(id) => {
                // The original shows face 0 as an unknown one.
                let name = id.filter(|id| *id != 0).and_then(|id| FACES_BY.names.get(&id));
                text.extend(["[", name.unwrap_or(&"表情"), "]"]);
            }
            MessageSegment::Image => text.push_str("[图片]"),
            MessageSegment::At(id, name) => {
                let name = name_of(*id).or_else(|| name.clone()).unwrap_or_else(|| id.to_string());
                text.extend(["@", &name, " "]);
            }
            MessageSegment::AtAll => text.push_str("@全体成员 "),
            MessageSegment::Reply => {}
            MessageSegment::Other => text.push_str("[未识别内容]"),
        }
    }
    text
}

/// The segments of a message with this text: text and faces.
pub(crate) fn to_segments(text: &str) -> Vec<MessageSegment> {
    let mut parts = Vec::new();
    let mut words = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, inside) = (&rest[..open], &rest[open + 1..]);
        words.push_str(before);
        // The last bracket before the end of a name opens it: "[[微笑]".
        let face = inside.split_once(']').and_then(|(name, after)| Some((FACES_BY.ids.get(name)?, after)));
        match face {
            Some((id, after)) => {
                push_words(&mut parts, &mut words);
                parts.push(MessageSegment::Face(id.parse().ok()));
                rest = after;
            }
            // No face: the bracket is text, and a face may still begin after it.
            None => {
                words.push('[');
                rest = inside;
            }
        }
    }
    words.push_str(rest);
    push_words(&mut parts, &mut words);
    parts
}

/// A text as [`to_text`] shows it after it went over the network: not quite the same, because of face 0.
pub(crate) fn as_echoed(text: &str) -> String {
    to_text(&to_segments(text), |_| None)
}

fn push_words(parts: &mut Vec<MessageSegment>, words: &mut String) {
    if !words.is_empty() {
        parts.push(MessageSegment::Text(std::mem::take(words)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(content: &[MessageSegment]) -> String {
        to_text(content, |id| (id == 7).then(|| "小红".to_owned()))
    }

    #[test]
    fn segments_become_text() {
        for (segment, text) in [
            (MessageSegment::Text("a\r\nb\nc".into()), "a\nb\nc"),
            (MessageSegment::Face(Some(14)), "[微笑]"),
            (MessageSegment::Face(Some(0)), "[表情]"),
            (MessageSegment::Face(Some(9999)), "[表情]"),
            (MessageSegment::Face(None), "[表情]"),
            (MessageSegment::Image, "[图片]"),
            (MessageSegment::At(7, None), "@小红 "),
            (MessageSegment::At(7, Some("x".into())), "@小红 "),
            (MessageSegment::At(8, Some("x".into())), "@x "),
            (MessageSegment::At(8, None), "@8 "),
            (MessageSegment::AtAll, "@全体成员 "),
            (MessageSegment::Reply, ""),
            (MessageSegment::Other, "[未识别内容]"),
        ] {
            assert_eq!(shown(std::slice::from_ref(&segment)), text, "{segment:?}");
        }
    }

    #[test]
    fn text_becomes_segments() {
        let words = |text: &str| MessageSegment::Text(text.into());
        let face = |id| MessageSegment::Face(Some(id));
        for (text, parts) in [
            ("你好", vec![words("你好")]),
            ("[微笑]", vec![face(14)]),
            ("a[微笑]b[OK]", vec![words("a"), face(14), words("b"), face(124)]),
            ("[惊讶]", vec![face(0)]),
            ("[[微笑]]", vec![words("["), face(14), words("]")]),
            ("[不是]", vec![words("[不是]")]),
            ("[", vec![words("[")]),
            ("[CQ:at,qq=all]&amp;", vec![words("[CQ:at,qq=all]&amp;")]),
        ] {
            assert_eq!(to_segments(text), parts, "{text}");
        }
    }

    #[test]
    fn faces_survive_a_round_trip() {
        assert_eq!(FACES_BY.names.len(), FACES_BY.ids.len());
        assert!(FACES_BY.names.len() > 100);
        for (id, name) in &FACES_BY.names {
            let text = format!("[{name}]");
            assert_eq!(to_segments(&text), [MessageSegment::Face(Some(*id))]);
            let back = shown(&[MessageSegment::Face(Some(*id))]);
            assert_eq!(back, if *id == 0 { "[表情]".to_owned() } else { text });
        }
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip(text in "(\\[|\\]|微笑|OK|\\[CQ:face,id=1\\]|\\PC){0,20}") {
            // Face 0 is the one that does not come back as it went.
            prop_assert_eq!(shown(&to_segments(&text)), text);
        }
    }
}
