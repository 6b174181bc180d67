//! [`ScanLinks`]: links that show the login code of one account to a person who is not at the machine.
//!
//! A link is a signed text, so nothing is kept of it. It names the login that it is for by the processes of the account, so it ends with
//! a relogin or a restart of them; and the key is of this run of the controller, so it ends with that, too.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::error::Unspecified;
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use ring::rand::SystemRandom;

use super::Accounts;
use crate::environ::implementation_of;
use crate::model::name::ClientName;
use crate::registry::ClientView;

/// How long a link holds.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The longest token that is verified, in bytes. A name takes at most 64 of its characters.
const LONGEST: usize = 1024;

/// What links are signed with.
#[derive(Debug)]
pub struct ScanLinks(Key);

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanLink {
    /// What follows `/scan/` in its path.
    pub token: String,
    /// Until when it holds, in Unix seconds.
    pub expires: u64,
}

/// Why a link shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanLinkError {
    /// It is none of ours, or of an earlier controller.
    Unknown,
    /// Its time is over, or the login that it was made for.
    Ended,
}

impl ScanLinks {
    /// Makes a key.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn new() -> Result<Self, Unspecified> {
        Ok(Self(Key::generate(HMAC_SHA256, &SystemRandom::new())?))
    }

    fn make(&self, name: &ClientName, login: &str, expires: u64) -> String {
        let signed = format!("{expires}.{login}.{}", BASE64.encode(name.as_str()));
        let signature = BASE64.encode(sign(&self.0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The name and the login that a link is for.
    fn read(&self, token: &str, now: u64) -> Result<(ClientName, String), ScanLinkError> {
        let parts = || {
            let (signed, signature) = Some(token).filter(|token| token.len() <= LONGEST)?.rsplit_once('.')?;
            verify(&self.0, signed.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
            let mut parts = signed.split('.');
            let (expires, login, name) = (parts.next()?.parse::<u64>().ok()?, parts.next()?, parts.next()?);
            let name = String::from_utf8(BASE64.decode(name).ok()?).ok()?;
            Some((ClientName::new(name).ok()?, login.to_owned(), expires))
        };
        let (name, login, expires) = parts().ok_or(ScanLinkError::Unknown)?;
        if now < expires { Ok((name, login)) } else { Err(ScanLinkError::Ended) }
    }
}

impl Accounts {
    /// A link that shows the login code of an account. `now` is in Unix seconds.
    pub fn scan_link(&self, view: &ClientView, now: u64) -> ScanLink {
        let expires = now + LIFETIME.as_secs();
        let token = self.scan_links.make(&view.record.spec.name, &self.login_id(view), expires);
        ScanLink { token, expires }
    }

    /// The account of a link.
    ///
    /// # Errors
    /// The link shows nothing, or nothing any more.
    pub fn by_scan_link(&self, token: &str, now: u64) -> Result<Arc<ClientView>, ScanLinkError> {
        let (name, login) = self.scan_links.read(token, now)?;
        let view = self.clients.client(&name).ok_or(ScanLinkError::Ended)?;
        if self.login_id(&view) == login { Ok(view) } else { Err(ScanLinkError::Ended) }
    }

    /// Names the processes that a login is made with.
    fn login_id(&self, view: &ClientView) -> String {
        let has_implementation = implementation_of(&view.record.spec).is_some();
        let implementation = self.implementations.client(&view.record.spec.name);
        match implementation.filter(|_| has_implementation) {
            // A new start of its client is no new login.
            Some(implementation) => format!("i{}", implementation.record.generation),
            None => format!("c{}", view.record.generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_holds_for_its_time_and_can_not_be_changed() {
        let links = ScanLinks::new().unwrap();
        let name = ClientName::new("小明 .x").unwrap();
        let token = links.make(&name, "i7", 1000);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{token}");
        assert_eq!(links.read(&token, 999), Ok((name, "i7".into())));
        assert_eq!(links.read(&token, 1000), Err(ScanLinkError::Ended));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'1' { b'2' } else { b'1' };
            let other = String::from_utf8(other).unwrap();
            // The last character has bits that are not used.
            assert!(at == token.len() - 1 || links.read(&other, 0) == Err(ScanLinkError::Unknown), "{other}");
        }
        for other in ["", ".", "...", "1000.i7.x.y", &"x".repeat(5000)] {
            assert_eq!(links.read(other, 0), Err(ScanLinkError::Unknown), "{other}");
        }
        assert_eq!(ScanLinks::new().unwrap().read(&token, 0), Err(ScanLinkError::Unknown), "another key");
    }
}
