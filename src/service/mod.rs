//! Being a service: where the log goes, which sockets are listened on, what the service manager is told.

pub mod activation;
pub mod events;
pub mod journal;
pub mod lines;
pub mod log;
pub mod notify;
pub mod reload;
pub mod sockets;
