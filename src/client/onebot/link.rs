//! What all ways to reach an implementation have in common: how a connection ends, and the token.

use std::fmt;
use std::path::Path;

use crate::files::{FileError, read_secret};

/// The most bytes of a token's file.
const MAX_TOKEN: u64 = 4096;

/// How a connection ended, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody listens there: implementations do so only after the login.
    Unreachable(String),
    /// The token is not the right one, or there is none to be had.
    Token(String),
    /// Anything else.
    Lost(String),
    /// A login anew was asked for.
    Relogin,
    /// Nobody wants to hear any more.
    Unheard,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Lost(why) => f.write_str(why),
            Self::Token(why) => write!(f, "the token is refused: {why}"),
            Self::Relogin => f.write_str("relogin was called"),
            Self::Unheard => f.write_str("the client ends"),
        }
    }
}

/// A token. It is never shown.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// Reads one from its file: the operator may put another there while we run.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or what is in it is no token.
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let content = read_secret(path, true, MAX_TOKEN)?;
        let text = String::from_utf8(content).unwrap_or_default();
        let token = text.trim_end_matches(['\r', '\n']);
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content(path.display().to_string()));
        }
        Ok(Self(token.to_owned()))
    }

    /// The token itself.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn of(token: &str) -> Self {
        Self(token.to_owned())
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// The file cannot be used.
    #[error("the file of the token cannot be used")]
    File(#[from] FileError),
    /// It holds no token.
    #[error("{0} must hold the token, one line of visible ASCII")]
    Content(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_private_and_plain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        assert_eq!(read("geheim\r\n", 0o600).unwrap().as_str(), "geheim");
        for (content, mode) in [("geheim", 0o640), ("", 0o600), ("\n", 0o600), ("a b", 0o600), ("é", 0o600)]
        {
            let error = read(content, mode).err().unwrap();
            assert!(!format!("{error:?}{error}").contains("geheim"));
        }
        assert!(matches!(Token::read(&folder.path().join("none")), Err(TokenError::File(_))));
    }
}
