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

pub mod locks;

// The adapters, one thing of the outside world each.
pub mod config;

pub mod readable;

pub mod files;

pub mod places;

pub mod homes;

pub mod store;

pub mod environ;

pub mod template;

pub mod statefile;

pub mod outbound;

pub mod service;

pub mod supervisor;

// The one owner of what is known about clients.
pub mod registry;

// What people and programs talk to.
pub mod http;

// The client that is built in.
pub mod client;

// Puts it all together.
pub mod daemon;
