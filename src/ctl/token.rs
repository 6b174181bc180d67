//! The token that a controller is shown: from a file or a variable. Arguments are seen by every user of the machine, so it is
//! never one of them.

use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::failure::{Failure, Kind, Outcome};
use crate::files;
use crate::model::error_chain::ErrorChain;

/// The token itself.
pub(super) const TOKEN: &str = "WQCTL_TOKEN";
/// The file that has it.
pub(super) const TOKEN_FILE: &str = "WQCTL_TOKEN_FILE";

/// The largest file of a token, in bytes.
const MAX_BYTES: u64 = 4096;

/// A token, and where it came from. No `Debug`: it is a secret.
pub(super) struct Token {
    /// `Bearer` with the token, marked as a secret.
    pub(super) header: HeaderValue,
    pub(super) value: String,
    /// The file or the variable, for messages.
    pub(super) source: String,
}

impl Token {
    /// The token of `--token-file`, else of one of the variables. None where there is neither.
    pub(super) fn find(file: Option<&Path>) -> Outcome<Option<Self>> {
        if let Some(file) = file {
            return Self::read(file).map(Some);
        }
        // An empty variable is one that was taken back.
        if let Some(value) = std::env::var_os(TOKEN).filter(|value| !value.is_empty()) {
            let value = value.into_string().map_err(|_| Failure::usage(format!("{TOKEN} is not UTF-8")))?;
            return Self::new(&value, format!("the variable {TOKEN}")).map(Some);
        }
        match std::env::var_os(TOKEN_FILE).filter(|file| !file.is_empty()) {
            Some(file) => Self::read(&PathBuf::from(file)).map(Some),
            None => Ok(None),
        }
    }

    /// The token of a file that no other user has access to: who could write it could lead every call to an account of theirs, and who can
    /// read it needs no more.
    fn read(file: &Path) -> Outcome<Self> {
        let content = files::read_secret(file, true, MAX_BYTES).map_err(|error| {
            let failure =
                Failure::new(Kind::NotAllowed, format!("the token can't be used: {}", ErrorChain(&error)));
            match error {
                files::FileError::NotPrivate { .. } => failure.next(format!("chmod 600 {}", file.display())),
                _ => failure.next("name another file with --token-file"),
            }
        })?;
        let value = String::from_utf8(content)
            .map_err(|_| Failure::new(Kind::NotAllowed, format!("{} is not UTF-8", file.display())))?;
        Self::new(&value, file.display().to_string())
    }

    fn new(value: &str, source: String) -> Outcome<Self> {
        let value = value.trim();
        let header = HeaderValue::from_str(&format!("Bearer {value}")).ok().filter(|_| !value.is_empty());
        let Some(mut header) = header else {
            return Err(Failure::new(Kind::NotAllowed, format!("{source} has no token")));
        };
        header.set_sensitive(true);
        Ok(Self { header, value: value.to_owned(), source })
    }
}
