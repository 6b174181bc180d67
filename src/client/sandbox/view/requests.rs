//! [`Request`]s: people who want to be friends, to join a group, or to have the account in one. Pure.

use super::changes::{Change, GroupChange, WorldChange};
use super::{Outcome, View};
use crate::client::backend::BackendError;
use crate::client::backend::objects::GroupRole;
use crate::client::sandbox::notice;

/// The most requests without an answer. The oldest go.
const MAX_REQUESTS: usize = 200;

/// The longest comment and name, in characters.
const MAX_COMMENT: usize = 300;
const MAX_NAME: usize = 60;

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// To be a friend of the account.
    Friend,
    /// To join this group, of which the account is an admin.
    Join(String),
    /// That the account joins this group.
    Invitation(String),
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What the answer refers to it by.
    pub(crate) flag: String,
    pub(crate) kind: RequestKind,
    /// Who asks, by uid and name.
    pub(crate) by: String,
    pub(crate) name: String,
    pub(crate) comment: String,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// This has changed.
    Here(Outcome),
    /// This is to be done, for all clients.
    ToDo(WorldChange),
}

impl View {
    /// Somebody asks.
    ///
    /// # Errors
    /// There is nothing to ask for: it is a friend or member already, or the account could not grant it.
    pub(crate) fn ask(
        &mut self,
        kind: RequestKind,
        by: &str,
        name: &str,
        comment: &str,
    ) -> Result<Outcome, BackendError> {
        let refused = |why: &str| Err(BackendError::Refused(why.to_owned()));
        if by == self.me.uid {
            return refused("the account itself can't ask itself");
        }
        if comment.chars().count() > MAX_COMMENT || name.chars().count() > MAX_NAME {
            return refused("the comment or the name is too long");
        }
        let role = |group: &str, uid: &str| {
            let found = self.world.groups.iter().find(|found| found.uid == group);
            found.map(|found| self.role(found, uid)).ok_or(BackendError::Gone)
        };
        match &kind {
            RequestKind::Friend if self.person(by).is_some_and(|person| self.is_friend(person)) => {
                return refused("this person is a friend already");
            }
            RequestKind::Friend => {}
            RequestKind::Join(group) => {
                if role(group, by)?.is_some() {
                    return refused("this person is a member already");
                }
                if role(group, &self.me.uid)? < Some(GroupRole::Admin) {
                    return refused("the account is no admin of this group, so that it is not asked");
                }
            }
            RequestKind::Invitation(group) => {
                role(group, by)?.ok_or(BackendError::NotAllowed)?;
                if role(group, &self.me.uid)?.is_some() {
                    return refused("the account is a member already");
                }
            }
        }
        // The same again takes the place of the first.
        self.requests.retain(|known| (&known.kind, known.by.as_str()) != (&kind, by));
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.remove(0);
        }
        let flag = format!("{}", self.messages.new_number());
        let (by, name, comment) = (by.to_owned(), name.to_owned(), comment.to_owned());
        let request = Request { flag, kind, by, name, comment };
        let notices = vec![notice::request(&request)];
        self.requests.push(request);
        Ok(Outcome { events: Vec::new(), notices })
    }

    /// The requests without an answer.
    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Answers the request with this flag. `is_it` says whether it is of the kind that the caller means.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn answer_request(
        &mut self,
        flag: &str,
        is_it: impl Fn(&RequestKind) -> bool,
        approve: bool,
        remark: &str,
    ) -> Result<Granted, BackendError> {
        let at = self.requests.iter().position(|request| request.flag == flag && is_it(&request.kind));
        let request = self.requests.remove(at.ok_or(BackendError::Gone)?);
        if !approve {
            return Ok(Granted::Here(Outcome::default()));
        }
        let me = self.me.uid.clone();
        let (group, change) = match request.kind {
            RequestKind::Friend => {
                return Ok(Granted::Here(self.befriend(&request.by, &request.name, remark)));
            }
            RequestKind::Join(group) => {
                (group, GroupChange::Join { member: request.by, name: request.name, invited_by: None })
            }
            RequestKind::Invitation(group) => {
                let name = self.me.name.clone();
                (group, GroupChange::Join { member: me.clone(), name, invited_by: Some(request.by) })
            }
        };
        Ok(Granted::ToDo(WorldChange { by: me, what: Change::Group { group, change } }))
    }

    fn befriend(&mut self, uid: &str, name: &str, remark: &str) -> Outcome {
        let events = self.change(|view| {
            view.welcome(uid, name);
            view.friendships.insert(uid.to_owned(), true);
            if !remark.is_empty() {
                view.remarks.insert(uid.to_owned(), remark.chars().take(MAX_NAME).collect());
            }
        });
        Outcome { events, notices: vec![notice::friend_add(uid)] }
    }

    /// Ends the friendship with a person.
    ///
    /// # Errors
    /// There is no such friend.
    pub(crate) fn unfriend(&mut self, uid: &str) -> Result<Outcome, BackendError> {
        self.person(uid).filter(|person| self.is_friend(person)).ok_or(BackendError::Gone)?;
        let events = self.change(|view| {
            view.friendships.insert(uid.to_owned(), false);
        });
        Ok(Outcome { events, notices: Vec::new() })
    }

    /// Changes what the account calls a friend.
    ///
    /// # Errors
    /// There is no such friend.
    pub(crate) fn set_remark(&mut self, uid: &str, remark: &str) -> Result<Outcome, BackendError> {
        self.person(uid).filter(|person| self.is_friend(person)).ok_or(BackendError::Gone)?;
        let events = self.change(|view| {
            view.remarks.insert(uid.to_owned(), remark.chars().take(MAX_NAME).collect());
        });
        Ok(Outcome { events, notices: Vec::new() })
    }
}
