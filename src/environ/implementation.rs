//! The start parameters that select an implementation, and the settings that its client gets.

use std::path::Path;

use super::{SpecError, param};
use crate::backends::Account;
use crate::config::Settings;
use crate::model::client::ClientSpec;

/// The parameter with the operator's name for the implementation.
pub const IMPLEMENTATION: &str = "implementation";
/// The parameter with the number of the account.
const UIN: &str = "uin";

/// The implementation that a start asks for, if it does.
pub fn implementation_of(spec: &ClientSpec) -> Option<&str> {
    param(spec, IMPLEMENTATION).filter(|name| !name.is_empty())
}

/// The number of the account, if the start gives it.
pub fn uin_of(spec: &ClientSpec) -> Option<&str> {
    param(spec, UIN).filter(|uin| !uin.is_empty())
}

/// Checks the parameters that ask for an implementation.
///
/// # Errors
/// The parameter that can't be used.
pub(super) fn check(spec: &ClientSpec, settings: &Settings) -> Result<(), SpecError> {
    let Some(name) = implementation_of(spec) else { return Ok(()) };
    let refused = |parameter: &str, why: String| Err(SpecError::Setting(parameter.to_owned(), why));
    let Some(implementation) = settings.implementations.get(name) else {
        let names = settings.implementations.names();
        return refused(
            IMPLEMENTATION,
            format!("must be one of [implementations] in the configuration: {names}"),
        );
    };
    // The operator's table says already where this account is logged in.
    if let Some(kind) = settings.accounts.kind_of(&spec.name) {
        let network = kind.name();
        return refused(
            IMPLEMENTATION,
            format!("has no use for an account of [{network}] in the configuration; take it out there"),
        );
    }
    let contract = implementation.kind.contract();
    // Only the network matters. There is no port before the start.
    let (network, _) = contract.endpoint(implementation, 0);
    if let Some(given) = param(spec, "backend").filter(|given| !given.is_empty() && *given != network.name())
    {
        return refused("backend", format!("is {given}, and {name} speaks {}; leave it out", network.name()));
    }
    let keys = network.contract().accounts().map_or(&[][..], |table| table.keys);
    let own = keys.iter().map(|key| format!("{}_{}", network.name(), key.name));
    // A URL of the caller's would lead the client past its implementation.
    if let Some(own) = own.into_iter().find(|own| param(spec, own).is_some()) {
        return refused(&own, format!("follows from {name}; leave it out"));
    }
    match uin_of(spec) {
        Some(uin) if !is_uin(uin) => refused(UIN, "must be a QQ number".to_owned()),
        None if contract.needs_uin() => refused(
            UIN,
            format!("is missing; {} can't start without the number of the account", contract.name()),
        ),
        _ => Ok(()),
    }
}

/// It becomes a part of file names and of command lines, and a number in JSON, so each account has one way to write it: without zeros
/// in front.
fn is_uin(text: &str) -> bool {
    // `parse` takes a sign as well.
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0') && text.parse::<u64>().is_ok()
}

/// The settings for a client whose implementation serves its API on `port`, with the token of this file: as if the operator had
/// written them into the table of the network.
pub fn with_implementation(settings: &Settings, spec: &ClientSpec, port: u16, token: &Path) -> Settings {
    // A copy for this start: its port belongs to this account alone, and the settings to all.
    let mut settings = settings.clone();
    let found = implementation_of(spec).and_then(|name| settings.implementations.get(name));
    if let Some(implementation) = found {
        let (kind, url) = implementation.kind.contract().endpoint(implementation, port);
        let token = token.to_string_lossy().into_owned();
        let account: Account = [("url", url), ("token_file", token)].into_iter().collect();
        // `check` refuses an account that a table has.
        settings.accounts.add(spec.name.to_string(), kind, account);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_an_account_parses_and_is_not_zero() {
        for uin in ["1", "10001", "18446744073709551615"] {
            assert!(is_uin(uin), "{uin}");
        }
        for uin in
            ["", "0", "00", "010001", "+10001", "-1", "1a", "18446744073709551616", "99999999999999999999"]
        {
            assert!(!is_uin(uin), "{uin}");
        }
    }
}
