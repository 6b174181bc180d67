//! HTTP: the server that controller and client share, and the controller's service behind it.
//!
//! Shared by both:
//!
//! - [`server`]: connections in, with their limits, and a drain at the end
//! - [`request`]: what a request brings: its path, its parameters, its body
//! - [`body`]: bodies and the few shapes of responses
//! - [`auth`]: tokens, and the checks of `Host`, `Origin` and `Sec-Fetch-Site`
//!
//! Of the controller only:
//!
//! - [`control`]: its service: who is let in, its own calls, and what goes to a client
//! - [`proxy`]: requests to clients and their responses
//! - [`metrics`]: what is scraped
//! - [`v1`]: the API below `/v1`
//! - [`page`]: the page that shows all accounts
//!
//! `timer`, `log_limit` and `etag` serve all of them. Each module imports only those before it: `timer`, `log_limit`, `body`, `etag`,
//! `server`, `request`, `auth`, `proxy`, `metrics`, `page`, `v1`, `control`. The test `tests/it/layers.rs` enforces it.

pub mod auth;
pub mod body;
pub mod control;
mod etag;
pub(crate) mod log_limit;
pub mod metrics;
pub mod page;
pub mod proxy;
pub mod request;
pub mod server;
mod timer;
pub mod v1;
