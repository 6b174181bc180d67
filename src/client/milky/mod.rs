//! The Milky backend. The account is logged in elsewhere, in a program that speaks Milky 1.0 to 1.3 (Yogurt, LLBot, …), "the
//! implementation"; what is common to all such networks is in [`remote`].
//!
//! Calls go by HTTP, events come by a WebSocket, or by SSE where there is none. Pure modules: `wire` reads and writes Milky's
//! JSON, `dialect` has its words, `translation` speaks OneBot v11 to applications.

mod dialect;
mod translation;
mod wire;

use tokio::sync::mpsc;

use self::dialect::Milky;
use super::applications::hub::Hub;
use super::backend::BackendEvent;
use super::remote::{self, RemoteAccount, RemoteDriver};
use super::settings::{ClientSettings, MilkySettings};

/// Opens the backend. The driver reports to `news`.
pub(crate) fn open(
    settings: &ClientSettings,
    own: &MilkySettings,
    news: mpsc::Sender<BackendEvent>,
    applications: Hub,
) -> (RemoteAccount, RemoteDriver) {
    let remote = remote::open(&Milky, settings.account.to_string(), &own.remote, news, applications);
    remote.calls_and_stream(own.calls.clone(), own.events.clone())
}
