//! The built-in client: one chat account as a process with its own HTTP API on 127.0.0.1.
//!
//! WebQQ was switched off in 2019. The API is served by a [`backend::Backend`] in its place: `sandbox`, a small
//! made-up world for building and testing programs that speak the API, or `onebot`, an account of today's
//! network in a program that speaks OneBot v11.
//!
//! One owner for each thing: `run` starts and stops everything, `account` changes the state and writes the
//! state file, `outbox` sends messages, `reports` delivers them to the operator's programs. `openqq` is the
//! HTTP API and owns nothing.

// The process, and what starts it.
mod process;
mod run;

// The account, and the chat networks that it may be on.
mod account;
pub mod applications;
mod backend;
mod milky;
mod onebot;
mod remote;
mod sandbox;

// What goes in and out.
mod backoff;
mod openqq;
mod outbox;
// The controller posts its own news by them.
pub(crate) mod reports;

pub use run::{is_invoked, run};

use crate::client_settings as settings;

/// The mode of files that the controller reads: writable by this client, readable by its group.
const READABLE: u32 = 0o640;
