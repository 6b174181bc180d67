//! [`SettingsError`]: why the environment of a client cannot be used.

use super::PREFIX;
use crate::backends::BackendKind;
use crate::model::name::NameError;

/// Why the environment cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable that must be there is not.
    #[error("the environment variable {PREFIX}{0} is not set")]
    Missing(&'static str),
    /// The same, and what it must be.
    #[error("the environment variable {PREFIX}{0} is not set; it must be {1}")]
    Needed(&'static str, &'static str),
    /// A value is not text.
    #[error("the environment variable {PREFIX}{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A value is not what its variable takes.
    #[error("the environment variable {PREFIX}{0} must be {1}")]
    Invalid(&'static str, &'static str),
    /// There is no such network.
    #[error("the environment variable {PREFIX}BACKEND must be {}", BackendKind::names())]
    Backend,
    /// The account's name breaks the rules for names.
    #[error("the environment variable {PREFIX}ACCOUNT is no name of a client")]
    Account(#[source] NameError),
}

impl SettingsError {
    /// The variable without [`PREFIX`], and what is wrong with it, as the end of a sentence that begins with its name.
    pub fn variable_and_rule(&self) -> (&'static str, String) {
        match self {
            Self::Needed(name, allowed) => (name, format!("is missing: {allowed}")),
            Self::Backend => ("BACKEND", format!("must be {}", BackendKind::names())),
            Self::Missing(name) => (name, "is missing".to_owned()),
            Self::NotUtf8(name) => (name, "must be UTF-8".to_owned()),
            Self::Invalid(name, allowed) => (name, format!("must be {allowed}")),
            Self::Account(error) => ("ACCOUNT", format!("is no name of a client: {error}")),
        }
    }
}
