//! `wqcontroller` runs many chat accounts on one machine. Each account is a *client*: a process with its
//! own HTTP API on a local port. The controller starts, watches and stops clients and is the one HTTP door
//! to all of them.
//!
//! # The layer rule
//!
//! The modules below stand in the order of their layers. `use crate::` points *up* this list only, so each
//! can be read knowing just what stands above it; `client` in addition never imports `registry`,
//! `supervisor` or `http::control`. The test `tests/it/layers.rs` enforces both.

pub mod model;

// What callers of the HTTP API are answered: codes, texts and JSON.
pub mod wire;

pub mod locks;

pub mod blocking;

pub mod tasks;

// The adapters, one thing of the outside world each.
pub mod async_fd;

pub mod files;

// What an account keeps on disk, as a stream to another machine.
pub mod archive;

pub mod client_dirs;

// The networks that can be behind a client's API: the configuration reads accounts by them, a start is prepared by them.
pub mod backends;

// The programs of others that hold an account, which the configuration names.
pub mod implementations;

// What a text shows of secrets.
pub mod redact;

pub mod config;

pub mod peers;

pub mod claim;

pub mod paths;

pub mod store;

// The settings of the built-in client: the client reads its environment by them, the controller checks starts by them.
pub mod client_settings;

pub mod environ;

pub mod template;

pub mod statefile;

pub mod http_client;

// The command line. It knows the controller by its HTTP API alone, so it stands above all that a controller is made of.
pub mod ctl;

pub mod service;

pub mod supervisor;

// What is counted for /metrics. The registry and the proxy count.
pub mod metrics;

// The one owner of what is known about clients.
pub mod registry;

// Whether their accounts are logged in.
pub mod login;

// Clients together with the programs that hold their accounts.
pub mod accounts;

// Other machines with a controller, and their accounts.
pub mod machines;

// Accounts on their way from one machine to another.
pub mod moves;

// What people and programs talk to.
pub mod http;

// The client that is built in.
pub mod client;

// Puts it all together.
pub mod daemon;
