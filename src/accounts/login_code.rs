//! [`LoginCode`]: the image of the login code of an account, from the file in which its client or its implementation keeps it.

use std::path::PathBuf;
use std::time::Duration;

use tracing::warn;

use super::Accounts;
use super::code_text::draw;
use crate::config::Settings;
use crate::environ::implementation_of;
use crate::files::{FileOwner, read_untrusted};
use crate::model::client::{ClientSpec, Phase};
use crate::model::error_chain::ErrorChain;
use crate::model::login::LoginState;
use crate::registry::ClientView;

/// The largest image, in bytes.
const MAX_IMAGE: u64 = 1024 * 1024;

/// How long a code can be scanned where its maker does not say. QQ's own are valid for two minutes.
const LIFETIME: Duration = Duration::from_secs(120);

/// A login code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginCode {
    /// The `Content-Type`.
    pub kind: &'static str,
    /// The image.
    pub image: Vec<u8>,
    /// When it was written, in Unix seconds.
    pub since: u64,
    /// How long it can be scanned from then on.
    pub lifetime: Duration,
}

/// Where the image is, whose it must be, and how long the code can be scanned.
struct Source {
    path: PathBuf,
    owner: FileOwner,
    lifetime: Duration,
}

impl Accounts {
    /// The login code of an account. None while no code waits to be scanned, or its image can't be used.
    pub async fn login_code(&self, view: &ClientView, settings: &Settings) -> Option<LoginCode> {
        let source = match implementation_of(&view.record.spec) {
            Some(implementation) => self.implementations_code(&view.record.spec, implementation, settings)?,
            None => self.clients_code(view)?,
        };
        let Source { path, owner, lifetime } = source;
        let name = &view.record.spec.name;
        let read = self.blocking.run({
            let path = path.clone();
            move || read_untrusted(&path, &owner, MAX_IMAGE)
        });
        match read.await {
            Ok(Ok((image, fingerprint))) => {
                // The client chooses what is in this file. A browser would run HTML with the controller's origin.
                let Some(kind) = image_type(&image) else {
                    warn!(client = %name, path = %path.display(), "QR image {} is neither PNG nor JPEG", path.display());
                    return None;
                };
                Some(LoginCode { kind, image, since: fingerprint.written(), lifetime })
            }
            Ok(Err(error)) => {
                // Most of the time there is no code, as no login waits for one.
                if !error.is_missing() {
                    warn!(client = %name, error = %ErrorChain(&error), "cannot use its QR image: {}", ErrorChain(&error));
                }
                None
            }
            Err(error) => {
                warn!(client = %name, %error, "cannot read its QR image: {error}");
                None
            }
        }
    }

    /// The code as text for a terminal. None if its image is no PNG, or has no code that can be read.
    pub async fn drawn(&self, code: LoginCode) -> Option<String> {
        // A panic over an image that no library foresaw is no worse than an image that can't be read.
        self.blocking.run(move || draw(&code.image)).await.ok().flatten()
    }

    fn clients_code(&self, view: &ClientView) -> Option<Source> {
        if matches!(view.record.phase, Phase::Gone(_)) {
            return None;
        }
        let spec = &view.record.spec;
        let lifetime = spec.params.get("qrcode_expire").and_then(|value| value.text.parse().ok());
        Some(Source {
            path: spec.files.qrcode.clone(),
            owner: self.client_dirs.owner(&spec.id),
            lifetime: lifetime.map_or(LIFETIME, Duration::from_secs),
        })
    }

    fn implementations_code(
        &self,
        spec: &ClientSpec,
        implementation: &str,
        settings: &Settings,
    ) -> Option<Source> {
        self.login(&spec.name).filter(|login| login.state == LoginState::Code)?;
        let contract = settings.implementations.get(implementation)?.kind.contract();
        let process = self.implementations.client(&spec.name)?;
        let folder = process.record.spec.files.tmpdir.clone();
        Some(Source {
            path: folder.join(contract.code_file()?),
            // Its parents may be links of the implementation, which lead to what the controller can read and callers may not see.
            owner: FileOwner::SameAsFolder(folder),
            lifetime: contract.code_lifetime(),
        })
    }
}

fn image_type(content: &[u8]) -> Option<&'static str> {
    if content.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if content.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_type_is_detected_by_magic_bytes() {
        assert_eq!(image_type(b"\x89PNG\r\n\x1a\n..."), Some("image/png"));
        assert_eq!(image_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(image_type(b"<html>"), None);
    }
}
