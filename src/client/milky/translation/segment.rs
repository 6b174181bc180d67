//! The content of messages that came: Milky's segments as those of OneBot v11 (onebot-11, `message/segment.md`).
//!
//! What the standard has no segment for is named as LLBot does it: `file` (github.com/LLOneBot/LLOneBot) and `mface`.

use serde_json::{Value, json};

use crate::client::backend::sanitize_remote_text;
use crate::client::remote::message_ids::{MessageIds, MessageKey};
use crate::client::remote::value::{flag, id, number, opaque, text};

/// How many segments of a message are read; no message has as many.
const MOST: usize = 1000;

/// Reads segments of a message. `chat` is any message of the same chat: what is quoted has a number there alone.
pub(super) fn read(segments: &Value, chat: Option<MessageKey>, ids: &MessageIds) -> Vec<Value> {
    let segments = segments.as_array().into_iter().flatten().take(MOST);
    segments.filter_map(|part| segment(part, chat, ids)).collect()
}

fn segment(part: &Value, chat: Option<MessageKey>, ids: &MessageIds) -> Option<Value> {
    let data = &part["data"];
    let of_resource = |kind: &str| json!({ "type": kind, "data": { "file": text(&data["resource_id"]), "url": text(&data["temp_url"]) } });
    Some(match text(&part["type"]) {
        "text" => json!({ "type": "text", "data": { "text": text(&data["text"]) } }),
        "mention" => {
            let mut at = json!({ "type": "at", "data": { "qq": id(&data["user_id"])?.to_string() } });
            if let Some(name) = data["name"].as_str().filter(|name| !name.is_empty()) {
                at["data"]["name"] = name.into();
            }
            at
        }
        "mention_all" => json!({ "type": "at", "data": { "qq": "all" } }),
        "face" => json!({ "type": "face", "data": { "id": opaque(&data["face_id"])? } }),
        "reply" => {
            let seq = number(&data["message_seq"]).filter(|seq| *seq > 0)?;
            json!({ "type": "reply", "data": { "id": ids.number(MessageKey { seq, ..chat? }).to_string() } })
        }
        "image" => {
            let mut image = of_resource("image");
            if let Some(summary) = data["summary"].as_str().filter(|summary| !summary.is_empty()) {
                image["data"]["summary"] = summary.into();
            }
            // The numbers are NapCat's.
            image["data"]["sub_type"] = i32::from(text(&data["sub_type"]) == "sticker").into();
            image
        }
        kind @ ("record" | "video") => of_resource(kind),
        "file" => json!({
            "type": "file",
            "data": {
                "file": text(&data["file_name"]), "file_id": text(&data["file_id"]),
                "file_size": number(&data["file_size"]).unwrap_or(0).to_string(),
                "file_hash": text(&data["file_hash"]),
            },
        }),
        "forward" => json!({ "type": "forward", "data": { "id": text(&data["forward_id"]) } }),
        "market_face" => json!({
            "type": "mface",
            "data": {
                "summary": text(&data["summary"]), "url": text(&data["url"]), "emoji_id": text(&data["emoji_id"]),
                "emoji_package_id": number(&data["emoji_package_id"]).unwrap_or(0), "key": text(&data["key"]),
            },
        }),
        "light_app" => json!({ "type": "json", "data": { "data": text(&data["json_payload"]) } }),
        "xml" => json!({ "type": "xml", "data": { "data": text(&data["xml_payload"]) } }),
        // Of a later version: an application sees that there is something.
        kind => {
            let kind = if kind.is_empty() { "unknown".to_owned() } else { sanitize_remote_text(kind) };
            json!({ "type": "text", "data": { "text": format!("[{kind}]") } })
        }
    })
}

/// A segment that came, as one that can be sent again. None: Milky can't send any like it.
pub(super) fn again(part: &Value) -> Option<Value> {
    let data = &part["data"];
    let uri = || data["temp_url"].as_str().filter(|url| !url.is_empty());
    Some(match text(&part["type"]) {
        "text" => json!({ "type": "text", "data": { "text": text(&data["text"]) } }),
        "mention" => json!({ "type": "mention", "data": { "user_id": id(&data["user_id"])? } }),
        "mention_all" => json!({ "type": "mention_all", "data": {} }),
        "face" => json!({
            "type": "face",
            "data": { "face_id": opaque(&data["face_id"])?, "is_large": flag(&data["is_large"]).unwrap_or(false) },
        }),
        "image" => {
            json!({ "type": "image", "data": { "uri": uri()?, "sub_type": sub_type(&data["sub_type"]) } })
        }
        kind @ ("record" | "video") => json!({ "type": kind, "data": { "uri": uri()? } }),
        "light_app" => {
            json!({ "type": "light_app", "data": { "json_payload": text(&data["json_payload"]) } })
        }
        _ => return None,
    })
}

fn sub_type(value: &Value) -> &'static str {
    if text(value) == "sticker" { "sticker" } else { "normal" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::remote::message_ids::Scene;

    #[test]
    fn segments_become_those_of_the_standard() {
        let ids = MessageIds::in_memory();
        let chat = MessageKey { account: 1, scene: Scene::Group, peer: 5, seq: 9 };
        let quoted = ids.number(MessageKey { seq: 3, ..chat }).to_string();
        let part = |kind: &str, data: Value| json!({ "type": kind, "data": data });
        let resource =
            json!({ "resource_id": "r", "temp_url": "http://x/r", "summary": "[图]", "sub_type": "sticker" });
        for (came, told) in [
            (part("text", json!({ "text": "a" })), part("text", json!({ "text": "a" }))),
            (
                part("mention", json!({ "user_id": 7, "name": "红" })),
                part("at", json!({ "qq": "7", "name": "红" })),
            ),
            (part("mention_all", json!({})), part("at", json!({ "qq": "all" }))),
            (part("face", json!({ "face_id": "14", "is_large": true })), part("face", json!({ "id": "14" }))),
            (part("reply", json!({ "message_seq": 3 })), part("reply", json!({ "id": quoted }))),
            (
                part("image", resource.clone()),
                part("image", json!({ "file": "r", "url": "http://x/r", "summary": "[图]", "sub_type": 1 })),
            ),
            (part("record", resource.clone()), part("record", json!({ "file": "r", "url": "http://x/r" }))),
            (part("video", resource), part("video", json!({ "file": "r", "url": "http://x/r" }))),
            (
                part(
                    "file",
                    json!({ "file_id": "/f", "file_name": "f.txt", "file_size": 9, "file_hash": null }),
                ),
                part("file", json!({ "file": "f.txt", "file_id": "/f", "file_size": "9", "file_hash": "" })),
            ),
            (part("forward", json!({ "forward_id": "w" })), part("forward", json!({ "id": "w" }))),
            (
                part(
                    "market_face",
                    json!({ "emoji_package_id": 2, "emoji_id": "e", "key": "k", "summary": "s", "url": "u" }),
                ),
                part(
                    "mface",
                    json!({ "emoji_package_id": 2, "emoji_id": "e", "key": "k", "summary": "s", "url": "u" }),
                ),
            ),
            (part("light_app", json!({ "json_payload": "{}" })), part("json", json!({ "data": "{}" }))),
            (part("xml", json!({ "xml_payload": "<x/>" })), part("xml", json!({ "data": "<x/>" }))),
            (part("of_a_later_version", json!({})), part("text", json!({ "text": "[of_a_later_version]" }))),
            (json!(null), part("text", json!({ "text": "[unknown]" }))),
        ] {
            assert_eq!(read(&json!([came]), Some(chat), &ids), [told], "{came}");
        }
        let broken = json!([
            part("mention", json!({})),
            part("face", json!({})),
            part("reply", json!({ "message_seq": 0 }))
        ]);
        assert_eq!(read(&broken, Some(chat), &ids), Vec::<Value>::new());
        assert_eq!((read(&json!(null), None, &ids), read(&json!("x"), None, &ids)), (vec![], vec![]));
    }

    #[test]
    fn what_came_can_be_sent_again_where_milky_has_a_way() {
        let image = json!({ "type": "image", "data": { "resource_id": "r", "temp_url": "http://x/r", "sub_type": "normal" } });
        assert_eq!(
            again(&image),
            Some(json!({ "type": "image", "data": { "uri": "http://x/r", "sub_type": "normal" } }))
        );
        assert_eq!(again(&json!({ "type": "record", "data": {} })), None);
        assert_eq!(again(&json!({ "type": "market_face", "data": {} })), None);
        assert_eq!(
            again(&json!({ "type": "mention", "data": { "user_id": 7, "name": "x" } })),
            Some(json!({ "type": "mention", "data": { "user_id": 7 } }))
        );
    }
}
