//! [`BackendContract`]: what the controller has to know about a network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::BackendKind;
use super::account::{Account, Accounts, TableKey};
use super::login_code;
use crate::client_dirs::ClientDirs;
use crate::model::client::{ClientSpec, ParamValue};
use crate::model::name::{ClientName, UnitId};

/// What the controller has to know about a network. Everything but the name has a default: that of a network without
/// accounts in the configuration, without secrets and without rules of its own.
pub trait BackendContract: Sync {
    /// Its name: the value of the parameter `backend`, the table of its accounts in the configuration, and the prefix of its
    /// parameters and variables.
    fn name(&self) -> &'static str;

    /// The table of the configuration in which the operator describes accounts of this network.
    fn accounts(&self) -> Option<&'static AccountTable> {
        None
    }

    /// Checks the keys of an account together; each one alone is allowed, and files are merged.
    ///
    /// # Errors
    /// The key that is wrong, and why: the end of a sentence that begins with the account.
    fn check_account(&self, _account: &Account) -> Result<(), (&'static str, &'static str)> {
        Ok(())
    }

    /// Checks that callers ask for nothing that the operator alone may decide.
    ///
    /// # Errors
    /// The first parameter that is not allowed.
    fn check_params(&self, _start: &Start<'_>) -> Result<(), ContractError> {
        Ok(())
    }

    /// The keys of an account whose values are files that the client reads, besides that of the secret.
    fn client_files(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks that the client can read these files. Blocks on the file system.
    ///
    /// # Errors
    /// The first file that the client could never read.
    fn check_files(&self, start: &Start<'_>) -> Result<(), ContractError> {
        for key in self.client_files() {
            // Only files that the configuration names. Those that a caller names are checked with the parameters.
            let Some(path) = start.key(key).map(Path::new) else { continue };
            if let Some(why) = login_code::hidden(path, start.id, start.client_dirs) {
                return Err(ContractError::File { network: self.name(), key, path: path.to_owned(), why });
            }
        }
        Ok(())
    }

    /// The variables that the client gets besides its parameters, by their names without `MOJO_WEBQQ_`. By default these are
    /// the keys of its account, but for the secret's.
    fn variables(&self, start: &Start<'_>) -> Vec<(String, OsString)> {
        let secret = self.secret().map(|secret| secret.key);
        let keys = start.account.into_iter().flat_map(Account::iter);
        // `environment` sets the variable of the secret's file itself, and only where the client may have the secret and can
        // read the file.
        keys.filter(|(key, _)| Some(*key) != secret)
            .map(|(key, value)| (format!("{}_{key}", self.name()), value.into()))
            .collect()
    }

    /// The secret of an account, if the network has one.
    fn secret(&self) -> Option<Secret> {
        None
    }

    /// The file with the secret that this client is to have. None where there is no secret, or where it must not go to what
    /// the caller asks for.
    fn secret_file<'a>(&self, start: &Start<'a>) -> Option<&'a Path> {
        start.account?.get(self.secret()?.key).map(Path::new)
    }

    /// The address on which the client will wait for its network. The controller tries it before the start.
    fn listen_address(&self, _start: &Start<'_>) -> Option<ListenParameter> {
        None
    }

    /// The parameters by which a start of a configured account can be tried out. None where the account says so little that
    /// a start depends on what its caller adds.
    fn trial_params(&self, _account: &Account) -> Option<Vec<(&'static str, &'static str)>> {
        None
    }
}

/// A table of accounts in the configuration.
pub struct AccountTable {
    /// The option, for example `onebot.clients`.
    pub option: &'static str,
    /// The keys that an account may have.
    pub keys: &'static [TableKey],
}

/// A secret that an account's client needs. No variable of a process holds it: the client reads it from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The key of the account whose value is the file with the secret.
    pub key: &'static str,
    /// The variable, without `MOJO_WEBQQ_`, by which the client knows the file. A child process gets the operator's file.
    pub file_variable: &'static str,
    /// The variable, without `MOJO_WEBQQ_`, by which the launch file of a unit holds the secret itself.
    pub launch_variable: &'static str,
    /// The name of the file in the unit's runtime directory into which the launcher writes it.
    pub file_name: &'static str,
}

impl Secret {
    /// The largest secret, in bytes.
    pub const MAX_BYTES: u64 = 4096;
}

/// An address on which a client will listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenParameter {
    /// The parameter that names it.
    pub name: &'static str,
    /// The address.
    pub address: SocketAddr,
}

/// A start, as contracts see it.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The account.
    pub name: &'a ClientName,
    /// The ID of its unit and folders.
    pub id: &'a UnitId,
    /// What the caller gave.
    pub params: &'a BTreeMap<String, ParamValue>,
    /// What the configuration says about the account, where it is in the table of this network.
    pub account: Option<&'a Account>,
    /// Where clients keep their files.
    pub client_dirs: &'a ClientDirs,
}

impl<'a> Start<'a> {
    /// A start, as each network sees it.
    pub fn of_each(
        spec: &'a ClientSpec,
        accounts: &'a Accounts,
        client_dirs: &'a ClientDirs,
    ) -> impl Iterator<Item = (&'static dyn BackendContract, Self)> {
        BackendKind::ALL
            .iter()
            .map(move |kind| (kind.contract(), Self::of(*kind, spec, accounts, client_dirs)))
    }

    /// A start, as one network sees it.
    pub fn of(
        kind: BackendKind,
        spec: &'a ClientSpec,
        accounts: &'a Accounts,
        client_dirs: &'a ClientDirs,
    ) -> Self {
        let ClientSpec { name, id, params, .. } = spec;
        Self { name, id, params, account: accounts.of_kind(kind, name), client_dirs }
    }

    /// The value of a parameter, in whatever case its name was given. An empty one counts as not given.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        let found = self.params.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        // As in the original, where an empty text is false and so the same as none.
        found.map(|(_, value)| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The value of a key of the account.
    pub fn key(&self, key: &str) -> Option<&'a str> {
        self.account?.get(key)
    }
}

/// Why a network refuses a start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// A parameter asks for something that only the configuration may allow.
    #[error("parameter {0:?}: {1}")]
    Parameter(&'static str, &'static str),
    /// The client could never read a file that the configuration names.
    #[error("{key} in [{network}] of the configuration, {}: {why}", path.display())]
    File {
        /// The network.
        network: &'static str,
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}
