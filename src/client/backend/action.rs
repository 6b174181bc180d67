//! [`Action`]: what an application asks of the account, in the words of OneBot v11, and its [`Answer`].
//!
//! The words are those of the standard (<https://github.com/botuniverse/onebot-11>) whatever the network is: a network that has
//! others translates.

use serde_json::{Map, Value, json};

/// A call of an application.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    /// Its name, without a suffix such as `_async`.
    pub name: String,
    /// Its parameters.
    pub params: Map<String, Value>,
}

/// Codes of an answer. Those from 1400 on are the standard's, and statuses of HTTP below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request can't be read.
    BadRequest,
    /// A token is needed.
    TokenNeeded,
    /// This token does not open it.
    NotAllowed,
    /// There is no such action here.
    NoSuchAction,
    /// A parameter is missing, or can't be used.
    BadParameter,
    /// There is no such person, group, message or file.
    NotFound,
    /// The account may not do that, for example for its role in the group.
    NotPermitted,
    /// The account is not logged in. Nothing was done.
    LoggedOut,
    /// Too much waits already. Nothing was done.
    Busy,
    /// The network gave no answer to a question.
    NoAnswer,
}

impl Refusal {
    /// The `retcode`.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::BadRequest => 1400,
            Self::TokenNeeded => 1401,
            Self::NotAllowed => 1403,
            Self::NoSuchAction => 1404,
            Self::BadParameter => 100,
            Self::NotFound => 101,
            Self::NotPermitted => 102,
            Self::LoggedOut => 103,
            Self::Busy => 104,
            Self::NoAnswer => 105,
        }
    }
}

/// The answer to an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It was done.
    Done(Value),
    /// It is under way, or was, and its outcome will not be told.
    Accepted,
    /// It was not done.
    Failed {
        /// The `retcode`: that of a [`Refusal`], or what the network said.
        code: i64,
        /// Why, for people.
        why: String,
    },
}

impl Answer {
    /// It was not done, for a reason of our own.
    pub(crate) fn refused(refusal: Refusal, why: impl Into<String>) -> Self {
        Self::Failed { code: refusal.code(), why: why.into() }
    }

    /// There is no such action, as a network of this name has nothing like it.
    pub(crate) fn no_such_action(name: &str) -> Self {
        Self::refused(Refusal::NoSuchAction, format!("there is no action {name:?} here"))
    }

    /// The answer on the wire, with the `echo` of its call.
    pub(crate) fn to_json(&self, echo: Option<&Value>) -> Value {
        let mut answer = match self {
            Self::Done(data) => json!({ "status": "ok", "retcode": 0, "data": data }),
            Self::Accepted => json!({ "status": "async", "retcode": 1, "data": null }),
            // Not in the standard; `wording` is what implementations of today call it.
            Self::Failed { code, why } => {
                json!({ "status": "failed", "retcode": code, "data": null, "message": why, "wording": why })
            }
        };
        if let Some(echo) = echo {
            answer["echo"] = echo.clone();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_the_standard() {
        let echo = json!({ "any": [1] });
        assert_eq!(
            Answer::Done(json!({ "message_id": 7 })).to_json(Some(&echo)),
            json!({ "status": "ok", "retcode": 0, "data": { "message_id": 7 }, "echo": echo })
        );
        assert_eq!(Answer::Accepted.to_json(None), json!({ "status": "async", "retcode": 1, "data": null }));
        let failed = Answer::no_such_action("fly").to_json(None);
        assert_eq!((&failed["status"], &failed["retcode"]), (&json!("failed"), &json!(1404)));
    }
}
