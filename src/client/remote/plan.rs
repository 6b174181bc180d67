//! [`Plan`]: how an action of an application becomes calls of a network that has other words than OneBot v11. Pure: what the calls
//! answer decides what follows.

use std::sync::Arc;

use serde_json::Value;

use super::dialect::Request;
use super::message_ids::MessageIds;
use crate::client::backend::action::Answer;

/// How many rounds of calls an action may take.
pub(crate) const MAX_ROUNDS: usize = 4;

/// What follows from the data of answers, in the order of their calls.
type Next = Box<dyn FnOnce(Vec<Value>) -> Result<Plan, Answer> + Send>;

/// What is to be done.
pub(crate) enum Plan {
    /// Nothing more: the data of the answer.
    Done(Value),
    /// Questions, which change nothing, and what follows.
    Ask(Vec<Request>, Next),
    /// The deed itself, and the data of the answer. It is the last: what was done must not be said to have failed.
    Do(Request, Box<dyn FnOnce(Value) -> Value + Send>),
}

impl Plan {
    /// One question.
    pub(crate) fn ask(
        name: &'static str,
        params: Value,
        read: impl FnOnce(Value) -> Result<Value, Answer> + Send + 'static,
    ) -> Self {
        let then = move |answers: Vec<Value>| {
            let answer = answers.into_iter().next().unwrap_or_default();
            read(answer).map(Plan::Done)
        };
        Self::Ask(vec![(name, params)], Box::new(then))
    }

    /// A deed without data.
    pub(crate) fn act(name: &'static str, params: Value) -> Self {
        Self::Do((name, params), Box::new(|_| Value::Null))
    }
}

/// What an action is planned by.
#[derive(Clone)]
pub(crate) struct PlanContext {
    /// The number of the account; 0 before the first login.
    pub account: u64,
    /// Whether it is logged in.
    pub is_online: bool,
    /// The numbers of messages.
    pub ids: Arc<MessageIds>,
}
