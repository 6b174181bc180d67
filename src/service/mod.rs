//! Being a service: where the log goes, which sockets are listened on.

pub mod lines;
pub mod log;
pub mod sockets;
