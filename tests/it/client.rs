//! The built-in client, as a process.

mod api;
mod delivery;
mod groups;
mod life;
mod login;
mod peers;
mod process;
mod receiver;
mod refusals;
mod reports;
