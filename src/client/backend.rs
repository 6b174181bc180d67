//! [`Backend`]: what a chat network is to this client, and the objects that the API shows of it.
//!
//! A backend is opened as a pair: a handle, which is this trait, and a driver, a future that logs in and reports
//! [`News`] for as long as it is polled. The driver never touches state or files; `lifecycle` does, as the news
//! say.

use serde::{Deserialize, Serialize};

use super::events::Message;

/// The handle to a chat network.
pub(super) trait Backend: Send + Sync + 'static {
    /// The own account.
    fn user(&self) -> User;

    /// The own account's friends.
    fn friends(&self) -> Vec<Friend>;

    /// Sends one message and returns it as it went out. Only called while running, one call after another.
    ///
    /// # Errors
    /// The message did not go out.
    fn send(
        &self,
        to: &Recipient,
        content: &str,
    ) -> impl Future<Output = Result<Message, DeliveryError>> + Send;
}

/// What a backend's driver reports.
#[derive(Debug)]
pub(super) enum News {
    /// It has begun to load what it needs.
    Loading,
    /// This text is to be scanned as a QR code.
    Code(String),
    /// The code was scanned; the login waits for a confirmation on the phone.
    Scanned,
    /// The login is confirmed; friends and the like are being loaded.
    Confirmed,
    /// Everything is there. `scanned`: it took a scan.
    Ready {
        /// Whether somebody had to scan a code.
        scanned: bool,
    },
    /// A message came.
    Received(Message),
}

/// To whom a message goes. Ids are those of this login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// A friend, by id.
    Friend(String),
}

/// Why a message did not go out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The recipient was there when the message was queued and is no more.
    #[error("the recipient is gone")]
    RecipientGone,
}

/// The own account, as `get_user_info` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
// The names are those of the wire, which the documentation of the API explains.
pub(super) struct User {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub account: String,
    pub name: String,
    pub state: String,
    pub client_type: String,
    pub sex: String,
    pub birthday: String,
    pub phone: String,
    pub mobile: String,
    pub email: String,
    pub country: String,
    pub province: String,
    pub city: String,
    pub college: String,
    pub occupation: String,
    pub homepage: String,
    pub blood: String,
    pub personal: String,
    pub signature: String,
    pub face: u32,
}

/// A friend, as `get_friend_info` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
// The names are those of the wire, which the documentation of the API explains.
pub(super) struct Friend {
    #[serde(default)]
    pub id: String,
    pub uid: String,
    pub name: String,
    pub markname: Option<String>,
    #[serde(default)]
    pub displayname: String,
    pub category: String,
    pub state: String,
    pub client_type: String,
    pub face: u32,
    pub flag: u32,
    pub is_vip: u8,
    pub vip_level: u8,
}
