//! What a request brings.
//!
//! - [`framing`]: refuses ambiguous requests
//! - [`paths`]: one spelling for each path
//! - [`params`]: parameters in a query or a form
//! - [`form`]: the kinds of forms, by `Content-Type`; [`multipart`] is one of them
//! - [`body`]: the body, as a stream or in one piece

pub mod body;
pub mod form;
pub mod framing;
pub mod multipart;
pub mod params;
pub mod paths;
