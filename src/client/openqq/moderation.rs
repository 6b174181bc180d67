//! `shutup_group_member` and `kick_group_member`: what the account does as an admin or owner of a group.

use std::time::Duration;

use super::call::Call;
use super::messages::is_meant;
use super::reply::Reply;
use crate::client::backend::{Backend, BackendError, MAX_MUTE};

/// Whom a call means: the ids of a group and of members.
struct Meant {
    group: String,
    members: Vec<String>,
}

/// `shutup_group_member`.
pub(super) async fn mute<B: Backend>(backend: &B, call: &Call) -> Result<Reply, BackendError> {
    let meant = match find(backend, call).await? {
        Ok(meant) => meant,
        Err(reply) => return Ok(reply),
    };
    let minutes = call.get("time").filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let minutes = minutes
        .and_then(|text| text.parse().ok())
        .filter(|time| (1..=MAX_MUTE.as_secs() / 60).contains(time));
    let Some(minutes) = minutes else { return Ok(Reply::no_shutup_time()) };
    let time = Duration::from_secs(minutes * 60);
    Ok(done(backend.mute(&meant.group, &meant.members, time).await))
}

/// `kick_group_member`.
pub(super) async fn kick<B: Backend>(backend: &B, call: &Call) -> Result<Reply, BackendError> {
    match find(backend, call).await? {
        Ok(meant) => Ok(done(backend.kick(&meant.group, &meant.members).await)),
        Err(reply) => Ok(reply),
    }
}

fn done(outcome: Result<(), BackendError>) -> Reply {
    match outcome {
        Ok(()) => Reply::success(),
        Err(error) => Reply::failure(&error),
    }
}

/// Finds group and members; members by id and by uid add up.
async fn find<B: Backend>(backend: &B, call: &Call) -> Result<Result<Meant, Reply>, BackendError> {
    let groups = backend.groups().await?;
    let is_it = |id: &str, uid: &str| is_meant(call, [("group_id", id), ("group_uid", uid)]);
    let Some(group) = groups.into_iter().find(|group| is_it(&group.id, &group.uid)) else {
        return Ok(Err(Reply::object_not_found()));
    };
    let list = |name| {
        let words = call.get(name).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (ids, uids) = (list("member_id"), list("member_uid"));
    if ids.is_empty() && uids.is_empty() {
        return Ok(Err(Reply::no_member_id()));
    }
    let group = backend.group(&group.id, false).await?;
    let by_id = ids.iter().map(|id| (id, group.member.iter().find(|member| member.id == *id)));
    let by_uid = uids.iter().map(|uid| (uid, group.member.iter().find(|member| member.uid == *uid)));
    let mut members: Vec<String> = Vec::new();
    for (given, found) in by_id.chain(by_uid) {
        let Some(member) = found else { return Ok(Err(Reply::member_not_found(given))) };
        if !members.contains(&member.id) {
            members.push(member.id.clone());
        }
    }
    Ok(Ok(Meant { group: group.id, members }))
}
