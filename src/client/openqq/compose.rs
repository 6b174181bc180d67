//! What a message of `send_…_message` says: a text, and what OneBot v11 has besides (onebot-11, `message/segment.md`). Pure.

use serde_json::Value;

use super::call::RequestParams;
use crate::client::backend::Wording;
use crate::client::backend::segment::{self, Segment};

/// The longest text, in bytes. Reports, and the files of queued messages, have room for it with every byte escaped.
const MAX_TEXT: usize = 1024 * 1024;

/// The most that the parts may have together, in bytes: an image of 3.7 MiB in base64.
const MAX_BYTES: usize = 5 * 1024 * 1024;

/// The most parts.
const MAX_PARTS: usize = 1000;

/// How an image is given that is neither fetched nor in the call: by its path on the machine of the chat network's program.
const FILE: &str = "file://";

/// Why a message can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableMessage {
    /// It says nothing.
    #[error("the message has no content")]
    Empty,
    /// `segments` can't be read.
    #[error(
        "segments is no list of segments in JSON, such as [{{\"type\":\"text\",\"data\":{{\"text\":\"x\"}}}}]"
    )]
    Segments,
    /// `reply_to` is no number.
    #[error("reply_to is no message_id, which is a number")]
    ReplyTo,
    /// `at` names nobody.
    #[error("at takes uids with commas between them, or all")]
    At,
    /// It is too long.
    #[error(
        "the message is too long: {MAX_TEXT} bytes of text, {MAX_BYTES} bytes and {MAX_PARTS} segments are the most"
    )]
    TooLong,
}

fn part(kind: &str, name: &str, value: &str) -> Segment {
    Segment::new(kind, &[(name, value)])
}

/// What the call says, in this order: the message that it answers, who is meant, the text, its own parts, the image. A text alone is
/// sent as ever.
pub(super) fn wording(call: &RequestParams) -> Result<Wording, UnusableMessage> {
    let content = call.get("content").unwrap_or_default();
    if content.len() > MAX_TEXT {
        return Err(UnusableMessage::TooLong);
    }
    let mut parts = Vec::new();
    let [reply_to, at, own, image] =
        [call.get("reply_to"), call.get("at"), call.get("segments"), call.get("image")]
            .map(|value| value.filter(|value| !value.is_empty()));
    if let Some(number) = reply_to {
        let number =
            number.parse::<i64>().ok().filter(|number| *number != 0).ok_or(UnusableMessage::ReplyTo)?;
        parts.push(part("reply", "id", &number.to_string()));
    }
    for who in at.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|who| !who.is_empty()) {
        if who != "all" && !who.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UnusableMessage::At);
        }
        parts.push(part("at", "qq", who));
    }
    parts.extend(segment::of_text(content));
    if let Some(own) = own {
        let read: Option<Value> = serde_json::from_str(own).ok();
        let read = read.filter(|value| value.is_array() || value.is_object());
        let read = read.and_then(|value| segment::read(&value, false)).ok_or(UnusableMessage::Segments)?;
        parts.extend(read);
    }
    if let Some(image) = image {
        let file = if image.starts_with('/') { format!("{FILE}{image}") } else { image.to_owned() };
        parts.push(part("image", "file", file.as_str()));
    }
    // Programs put empty texts beside images.
    parts.retain(|part| *part != Segment::text(""));
    // An answer to a message, or the call of a person, says something only with more.
    if parts.iter().all(|part| part.kind == "reply") {
        return Err(UnusableMessage::Empty);
    }
    if [reply_to, at, own, image].iter().all(Option::is_none) {
        return Ok(content.to_owned().into());
    }
    let wording = Wording::of(parts);
    let is_too_long = wording.content.len() > MAX_TEXT
        || wording.segments.len() > MAX_PARTS
        || segment::bytes(&wording.segments) > MAX_BYTES;
    if is_too_long { Err(UnusableMessage::TooLong) } else { Ok(wording) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(params: &[(&str, &str)]) -> Result<Wording, UnusableMessage> {
        wording(&RequestParams::of(params))
    }

    #[test]
    fn text_alone_is_sent_as_ever() {
        assert_eq!(said(&[("content", "a[微笑]")]), Ok("a[微笑]".to_owned().into()));
        assert_eq!(said(&[("content", "x"), ("segments", ""), ("image", "")]), Ok("x".to_owned().into()));
        for nothing in [&[][..], &[("content", "")], &[("reply_to", "5")], &[("segments", "[]")]] {
            assert_eq!(said(nothing), Err(UnusableMessage::Empty), "{nothing:?}");
        }
    }

    #[test]
    fn parts_have_their_order() {
        let own =
            json!([{ "type": "face", "data": { "id": 14 } }, { "type": "text", "data": { "text": "" } }]);
        let all = said(&[
            ("image", "/a b.png"),
            ("segments", &own.to_string()),
            ("content", "x"),
            ("at", "7, all"),
            ("reply_to", "-5"),
        ]);
        let parts = [
            Segment::new("reply", &[("id", "-5")]),
            Segment::new("at", &[("qq", "7")]),
            Segment::new("at", &[("qq", "all")]),
            Segment::text("x"),
            Segment::new("face", &[("id", "14")]),
            Segment::new("image", &[("file", "file:///a b.png")]),
        ];
        assert_eq!(
            all,
            Ok(Wording { content: "@7 @全体成员 x[微笑][图片]".into(), segments: parts.to_vec() })
        );
        for given in ["http://x/y.png", "base64://eA==", "name.png"] {
            assert_eq!(
                said(&[("image", given)]).unwrap().segments,
                [Segment::new("image", &[("file", given)])]
            );
        }
    }

    #[test]
    fn unusable_parts_are_refused() {
        for (param, error) in [
            (("reply_to", "x"), UnusableMessage::ReplyTo),
            (("reply_to", "0"), UnusableMessage::ReplyTo),
            (("at", "小红"), UnusableMessage::At),
            (("segments", "x"), UnusableMessage::Segments),
            (("segments", "\"x\""), UnusableMessage::Segments),
            (("segments", "[7]"), UnusableMessage::Segments),
            (("image", &"x".repeat(MAX_BYTES)), UnusableMessage::TooLong),
            (("content", &"x".repeat(MAX_TEXT + 1)), UnusableMessage::TooLong),
        ] {
            assert_eq!(said(&[param, ("async", "1")]), Err(error), "{}", param.0);
        }
    }
}
