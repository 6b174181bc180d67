//! The built-in client, as a process.

mod api;
mod life;
mod process;
mod receiver;
mod reports;
