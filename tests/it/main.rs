//! The integration tests: they drive the real executable, over real sockets and with real processes.

// A test may fail in any way; clippy.toml sees only what stands in a #[test] itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake;
mod fixture;
mod output;
mod server;
mod starts;
#[path = "../suite/conformance.rs"]
mod suite;

mod api;
mod applications;
mod bot;
mod bots;
mod cli;
mod client;
mod conformance;
mod ctl;
mod daemon;
mod fuzz;
mod heartbeat;
mod implementation;
mod layers;
mod machines;
mod manual;
mod metrics;
mod moves;
mod packaging;
mod page;
mod proxy;
mod readme;
mod registry;
mod remote;
mod safety;
mod seed;
mod supervision;
mod v1;
