//! [`Usage`]: what the processes of an account use.

use std::time::Duration;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// What the processes of an account use, both together, with what they have started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Memory, in bytes. Of units it is what the kernel counts for them, caches included.
    #[schema(example = 8_388_608)]
    pub memory: u64,
    /// Processor time since they were started, in seconds.
    #[serde(serialize_with = "seconds")]
    #[schema(value_type = f64, example = 1.25)]
    pub cpu: Duration,
    /// When that was so, in Unix seconds.
    pub at: u64,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
