//! Images, sound and files.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Params, bad, groups, messages, not_found, refusal};
use crate::client::backend::action::{Answer, Refusal};
use crate::client::backend::segment::Segment;
use crate::client::backend::{Backend, SendClaim};
use crate::client::sandbox::media::KeptFile;
use crate::client::sandbox::notice::uid;
use crate::client::sandbox::view::changes::{Change, GroupChange, GroupFile};
use crate::client::sandbox::{Sandbox, parts};

/// Formats that `get_record` may be asked for.
const FORMATS: [&str; 8] = ["mp3", "amr", "wma", "m4a", "spx", "ogg", "wav", "flac"];

pub(super) async fn yes(_: &Sandbox, _: &Params) -> Result<Value, Answer> {
    Ok(json!({ "yes": true }))
}

async fn found(sandbox: &Sandbox, params: &Params) -> Result<KeptFile, Answer> {
    let name = match params.text("file") {
        none if none.is_empty() => params.needed("file_id")?,
        given => given,
    };
    let found = parts::received(sandbox, &name).await;
    found.ok_or_else(|| not_found("there is no such file; the oldest ones are not kept"))
}

fn shown(file: &KeptFile) -> Value {
    json!({
        "file": file.path.to_string_lossy(), "url": file.url, "file_size": file.size.to_string(),
        "file_name": file.name, "size": file.size, "filename": file.name,
    })
}

pub(super) async fn image(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    Ok(shown(&found(sandbox, params).await?))
}

/// Nothing is converted: the file is as it was sent, whatever format is asked for, unless that can be seen to be another one.
pub(super) async fn record(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (file, format) = (found(sandbox, params).await?, params.text("out_format"));
    if !format.is_empty() && !FORMATS.contains(&format.as_str()) {
        return Err(bad("out_format is none of the standard's"));
    }
    if !format.is_empty() && !file.name.ends_with(&format!(".{format}")) {
        let why = "the sandbox converts no sound; ask without out_format";
        return Err(Answer::refused(Refusal::NotPermitted, why));
    }
    Ok(shown(&file))
}

pub(super) async fn upload_to_group(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (group, file, name) =
        (groups::found(sandbox, params)?.uid, params.needed("file")?, params.text("name"));
    let kept = parts::taken(sandbox, &file).await.map_err(bad)?;
    let name = if name.is_empty() { kept.name.clone() } else { name };
    // Each upload is a file of its own, also of the same content.
    let id = format!("{}-{}", sandbox.shared.next_id(), kept.name);
    let file = GroupFile { id: id.clone(), name, size: kept.size, url: kept.url };
    let change = GroupChange::Upload { file };
    sandbox.change(Change::Group { group, change }).await.map_err(refusal)?;
    Ok(json!({ "file_id": id }))
}

/// A file to a friend is a message.
pub(super) async fn upload_to_friend(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let to = messages::person(sandbox, params)?;
    let mut part = Segment::new("file", &[("file", &params.needed("file")?)]);
    let name = params.text("name");
    if !name.is_empty() {
        part.set("name", name);
    }
    let segments = parts::prepare(sandbox, vec![part]).await?;
    let file = segments.first().map(|part| part.get("file").to_owned());
    let id = sandbox.message_id();
    let sent = sandbox.send_parts(&id, Ok(to), segments, &SendClaim::default()).await.map_err(refusal)?;
    Ok(json!({ "file_id": file, "message_id": sent.message.number }))
}

pub(super) async fn of_group(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = groups::found(sandbox, params)?.uid;
    let view = sandbox.shared.view();
    let one = |(by, file): &(String, GroupFile)| {
        json!({
            "group_id": uid(&group), "file_id": file.id, "file_name": file.name, "busid": 102, "file_size": file.size,
            "size": file.size, "uploader": uid(by),
        })
    };
    Ok(json!({ "files": view.files(&group).iter().map(one).collect::<Value>(), "folders": [] }))
}

pub(super) async fn group_file_url(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (group, id) = (groups::found(sandbox, params)?.uid, params.needed("file_id")?);
    let view = sandbox.shared.view();
    let file = view.files(&group).iter().find(|(_, file)| file.id == id);
    let (_, file) = file.ok_or_else(|| not_found("there is no such file in the group"))?;
    Ok(json!({ "url": file.url }))
}

/// Removes the files that no message refers to any more.
pub(super) async fn clean(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    let used: BTreeSet<String> = {
        let view = sandbox.shared.view();
        let of_messages = view.messages.newest().flat_map(|message| &message.segments);
        // A forwarded message has its files deeper in it, and its text names them.
        let named = of_messages.flat_map(|part| match part.data.get("content") {
            Some(content) => vec![content.to_string()],
            None => vec![part.get("file").to_owned()],
        });
        let of_groups = view.all_files().map(|file| file.url.clone());
        named.chain(of_groups).filter(|text| !text.is_empty()).collect()
    };
    sandbox.media.clean(move |name| used.iter().any(|text| text.contains(name))).await;
    Ok(Value::Null)
}
