//! The programs of other projects that can hold a QQ account, as the controller sees them.
//!
//! Such a program is an *implementation*: it logs in, and the account's client reaches it by OneBot or Milky. Each kind is
//! an [`ImplementationContract`] in a file of its own: what the operator says about the program, its command line, the
//! configuration that it gets, where it shows its login code, and what its ends mean. The rest of the controller asks the
//! contracts and names no kind.
//!
//! A new kind is a file here with its contract, and a line in the list of [`ImplementationKind`] below.

mod command;
mod contract;
mod json;
mod llbot;
mod login;
mod napcat;
mod placeholders;
mod settings;
mod yogurt;

pub use contract::{
    CommandLine, ConfigFile, ConfigFileError, Content, ImplementationContract, Link, StartValues,
};
pub use login::{LoginQuestion, PageQuestion};
pub use placeholders::from_template;
pub use settings::{ImplementationSettings, Implementations, KEYS};

/// Declares the kinds of implementations, each with its contract.
macro_rules! kinds {
    ($($kind:ident => $contract:path,)+) => {
        /// Which program holds an account.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ImplementationKind {
            $(#[doc = concat!("See `", stringify!($contract), "`.")] $kind,)+
        }

        impl ImplementationKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// What the controller needs to know about it.
            pub fn contract(self) -> &'static dyn ImplementationContract {
                match self {
                    $(Self::$kind => &$contract,)+
                }
            }
        }
    };
}

kinds! {
    Llbot => llbot::Llbot,
    Napcat => napcat::Napcat,
    Yogurt => yogurt::Yogurt,
    Command => command::Command,
}

impl ImplementationKind {
    /// Its name, as `kind` in the configuration has it.
    pub fn name(self) -> &'static str {
        self.contract().name()
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests;
