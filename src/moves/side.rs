//! [`Side`]: what a move asks of a machine.

use crate::accounts::{KeptOf, KeptStream};
use crate::implementations::ImplementationKind;
use crate::model::name::ClientName;
use crate::wire::v1::requests::Parameters;

use super::here::Here;
use super::there::There;

/// An account as it is on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it is to run.
    pub(super) is_running: bool,
    pub(super) login: LoginAfterwards,
}

/// What becomes of the login of an account that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginAfterwards {
    /// It goes with the account.
    Carried,
    /// Its network may take the other machine for another device, and ask for a scan.
    MayNeedScan,
    /// A program holds it that the controller does not run. It has to be reached from the other machine.
    HeldElsewhere,
}

impl LoginAfterwards {
    /// Of an account with such an implementation, on such a network.
    pub(super) fn of(implementation: Option<&str>, network: Option<&str>) -> Self {
        match (implementation.map(ImplementationKind::from_name), network) {
            (Some(Some(kind)), _) if kind.contract().login_is_portable() => Self::Carried,
            (Some(_), _) => Self::MayNeedScan,
            // The made-up world.
            (None, Some("sandbox")) => Self::Carried,
            (None, _) => Self::HeldElsewhere,
        }
    }
}

/// Why a machine has not done what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SideError {
    /// It can't be reached, or broke off: it may have done it or not.
    #[error("{0}")]
    Unreachable(String),
    /// The account runs there.
    #[error("the account runs there again")]
    Running,
    /// It has an account of this name.
    #[error("there is an account of this name")]
    Exists,
    /// It has none.
    #[error("there is no such account any more")]
    Missing,
    /// It refuses, or failed.
    #[error("{0}")]
    Refused(String),
}

/// A machine, as a move sees it.
pub(super) trait Side: Send + Sync {
    /// The account as it is there. None where there is none.
    fn look(&self, name: &ClientName) -> impl Future<Output = Result<Option<Seen>, SideError>> + Send;
    /// Whether files of it are there.
    fn keeps(&self, name: &ClientName, of: KeptOf) -> impl Future<Output = Result<bool, SideError>> + Send;
    /// Stops it and keeps it in the list. Returns when it has ended. It stays stopped.
    fn stop(&self, name: &ClientName) -> impl Future<Output = Result<(), SideError>> + Send;
    /// Its start parameters, with secrets.
    fn parameters(&self, name: &ClientName) -> impl Future<Output = Result<Parameters, SideError>> + Send;
    /// Puts a new account into the list, stopped.
    fn register(
        &self,
        name: &ClientName,
        parameters: Parameters,
    ) -> impl Future<Output = Result<(), SideError>> + Send;
    /// What it keeps in a folder.
    fn take_out(
        &self,
        name: &ClientName,
        of: KeptOf,
    ) -> impl Future<Output = Result<Option<KeptStream>, SideError>> + Send;
    /// Brings that. Returns when it is on disk.
    fn put_in(
        &self,
        name: &ClientName,
        of: KeptOf,
        content: KeptStream,
    ) -> impl Future<Output = Result<(), SideError>> + Send;
    /// Removes it from the list, with all that it keeps. It is no error where it is not there.
    fn forget(&self, name: &ClientName) -> impl Future<Output = Result<(), SideError>> + Send;
    /// Starts it. One that runs stays as it is.
    fn start(&self, name: &ClientName) -> impl Future<Output = Result<(), SideError>> + Send;
}

/// This machine or another one.
#[derive(Clone, Debug)]
pub(super) enum AnySide {
    Here(Box<Here>),
    There(There),
}

/// Calls the same of either.
macro_rules! either {
    ($side:expr, $method:ident($($argument:expr),*)) => {
        match $side {
            AnySide::Here(side) => side.$method($($argument),*).await,
            AnySide::There(side) => side.$method($($argument),*).await,
        }
    };
}

impl Side for AnySide {
    async fn look(&self, name: &ClientName) -> Result<Option<Seen>, SideError> {
        either!(self, look(name))
    }

    async fn keeps(&self, name: &ClientName, of: KeptOf) -> Result<bool, SideError> {
        either!(self, keeps(name, of))
    }

    async fn stop(&self, name: &ClientName) -> Result<(), SideError> {
        either!(self, stop(name))
    }

    async fn parameters(&self, name: &ClientName) -> Result<Parameters, SideError> {
        either!(self, parameters(name))
    }

    async fn register(&self, name: &ClientName, parameters: Parameters) -> Result<(), SideError> {
        either!(self, register(name, parameters))
    }

    async fn take_out(&self, name: &ClientName, of: KeptOf) -> Result<Option<KeptStream>, SideError> {
        either!(self, take_out(name, of))
    }

    async fn put_in(&self, name: &ClientName, of: KeptOf, content: KeptStream) -> Result<(), SideError> {
        either!(self, put_in(name, of, content))
    }

    async fn forget(&self, name: &ClientName) -> Result<(), SideError> {
        either!(self, forget(name))
    }

    async fn start(&self, name: &ClientName) -> Result<(), SideError> {
        either!(self, start(name))
    }
}
