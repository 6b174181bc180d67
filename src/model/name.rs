//! [`ClientName`], what callers call an account, and [`UnitId`], what files and units call it.
//!
//! A name is shown to people and travels in JSON and URLs, so nearly every text is one. A unit ID becomes a
//! systemd instance name, a folder and part of a user name, so it is short and plain.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

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

/// The name of a client's unit instance and folders: `[A-Za-z0-9_-]{1,27}`. A *plain* ID is the account's name. A
/// *hashed* one is at most 10 characters of it, `-` and 16 hexadecimal digits.
///
/// An account gets its ID when it is registered and keeps it, because its folders and its user are named after it.
/// Version 0.1.0 had hashed IDs for names with a hyphen, and accounts of that time keep them. No plain ID looks like a
/// hashed one, so an account with a new ID never meets one that has kept an old ID.
///
/// Never systemd's own escaping: a backslash in an instance name breaks `RuntimeDirectory=` on systemd 257,
/// and an escaped Chinese name overflows the path of a private `/tmp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitId(String);

/// Why a text is no [`UnitId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ID is 1 to {} letters, digits, _ or -", UnitId::MAX_BYTES)]
pub struct UnitIdError;

impl UnitId {
    /// The longest ID, in bytes: with `wqc-` it is a user name, of which systemd allows 31 characters.
    pub const MAX_BYTES: usize = 27;
    const PREFIX_MAX: usize = 10;
    const HASH_DIGITS: usize = 16;

    /// The ID of an account that is registered now: the name itself where that is possible, else a hashed ID. A name
    /// that begins with `-` would be taken for an option, and one that looks like a hashed ID may be another account's.
    pub fn of(name: &ClientName) -> Self {
        let text = name.as_str();
        let fits = text.len() <= Self::MAX_BYTES && text.bytes().all(is_id_byte);
        if fits && !text.starts_with('-') && !looks_hashed(text) {
            return Self(text.to_owned());
        }
        Self::hashed(name)
    }

    /// The ID that version 0.1.0 gave to this name.
    pub fn of_version_0_1(name: &ClientName) -> Self {
        if name.as_str().contains('-') { Self::hashed(name) } else { Self::of(name) }
    }

    fn hashed(name: &ClientName) -> Self {
        // No hyphen, as the only one is what separates the hash.
        let kept = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let mut id: String = name.as_str().chars().filter(kept).take(Self::PREFIX_MAX).collect();
        id.push('-');
        for byte in &digest(&SHA256, name.as_str().as_bytes()).as_ref()[..Self::HASH_DIGITS / 2] {
            id.push_str(&format!("{byte:02x}"));
        }
        Self(id)
    }

    /// Whether it is a hash, which does not tell the account's name.
    pub fn is_hashed(&self) -> bool {
        looks_hashed(&self.0)
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Whether `text` is `[A-Za-z0-9_]{0,10}-[0-9a-f]{16}`.
fn looks_hashed(text: &str) -> bool {
    let Some((prefix, hash)) = text.rsplit_once('-') else { return false };
    prefix.len() <= UnitId::PREFIX_MAX
        && prefix.bytes().all(|byte| byte != b'-' && is_id_byte(byte))
        && hash.len() == UnitId::HASH_DIGITS
        && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl TryFrom<String> for UnitId {
    type Error = UnitIdError;
    fn try_from(text: String) -> Result<Self, UnitIdError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_id_byte);
        // The hashed ID of a name without any plain character begins with its hyphen.
        let is_option = text.starts_with('-') && !looks_hashed(&text);
        if fits && !is_option { Ok(Self(text)) } else { Err(UnitIdError) }
    }
}

impl From<UnitId> for String {
    fn from(id: UnitId) -> Self {
        id.0
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
    fn client_name_rules() {
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
        for plain in
            ["webqq_client_01", "bob-2", "a-", "a--b", "a-d44362d67d92109", &"a-".repeat(13), &"a".repeat(27)]
        {
            let id = UnitId::of(&name(plain));
            assert_eq!((id.as_str(), id.is_hashed()), (plain, false));
        }
        // printf '%s' 'a-b.' | sha256sum
        assert_eq!(UnitId::of(&name("a-b.")).as_str(), "ab-3c8838244e4b1cf5");
        for hashed in ["小明", "-a", "a-d44362d67d921091", "-d44362d67d921091", &"a".repeat(28), "a b", "a."]
        {
            let id = UnitId::of(&name(hashed));
            assert!(id.is_hashed() && id.as_str() != hashed, "{hashed}");
        }
    }

    #[test]
    fn unit_ids_of_version_0_1() {
        let id = |text: &str| UnitId::of_version_0_1(&name(text)).to_string();
        // printf '%s' 'a-b' | sha256sum
        assert_eq!(id("a-b"), "ab-d44362d67d921091");
        assert_eq!(id("webqq_client_01"), "webqq_client_01");
        assert_eq!(id(&"a".repeat(27)), "a".repeat(27));
        assert_eq!(id("小明"), UnitId::of(&name("小明")).to_string());
    }

    #[test]
    fn unit_id_rejects_other_text() {
        for good in ["a", "bob-2", "-d44362d67d921091", "ab-d44362d67d921091", &"x".repeat(27)] {
            assert_eq!(UnitId::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a/b", "..", "a.b", "小", "a@b", "a b", &"x".repeat(28)] {
            assert!(UnitId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    fn name(text: &str) -> ClientName {
        ClientName::new(text).unwrap()
    }

    proptest! {
        #[test]
        fn unit_id_is_short_and_can_be_parsed(text in "\\PC{1,16}|[a-c-]{1,30}|[ab]{0,2}-[0-9a-f]{16}") {
            if let Ok(name) = ClientName::new(text) {
                for id in [UnitId::of(&name), UnitId::of_version_0_1(&name)] {
                    prop_assert!(id.as_str().len() <= UnitId::MAX_BYTES);
                    prop_assert_eq!(UnitId::try_from(id.to_string()), Ok(id));
                }
            }
        }

        /// A new ID is the account's own name or looks hashed, and an old one that is not the same looks hashed, too.
        #[test]
        fn unit_id_differs_from_version_0_1_ids_of_others(
            one in "[ab_-]{1,4}|[a-c]{0,2}-[0-9a-f]{16}|\\PC{1,6}",
            other in "[ab_-]{1,4}|[a-c]{0,2}-[0-9a-f]{16}|\\PC{1,6}",
        ) {
            if let (Ok(one), Ok(other)) = (ClientName::new(one), ClientName::new(other))
                && one != other
            {
                prop_assert_ne!(UnitId::of(&one), UnitId::of(&other));
                prop_assert_ne!(UnitId::of(&one), UnitId::of_version_0_1(&other));
                prop_assert_ne!(UnitId::of_version_0_1(&one), UnitId::of_version_0_1(&other));
            }
        }
    }
}
