//! A network that there is not, as a file of its own would describe it: what the rest of the controller is tested with.

use std::collections::BTreeMap;

use super::*;
use crate::client_dirs::ClientDirs;
use crate::model::client::ParamValue;
use crate::model::name::{ClientName, UnitId};

/// Messages by carrier pigeon.
pub struct Pigeon;

impl BackendContract for Pigeon {
    fn name(&self) -> &'static str {
        "pigeon"
    }

    fn accounts(&self) -> Option<&'static AccountTable> {
        const TABLE: AccountTable = AccountTable {
            option: "pigeon.clients",
            keys: &[
                TableKey {
                    name: "ring_file",
                    allowed: TableKey::PATH,
                    is_valid: TableKey::is_path,
                    is_shown: true,
                    is_parameter: false,
                },
                TableKey {
                    name: "base_url",
                    allowed: "an http URL",
                    is_valid: |text| text.starts_with("http://"),
                    is_shown: true,
                    is_parameter: true,
                },
            ],
        };
        Some(&TABLE)
    }

    fn check_account(&self, account: &Account) -> Result<(), (&'static str, &'static str)> {
        if account.get("base_url").is_none() { Err(("base_url", "must have a base_url")) } else { Ok(()) }
    }

    fn secret(&self) -> Option<Secret> {
        Some(Secret {
            key: "ring_file",
            file_variable: "PIGEON_RING_FILE",
            launch_variable: "PIGEON_RING",
            file_name: "pigeon_ring",
        })
    }
}

/// What a [`Start`] borrows.
pub struct Example {
    name: ClientName,
    id: UnitId,
    params: BTreeMap<String, ParamValue>,
    account: Account,
    client_dirs: ClientDirs,
}

impl Example {
    /// Of the account 小明.
    pub fn new(params: &[(&str, &str)], account: Vec<(&'static str, String)>) -> Self {
        let name = ClientName::new("小明").unwrap();
        let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
        Self {
            id: UnitId::of(&name),
            name,
            params: params.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect(),
            account: account.into_iter().collect(),
            client_dirs: ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() },
        }
    }

    /// The start.
    pub fn start(&self) -> Start<'_> {
        let Self { name, id, params, account, client_dirs } = self;
        Start { name, id, params, account: Some(account), client_dirs }
    }
}

#[test]
fn kinds_are_known_by_their_names() {
    assert_eq!(BackendKind::names(), "sandbox, onebot or milky");
    for kind in BackendKind::ALL {
        assert_eq!(BackendKind::from_name(kind.name()), Some(*kind));
        let table = kind.contract().accounts().map(|table| table.option);
        assert!(table.is_none_or(|option| option == format!("{}.clients", kind.name())), "{table:?}");
    }
    assert_eq!(BackendKind::from_name("onebot11"), None);
    assert_eq!(BackendKind::default(), BackendKind::Sandbox);
}

#[test]
fn account_of_a_new_network_gets_its_keys_as_variables_and_its_secret_as_a_file() {
    let account = vec![("ring_file", "/etc/ring".to_owned()), ("base_url", "http://h/".to_owned())];
    let example = Example::new(&[], account);
    let start = example.start();
    assert_eq!(Pigeon.variables(&start), [("pigeon_base_url".to_owned(), "http://h/".into())]);
    assert_eq!(Pigeon.secret_file(&start), Some(std::path::Path::new("/etc/ring")));
    assert_eq!(Pigeon.check_params(&start), Ok(()));
    assert_eq!((Pigeon.listen_address(&start), Pigeon.trial_params(start.account.unwrap())), (None, None));
}
