//! What the configuration says about accounts, each in the table of one network.

use std::collections::BTreeMap;
use std::path::Path;

use super::BackendKind;
use crate::model::name::ClientName;

/// A key that an account's table may have.
pub struct TableKey {
    /// Its name. The client gets its value as the variable `NETWORK_NAME`.
    pub name: &'static str,
    /// What its value must be: the end of the sentence that begins with "must be".
    pub allowed: &'static str,
    /// Whether a value is allowed.
    pub is_valid: fn(&str) -> bool,
    /// Whether a message may show a value that is not allowed. It may not where the value can contain a secret.
    pub is_shown: bool,
    /// Whether a caller of `start_client` may give it as well, as the parameter `NETWORK_NAME`.
    pub is_parameter: bool,
}

impl TableKey {
    /// A key that holds a path, which only the operator chooses.
    pub const fn path(name: &'static str) -> Self {
        Self { name, allowed: Self::PATH, is_valid: Self::is_path, is_shown: true, is_parameter: false }
    }

    /// [`TableKey::allowed`] of a path.
    pub const PATH: &str = "an absolute path without NUL, such as \"/var/lib/example\"";

    /// [`TableKey::is_valid`] of a path. It is absolute, since the working directory of the daemon means nothing to operators.
    pub fn is_path(text: &str) -> bool {
        Path::new(text).is_absolute() && !text.contains('\0')
    }
}

/// What the configuration says about one account: the keys of its table, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account(BTreeMap<&'static str, String>);

impl Account {
    /// The value of a key, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys that are set, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

impl FromIterator<(&'static str, String)> for Account {
    fn from_iter<I: IntoIterator<Item = (&'static str, String)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// All accounts that the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts(BTreeMap<String, (BackendKind, Account)>);

impl Accounts {
    /// Adds an account. Where another network has it already, it is not added, and that network is returned.
    pub fn add(&mut self, name: String, kind: BackendKind, account: Account) -> Option<BackendKind> {
        match self.0.get(&name) {
            Some((other, _)) => Some(*other),
            None => {
                self.0.insert(name, (kind, account));
                None
            }
        }
    }

    /// The network of an account, and what is said about it there.
    pub fn get(&self, name: &ClientName) -> Option<(BackendKind, &Account)> {
        self.0.get(name.as_str()).map(|(kind, account)| (*kind, account))
    }

    /// What is said about an account in the table of one network.
    pub fn of_kind(&self, kind: BackendKind, name: &ClientName) -> Option<&Account> {
        self.get(name).filter(|(of, _)| *of == kind).map(|(_, account)| account)
    }

    /// The network of an account.
    pub fn kind_of(&self, name: &ClientName) -> Option<BackendKind> {
        self.get(name).map(|(kind, _)| kind)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, BackendKind, &Account)> {
        self.0.iter().map(|(name, (kind, account))| (name.as_str(), *kind, account))
    }
}
