//! What callers send in bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Start parameters: texts by name.
pub type Parameters = BTreeMap<String, String>;

/// What an account is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccount {
    /// All of its start parameters. Without them an account that is there keeps its own, and a new one has none.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub parameters: Option<Parameters>,
    /// Whether it is to run.
    #[serde(default)]
    pub desired: DesiredState,
}

/// A start.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartAccount {
    /// Start parameters, in the place of those that it has. They count for an account that does not run.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub parameters: Option<Parameters>,
}

/// A new login.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Relogin {
    /// Whether the login that is saved is removed first, so that a code has to be scanned.
    #[serde(default)]
    pub forget: bool,
}

/// Where an account is to live.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveAccount {
    /// The name of the machine; `local` is the one that is called.
    #[schema(example = "tokyo")]
    pub machine: String,
}

/// What callers want an account to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It runs, and is started again when it ends.
    #[default]
    Running,
    /// It is in the list and does not run.
    Stopped,
}
