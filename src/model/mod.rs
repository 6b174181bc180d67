//! What the system *is*: pure values and rules. No tokio, no files, no clock.

pub mod chain;
pub mod client;
pub mod fleet;
pub mod name;
pub mod reply;
pub mod restart;
pub mod saved;
pub mod state;
pub mod summary;
