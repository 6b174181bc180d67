//! The contract of OneBot v11: a program of another project is logged in to the account, and the client reaches it by a URL
//! or waits for it on an address.
//!
//! Callers of `start_client` choose neither the token nor who gets it: only the operator's configuration sends it to another
//! machine, or lets other machines connect.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use url::Url;

use super::account::{Account, TableKey};
use super::contract::{AccountTable, BackendContract, ContractError, ListenParameter, Secret, Start};
use super::remote::{QRCODE_PATH, TOKEN_FILE, check_url, token_file};

/// OneBot v11.
pub struct OneBot;

const NAME: &str = "onebot";

const TABLE: AccountTable = AccountTable {
    option: "onebot.clients",
    keys: &[
        TOKEN_FILE,
        QRCODE_PATH,
        TableKey {
            name: "url",
            allowed: "a ws or http URL, such as \"ws://127.0.0.1:3001/\"",
            is_valid: is_url,
            // Some implementations take the token as a part of it.
            is_shown: false,
            is_parameter: true,
        },
        TableKey {
            name: "listen",
            allowed: "an IP address with a port, such as \"127.0.0.1:6001\"",
            is_valid: |text| text.parse::<SocketAddr>().is_ok(),
            is_shown: true,
            is_parameter: true,
        },
    ],
};

const SECRET: Secret = Secret {
    key: "token_file",
    file_variable: "ONEBOT_TOKEN_FILE",
    launch_variable: "ONEBOT_TOKEN",
    file_name: "onebot_token",
};

impl BackendContract for OneBot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn accounts(&self) -> Option<&'static AccountTable> {
        Some(&TABLE)
    }

    fn check_account(&self, account: &Account) -> Result<(), (&'static str, &'static str)> {
        // Without a token any machine that reaches the address could speak as the account's implementation.
        let listen = account.get("listen").and_then(|listen| listen.parse().ok());
        if listen.as_ref().is_some_and(opens_to_network) && account.get("token_file").is_none() {
            return Err(("listen", "listens to other machines, and must have a token_file then"));
        }
        Ok(())
    }

    fn check_params(&self, start: &Start<'_>) -> Result<(), ContractError> {
        check_url(start, NAME, "onebot_url")?;
        // The configuration's address wins, so that of the caller is not used. One that is none is refused by the client.
        let listen = start.param("onebot_listen").filter(|_| start.key("listen").is_none());
        if listen.and_then(|listen| listen.parse().ok()).as_ref().is_some_and(opens_to_network) {
            let why = "other machines come to it only where [onebot] of the configuration has its listen";
            return Err(ContractError::Parameter("onebot_listen", why));
        }
        Ok(())
    }

    fn client_files(&self) -> &'static [&'static str] {
        &["qrcode_path"]
    }

    fn secret(&self) -> Option<Secret> {
        Some(SECRET)
    }

    fn secret_file<'a>(&self, start: &Start<'a>) -> Option<&'a Path> {
        token_file(start, "onebot_url")
    }

    fn listen_address(&self, start: &Start<'_>) -> Option<ListenParameter> {
        let address = start.key("listen").or_else(|| start.param("onebot_listen"))?.parse().ok()?;
        Some(ListenParameter { name: "onebot_listen", address })
    }

    fn trial_params(&self, account: &Account) -> Option<Vec<(&'static str, &'static str)>> {
        match (account.get("url"), account.get("listen")) {
            (None, None) => None,
            // By HTTP the address for events may come from the caller.
            (Some(url), None) if is_http(url) => Some(vec![("onebot_listen", "127.0.0.1:1")]),
            _ => Some(Vec::new()),
        }
    }
}

fn is_url(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https") && url.has_host())
}

fn is_http(text: &str) -> bool {
    // Parsed, since a scheme may be written in upper case.
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Whether other machines can reach a listener.
fn opens_to_network(address: &SocketAddr) -> bool {
    !match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::tests::Example;

    #[test]
    fn trial_has_an_address_for_events_with_http() {
        let trial = |url: &str| {
            let example = Example::new(&[], vec![("url", url.to_owned())]);
            OneBot.trial_params(example.start().account.unwrap()).unwrap().len()
        };
        assert_eq!(["http://h/", "HTTPS://h/", "ws://h/"].map(trial), [1, 1, 0]);
    }

    #[test]
    fn token_goes_to_this_machine_or_to_the_url_of_the_configuration() {
        let token_for = |own: Option<&str>, given: Option<&str>| {
            let mut account = vec![("token_file", "/t".to_owned())];
            account.extend(own.map(|url| ("url", url.to_owned())));
            let example = Example::new(given.map(|url| ("onebot_url", url)).as_slice(), account);
            OneBot.secret_file(&example.start()).map(Path::to_owned)
        };
        for url in
            [None, Some(""), Some("ws://127.0.0.1:3001/"), Some("ws://localhost/"), Some("http://[::1]:1/")]
        {
            assert_eq!(token_for(None, url).as_deref(), Some(Path::new("/t")), "{url:?}");
        }
        for url in [
            "ws://10.0.0.1/",
            "ws://evil.example/",
            "ws://localhost.evil.example/",
            "x",
            "ws://127.0.0.1@evil.example/",
            "wss://10.0.0.1/",
        ] {
            assert_eq!(token_for(None, Some(url)), None, "{url}");
            assert!(
                token_for(Some("ws://10.0.0.1/"), Some(url)).is_some(),
                "the operator's URL is used: {url}"
            );
        }
    }
}
