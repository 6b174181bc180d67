//! [`ScanLinks`]: links that show the login code of one account to a person who is not at the machine.
//!
//! A link is a signed text, so nothing is kept of it. It names the login that it is for by the processes of the account, so it ends with
//! a relogin or a restart of them; and the key is of this run of the controller, so it ends with that, too. For an account of another
//! machine it has the link of that machine in it, which ends there.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::error::Unspecified;
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use ring::rand::SystemRandom;

use super::Accounts;
use crate::environ::implementation_of;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::registry::ClientView;

/// How long a link holds.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The longest token that is verified, in bytes. A name takes at most 64 of its characters.
const LONGEST: usize = 1024;

/// The longest token of another machine, in bytes. A controller's own tokens are shorter than 200.
const LONGEST_ELSEWHERE: usize = 512;

/// What stands in place of a login where the account lives on another machine.
const ELSEWHERE: &str = "elsewhere";

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

/// What a link is for.
#[derive(Debug)]
pub enum Linked {
    /// An account of this machine.
    Here(Arc<ClientView>),
    /// An account of another machine.
    Elsewhere(ElsewhereLink),
}

/// A link of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElsewhereLink {
    /// The machine.
    pub machine: MachineName,
    /// What follows `/scan/` there.
    pub token: String,
}

/// What is signed.
#[derive(Debug, PartialEq, Eq)]
enum Signed {
    Here(ClientName, String),
    Elsewhere(ElsewhereLink),
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
        self.signed(format!("{expires}.{login}.{}", BASE64.encode(name.as_str())))
    }

    /// None where the machine's token is none that a controller makes.
    fn make_elsewhere(&self, link: &ElsewhereLink, expires: u64) -> Option<String> {
        let ElsewhereLink { machine, token } = link;
        let is_plain = !token.is_empty()
            && token.len() <= LONGEST_ELSEWHERE
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let [machine, token] = [machine.as_str(), token].map(|text| BASE64.encode(text));
        is_plain.then(|| self.signed(format!("{expires}.{ELSEWHERE}.{machine}.{token}")))
    }

    fn signed(&self, text: String) -> String {
        let signature = BASE64.encode(sign(&self.0, text.as_bytes()));
        format!("{text}.{signature}")
    }

    /// What a link is for.
    fn read(&self, token: &str, now: u64) -> Result<Signed, ScanLinkError> {
        let parts = || {
            let (signed, signature) = Some(token).filter(|token| token.len() <= LONGEST)?.rsplit_once('.')?;
            verify(&self.0, signed.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
            let mut parts = signed.split('.');
            let (expires, login) = (parts.next()?.parse::<u64>().ok()?, parts.next()?);
            let mut text = || String::from_utf8(BASE64.decode(parts.next()?).ok()?).ok();
            let named = text()?;
            let signed = match login {
                ELSEWHERE => {
                    let machine = MachineName::new(&named).ok()?;
                    Signed::Elsewhere(ElsewhereLink { machine, token: text()? })
                }
                login => Signed::Here(ClientName::new(named).ok()?, login.to_owned()),
            };
            Some((signed, expires))
        };
        let (signed, expires) = parts().ok_or(ScanLinkError::Unknown)?;
        if now < expires { Ok(signed) } else { Err(ScanLinkError::Ended) }
    }
}

impl Accounts {
    /// A link that shows the login code of an account. `now` is in Unix seconds.
    pub fn scan_link(&self, view: &ClientView, now: u64) -> ScanLink {
        let expires = now + LIFETIME.as_secs();
        let token = self.scan_links.make(&view.record.spec.name, &self.login_id(view), expires);
        ScanLink { token, expires }
    }

    /// A link that leads to one of another machine, which was made at `now`. None where that is no link of a controller.
    pub fn scan_link_elsewhere(&self, link: &ElsewhereLink, now: u64) -> Option<ScanLink> {
        let expires = now + LIFETIME.as_secs();
        let token = self.scan_links.make_elsewhere(link, expires)?;
        Some(ScanLink { token, expires })
    }

    /// What a link is for. That of another machine may have ended there.
    ///
    /// # Errors
    /// The link shows nothing, or nothing any more.
    pub fn by_scan_link(&self, token: &str, now: u64) -> Result<Linked, ScanLinkError> {
        let (name, login) = match self.scan_links.read(token, now)? {
            Signed::Here(name, login) => (name, login),
            Signed::Elsewhere(link) => return Ok(Linked::Elsewhere(link)),
        };
        let view = self.clients.client(&name).ok_or(ScanLinkError::Ended)?;
        if self.login_id(&view) == login { Ok(Linked::Here(view)) } else { Err(ScanLinkError::Ended) }
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
        assert_eq!(links.read(&token, 999), Ok(Signed::Here(name, "i7".into())));
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

    #[test]
    fn link_of_another_machine_is_in_one_of_this() {
        let [links, there] = [(); 2].map(|()| ScanLinks::new().unwrap());
        let inner = there.make(&ClientName::new("小".repeat(16)).unwrap(), "i18446744073709551615", u64::MAX);
        assert!(inner.len() < 200, "{inner}");
        let machine = MachineName::new(&"m".repeat(32)).unwrap();
        let link = ElsewhereLink { machine, token: inner.clone() };
        let token = links.make_elsewhere(&link, 1000).unwrap();
        assert!(token.len() < LONGEST, "{token}");
        assert_eq!(links.read(&token, 999), Ok(Signed::Elsewhere(link.clone())));
        assert_eq!(links.read(&token, 1000), Err(ScanLinkError::Ended));
        assert_eq!(links.read(&inner, 0), Err(ScanLinkError::Unknown), "that of the machine is none here");
        for other in ["", "a/b", "a?b", "a b", "a%2F", &"x".repeat(513)] {
            let link = ElsewhereLink { token: other.to_owned(), ..link.clone() };
            assert_eq!(links.make_elsewhere(&link, 1000), None, "{other}");
        }
        let longest = ElsewhereLink { token: "x".repeat(LONGEST_ELSEWHERE), ..link };
        assert!(links.read(&links.make_elsewhere(&longest, 1000).unwrap(), 0).is_ok());
    }
}
