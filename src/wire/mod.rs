//! The HTTP API as its callers see it: its calls, and the codes, texts and JSON of the controller's own answers.
//!
//! - [`calls`]: the table of calls
//! - [`reply`]: every reply, with its HTTP status, code and text
//! - [`outcome`]: the reply to a start or a stop
//! - [`client_list`]: the answer of `check_client`
//! - [`door`]: what controllers of several machines say to each other
//! - [`machines`]: what a door answers about other machines
//! - [`onebot`]: the paths of applications that speak OneBot v11
//! - [`v1`]: the API below `/v1`
//!
//! Pure, as the model is. It is above `registry`, which keeps the JSON of each client ready.

pub mod calls;
pub mod client_list;
pub mod door;
pub mod machines;
pub mod onebot;
mod outcome;
pub mod reply;
pub mod v1;

pub use reply::{INVALID, Reply};

#[cfg(test)]
fn spec(params: &[(&str, &str, bool)]) -> std::sync::Arc<crate::model::client::ClientSpec> {
    use crate::model::client::{ClientFiles, ClientSpec, ParamValue};
    use crate::model::name::{ClientName, UnitId};

    let name = ClientName::new("webqq_client_01").unwrap();
    let files = ClientFiles::in_folder("/tmp".into(), &name);
    let value = |text: &str, secret| ParamValue { text: text.into(), secret, path: None };
    let params = params.iter().map(|(name, text, secret)| ((*name).into(), value(text, *secret))).collect();
    std::sync::Arc::new(ClientSpec { id: UnitId::of(&name), name, params, files })
}
