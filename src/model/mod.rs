//! What the system *is*: pure values and rules. No tokio, no files, no clock.

pub mod boot;
pub mod client;
pub mod error_chain;
pub mod fleet;
pub mod lenient;
pub mod login;
pub mod machine;
pub mod name;
pub mod persisted;
pub mod restart;
pub mod state;
pub mod storable;
pub mod summary;
