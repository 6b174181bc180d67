//! [`locked`]: what is held for a moment by several threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. Whoever panicked while holding it left nothing half done: what is done under a lock here is one step, and none is
/// held across an await.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
