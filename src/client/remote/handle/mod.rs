//! [`RemoteAccount`]: the handle, through which callers look up people and groups, and send.

mod actions;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::dialect::{List, Request, number};
use super::lists;
use super::state::RemoteState;
use super::transport::calls::ActionError;
use crate::client::backend::action::{Action, Answer};
use crate::client::backend::objects::{Discuss, Friend, Group, GroupRole, User};
use crate::client::backend::{Backend, BackendError, Draft, Sent};

/// The handle of an account in an implementation.
pub(crate) struct RemoteAccount {
    state: Arc<RemoteState>,
}

fn failure(error: ActionError) -> BackendError {
    match error {
        ActionError::NotWritten => BackendError::LoggedOut,
        ActionError::Busy => BackendError::Busy,
        ActionError::NoAnswer | ActionError::Unusable(_) | ActionError::ServerError(_) => {
            BackendError::NoAnswer
        }
        ActionError::Refused { code, .. } => BackendError::Code(code),
        // The retcode for a refused token.
        ActionError::Token => BackendError::Code(1403),
    }
}

impl RemoteAccount {
    pub(crate) fn new(state: Arc<RemoteState>) -> Self {
        Self { state }
    }

    /// Applies `action` to `members` of a group one after another, if the role of the account permits it.
    async fn rule(
        &self,
        group: &str,
        members: &[String],
        request: impl Fn(u64, u64) -> Request,
    ) -> Result<(), BackendError> {
        let group = number(group)?;
        // A block, as the roster is not locked while the network is asked.
        let own = {
            let roster = self.state.roster();
            roster.group(group).ok_or(BackendError::Gone)?;
            (roster.own_uid(), roster.own_role(group))
        };
        let role = match own {
            (_, Some(role)) => role,
            // Nothing is done without an answer: the role may not permit it.
            (uid, None) => self.state.query_member(group, uid).await.ok_or(BackendError::NoAnswer)?.role,
        };
        if role == GroupRole::Member {
            return Err(BackendError::NotAllowed);
        }
        for member in members {
            let uid = number(member)?;
            let known = self.state.roster().member(group, uid).map(|member| member.role);
            let role = match known {
                Some(role) => role,
                None => self.state.member(group, uid).await.role,
            };
            if role > GroupRole::Member {
                // As in the original, even if the account owns the group.
                return Err(BackendError::Refused("the member is an admin or the owner of the group".into()));
            }
            let (action, params) = request(group, uid);
            self.state.calls.call(action, params).await.map_err(failure)?;
        }
        Ok(())
    }
}

impl Backend for RemoteAccount {
    async fn user(&self) -> Result<User, BackendError> {
        self.state.roster().user().cloned().ok_or(BackendError::LoggedOut)
    }

    async fn friends(&self) -> Result<Arc<Vec<Friend>>, BackendError> {
        Ok(self.state.roster().friends())
    }

    async fn groups(&self) -> Result<Vec<Group>, BackendError> {
        Ok(self.state.roster().groups().to_vec())
    }

    async fn group(&self, id: &str, anew: bool) -> Result<Group, BackendError> {
        let uid = number(id)?;
        {
            let mut roster = self.state.roster();
            roster.group(uid).ok_or(BackendError::Gone)?;
            if !anew && let Some(group) = roster.with_members(uid) {
                return Ok(group);
            }
        }
        let params = json!({ "group_id": uid, "no_cache": anew });
        let answer = self.state.calls.call("get_group_member_list", params).await.map_err(failure)?;
        let members = lists::members(self.state.dialect.list(&answer.data(), List::Members));
        // One guard for both: another load in between could evict this list.
        let mut roster = self.state.roster();
        roster.update_members(uid, members);
        roster.with_members(uid).ok_or(BackendError::Gone)
    }

    async fn discusses(&self) -> Result<Vec<Discuss>, BackendError> {
        // The network abolished discussions.
        Ok(Vec::new())
    }

    fn message_id(&self) -> String {
        self.state.next_id()
    }

    fn lack_of_member_chats(&self) -> Option<&'static str> {
        self.state.dialect.lack_of_member_chats()
    }

    async fn send(&self, draft: &Draft) -> Result<Sent, BackendError> {
        tokio::select! {
            sent = self.send_claimed(draft) => sent,
            // Nothing was written, so dropping the call is safe.
            () = draft.claim.withdrawn() => Err(BackendError::Withdrawn),
        }
    }

    async fn mute(&self, group: &str, members: &[String], time: Duration) -> Result<(), BackendError> {
        self.rule(group, members, |group, member| self.state.dialect.mute(group, member, time)).await
    }

    async fn kick(&self, group: &str, members: &[String]) -> Result<(), BackendError> {
        self.rule(group, members, |group, member| self.state.dialect.kick(group, member)).await
    }

    async fn act(&self, action: Action) -> Answer {
        actions::act(&self.state, action).await
    }

    fn relogin(&self) {
        self.state.relogin.notify_one();
    }

    fn forget(&self) {
        self.state.binding.forget();
    }

    fn refresh_own_roles(&self) {
        self.state.request_own_roles();
    }
}
