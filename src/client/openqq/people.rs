//! `get_…_info` and `search_…`: what the account knows of people, groups and discussions.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tracing::warn;

use super::call::Call;
use super::reply::Reply;
use crate::client::backend::{Backend, BackendError};
use crate::client::objects::Group;

/// How many member lists are asked for at a time.
const MEMBER_LISTS: usize = 4;

/// What a reply can be made of, or the error that it says.
type Answer = Result<Reply, BackendError>;

/// `get_user_info`.
pub(super) async fn user<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::ok(json!(backend.user().await?)))
}

/// `get_friend_info`.
pub(super) async fn friends<B: Backend>(backend: &B) -> Answer {
    Ok(Reply::of(&*backend.friends().await?))
}

/// `get_group_info`: one group after another, for all members of all groups together may be more than there is memory.
pub(super) async fn groups<B: Backend>(backend: Arc<B>) -> Answer {
    let groups = backend.groups().await?;
    // An object of ours, with strings as keys: nothing in it can fail.
    let text = |group: &Group| serde_json::to_string(group).unwrap_or_default();
    let member_lists = stream::iter(groups).map(move |group| {
        let backend = backend.clone();
        async move {
            match backend.group(&group.id, false).await {
                Ok(group) => Some(Ok(text(&group))),
                // It was left meanwhile.
                Err(BackendError::Gone) => None,
                // So would be all that follow: rather a broken answer than one that hides it.
                Err(error @ BackendError::LoggedOut) => Some(Err(error)),
                Err(error) => {
                    warn!(group = group.uid, %error, "The members of a group are not known.");
                    Some(Ok(text(&group)))
                }
            }
        }
    });
    Reply::list(member_lists.buffered(MEMBER_LISTS).filter_map(ready)).await
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
    let wanted: Vec<_> = call.properties().collect();
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| has_all(&group.basic(), &wanted)) {
        found.push(json!(backend.group(&group.id, true).await?));
    }
    Ok(found_or_not(found))
}

/// Those that have all the properties of the call. Nobody has one that there is not, and a call without any finds
/// nothing.
fn search(objects: impl Iterator<Item = Value>, call: &Call) -> Reply {
    let wanted: Vec<_> = call.properties().collect();
    found_or_not(objects.filter(|object| has_all(object, &wanted)).collect())
}

fn found_or_not(found: Vec<Value>) -> Reply {
    if found.is_empty() { Reply::object_not_found() } else { Reply::ok(found.into()) }
}

fn has_all(object: &Value, wanted: &[(&str, &str)]) -> bool {
    !wanted.is_empty() && wanted.iter().all(|(name, value)| has(&object[*name], value))
}

/// Whether a property, as JSON, is what a parameter says.
fn has(property: &Value, wanted: &str) -> bool {
    match property {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}
