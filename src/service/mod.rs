//! Being a service: the log, the sockets, and what the service manager is told.

pub mod activation;
pub mod events;
pub mod journal;
pub mod journal_reader;
pub mod line_format;
pub mod log;
pub mod log_memory;
pub mod nonblocking_writer;
pub mod notify;
pub mod reload;
pub mod socket_file;
pub mod sockets;
