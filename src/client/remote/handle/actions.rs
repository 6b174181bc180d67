//! Actions of applications, which go to the implementation.

use serde_json::Value;

use crate::client::backend::action::{Action, Answer, Refusal};
use crate::client::remote::state::RemoteState;
use crate::client::remote::transport::calls::{ActionError, ActionResult};

/// The longest name of an action, in bytes.
const MAX_NAME: usize = 64;

/// Carries out an action as it is, an implementation's own ones too.
pub(super) async fn act(state: &RemoteState, Action { name, params }: Action) -> Answer {
    // By HTTP the name is a part of the path.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !state.dialect.passes_actions() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        return Answer::no_such_action(&name);
    }
    let only_reads = name.starts_with("get_") || name.starts_with("can_");
    match state.calls.call(name, Value::Object(params)).await {
        Ok(ActionResult::Done(data)) => Answer::Done(data),
        Ok(ActionResult::Accepted) => Answer::Accepted,
        Err(ActionError::Refused { code, why }) => Answer::Failed { code, why },
        Err(ActionError::Token) => {
            Answer::refused(Refusal::NotAllowed, "the implementation refuses the token of this client")
        }
        Err(error @ ActionError::NotWritten) => {
            Answer::refused(Refusal::LoggedOut, format!("{error} to the implementation; nothing was done"))
        }
        Err(error @ ActionError::Busy) => {
            Answer::refused(Refusal::Busy, format!("{error}; nothing was done"))
        }
        Err(error @ (ActionError::NoAnswer | ActionError::Unusable(_) | ActionError::ServerError(_))) => {
            // What may have been done is not said to have failed: the application would do it again.
            if only_reads { Answer::refused(Refusal::NoAnswer, error.to_string()) } else { Answer::Accepted }
        }
    }
}
