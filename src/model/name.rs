//! [`ClientName`], what callers call an account, and [`UnitId`], what files and units call it.
//!
//! A name is shown to people and travels in JSON and URLs, so nearly every text is one. A unit ID becomes a
//! systemd instance name, a folder and part of a user name, so it is short and plain.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of an account: 1 to 48 bytes of UTF-8 without control characters and `/`, and neither `.` nor
/// `..`, so that it can be part of a file name as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientName(String);

/// Why a text is no [`ClientName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No byte at all.
    #[error("the name is empty")]
    Empty,
    /// More than [`ClientName::MAX_BYTES`] bytes.
    #[error("the name is longer than {} bytes", ClientName::MAX_BYTES)]
    TooLong,
    /// A control character, line and paragraph separators included.
    #[error("the name contains a control character")]
    Control,
    /// A `/`.
    #[error("the name contains a slash")]
    Slash,
    /// `.` or `..`.
    #[error("the name is . or ..")]
    Dots,
}

impl ClientName {
    /// The longest name, in bytes of UTF-8: with the longest prefix and suffix that the seed puts around it a
    /// file name stays far below the 255 bytes of Linux file systems.
    pub const MAX_BYTES: usize = 48;

    /// Checks `text` against the rules.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong);
        }
        // U+2028 and U+2029 end a line for some readers of a log, though Unicode does not call them controls.
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(NameError::Control);
        }
        if text.contains('/') {
            return Err(NameError::Slash);
        }
        if text == "." || text == ".." {
            return Err(NameError::Dots);
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID for units and folders.
    pub fn unit_id(&self) -> UnitId {
        UnitId::of(self)
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ClientName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl std::str::FromStr for ClientName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<ClientName> for String {
    fn from(name: ClientName) -> Self {
        name.0
    }
}

/// The name of a client's unit instance and folders: `[A-Za-z0-9_]{1,27}`, or at most 10 such characters, `-`
/// and 16 hex digits.
///
/// Never systemd's own escaping: a backslash in an instance name breaks `RuntimeDirectory=` on systemd 257,
/// and an escaped Chinese name overflows the path of a private `/tmp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(String);

impl UnitId {
    const PLAIN_MAX: usize = 27;
    const PREFIX_MAX: usize = 10;

    fn of(name: &ClientName) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let text = name.as_str();
        if text.len() <= Self::PLAIN_MAX && text.chars().all(|c| plain(&c)) {
            return Self(text.to_owned());
        }
        let mut id: String = text.chars().filter(plain).take(Self::PREFIX_MAX).collect();
        id.push('-');
        for byte in &Sha256::digest(text.as_bytes())[..8] {
            id.push_str(&format!("{byte:02x}"));
        }
        Self(id)
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_of_a_name() {
        for good in ["a", "webqq_client_01", "小明 的.号", "50%-off", "...", "0", &"x".repeat(48)] {
            assert_eq!(ClientName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("a/b", NameError::Slash),
            ("a\nb", NameError::Control),
            ("a\0b", NameError::Control),
            ("a\u{85}b", NameError::Control),
            ("a\u{2028}b", NameError::Control),
            (&"x".repeat(49), NameError::TooLong),
            (&"名".repeat(17), NameError::TooLong),
        ] {
            assert_eq!(ClientName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn unit_ids() {
        let id = |name: &str| ClientName::new(name).unwrap().unit_id().to_string();
        assert_eq!(id("webqq_client_01"), "webqq_client_01");
        assert_eq!(id(&"a".repeat(27)), "a".repeat(27));
        // printf '%s' 'a-b' | sha256sum
        assert_eq!(id("a-b"), "ab-d44362d67d921091");
        assert_eq!(id("小明").len(), 17);
    }

    proptest! {
        #[test]
        fn every_id_is_plain_and_short(name in "\\PC{1,16}") {
            if let Ok(name) = ClientName::new(name) {
                let id = name.unit_id().to_string();
                prop_assert!(id.len() <= 27);
                prop_assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
            }
        }
    }
}
