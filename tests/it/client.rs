//! The built-in client, as a process.

mod api;
mod delivery;
mod disk;
mod groups;
mod lanes;
mod life;
mod login;
mod old_api;
mod onebot;
mod peers;
pub(crate) mod process;
pub(crate) mod receiver;
mod refusals;
mod reports;
mod sending;
mod waiting;
