//! The process: its title, log, pid file and tasks, and what ends it.

pub(super) mod log;
pub(super) mod pid_file;
pub(super) mod shutdown;
pub(super) mod task_group;
pub(super) mod title;

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds since 1970; 0 if the clock is earlier.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
