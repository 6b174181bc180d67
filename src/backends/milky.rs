//! The contract of Milky: a program of another project is logged in to the account, and the client reaches it by a URL.

use std::path::Path;

use url::Url;

use super::account::{Account, TableKey};
use super::contract::{AccountTable, BackendContract, ContractError, Secret, Start};
use super::remote::{QRCODE_PATH, TOKEN_FILE, check_url, token_file};

/// Milky.
pub struct Milky;

const NAME: &str = "milky";

const TABLE: AccountTable = AccountTable {
    option: "milky.clients",
    keys: &[
        TOKEN_FILE,
        QRCODE_PATH,
        TableKey {
            name: "url",
            allowed: "an http URL, such as \"http://127.0.0.1:3000/\"",
            is_valid: |text| {
                Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            },
            // It may have a password.
            is_shown: false,
            is_parameter: true,
        },
    ],
};

const SECRET: Secret = Secret {
    key: "token_file",
    file_variable: "MILKY_TOKEN_FILE",
    launch_variable: "MILKY_TOKEN",
    file_name: "milky_token",
};

impl BackendContract for Milky {
    fn name(&self) -> &'static str {
        NAME
    }

    fn accounts(&self) -> Option<&'static AccountTable> {
        Some(&TABLE)
    }

    fn check_params(&self, start: &Start<'_>) -> Result<(), ContractError> {
        check_url(start, NAME, "milky_url")
    }

    fn client_files(&self) -> &'static [&'static str] {
        &["qrcode_path"]
    }

    fn secret(&self) -> Option<Secret> {
        Some(SECRET)
    }

    fn secret_file<'a>(&self, start: &Start<'a>) -> Option<&'a Path> {
        token_file(start, "milky_url")
    }

    fn trial_params(&self, account: &Account) -> Option<Vec<(&'static str, &'static str)>> {
        account.get("url").map(|_| Vec::new())
    }
}
