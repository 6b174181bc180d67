//! [`AccessToken`]: the secret shared with the implementation, from a file of the operator.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::files::{FileError, read_secret};

/// The largest token file, in bytes.
const MAX_TOKEN: u64 = 4096;

/// The access token. It has no `Debug` or `Display`.
#[derive(Clone)]
pub(crate) struct AccessToken(String);

impl AccessToken {
    /// Reads the token from its file. The operator may replace it while the client runs.
    ///
    /// # Errors
    /// The file cannot be read, other users may read it, or its content is not a token.
    pub(crate) fn read(path: &Path) -> Result<Self, AccessTokenError> {
        let content = read_secret(path, true, MAX_TOKEN)?;
        // What is not UTF-8 becomes empty, which is refused below.
        let text = String::from_utf8(content).unwrap_or_default();
        let token = text.trim_end_matches(['\r', '\n']);
        // It has to fit into a header line.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessTokenError::Content(path.display().to_string()));
        }
        Ok(Self(token.to_owned()))
    }

    /// The secret itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of(token: &str) -> Self {
        Self(token.to_owned())
    }
}

/// Identifies a version of the token file. A change of mode or owner counts as well.
pub(crate) fn token_stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    // Links are followed, as for reading.
    let found = std::fs::metadata(path).ok()?;
    // The change time, since a copy that keeps the modification time is a change as well.
    Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessTokenError {
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
    fn token_file_must_be_private_and_one_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            AccessToken::read(&path)
        };
        assert_eq!(read("geheim\r\n", 0o600).unwrap().as_str(), "geheim");
        for (content, mode) in [("geheim", 0o640), ("", 0o600), ("\n", 0o600), ("a b", 0o600), ("é", 0o600)]
        {
            let error = read(content, mode).err().unwrap();
            assert!(!format!("{error:?}{error}").contains("geheim"));
        }
        assert!(matches!(AccessToken::read(&folder.path().join("none")), Err(AccessTokenError::File(_))));
    }
}
