//! Tokens: read from files with restricted permissions, kept as digests, compared in constant time.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::digest::{Digest, SHA256, digest};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::config::{Access, TokenPlace, TokenSource};
use crate::files::{FileError, read_secret};

/// The shortest token, in bytes. A shorter one could be guessed.
pub const SHORTEST: usize = 16;
/// The largest token file, in bytes.
pub const LONGEST: u64 = 4096;

/// A token, without its value.
#[derive(Clone)]
pub struct ApiToken {
    /// Its name in the log.
    pub name: String,
    /// What it opens.
    pub access: Access,
    pub(super) digest: Digest,
}

/// All tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<ApiToken>);

/// Why a token can't be used. It never shows the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file can't be used.
    #[error("can't use the file of token {name}")]
    File {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: FileError,
    },
    /// There is no directory of credentials.
    #[error(
        "token {0} is a credential, and there is no CREDENTIALS_DIRECTORY: give it to the service with LoadCredential="
    )]
    NoCredentials(String),
    /// The file has no valid token.
    #[error(
        "{}: token {name} {why}; for example, make one with: openssl rand -hex 32", path.display()
    )]
    Content {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two tokens are equal, so their access would be ambiguous.
    #[error("the tokens {0} and {1} are the same; each must have a value of its own")]
    Same(String, String),
}

impl Tokens {
    /// Reads the tokens. Blocks on files. `credentials` is `$CREDENTIALS_DIRECTORY`.
    pub fn load(sources: &[TokenSource], credentials: Option<&Path>) -> Result<Self, TokenError> {
        let mut tokens: Vec<ApiToken> = Vec::new();
        for TokenSource { name, place, access } in sources {
            let failed = |source| TokenError::File { name: name.clone(), source };
            let (path, content) = match place {
                TokenPlace::File(path) => (path.clone(), read_secret(path, true, LONGEST).map_err(failed)?),
                TokenPlace::Credential(credential) => {
                    let folder = credentials.ok_or_else(|| TokenError::NoCredentials(name.clone()))?;
                    let path = folder.join(credential);
                    // Permissions of a credential are systemd's: its access list for the service's user shows as
                    // group permissions.
                    let content = read_secret(&path, false, LONGEST).map_err(failed)?;
                    (path, content)
                }
            };
            let token = content.strip_suffix(b"\n").unwrap_or(&content);
            let token = token.strip_suffix(b"\r").unwrap_or(token);
            check(token).map_err(|why| TokenError::Content { name: name.clone(), path, why })?;
            let digest = digest(&SHA256, token);
            // Not in constant time: both values are the operator's, and no caller can measure this.
            if let Some(same) = tokens.iter().find(|token| token.digest.as_ref() == digest.as_ref()) {
                return Err(TokenError::Same(same.name.clone(), name.clone()));
            }
            tokens.push(ApiToken { name: name.clone(), access: *access, digest });
        }
        Ok(Self(tokens))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds a token. All tokens are compared, each completely, so the time reveals nothing about them.
    pub fn find(&self, shown: &str) -> Option<&ApiToken> {
        // Digests have one length, so comparing them does not reveal that of a token.
        let digest = digest(&SHA256, shown.as_bytes());
        // An index instead of a reference, as it can be assigned without a branch. No list has the index `u64::MAX`.
        let mut found = u64::MAX;
        for (at, token) in (0..).zip(&self.0) {
            found.conditional_assign(&at, token.digest.as_ref().ct_eq(digest.as_ref()));
        }
        self.0.get(usize::try_from(found).ok()?)
    }

    /// The token with this digest, which a session remembers.
    pub(super) fn by_digest(&self, digest: Digest) -> Option<&ApiToken> {
        self.0.iter().find(|token| token.digest.as_ref() == digest.as_ref())
    }

    /// Tokens without files, for tests: name, value, access.
    pub fn of<'a>(tokens: impl IntoIterator<Item = (&'a str, &'a str, Access)>) -> Self {
        let token = |(name, token, access): (&str, &str, Access)| ApiToken {
            name: name.to_owned(),
            access,
            digest: digest(&SHA256, token.as_bytes()),
        };
        Self(tokens.into_iter().map(token).collect())
    }
}

/// Checks the value of a token.
fn check(token: &[u8]) -> Result<(), String> {
    if token.len() < SHORTEST {
        return Err(format!("has {} bytes, must have at least {SHORTEST}", token.len()));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("has a character that is not visible ASCII, must be one line without blanks".to_owned());
    }
    Ok(())
}

/// Without the digest, which would allow guesses to be checked.
impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error_chain::ErrorChain;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const ONE: &str = "0123456789abcdef";

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> TokenSource {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        TokenSource { name: name.to_owned(), place: TokenPlace::File(path), access: Access::ReadWrite }
    }

    #[test]
    fn token_content_is_validated() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(4095);
        for content in [ONE, &format!("{ONE}\n"), &format!("{ONE}\r\n"), &format!("{long}\n")] {
            let source = file(folder.path(), "bot", content.as_bytes(), 0o600);
            let tokens = Tokens::load(&[source], None).unwrap();
            assert_eq!(tokens.find(content.trim()).map(|token| token.name.as_str()), Some("bot"));
            assert!(tokens.find(&content.trim()[1..]).is_none() && tokens.find("").is_none());
        }
        for (content, why) in [
            (&ONE.as_bytes()[1..], "has 15 bytes, must have at least 16"),
            (b"", "has 0 bytes"),
            (b"hunter2 hunter2 hunter2", "not visible ASCII"),
            (b"hunter2hunter2hunter2\n\n", "not visible ASCII"),
            (b"hunter2hunter2hunter2\xff", "not visible ASCII"),
            (b"hunter2hunter2\nhunter2hunter2", "not visible ASCII"),
            ("x".repeat(4097).as_bytes(), "larger than 4096 bytes"),
        ] {
            let error = Tokens::load(&[file(folder.path(), "bot", content, 0o600)], None).unwrap_err();
            let error = ErrorChain(&error).to_string();
            assert!(error.contains(why) && error.contains("token bot"), "{error}");
            assert!(error.contains(folder.path().to_str().unwrap()) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn token_file_readable_by_others_is_refused_but_credential_accepted() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620] {
            let error = Tokens::load(&[file(folder.path(), "bot", ONE.as_bytes(), mode)], None).unwrap_err();
            let error = ErrorChain(&error).to_string();
            assert!(error.contains("chmod go="), "{error}");
        }
        file(folder.path(), "bot", ONE.as_bytes(), 0o440);
        let source = TokenSource {
            name: "b".into(),
            place: TokenPlace::Credential("bot".into()),
            access: Access::ReadOnly,
        };
        let sources = [source];
        assert!(Tokens::load(&sources, Some(folder.path())).unwrap().find(ONE).is_some());
        let error = Tokens::load(&sources, None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential="), "{error}");
    }

    #[test]
    fn tokens_are_distinguished_by_value() {
        let folder = tempfile::tempdir().unwrap();
        let token = |name: &str, content: &str| file(folder.path(), name, content.as_bytes(), 0o600);
        let other = "fedcba9876543210";
        let tokens = Tokens::load(&[token("a", ONE), token("b", other)], None).unwrap();
        assert_eq!(tokens.find(ONE).unwrap().name, "a");
        assert_eq!(tokens.find(other).unwrap().name, "b");
        let error = Tokens::load(&[token("a", ONE), token("b", &format!("{ONE}\n"))], None).unwrap_err();
        assert_eq!(error.to_string(), "the tokens a and b are the same; each must have a value of its own");
        assert!(!format!("{tokens:?}").contains("digest"));
    }
}
