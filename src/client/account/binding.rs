//! [`AccountBinding`]: the QQ account that this client belongs to.
//!
//! The account at the other end of a connection may change: another implementation listens on the same port, or
//! connects to this client. Messages queued for one account must not go out from another, so the client keeps
//! the account of its first login, also across restarts.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};
use tracing::{info, warn};

use crate::files::{FileOwner, read_untrusted, replace};
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;

/// The version of the file's format.
const VERSION: u64 = 1;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

/// The login is of another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the implementation is logged in as {found}, and this client belongs to account {bound}: log {bound} in there, or \
     give the client to the other account by relogin?forget=1, by stop_client and start_client, or by starting it with uin={found}"
)]
pub(crate) struct OtherAccount {
    /// The account that the client belongs to.
    pub(crate) bound: u64,
    /// The account that is logged in.
    pub(crate) found: u64,
}

/// The file was written by a later version of this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} has version {version}, and this program reads up to {VERSION}: it is not known which account this client belongs to; \
     install the later version again, or remove the file"
)]
pub(crate) struct LaterVersion {
    path: String,
    version: u64,
}

/// Why a login is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BindingError {
    /// It is of another account.
    #[error(transparent)]
    Other(#[from] OtherAccount),
    /// The account that the client belongs to is not known.
    #[error(transparent)]
    Later(#[from] LaterVersion),
}

/// The QQ account that the client belongs to.
pub(crate) struct AccountBinding {
    /// The file.
    path: PathBuf,
    /// The start parameter `uin`.
    wanted: Option<u64>,
    /// The controller's registration of this account. A different one means that the account was stopped and
    /// registered again.
    registration: Option<String>,
    owner: Mutex<Owner>,
}

/// Which account the client belongs to now, and which one it was taken away from.
#[derive(Clone, Copy, Default)]
struct Owner {
    bound: Option<u64>,
    /// The account that was forgotten, until the next login.
    forgotten: Option<u64>,
}

impl AccountBinding {
    /// Opens the binding at `path`. `wanted` takes precedence over the file, and the file counts only for this
    /// `registration`. Blocks on the file system.
    pub(crate) fn open(path: &Path, wanted: Option<u64>, registration: Option<String>) -> Self {
        let kept = || {
            load(path, registration.as_deref()).unwrap_or_else(|later| {
                warn!("accepting no login: {later}");
                None
            })
        };
        let bound = wanted.or_else(kept);
        if let Some(uin) = bound {
            info!("bound to account {uin}; logins of other accounts are refused");
        }
        Self {
            path: path.to_owned(),
            wanted,
            registration,
            owner: Mutex::new(Owner { bound, forgotten: None }),
        }
    }

    /// The account, once it is known.
    pub(crate) fn uin(&self) -> Option<u64> {
        locked(&self.owner).bound
    }

    /// Checks that a login or an event of account `found` is one of this client's account.
    ///
    /// # Errors
    /// It is another account's.
    pub(crate) fn check(&self, found: u64) -> Result<(), OtherAccount> {
        match self.uin() {
            Some(bound) if bound != found => Err(OtherAccount { bound, found }),
            _ => Ok(()),
        }
    }

    /// Whether the client was taken away from `account` and no account has logged in since. Connections of its implementation
    /// may still be open.
    pub(crate) fn was_forgotten(&self, account: u64) -> bool {
        locked(&self.owner).forgotten == Some(account)
    }

    /// Binds the client to the account `found`, which has logged in, unless it is bound to one already. Blocks
    /// on the file system.
    ///
    /// # Errors
    /// The client is bound to another account, or a later version wrote the file, which is left as it is.
    pub(crate) fn bind(&self, found: u64) -> Result<(), BindingError> {
        self.check(found)?;
        // Read before anything changes: if a later version wrote the file and no account is known, the login is refused.
        let before = load(&self.path, self.registration.as_deref());
        if let (Err(later), None) = (&before, self.uin()) {
            return Err(later.clone().into());
        }
        // Also if the file cannot be written below: the account in memory is enough until the next start.
        *locked(&self.owner) = Owner { bound: Some(found), forgotten: None };
        let before = match before {
            Ok(before) => before,
            Err(later) => {
                warn!("the binding to account {found} is not saved: {later}");
                return Ok(());
            }
        };
        let kept = json!({ "version": VERSION, "uin": found.to_string(), "registration": self.registration });
        // Every reconnect comes here; an unchanged binding needs no write, which could fail.
        if before == Some(found) {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            // An error shows again when the file is written.
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        if let Err(error) = replace(&self.path, format!("{kept}\n").as_bytes(), 0o600) {
            warn!(
                "cannot save the binding to account {found}: {}; after a restart another account could take this client over",
                ErrorChain(&error)
            );
        }
        Ok(())
    }

    /// Removes the binding, so that the next login decides. Blocks on the file system.
    pub(crate) fn forget(&self) {
        if let Some(uin) = self.wanted {
            info!("the start parameter uin={uin} binds this client; the account is not forgotten");
            return;
        }
        // The lock ends before the file is removed, which may block.
        {
            let mut owner = locked(&self.owner);
            // A second call before the next login must not lose the account whose connections may still be open.
            let forgotten = owner.bound.or(owner.forgotten);
            *owner = Owner { bound: None, forgotten };
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("cannot remove {}: {error}; remove it to forget the account", self.path.display());
            }
            _ => info!("bound to no account now; the next login binds the client"),
        }
    }
}

/// Reads the account from the file, if it was written for this registration.
///
/// # Errors
/// A later version wrote it.
fn load(path: &Path, registration: Option<&str>) -> Result<Option<u64>, LaterVersion> {
    // Without a state directory the file is in `tmpdir`, where other users may be able to put one. Theirs does not count.
    let content = match read_untrusted(path, &FileOwner::me(), MAX_BYTES) {
        Ok((content, _)) => content,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => {
            warn!(
                "cannot read which account this client is bound to: {}; the next login binds it",
                ErrorChain(&error)
            );
            return Ok(None);
        }
    };
    // Text that is not JSON names no account either, so the warning below serves for both.
    let kept: Value = serde_json::from_slice(&content).unwrap_or_default();
    if let Some(version) = kept["version"].as_u64().filter(|version| *version > VERSION) {
        return Err(LaterVersion { path: path.display().to_string(), version });
    }
    let uin = kept["uin"].as_str().and_then(|uin| uin.parse().ok()).filter(|uin: &u64| *uin > 0);
    let Some(uin) = uin else {
        warn!("{} names no account; the next login binds the client", path.display());
        return Ok(None);
    };
    // A client started by hand has no registration, and nothing says that the account is a new one.
    let is_same = registration.is_none() || kept["registration"].as_str() == registration;
    Ok(is_same.then_some(uin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        // The folder of a client that never ran does not exist yet.
        let path = folder.path().join("clients/bot/binding");
        let open =
            |wanted, registration: &str| AccountBinding::open(&path, wanted, Some(registration.to_owned()));
        let binding = open(None, "7");
        assert_eq!((binding.uin(), binding.check(9)), (None, Ok(())));
        assert_eq!(binding.bind(10_000), Ok(()));
        let other = OtherAccount { bound: 10_000, found: 20_000 };
        assert_eq!(binding.bind(20_000), Err(BindingError::Other(other)));
        assert_eq!(open(None, "7").check(20_000), Err(OtherAccount { bound: 10_000, found: 20_000 }));
        assert_eq!(AccountBinding::open(&path, None, None).uin(), Some(10_000), "started by hand");
        // The parameter takes precedence and is saved.
        assert_eq!(open(Some(20_000), "7").bind(20_000), Ok(()));
        assert_eq!(open(None, "7").uin(), Some(20_000));
        let fixed = open(Some(20_000), "7");
        fixed.forget();
        assert_eq!(fixed.uin(), Some(20_000));
    }

    #[test]
    fn binding_ends_with_its_registration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binding");
        let open =
            |registration: Option<&str>| AccountBinding::open(&path, None, registration.map(str::to_owned));
        assert_eq!(open(None).bind(10_000), Ok(()));
        assert_eq!(open(None).uin(), Some(10_000));
        assert_eq!(open(Some("8")).uin(), None, "the controller knows it by another registration");
        assert_eq!(open(Some("8")).bind(20_000), Ok(()));
        let binding = open(Some("8"));
        assert_eq!(binding.uin(), Some(20_000));
        assert!(!binding.was_forgotten(20_000));
        binding.forget();
        assert_eq!((binding.uin(), open(Some("8")).uin(), path.exists()), (None, None, false));
        binding.forget();
        assert!(
            binding.was_forgotten(20_000) && !binding.was_forgotten(10_000),
            "forgetting again changes nothing"
        );
        assert_eq!(binding.bind(20_000), Ok(()));
        assert!(!binding.was_forgotten(20_000), "it is back");
    }

    #[test]
    fn binding_of_a_later_version_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binding");
        let later = r#"{"version":2,"uin":"10000","registration":null}"#;
        std::fs::write(&path, later).unwrap();
        let open = |wanted| AccountBinding::open(&path, wanted, None);
        let binding = open(None);
        let refused = binding.bind(20_000).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{} has version 2", path.display())), "{refused}");
        assert_eq!(binding.uin(), None);
        // The parameter decides, whatever the file says.
        assert_eq!(open(Some(20_000)).bind(20_000), Ok(()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), later);
        // The operator removes the file.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(binding.bind(20_000), Ok(()));
        assert_eq!(open(None).uin(), Some(20_000));
    }

    #[test]
    fn damaged_binding_file_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binding");
        for content in ["", "{", "[]", r#"{"version":1,"uin":"x"}"#] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(AccountBinding::open(&path, None, None).uin(), None, "{content}");
        }
    }
}
