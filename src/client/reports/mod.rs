//! Reports: what happens is posted to `post_api` as JSON, in order, and not lost while nobody takes it; it is also
//! kept for `check_event` and printed, where that is wanted.
//!
//! Whatever happens is told to the [`Reporter`], which never waits. What is to be posted goes through the [`spool`],
//! which outlives the client, to the one `Deliverer`. A receiver that is away or hangs delays reports, nothing else.

// What is reported.
mod choice;
mod recent;
mod reporter;
mod settings;

// What waits.
mod journal;
mod record;
mod spool;

// What goes out.
mod answer;
mod deliverer;

pub(super) use answer::{Answer, Source};
pub(super) use deliverer::{DelivererError, open};
pub(super) use recent::Recent;
pub(super) use reporter::Reporter;
pub(super) use settings::ReportSettings;
