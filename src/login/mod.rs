//! Whether accounts are logged in: each implementation is asked in the way of its kind, and what it says is compared with its
//! process, its login code and what the account's client says.
//!
//! - `watch`: asks all of them, each once in five seconds, and publishes the [`Logins`]; does what
//!   the operator wants done
//! - `client_news`: tells clients of changes
//! - `probe`: asks one
//! - `connection`: one request, to the right process
//! - `route`: whether there is a network at all
//!
//! What follows from the answers is in [`crate::model::login`]; how each kind is asked is in its contract in
//! [`crate::implementations`].

mod account;
mod client_news;
mod connection;
mod probe;
mod route;
mod watch;

pub use client_news::ClientNews;
pub use watch::{LoginNews, LoginWatch, WatchContext};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::login::Login;
use crate::model::name::ClientName;

/// The logins of all accounts with an implementation.
pub type Logins = Arc<BTreeMap<ClientName, Arc<Login>>>;

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
