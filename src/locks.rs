//! [`locked`]: how a mutex is locked everywhere in this crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, and ignores poisoning: whatever happens under a lock here is one step, so a panic leaves nothing half done. No
/// lock is held across an await.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
