//! `get_…_info` and `search_…`: what the account knows of people, groups and discussions.

use serde_json::{Value, json};

use super::call::Call;
use super::reply::Reply;
use crate::client::backend::{Backend, BackendError};
use crate::client::objects::Group;

/// What a reply can be made of, or the error that it says.
type Answer = Result<Reply, BackendError>;

/// `get_user_info`.
pub(super) async fn user<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(json!(backend.user().await?)))
}

/// `get_friend_info`.
pub(super) async fn friends<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(json!(backend.friends().await?)))
}

/// `get_group_info`.
pub(super) async fn groups<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(json!(backend.groups().await?)))
}

/// `get_group_basic_info`.
pub(super) async fn basic_groups<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(backend.groups().await?.iter().map(Group::basic).collect()))
}

/// `get_discuss_info`.
pub(super) async fn discusses<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(json!(backend.discusses().await?)))
}

/// `search_friend`.
pub(super) async fn search_friend<B: Backend>(backend: &B, call: &Call) -> Answer {
    let friends = backend.friends().await?;
    Ok(search(friends.iter().map(|friend| json!(friend)), call))
}

/// `search_group`.
pub(super) async fn search_group<B: Backend>(backend: &B, call: &Call) -> Answer {
    let groups = backend.groups().await?;
    Ok(search(groups.iter().map(|group| json!(group)), call))
}

/// Those that have all the properties of the call. Nobody has one that there is not, and a call without any finds
/// nothing.
fn search(objects: impl Iterator<Item = Value>, call: &Call) -> Reply {
    let wanted: Vec<_> = call.properties().collect();
    let matches = |object: &Value| wanted.iter().all(|(name, value)| has(&object[*name], value));
    let found: Vec<Value> = objects.filter(|object| !wanted.is_empty() && matches(object)).collect();
    if found.is_empty() { Reply::object_not_found() } else { Reply::ok(found.into()) }
}

/// Whether a property, as JSON, is what a parameter says.
fn has(property: &Value, wanted: &str) -> bool {
    match property {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}
