//! What the contracts of all networks have in common whose accounts are logged in in another program: callers of
//! `start_client` choose neither its token nor who gets it.

use std::path::Path;

use url::{Host, Url};

use super::account::TableKey;
use super::contract::{ContractError, Start};

/// The file with the token.
pub(super) const TOKEN_FILE: TableKey = TableKey::path("token_file");
/// The image into which the program writes its login code.
pub(super) const QRCODE_PATH: TableKey = TableKey::path("qrcode_path");

/// Refuses a start whose token is withheld from its URL, since the client would only be turned away there without a token.
///
/// # Errors
/// It is one. `table` is the network's in the configuration, `parameter` that with the URL.
pub(super) fn check_url(
    start: &Start<'_>,
    table: &str,
    parameter: &'static str,
) -> Result<(), ContractError> {
    if start.key("token_file").is_none() || token_file(start, parameter).is_some() {
        return Ok(());
    }
    let why = match table {
        "milky" => "its token goes to another machine only where [milky] of the configuration has its url",
        _ => "its token goes to another machine only where [onebot] of the configuration has its url",
    };
    Err(ContractError::Parameter(parameter, why))
}

/// The file with the token, if the token may go where this start connects: to the URL of the configuration, or to this machine. A
/// caller's URL on another machine does not get it: else every caller could have it sent to a machine of their own.
pub(super) fn token_file<'a>(start: &Start<'a>, parameter: &str) -> Option<&'a Path> {
    let is_callers = start.key("url").is_none();
    let goes_out = is_callers
        && start.param(parameter).is_some_and(|url| !Url::parse(url).is_ok_and(|url| is_this_machine(&url)));
    start.key("token_file").filter(|_| !goes_out).map(Path::new)
}

/// Whether a URL leads to this machine and nowhere else, so that a token may go there.
pub fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // Any other name would have to be looked up, and its address can be another one when the client connects.
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
