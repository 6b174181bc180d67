//! The account and this program, and what there cannot be.

use serde_json::{Value, json};

use super::Params;
use crate::client::backend::Backend;
use crate::client::backend::action::{Answer, Refusal};
use crate::client::sandbox::Sandbox;

pub(super) async fn status(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    let is_online = sandbox.logged_in().is_ok();
    Ok(json!({ "online": is_online, "good": is_online }))
}

pub(super) async fn version(_: &Sandbox, _: &Params) -> Result<Value, Answer> {
    Ok(json!({
        "app_name": "wqcontroller-sandbox", "app_version": env!("CARGO_PKG_VERSION"), "protocol_version": "v11",
    }))
}

/// A new login is the nearest to a new start that an account has here.
pub(super) async fn restart(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    sandbox.relogin();
    // The standard's answer, as it could not come otherwise.
    Err(Answer::Accepted)
}

pub(super) async fn no_web(_: &Sandbox, _: &Params) -> Result<Value, Answer> {
    Err(Answer::refused(Refusal::NoSuchAction, "the sandbox has no web pages of QQ that a cookie would open"))
}

pub(super) async fn no_anonymous(_: &Sandbox, _: &Params) -> Result<Value, Answer> {
    Err(Answer::refused(Refusal::NoSuchAction, "nobody is anonymous in the sandbox, as in QQ since 2023"))
}
