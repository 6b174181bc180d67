//! The chat networks that can be behind a client's API, as the controller sees them.
//!
//! Each network is a [`BackendContract`] in a file of its own: the keys of an account in the configuration, the start
//! parameters that callers may not set, the variables and the secret that the client gets, and what is checked before a
//! start. The rest of the controller asks the contracts and names no network. The network itself, which logs in and sends
//! messages, is a `Backend` in `client`.
//!
//! A new network is a file here with its contract, a file in `client_settings` with what its client reads from the
//! environment, and a line in the list of [`BackendKind`] below.

mod account;
mod contract;
mod login_code;
mod milky;
mod onebot;
mod remote;
mod sandbox;

pub use account::{Account, Accounts, TableKey};
pub use contract::{AccountTable, BackendContract, ContractError, ListenParameter, Secret, Start};
pub use remote::is_this_machine;

/// Declares the kinds of backends, each with its contract. The first one is the default.
macro_rules! kinds {
    ($($kind:ident => $contract:path,)+) => {
        /// Which network is behind a client's API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum BackendKind {
            $(#[doc = concat!("See `", stringify!($contract), "`.")] $kind,)+
        }

        impl BackendKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// What the controller needs to know about it.
            pub fn contract(self) -> &'static dyn BackendContract {
                match self {
                    $(Self::$kind => &$contract,)+
                }
            }
        }
    };
}

kinds! {
    Sandbox => sandbox::Sandbox,
    OneBot => onebot::OneBot,
    Milky => milky::Milky,
}

impl BackendKind {
    /// Its name, as the parameter `backend` and the tables of the configuration have it.
    pub fn name(self) -> &'static str {
        self.contract().name()
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// All names, as the end of a sentence: `sandbox or onebot`.
    pub fn names() -> String {
        let mut names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
        let last = names.pop().unwrap_or_default();
        if names.is_empty() { last.to_owned() } else { format!("{} or {last}", names.join(", ")) }
    }
}

impl Default for BackendKind {
    fn default() -> Self {
        // The macro is called with at least one kind.
        Self::ALL[0]
    }
}

/// The secrets of the accounts of all networks.
pub fn secrets() -> impl Iterator<Item = Secret> {
    BackendKind::ALL.iter().filter_map(|kind| kind.contract().secret())
}

#[cfg(test)]
pub mod tests;
