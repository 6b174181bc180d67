//! Tests on machines of their own, with systemd as PID 1: what the service manager, the bus and the journal do is real.

// A test may fail in any way; clippy.toml sees only what stands in a #[test] itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod implementation;
mod installed;
mod machine;
#[path = "../suite/conformance.rs"]
mod suite;

mod applications;
mod bus;
mod conformance;
mod endings;
mod euler;
mod fleet;
mod forget;
mod isolation;
mod journal;
mod limits;
mod llbot_cli;
mod log;
mod machines;
mod many;
mod moves;
mod names;
mod network;
mod onebot;
mod operator;
mod package;
mod reboot;
mod service;
mod sockets;
mod units;
mod usage;
mod yogurt;
