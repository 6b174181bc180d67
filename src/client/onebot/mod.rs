//! The OneBot backend. The account is logged in elsewhere, in a program that speaks OneBot v11 (NapCat, LLBot, …), "the
//! implementation"; what is common to all such networks is in [`remote`].
//!
//! Pure modules: `wire` reads and writes OneBot's JSON, `dialect` has its words.

mod dialect;
mod wire;

use tokio::sync::mpsc;

#[cfg(test)]
pub(super) use self::dialect::OneBot11;
#[cfg(not(test))]
use self::dialect::OneBot11;
pub(super) use self::wire::segment::kind as segment_of;
use super::applications::hub::Hub;
use super::backend::BackendEvent;
use super::remote::{self, ListenError, RemoteAccount, RemoteDriver};
use super::settings::{ClientSettings, ConnectionMode, OneBotSettings};

/// Opens the backend. The driver reports to `news`.
///
/// # Errors
/// `onebot_listen` cannot be listened on.
pub(crate) fn open(
    settings: &ClientSettings,
    own: &OneBotSettings,
    news: mpsc::Sender<BackendEvent>,
    applications: Hub,
) -> Result<(RemoteAccount, RemoteDriver), ListenError> {
    let remote = remote::open(&OneBot11, settings.account.to_string(), &own.remote, news, applications);
    match &own.connection_mode {
        ConnectionMode::Forward { url, host, port } => Ok(remote.forward(url.clone(), host.clone(), *port)),
        ConnectionMode::Reverse(address) => remote.reverse(*address),
        ConnectionMode::Http { url, listen } => remote.http(url.clone(), *listen),
    }
}
