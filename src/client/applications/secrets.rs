//! The secrets of applications: those of the start, or those in the operator's files as they are now. A file is read again when it
//! changes, so that a new token needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::client::settings::{
    ApplicationFileError, ApplicationToken, PostSecret, SecretSource, TokenSource,
};
use crate::files::Fingerprint;
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;

/// The tokens of applications.
pub(super) type Tokens = Source<Arc<[ApplicationToken]>>;

/// What signs posts.
pub(super) type Signing = Source<PostSecret>;

/// Where a secret is from.
pub(super) enum Source<T> {
    Given(T),
    File(SecretFile<T>),
}

/// A secret in a file.
pub(super) struct SecretFile<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, ApplicationFileError>,
    last: Mutex<Option<Look<T>>>,
}

/// What was found at the last look.
struct Look<T> {
    file: Option<Fingerprint>,
    read: Result<T, String>,
}

impl<T: Clone> Source<T> {
    /// The secret as it is now. The error is for people, and shows no secret.
    pub(super) fn now(&self) -> Result<T, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(file) => file.now(),
        }
    }
}

impl<T: Clone> SecretFile<T> {
    fn new(path: PathBuf, read: fn(&Path) -> Result<T, ApplicationFileError>) -> Self {
        Self { path, read, last: Mutex::new(None) }
    }

    /// Blocks no longer than a look at a small local file takes.
    fn now(&self) -> Result<T, String> {
        // From before it is read, so that a later change is seen.
        let file = Fingerprint::behind(&self.path);
        let mut last = locked(&self.last);
        match &*last {
            Some(look) if look.file == file && file.is_some() => look.read.clone(),
            _ => {
                let read = (self.read)(&self.path).map_err(|error| ErrorChain(&error).to_string());
                *last = Some(Look { file, read: read.clone() });
                read
            }
        }
    }
}

impl From<&TokenSource> for Tokens {
    fn from(source: &TokenSource) -> Self {
        match source {
            TokenSource::Given(tokens) => Self::Given(tokens.clone()),
            TokenSource::File(path) => Self::File(SecretFile::new(path.clone(), ApplicationToken::read_all)),
        }
    }
}

impl From<&SecretSource> for Signing {
    fn from(source: &SecretSource) -> Self {
        match source {
            SecretSource::Given(secret) => Self::Given(secret.clone()),
            SecretSource::File(path) => Self::File(SecretFile::new(path.clone(), PostSecret::read)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::replace;

    #[test]
    fn file_counts_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = Signing::from(&SecretSource::File(path.clone()));
        let now = || source.now().map(|secret| secret.as_str().to_owned());
        assert!(now().unwrap_err().contains("secret"));
        for content in ["one", "another"] {
            replace(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!((now().unwrap(), now().unwrap()), (content.to_owned(), content.to_owned()));
        }
        replace(&path, b"", 0o600).unwrap();
        assert!(now().unwrap_err().contains("one line"), "an old secret is not kept");
    }
}
