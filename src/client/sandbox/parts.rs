//! Makes the parts of a message ready to be sent: files are taken, dice thrown, forwarded messages put together.

use std::fmt::Write;
use std::pin::Pin;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::Sandbox;
use super::media::{self, KeptFile};
use crate::client::backend::action::{Answer, Refusal};
use crate::client::backend::segment::{self, Segment};

/// How deep forwarded messages may be in each other, and how many each may have.
const MAX_DEPTH: usize = 4;
const MAX_NODES: usize = 100;

fn bad(why: impl Into<String>) -> Answer {
    Answer::refused(Refusal::BadParameter, why)
}

/// Makes the parts ready.
pub(super) async fn prepare(sandbox: &Sandbox, segments: Vec<Segment>) -> Result<Vec<Segment>, Answer> {
    within(sandbox, segments, 0).await
}

/// The file that an application gives; one that was in a message counts as well.
pub(super) async fn taken(sandbox: &Sandbox, given: &str) -> Result<KeptFile, String> {
    match received(sandbox, given).await {
        Some(file) => Ok(file),
        None => sandbox.media.take(given).await,
    }
}

/// A file of a message, by its name. What another client keeps is fetched from it.
pub(super) async fn received(sandbox: &Sandbox, name: &str) -> Option<KeptFile> {
    if let Some(file) = sandbox.media.find(name).await {
        return Some(file);
    }
    let url = {
        let view = sandbox.shared.view();
        let mut parts = view.messages.newest().flat_map(|message| &message.segments);
        let part = parts.find(|part| part.get("file") == name && !part.get("url").is_empty())?;
        part.get("url").to_owned()
    };
    // Those of other clients only: what a peer writes is not to have this client call anything else.
    let is_theirs = url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/'));
    let is_theirs = is_theirs.is_some_and(|(port, path)| {
        port.parse::<u16>().is_ok() && format!("/{path}").starts_with(media::PATH)
    });
    if is_theirs { sandbox.media.take(&url).await.ok() } else { None }
}

type Prepared<'a> = Pin<Box<dyn Future<Output = Result<Vec<Segment>, Answer>> + Send + 'a>>;

fn within(sandbox: &Sandbox, segments: Vec<Segment>, depth: usize) -> Prepared<'_> {
    Box::pin(async move {
        if segments.iter().any(|part| part.kind == "node") {
            if !segments.iter().all(|part| part.kind == "node") {
                return Err(bad("nodes of a forwarded message can't be in a message with other segments"));
            }
            return Ok(vec![forward(sandbox, &segments, depth).await?]);
        }
        let mut ready = Vec::with_capacity(segments.len());
        for part in segments {
            ready.extend(one(sandbox, part).await?);
        }
        if ready.is_empty() { Err(bad("nothing of the message can be sent")) } else { Ok(ready) }
    })
}

async fn one(sandbox: &Sandbox, mut part: Segment) -> Result<Option<Segment>, Answer> {
    match part.kind.as_str() {
        "image" | "record" | "video" | "file" => {
            let given = part.get("file").to_owned();
            let given = if given.is_empty() { part.get("url").to_owned() } else { given };
            let file = taken(sandbox, &given).await.map_err(|why| bad(format!("{}: {why}", part.kind)))?;
            if part.kind == "file" && part.get("name").is_empty() {
                part.set("name", file.name.as_str());
            }
            part.set("file", file.name);
            part.set("url", file.url);
            part.set("file_size", file.size.to_string());
            // What matters to those who send alone.
            for only_sent in ["cache", "proxy", "timeout"] {
                part.data.remove(only_sent);
            }
        }
        "dice" => part.set("result", chance(6)),
        "rps" => part.set("result", chance(3)),
        "at" if part.get("qq") != "all" && part.get("qq").parse::<u64>().is_err() => {
            return Err(bad("qq of at must be a number or all"));
        }
        "forward" => {
            let id = part.get("id").to_owned();
            let view = sandbox.shared.view();
            let is_it = |known: &&Segment| known.kind == "forward" && known.get("id") == id;
            let known = view.messages.newest().find_map(|message| message.segments.iter().find(is_it));
            return known.cloned().map(Some).ok_or_else(|| bad("there is no forwarded message of this id"));
        }
        // Asks for no name under the message, which it always has.
        "anonymous" => return Ok(None),
        _ => {}
    }
    Ok(Some(part))
}

/// 1 to `most`, as a text.
fn chance(most: u8) -> String {
    let mut random = [0_u8; 1];
    // Cannot fail for so few bytes once the machine is up; the dice would show 1.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    (random[0] % most + 1).to_string()
}

async fn forward(sandbox: &Sandbox, nodes: &[Segment], depth: usize) -> Result<Segment, Answer> {
    if depth >= MAX_DEPTH || nodes.len() > MAX_NODES {
        return Err(bad(format!(
            "at most {MAX_NODES} messages can be forwarded together, {MAX_DEPTH} deep in each other"
        )));
    }
    let mut content = Vec::with_capacity(nodes.len());
    for node in nodes {
        let first = |names: [&str; 2]| {
            let found = names.into_iter().map(|name| node.get(name)).find(|value| !value.is_empty());
            found.unwrap_or_default().to_owned()
        };
        let (user, name, parts, time) = if node.get("id").is_empty() {
            let given = node.data.get("content").unwrap_or(&Value::Null);
            let parts = segment::read(given, false).ok_or_else(|| bad("content of a node is no message"))?;
            let parts = within(sandbox, parts, depth + 1).await?;
            let time = node.get("time").parse().unwrap_or_else(|_| crate::client::process::unix_seconds());
            (first(["user_id", "uin"]), first(["nickname", "name"]), parts, time)
        } else {
            let view = sandbox.shared.view();
            let message = node.get("id").parse().ok().and_then(|number| view.messages.get(number));
            let message = message.ok_or_else(|| bad("there is no message of the id of a node"))?;
            let author = &message.key.author;
            let name =
                view.sender(author, &message.place)["nickname"].as_str().unwrap_or_default().to_owned();
            (author.clone(), name, message.segments.clone(), message.time)
        };
        content.push(json!({
            "type": "node", "data": { "user_id": user, "nickname": name, "content": parts, "time": time },
        }));
    }
    let content = Value::Array(content);
    let mut id = String::new();
    for byte in digest(&SHA256, content.to_string().as_bytes()).as_ref().iter().take(12) {
        // Writing to a text does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    let mut part = Segment::new("forward", &[("id", &id)]);
    part.set("content", content);
    Ok(part)
}
