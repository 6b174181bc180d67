//! `shutup_group_member`, `unmute_group_member` and `kick_group_member`: what the account may do as an admin or owner of a group.

use std::time::Duration;

use super::call::RequestParams;
use super::messages::matches_all;
use super::reply::ApiReply;
use crate::client::backend::objects::Group;
use crate::client::backend::{Backend, BackendError, MAX_MUTE};

/// The targets of a call: the id of a group, and members.
pub(super) struct Targets {
    group: String,
    pub(super) members: Vec<Member>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    id: String,
    pub(super) uid: String,
}

impl Targets {
    fn ids(&self) -> Vec<String> {
        self.members.iter().map(|member| member.id.clone()).collect()
    }
}

/// `shutup_group_member`. Errors are checked in the original's order: the group, the time, the members, and
/// last the length of the mute. A time of 0 ends a mute.
pub(crate) async fn mute<B: Backend>(backend: &B, call: &RequestParams) -> Result<ApiReply, BackendError> {
    let Some(group) = find_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    // `parse` alone would take a sign, too.
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(minutes) = call.get("time").filter(is_number) else { return Ok(ApiReply::no_shutup_time()) };
    let meant = match find_members(backend, call, &group.id).await? {
        Ok(meant) => meant,
        Err(reply) => return Ok(reply),
    };
    let most = MAX_MUTE.as_secs() / 60;
    // Digits only by here, so what does not parse is just as much too long.
    let Some(minutes) = minutes.parse().ok().filter(|minutes| (0..=most).contains(minutes)) else {
        return Ok(done(Err(BackendError::Refused(format!("time must be 0 to {most} minutes")))));
    };
    let time = Duration::from_secs(minutes * 60);
    Ok(done(backend.mute(&meant.group, &meant.ids(), time).await))
}

/// `kick_group_member`.
pub(crate) async fn kick<B: Backend>(backend: &B, call: &RequestParams) -> Result<ApiReply, BackendError> {
    let Some(group) = find_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    match find_members(backend, call, &group.id).await? {
        Ok(meant) => Ok(done(backend.kick(&meant.group, &meant.ids()).await)),
        Err(reply) => Ok(reply),
    }
}

/// `unmute_group_member`: a mute of no time.
pub(crate) async fn unmute<B: Backend>(backend: &B, call: &RequestParams) -> Result<ApiReply, BackendError> {
    let Some(group) = find_group(backend, call).await? else { return Ok(ApiReply::object_not_found()) };
    match find_members(backend, call, &group.id).await? {
        Ok(meant) => Ok(done(backend.mute(&meant.group, &meant.ids(), Duration::ZERO).await)),
        Err(reply) => Ok(reply),
    }
}

fn done(outcome: Result<(), BackendError>) -> ApiReply {
    match outcome {
        Ok(()) => ApiReply::success(),
        Err(error) => ApiReply::failure(&error),
    }
}

/// The group that the call names.
pub(super) async fn find_group<B: Backend>(
    backend: &B,
    call: &RequestParams,
) -> Result<Option<Group>, BackendError> {
    let groups = backend.groups().await?;
    let is_it = |group: &Group| matches_all(call, [("group_id", &group.id), ("group_uid", &group.uid)]);
    Ok(groups.into_iter().find(is_it))
}

/// Finds the members that the call names, by id and by uid together.
pub(super) async fn find_members<B: Backend>(
    backend: &B,
    call: &RequestParams,
    group: &str,
) -> Result<Result<Targets, ApiReply>, BackendError> {
    let list = |name| {
        let words = call.get(name).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (ids, uids) = (list("member_id"), list("member_uid"));
    if ids.is_empty() && uids.is_empty() {
        return Ok(Err(ApiReply::no_member_id()));
    }
    // After the checks that cost nothing: this may ask the network.
    let group = backend.group(group, false).await?;
    let by_id = ids.iter().map(|id| (id, group.member.iter().find(|member| member.id == *id)));
    let by_uid = uids.iter().map(|uid| (uid, group.member.iter().find(|member| member.uid == *uid)));
    let mut members: Vec<Member> = Vec::new();
    // All are found before the first is muted or removed: a typing error must not leave half of the call done.
    for (given, found) in by_id.chain(by_uid) {
        let Some(member) = found else { return Ok(Err(ApiReply::member_not_found(given))) };
        // A member may be given by both numbers.
        let member = Member { id: member.id.clone(), uid: member.uid.clone() };
        if !members.contains(&member) {
            members.push(member);
        }
    }
    Ok(Ok(Targets { group: group.id, members }))
}
