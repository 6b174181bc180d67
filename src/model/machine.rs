//! [`MachineName`]: what the operator calls another machine with a controller.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name of another machine: 1 to 32 letters, digits, `_`, `.` and `-`, the first of them a letter or a digit. [`LOCAL`] is none. Clones share
/// the text, as each account has that of its machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(Arc<str>);

/// What callers call the machine that they call.
pub const LOCAL: &str = "local";

/// A text is no [`MachineName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a name of at most {} letters, digits, _, . and -, the first of them a letter or a digit, and not {LOCAL}",
    MachineName::MAX_BYTES
)]
pub struct MachineNameError;

impl MachineName {
    /// The longest name, in bytes: a socket's path has it.
    pub const MAX_BYTES: usize = 32;

    /// Checks `text` against the rules.
    ///
    /// # Errors
    /// It breaks one of them.
    pub fn new(text: &str) -> Result<Self, MachineNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_name = begins && text.len() <= Self::MAX_BYTES && text.bytes().all(is_allowed);
        match is_name && text != LOCAL {
            true => Ok(Self(text.into())),
            false => Err(MachineNameError),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MachineName {
    type Error = MachineNameError;

    fn try_from(text: String) -> Result<Self, MachineNameError> {
        Self::new(&text)
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an account starts that no machine is named for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the machine that is called.
    #[default]
    Local,
    /// Where the least memory would be used: see `machines::placement`.
    Spread,
}

impl Placement {
    /// Each with its word in the configuration.
    pub const WORDS: [(&str, Self); 2] = [("local", Self::Local), ("spread", Self::Spread)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["tokyo", "vps-2.example", "1", "a_b"] {
            assert_eq!(MachineName::new(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(33);
        for name in ["", "local", "-oProxyCommand=x", ".", "..", "a b", "a/b", "东京", &long] {
            assert_eq!(MachineName::new(name), Err(MachineNameError), "{name}");
        }
    }
}
