//! Actions of applications, which go to the implementation: as they are, or in the words of its protocol.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::time::timeout;

use crate::client::backend::BackendError;
use crate::client::backend::action::{Action, Answer, Refusal};
use crate::client::remote::dialect::Request;
use crate::client::remote::plan::{MAX_ROUNDS, Plan, PlanContext};
use crate::client::remote::state::RemoteState;
use crate::client::remote::transport::calls::{ActionError, ActionResult};

/// The longest name of an action, in bytes.
const MAX_NAME: usize = 64;

/// How many questions of an action are under way at a time; the other call slots are left to others.
const CONCURRENT_QUESTIONS: usize = 4;

/// How long all questions of an action may take: a message may need a hundred.
const QUESTIONS_TIME: Duration = Duration::from_secs(60);

/// Carries out an action: as it is, an implementation's own ones too, or as its protocol has it.
pub(super) async fn act(state: &RemoteState, action: Action) -> Answer {
    // By HTTP the name is a part of the path.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if action.name.len() > MAX_NAME || !action.name.bytes().all(is_name) {
        return Answer::no_such_action(&action.name);
    }
    if !state.dialect.passes_actions() {
        return translate(state, action).await;
    }
    let Action { name, params } = action;
    let only_reads = name.starts_with("get_") || name.starts_with("can_");
    match state.calls.call(name, Value::Object(params)).await {
        Ok(ActionResult::Done(data)) => Answer::Done(data),
        Ok(ActionResult::Accepted) => Answer::Accepted,
        Err(error) => failure(state, error, only_reads),
    }
}

async fn translate(state: &RemoteState, action: Action) -> Answer {
    let (account, is_online) = (state.roster().own_uid(), *state.ready().borrow());
    let context = PlanContext { account, is_online, ids: state.inbox.ids().clone() };
    match carry_out(state, account, state.dialect.plan(action, &context)).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn carry_out(state: &RemoteState, account: u64, plan: Result<Plan, Answer>) -> Result<Answer, Answer> {
    let mut plan = plan?;
    for _ in 0..MAX_ROUNDS {
        match plan {
            Plan::Done(data) => return Ok(Answer::Done(data)),
            Plan::Ask(questions, then) => {
                plan = then(ask(state, questions).await?)?;
            }
            Plan::Do((name, params), data) => {
                // Another account may have logged in during the questions.
                if state.roster().own_uid() != account {
                    let why = "another account logged in meanwhile; nothing was done";
                    return Err(Answer::refused(Refusal::LoggedOut, why));
                }
                return Ok(match state.calls.call(name, params).await {
                    Ok(ActionResult::Done(answer)) => Answer::Done(data(answer)),
                    Ok(ActionResult::Accepted) => Answer::Accepted,
                    Err(error) => failure(state, error, false),
                });
            }
        }
    }
    Err(Answer::refused(Refusal::NoAnswer, "it takes too many calls; nothing was done"))
}

/// The call that carries out a message to be sent, once all that it needs is known. It is not made.
///
/// # Errors
/// It can't be sent, or what it needs is not to be had.
pub(super) async fn planned(
    state: &RemoteState,
    account: u64,
    action: Action,
) -> Result<Request, BackendError> {
    let refused = |answer: Answer| match answer {
        Answer::Failed { code, .. } if code == Refusal::LoggedOut.code() => BackendError::LoggedOut,
        Answer::Failed { code, .. } if code == Refusal::Busy.code() => BackendError::Busy,
        Answer::Failed { why, .. } => BackendError::Refused(why),
        // Nothing was done yet, so nothing is under way.
        Answer::Done(_) | Answer::Accepted => BackendError::Refused("it is no message".to_owned()),
    };
    let context = PlanContext { account, is_online: true, ids: state.inbox.ids().clone() };
    let mut plan = state.dialect.plan(action, &context).map_err(refused)?;
    for _ in 0..MAX_ROUNDS {
        match plan {
            Plan::Ask(questions, then) => {
                let answers = ask(state, questions).await.map_err(refused)?;
                plan = then(answers).map_err(refused)?;
            }
            Plan::Do(request, _) if state.roster().own_uid() == account => return Ok(request),
            // Another account logged in during the questions.
            Plan::Do(..) => return Err(BackendError::Gone),
            Plan::Done(data) => return Err(refused(Answer::Done(data))),
        }
    }
    Err(BackendError::Refused("it takes too many calls".to_owned()))
}

/// Asks all of that, and answers in the same order.
async fn ask(state: &RemoteState, questions: Vec<Request>) -> Result<Vec<Value>, Answer> {
    let asked: Vec<_> = questions.into_iter().map(|(name, params)| state.calls.call(name, params)).collect();
    let answers = stream::iter(asked).buffered(CONCURRENT_QUESTIONS).map_ok(ActionResult::data).try_collect();
    match timeout(QUESTIONS_TIME, answers).await {
        Ok(answers) => answers.map_err(|error| failure(state, error, true)),
        Err(_) => Err(Answer::refused(Refusal::NoAnswer, "the answers take too long; nothing was done")),
    }
}

fn failure(state: &RemoteState, error: ActionError, only_reads: bool) -> Answer {
    match error {
        ActionError::Refused { code, .. } if state.dialect.is_logged_out(code) => Answer::refused(
            Refusal::LoggedOut,
            "the account is not logged in in its implementation; nothing was done",
        ),
        ActionError::Refused { code, why } => Answer::Failed { code, why },
        ActionError::Token => {
            Answer::refused(Refusal::NotAllowed, "the implementation refuses the token of this client")
        }
        ActionError::NotWritten => {
            Answer::refused(Refusal::LoggedOut, format!("{error} to the implementation; nothing was done"))
        }
        ActionError::Busy => Answer::refused(Refusal::Busy, format!("{error}; nothing was done")),
        // What may have been done is not said to have failed: the application would do it again.
        ActionError::NoAnswer | ActionError::Unusable(_) | ActionError::ServerError(_) => {
            if only_reads {
                Answer::refused(Refusal::NoAnswer, error.to_string())
            } else {
                Answer::Accepted
            }
        }
    }
}
