//! The API below `/v1` as its callers see it: values with types, where `/openqq/` keeps the original's texts.
//!
//! - [`routes`]: its paths, and which of them a read-only token opens
//! - [`account`]: an account, with its processes and its login
//! - [`explain`]: why an account is as it is, in words
//! - [`requests`]: what callers send in bodies
//! - [`event_text`]: the events of a stream, for those who read one
//! - [`problem`]: what went wrong with a request, by RFC 9457
//!
//! Pure. The specification is generated from these types and from the handlers in `http::v1`.

pub mod account;
pub mod event_text;
pub mod explain;
pub mod log;
pub mod problem;
pub mod requests;
pub mod routes;
pub mod usage;
