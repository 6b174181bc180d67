//! [`ViaToken`]: our name in `Via`, which detects loops.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::header::{HeaderValue, VIA};
use http::{HeaderMap, Version};

/// Our name in `Via`. It differs in every run, so that a request of another controller in front of us does not
/// look like a loop.
#[derive(Clone, Debug)]
pub struct ViaToken {
    name: String,
    /// The value of the header, for a request in HTTP/1.0 and in HTTP/1.1.
    values: [HeaderValue; 2],
}

/// A request that was sent to a client came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopDetected;

impl Default for ViaToken {
    fn default() -> Self {
        // The keys are random for each; the name need not be a secret.
        let name = format!("wqcontroller-{:016x}", RandomState::new().build_hasher().finish());
        let value = |version| HeaderValue::try_from(format!("{version} {name}"));
        // Only digits and letters, so the fallback is never used.
        let values = ["1.0", "1.1"].map(|v| value(v).unwrap_or(HeaderValue::from_static("1.1 wqcontroller")));
        Self { name, values }
    }
}

impl ViaToken {
    /// The name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value to add to `Via`.
    pub(super) fn value_for(
        &self,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<&HeaderValue, LoopDetected> {
        let mut lines = headers.get_all(VIA).iter();
        if lines.any(|line| line.as_bytes().windows(self.name.len()).any(|part| part == self.name.as_bytes()))
        {
            return Err(LoopDetected);
        }
        let [old, new] = &self.values;
        Ok(if version == Version::HTTP_10 { old } else { new })
    }
}
