//! `get_…_info` and `search_…`: the known people, groups and discussions.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tracing::warn;

use super::call::RequestParams;
use super::reply::ApiReply;
use crate::client::backend::objects::Group;
use crate::client::backend::{Backend, BackendError};

/// How many member lists are queried at a time.
const MEMBER_LISTS: usize = 4;

/// A reply, or the error to answer with.
type ReplyResult = Result<ApiReply, BackendError>;

/// `get_user_info`.
pub(crate) async fn user<B: Backend>(backend: &B) -> ReplyResult {
    Ok(ApiReply::ok(json!(backend.user().await?)))
}

/// `get_friend_info`.
pub(crate) async fn friends<B: Backend>(backend: &B) -> ReplyResult {
    Ok(ApiReply::of(&*backend.friends().await?))
}

/// `get_group_info`: one group after another, since the members of all groups together may need too much
/// memory.
pub(crate) async fn groups<B: Backend>(backend: Arc<B>) -> ReplyResult {
    let groups = backend.groups().await?;
    // Serialization of our own types with string keys cannot fail.
    let text = |group: &Group| serde_json::to_string(group).unwrap_or_default();
    let member_lists = stream::iter(groups).map(move |group| {
        let backend = backend.clone();
        async move {
            match backend.group(&group.id, false).await {
                Ok(group) => Some(Ok(text(&group))),
                // The account left it meanwhile.
                Err(BackendError::Gone) => None,
                // All further groups would fail as well. A broken answer is better than one that hides it.
                Err(error @ (BackendError::LoggedOut | BackendError::Busy)) => Some(Err(error)),
                Err(error) => {
                    warn!(
                        "cannot list the members of group {}: {error}; get_group_info shows it without them",
                        group.uid
                    );
                    Some(Ok(text(&group)))
                }
            }
        }
    });
    ApiReply::list(member_lists.buffered(MEMBER_LISTS).filter_map(ready)).await
}

/// `get_group_basic_info`.
pub(crate) async fn basic_groups<B: Backend>(backend: &B) -> ReplyResult {
    backend.refresh_own_roles();
    Ok(ApiReply::ok(backend.groups().await?.iter().map(Group::basic).collect()))
}

/// `get_discuss_info`.
pub(crate) async fn discusses<B: Backend>(backend: &B) -> ReplyResult {
    Ok(ApiReply::ok(json!(backend.discusses().await?)))
}

/// `search_friend`.
pub(crate) async fn search_friend<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let friends = backend.friends().await?;
    Ok(search(friends.iter().map(|friend| json!(friend)), call))
}

/// `search_group`.
pub(crate) async fn search_group<B: Backend>(backend: &B, call: &RequestParams) -> ReplyResult {
    let groups = backend.groups().await?;
    let wanted: Vec<_> = call.properties().collect();
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| has_all(&group.basic(), &wanted)) {
        match backend.group(&group.id, true).await {
            Ok(group) => found.push(json!(group)),
            // The account left it meanwhile.
            Err(BackendError::Gone) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found_or_not(found))
}

/// Filters by all properties of the call. Unknown properties match nothing, and a call without properties finds
/// nothing.
fn search(objects: impl Iterator<Item = Value>, call: &RequestParams) -> ApiReply {
    let wanted: Vec<_> = call.properties().collect();
    found_or_not(objects.filter(|object| has_all(object, &wanted)).collect())
}

fn found_or_not(found: Vec<Value>) -> ApiReply {
    if found.is_empty() { ApiReply::object_not_found() } else { ApiReply::ok(found.into()) }
}

fn has_all(object: &Value, wanted: &[(&str, &str)]) -> bool {
    // Indexing a `Value` yields Null for a missing key, which `has` matches with nothing.
    !wanted.is_empty() && wanted.iter().all(|(name, value)| has(&object[*name], value))
}

/// Whether a JSON property equals a parameter.
fn has(property: &Value, wanted: &str) -> bool {
    match property {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}
