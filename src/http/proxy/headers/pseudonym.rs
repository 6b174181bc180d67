//! Our name in `Via`, by which a request that came back is known.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::header::{HeaderValue, VIA};
use http::{HeaderMap, Version};

/// Our name in `Via`. It is another one in every run, so that a request of another controller in front of us is not
/// taken for one that came back.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: String,
    /// The whole value, of a request that came as HTTP/1.0 and as HTTP/1.1.
    values: [HeaderValue; 2],
}

/// A request that we sent came back to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looped;

impl Default for Pseudonym {
    fn default() -> Self {
        // Random keys are made for each; nobody has to be kept from guessing them.
        let name = format!("wqcontroller-{:016x}", RandomState::new().build_hasher().finish());
        let value = |version| HeaderValue::try_from(format!("{version} {name}"));
        // Digits and letters only, so neither is ever the fallback.
        let values = ["1.0", "1.1"].map(|v| value(v).unwrap_or(HeaderValue::from_static("1.1 wqcontroller")));
        Self { name, values }
    }
}

impl Pseudonym {
    /// The name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What we add to `Via`.
    pub(super) fn signature(&self, version: Version, headers: &HeaderMap) -> Result<&HeaderValue, Looped> {
        let mut lines = headers.get_all(VIA).iter();
        if lines.any(|line| line.as_bytes().windows(self.name.len()).any(|part| part == self.name.as_bytes()))
        {
            return Err(Looped);
        }
        let [old, new] = &self.values;
        Ok(if version == Version::HTTP_10 { old } else { new })
    }
}
