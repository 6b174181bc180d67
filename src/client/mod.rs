//! The built-in client: one chat account as a process with its own HTTP API on 127.0.0.1.
//!
//! WebQQ itself was switched off in 2019, so what is behind the API is a `backend::Backend`: `sandbox`, a small made-up
//! world in which programs that speak the API can be built and tried, or `onebot`, an account of today's network in a
//! program that speaks OneBot v11.
//!
//! Who owns what: `run` starts and ends everything; `lifecycle` alone changes the state and writes the state
//! file; `outbox` alone sends messages; `reports` alone posts them. `openqq` reads and asks, it owns
//! nothing.

// The process.
mod endings;
mod log;
mod parts;
mod pidfile;
mod run;
mod settings;
mod title;

// The account.
mod backend;
mod diff;
mod lifecycle;
mod objects;
mod onebot;
mod qrcode;
mod sandbox;
mod statefile;

// What goes in and out.
mod backoff;
mod events;
mod openqq;
mod outbox;
mod polling;
mod queue;
mod replies;
mod reports;

pub use run::{is_invoked, run};

/// The mode of the files that others read: for us and our group (the controller's), for nobody else.
const READABLE: u32 = 0o640;
