//! The content of a message to send: segments of OneBot v11, or a text with CQ codes, as segments of Milky.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::params::{bad, find_message, flag};
use super::segment;
use crate::client::applications::cq_code;
use crate::client::backend::action::Answer;
use crate::client::backend::sanitize_remote_text;
use crate::client::remote::dialect::Request;
use crate::client::remote::message_ids::{MessageKey, Scene};
use crate::client::remote::plan::PlanContext;
use crate::client::remote::value::{id, opaque, text};

/// How many segments a message may have, how many files that came before, and how many messages it may pass on.
const MAX_SEGMENTS: usize = 1000;
const MAX_RESOURCES: usize = 20;
const MAX_MESSAGES: usize = 100;

/// How deep forwarded messages may be within others.
const MAX_DEPTH: usize = 3;

/// The schemes that Milky takes.
const SCHEMES: [&str; 4] = ["file://", "http://", "https://", "base64://"];

/// The answers to what a message needs to be known.
#[derive(Default)]
pub(super) struct Known {
    /// URLs of files that came in earlier messages, by their names there.
    pub resources: HashMap<String, String>,
    /// Messages.
    pub messages: HashMap<MessageKey, Value>,
}

/// What has to be asked before a message can be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// Names of files.
    pub resources: Vec<String>,
    /// Messages.
    pub messages: Vec<MessageKey>,
}

/// The segments of a message, which is a text, a segment or a list of them.
pub(super) fn content(message: Value, is_plain: bool) -> Result<Vec<Value>, Answer> {
    let parts = match message {
        Value::String(text) if is_plain => vec![json!({ "type": "text", "data": { "text": text } })],
        Value::String(text) => cq_code::parse(&text),
        Value::Number(number) => vec![json!({ "type": "text", "data": { "text": number.to_string() } })],
        Value::Array(parts) => parts,
        part @ Value::Object(_) => vec![part],
        _ => return Err(bad("message must be a text or a list of segments")),
    };
    match parts.len() {
        0 => Err(bad("message is empty")),
        1..=MAX_SEGMENTS => Ok(parts),
        _ => Err(bad(format!("message has more than {MAX_SEGMENTS} segments"))),
    }
}

/// Writes segments for a chat. With wants, the segments are not whole.
pub(super) fn write(
    parts: &[Value],
    chat: (Scene, u64),
    context: &PlanContext,
    known: &Known,
) -> Result<(Vec<Value>, Wants), Answer> {
    let mut writer = Writer { chat, context, known, wants: Wants::default() };
    let written = writer.message(parts, 0)?;
    if written.is_empty() {
        return Err(bad("message is empty"));
    }
    Ok((written, writer.wants))
}

struct Writer<'a> {
    chat: (Scene, u64),
    context: &'a PlanContext,
    known: &'a Known,
    wants: Wants,
}

impl Writer<'_> {
    /// A message, or one within a forwarded one.
    fn message(&mut self, parts: &[Value], depth: usize) -> Result<Vec<Value>, Answer> {
        let is_node = |part: &Value| part["type"] == "node";
        if parts.iter().any(is_node) {
            return if !parts.iter().all(is_node) {
                Err(bad("segments of type node can't stand beside others"))
            } else if depth >= MAX_DEPTH {
                Err(bad(format!("forwarded messages are within each other more than {MAX_DEPTH} times")))
            } else {
                Ok(vec![self.forward(parts, depth)?])
            };
        }
        parts.iter().filter_map(|part| self.segment(part, depth).transpose()).collect()
    }

    /// None: there is nothing to send of it, as the application allows.
    fn segment(&mut self, part: &Value, depth: usize) -> Result<Option<Value>, Answer> {
        let data = &part["data"];
        Ok(Some(match text(&part["type"]) {
            "text" => match &data["text"] {
                Value::String(text) if text.is_empty() => return Ok(None),
                Value::Number(number) => json!({ "type": "text", "data": { "text": number.to_string() } }),
                Value::String(text) => json!({ "type": "text", "data": { "text": text } }),
                _ => return Err(bad("text of a segment of type text is missing")),
            },
            "face" => {
                let face =
                    opaque(&data["id"]).ok_or_else(|| bad("id of a segment of type face is missing"))?;
                json!({ "type": "face", "data": { "face_id": face } })
            }
            "at" if data["qq"] == "all" => json!({ "type": "mention_all", "data": {} }),
            "at" => {
                let user = id(&data["qq"])
                    .ok_or_else(|| bad("qq of a segment of type at must be a number or all"))?;
                json!({ "type": "mention", "data": { "user_id": user } })
            }
            "reply" if depth > 0 => {
                return Err(bad("a forwarded message can't have a segment of type reply"));
            }
            "reply" => {
                let key = find_message(&data["id"], "id of a segment of type reply", self.context)?;
                if (key.scene, key.peer) != self.chat {
                    return Err(bad("a segment of type reply is about a message of another chat"));
                }
                json!({ "type": "reply", "data": { "message_seq": key.seq } })
            }
            "image" => {
                // Both spellings are in use, and a sticker is 1 (NapCat) or not 0.
                let kind = opaque(&data["sub_type"]).or_else(|| opaque(&data["subType"])).unwrap_or_default();
                let sub_type =
                    if matches!(kind.as_str(), "" | "0" | "normal") { "normal" } else { "sticker" };
                let mut image = json!({ "type": "image", "data": { "uri": self.uri(data, "image")?, "sub_type": sub_type } });
                if let Some(summary) = data["summary"].as_str().filter(|summary| !summary.is_empty()) {
                    image["data"]["summary"] = summary.into();
                }
                image
            }
            "record" => json!({ "type": "record", "data": { "uri": self.uri(data, "record")? } }),
            "video" => {
                let mut video = json!({ "type": "video", "data": { "uri": self.uri(data, "video")? } });
                if let Some(thumb) = data["thumb"].as_str().and_then(given_uri) {
                    video["data"]["thumb_uri"] = thumb.into();
                }
                video
            }
            "json" => {
                let payload = match &data["data"] {
                    Value::String(text) => text.clone(),
                    // Some applications write the object itself.
                    object @ Value::Object(_) => object.to_string(),
                    _ => return Err(bad("data of a segment of type json is missing")),
                };
                json!({ "type": "light_app", "data": { "json_payload": payload } })
            }
            "anonymous" if flag(&data["ignore"]) == Some(true) => return Ok(None),
            "" => return Err(bad("a segment has no type")),
            other => {
                let other = sanitize_remote_text(other);
                return Err(bad(format!(
                    "a segment of type {other} can't be sent over Milky; nothing was sent"
                )));
            }
        }))
    }

    /// Where the file of a segment is.
    fn uri(&mut self, data: &Value, kind: &str) -> Result<String, Answer> {
        let file = text(&data["file"]);
        if let Some(uri) = given_uri(file) {
            return Ok(uri);
        }
        // Of a segment that came and is sent again as it is.
        if let Some(uri) = data["url"].as_str().and_then(given_uri) {
            return Ok(uri);
        }
        if file.is_empty() {
            return Err(bad(format!("file of a segment of type {kind} is missing")));
        }
        if let Some(url) = self.known.resources.get(file) {
            return Ok(url.clone());
        }
        if !self.wants.resources.iter().any(|wanted| wanted == file) {
            if self.wants.resources.len() >= MAX_RESOURCES {
                return Err(bad(format!("message has more than {MAX_RESOURCES} files of earlier messages")));
            }
            self.wants.resources.push(file.to_owned());
        }
        Ok(String::new())
    }

    /// Segments of type node as one of Milky's.
    fn forward(&mut self, nodes: &[Value], depth: usize) -> Result<Value, Answer> {
        let messages: Vec<Value> =
            nodes.iter().map(|node| self.node(&node["data"], depth)).collect::<Result<_, _>>()?;
        Ok(json!({ "type": "forward", "data": { "messages": messages } }))
    }

    fn node(&mut self, data: &Value, depth: usize) -> Result<Value, Answer> {
        if !data["content"].is_null() {
            // The first names are the standard's, the others go-cqhttp's and NapCat's.
            let user = id(&data["user_id"]).or_else(|| id(&data["uin"])).unwrap_or(self.context.account);
            let name = ["nickname", "name"].into_iter().find_map(|key| opaque(&data[key]));
            let parts = content(data["content"].clone(), false)?;
            let segments = self.message(&parts, depth + 1)?;
            return Ok(forwarded(user, &name.unwrap_or_else(|| user.to_string()), segments));
        }
        let key = find_message(&data["id"], "id of a segment of type node", self.context)?;
        let Some(message) = self.known.messages.get(&key) else {
            if !self.wants.messages.contains(&key) {
                if self.wants.messages.len() >= MAX_MESSAGES {
                    return Err(bad(format!("message passes on more than {MAX_MESSAGES} others")));
                }
                self.wants.messages.push(key);
            }
            return Ok(Value::Null);
        };
        let by = id(&message["sender_id"]).unwrap_or(self.context.account);
        let member = &message["group_member"];
        let names = [&member["card"], &member["nickname"], &message["friend"]["nickname"]];
        let name = names.into_iter().map(text).find(|name| !name.is_empty());
        let segments: Vec<Value> =
            message["segments"].as_array().into_iter().flatten().filter_map(segment::again).collect();
        if segments.is_empty() {
            return Err(bad("a message to pass on has nothing that can be sent over Milky"));
        }
        Ok(forwarded(by, name.unwrap_or(&by.to_string()), segments))
    }
}

fn forwarded(user: u64, name: &str, segments: Vec<Value>) -> Value {
    json!({ "user_id": user, "sender_name": name, "segments": segments })
}

/// A URI that Milky takes: as it is, or of a path, or of a data URL, which some applications write.
pub(super) fn given_uri(file: &str) -> Option<String> {
    if SCHEMES.iter().any(|scheme| file.starts_with(scheme)) {
        return Some(file.to_owned());
    }
    if file.starts_with('/') {
        return Some(format!("file://{file}"));
    }
    let (head, data) = file.strip_prefix("data:")?.split_once(',')?;
    head.ends_with(";base64").then(|| format!("base64://{data}"))
}

/// The questions for what a message wants, in the order in which [`learn`] takes the answers.
pub(super) fn questions(wants: &Wants) -> Vec<Request> {
    let resources =
        wants.resources.iter().map(|name| ("get_resource_temp_url", json!({ "resource_id": name })));
    let messages = wants.messages.iter().map(|key| ("get_message", question(*key)));
    resources.chain(messages).collect()
}

/// The parameters that ask for a message.
pub(super) fn question(key: MessageKey) -> Value {
    let scene = super::message::scene_name(key.scene);
    json!({ "message_scene": scene, "peer_id": key.peer, "message_seq": key.seq })
}

/// What is known after the answers.
pub(super) fn learn(wants: Wants, answers: Vec<Value>) -> Known {
    let (mut known, mut answers) = (Known::default(), answers.into_iter());
    for (name, answer) in wants.resources.into_iter().zip(answers.by_ref()) {
        if let Some(url) = answer["url"].as_str().and_then(given_uri) {
            known.resources.insert(name, url);
        }
    }
    for (key, mut answer) in wants.messages.into_iter().zip(answers) {
        known.messages.insert(key, answer.get_mut("message").map(Value::take).unwrap_or_default());
    }
    known
}

#[cfg(test)]
mod tests;
