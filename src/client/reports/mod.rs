//! Reports: events and messages are posted to `post_api` as JSON, in order, and are not lost while the receiver
//! is away. They are also kept for `check_event`, and printed, if configured.
//!
//! Everything is passed to the [`Reporter`], which never waits. Reports to be posted go through the [`spool`],
//! which outlives the client, to the one `Deliverer`. A receiver that is away or hangs delays reports and
//! nothing else.

// Input: what is to be reported.
mod recent;
mod reporter;

// The queue, in memory and on disk.
mod lane;
mod spool;
mod wal;

// Output: posts, and what their answers ask for.
mod answer;
mod delivery;

pub(super) use answer::{ReceiverAnswer, ReportedMessage};
pub(super) use delivery::DelivererError;
pub(crate) use delivery::open;
pub(crate) use recent::RecentEvents;
pub(crate) use reporter::Reporter;
