//! CQ codes: a message as one text (onebot-11, `message/string.md`), and its segments (`message/array.md`). Pure.
//!
//! Any text is a message: what is no CQ code is text. So reading never fails.

use serde_json::{Map, Value, json};

/// What begins a CQ code.
const BEGIN: &str = "[CQ:";

/// Reads a text into segments. All values are texts.
pub fn parse(text: &str) -> Vec<Value> {
    let (mut segments, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        let (before, code) = rest.split_at(at);
        plain.push_str(before);
        let inner = &code[BEGIN.len()..];
        // Up to the next bracket of either kind: a code contains no other bracket, and so each character is read once.
        let end = inner.find(['[', ']']).filter(|end| inner[*end..].starts_with(']'));
        match end.and_then(|end| Some((segment(&inner[..end])?, end))) {
            Some((segment, end)) => {
                push_text(&mut segments, &mut plain);
                segments.push(segment);
                rest = &inner[end + 1..];
            }
            None => {
                // No code after all. What follows may be one.
                plain.push_str(BEGIN);
                rest = inner;
            }
        }
    }
    plain.push_str(rest);
    push_text(&mut segments, &mut plain);
    segments
}

fn push_text(segments: &mut Vec<Value>, plain: &mut String) {
    if !plain.is_empty() {
        segments.push(json!({ "type": "text", "data": { "text": unescape(plain) } }));
        plain.clear();
    }
}

/// What stands between `[CQ:` and `]`.
fn segment(code: &str) -> Option<Value> {
    let (name, params) = code.split_once(',').map_or((code, None), |(name, params)| (name, Some(params)));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return None;
    }
    let params = params.into_iter().flat_map(|params| params.split(','));
    let data: Map<String, Value> = params
        .filter_map(|param| param.split_once('='))
        .map(|(name, value)| (name.to_owned(), unescape(value).into()))
        .collect();
    Some(json!({ "type": name, "data": data }))
}

/// Writes segments as one text. What is no segment is left out.
pub fn write(segments: &[Value]) -> String {
    let mut written = String::new();
    for segment in segments {
        let Some(kind) = segment["type"].as_str() else { continue };
        if kind == "text" {
            escape(&mut written, &plain(&segment["data"]["text"]), false);
            continue;
        }
        written.push_str(BEGIN);
        written.push_str(kind);
        for (name, value) in segment["data"].as_object().into_iter().flatten() {
            // A parameter that has no value has no text either.
            if value.is_null() {
                continue;
            }
            written.push(',');
            written.push_str(name);
            written.push('=');
            escape(&mut written, &plain(value), true);
        }
        written.push(']');
    }
    written
}

/// A value as text: numbers and flags as they are written, lists as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Only the values within a code escape the comma, which separates them.
fn escape(written: &mut String, text: &str, in_code: bool) {
    for c in text.chars() {
        match c {
            '&' => written.push_str("&amp;"),
            '[' => written.push_str("&#91;"),
            ']' => written.push_str("&#93;"),
            ',' if in_code => written.push_str("&#44;"),
            c => written.push(c),
        }
    }
}

fn unescape(text: &str) -> String {
    // `&` last, or `&amp;#91;` would become a bracket.
    text.replace("&#91;", "[").replace("&#93;", "]").replace("&#44;", ",").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        json!({ "type": "text", "data": { "text": text } })
    }

    #[test]
    fn texts_of_the_standard_are_read() {
        assert_eq!(
            parse("&#91;第一部分&#93;[CQ:image,file=123.jpg]图片之后的部分，表情：[CQ:face,id=123]"),
            [
                text("[第一部分]"),
                json!({ "type": "image", "data": { "file": "123.jpg" } }),
                text("图片之后的部分，表情："),
                json!({ "type": "face", "data": { "id": "123" } }),
            ]
        );
        assert_eq!(
            parse("[CQ:share,title=标题中有=等号&#44;,url=http://baidu.com/?a=1&amp;b=2][CQ:shake]"),
            [
                json!({ "type": "share", "data": { "title": "标题中有=等号,", "url": "http://baidu.com/?a=1&b=2" } }),
                json!({ "type": "shake", "data": {} }),
            ]
        );
        assert_eq!(parse(""), Vec::<Value>::new());
    }

    #[test]
    fn what_is_no_code_is_text() {
        for plain in [
            "[CQ:",
            "[CQ:]",
            "[CQ:,a=b]",
            "[CQ: a]",
            "[cq:face]",
            "[CQ：face]",
            "[CQ:face",
            "]",
            "[x]",
            "&#9",
        ] {
            assert_eq!(parse(plain), [text(plain)], "{plain}");
        }
        // A code within what only looks like the beginning of one.
        assert_eq!(
            parse("[CQ:[CQ:face,id=1]"),
            [text("[CQ:"), json!({ "type": "face", "data": { "id": "1" } })]
        );
        assert_eq!(parse("&amp;#91;"), [text("&#91;")]);
    }

    #[test]
    fn values_that_are_no_text_are_written() {
        let segments = [
            json!({ "type": "at", "data": { "qq": 10007 } }),
            json!({ "type": "image", "data": { "file": "a", "summary": null, "is": true } }),
            json!({ "type": "node", "data": { "content": [{ "type": "text" }] } }),
            json!({ "type": "face", "data": null }),
            json!(null),
        ];
        assert_eq!(
            write(&segments),
            "[CQ:at,qq=10007][CQ:image,file=a,is=true][CQ:node,content=&#91;{\"type\":\"text\"}&#93;][CQ:face]"
        );
    }

    fn segments() -> impl Strategy<Value = Vec<Value>> {
        let code =
            ("[a-z_]{1,8}", proptest::collection::btree_map("[a-z_]{1,5}", "(&amp;|&#44;|\\PC){0,6}", 0..4))
                .prop_filter("that is text", |(name, _)| name != "text")
                .prop_map(|(name, data)| json!({ "type": name, "data": data }));
        let words = "(&amp;|&#91;|&#93;|&#44;|[a\\[\\]&,#;0-9CQ:= ]){1,8}".prop_map(|words| text(&words));
        proptest::collection::vec(prop_oneof![code, words], 0..8)
    }

    /// As they are read: texts that follow each other are one.
    fn joined(segments: &[Value]) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        for segment in segments {
            match all.last_mut() {
                Some(last) if last["type"] == "text" && segment["type"] == "text" => {
                    let words =
                        format!("{}{}", plain(&last["data"]["text"]), plain(&segment["data"]["text"]));
                    *last = text(&words);
                }
                _ => all.push(segment.clone()),
            }
        }
        all
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(segments in segments()) {
            prop_assert_eq!(parse(&write(&segments)), joined(&segments));
        }

        #[test]
        fn any_text_is_read_and_read_the_same_once_written(any in "(\\[CQ:|[a,=&#;\\]\\[0-9]|\\PC){0,40}") {
            let read = parse(&any);
            prop_assert_eq!(parse(&write(&read)), read);
        }
    }
}
