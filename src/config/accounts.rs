//! The accounts that the operator describes, each in the table of its network: `[onebot.clients."NAME"]`. Which tables there
//! are and what they may say is in `backends`. Callers of `start_client` can't say it: a token goes only where the operator
//! wants it.

use super::named_tables::NamedTables;
use super::options::Options;
use crate::backends::{Account, Accounts, BackendContract, BackendKind};
use crate::model::name::ClientName;

/// Reads the accounts of all networks from every file.
pub(super) fn read(options: &mut Options<'_>) -> Accounts {
    read_tables(options, BackendKind::ALL.iter().map(|kind| (*kind, kind.contract())))
}

fn read_tables<'a>(
    options: &mut Options<'_>,
    networks: impl Iterator<Item = (BackendKind, &'a dyn BackendContract)>,
) -> Accounts {
    let mut accounts = Accounts::default();
    for (kind, contract) in networks {
        let Some(table) = contract.accounts() else { continue };
        let (option, keys) = (table.option, table.keys);
        // Version 0.1.0 had a list of tables with the key `client`.
        let tables = NamedTables { option, noun: "account", keys, check_name, list: Some("client") };
        for (name, entry) in tables.read(options) {
            let place = format!("{option}.{name:?}");
            let origin = entry.origin;
            let (origins, keys) = entry.split();
            let account: Account = keys.into_iter().collect();
            if let Err((key, why)) = contract.check_account(&account) {
                options.object_at(&place, origins.get(key).copied().unwrap_or(origin), why);
            }
            // A client logs in to one network, so two tables with its name contradict each other.
            if let Some(other) = accounts.add(name, kind, account) {
                let why = format!("is in [{}] as well, must be in one of the two", other.name());
                options.object_at(&place, origin, &why);
            }
        }
    }
    accounts
}

fn check_name(name: &str) -> Result<(), String> {
    let checked = ClientName::new(name).map(drop);
    checked.map_err(|error| format!("must be the name of a client, but {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::tests::Pigeon;
    use crate::config::fragment::Fragment;
    use std::path::Path;

    /// The accounts of these files, what of them does not count, and all that is wrong.
    fn read(files: &[&str]) -> (Vec<(String, Account)>, Vec<String>, String) {
        let (accounts, overridden, problems) =
            read_networks(files, &[(BackendKind::OneBot, BackendKind::OneBot.contract())]);
        let accounts = accounts.iter().map(|(name, _, account)| (name.to_owned(), account.clone()));
        (accounts.collect(), overridden, problems)
    }

    fn read_networks(
        files: &[&str],
        networks: &[(BackendKind, &dyn BackendContract)],
    ) -> (Accounts, Vec<String>, String) {
        let parse = |(at, text): (usize, &&str)| Fragment::parse(Path::new(&format!("{at}.toml")), text);
        let fragments: Vec<_> = files.iter().enumerate().map(parse).collect();
        let mut options = Options::new(&fragments);
        let accounts = read_tables(&mut options, networks.iter().copied());
        let overridden = options.take_overridden().iter().map(ToString::to_string).collect();
        (accounts, overridden, options.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn table_of_another_network_is_read_by_its_contract() {
        let networks: [(_, &dyn BackendContract); 2] =
            [(BackendKind::OneBot, BackendKind::OneBot.contract()), (BackendKind::Sandbox, &Pigeon)];
        let read = |files: &[&str]| read_networks(files, &networks);
        let (accounts, overridden, problems) = read(&[
            "[pigeon.clients.b]\nbase_url = 'http://h/'\nring_file = '/r'\n[onebot.clients.a]\nurl = 'ws://h/'",
            "[pigeon.clients.b]\nbase_url = 'http://other/'",
        ]);
        assert_eq!(problems, "");
        let shown: Vec<_> =
            accounts.iter().map(|(name, kind, account)| (name, kind, account.get("base_url"))).collect();
        assert_eq!(
            shown,
            [("a", BackendKind::OneBot, None), ("b", BackendKind::Sandbox, Some("http://other/"))]
        );
        assert_eq!(overridden, ["pigeon.clients.\"b\".base_url: 0.toml:2, replaced by 1.toml:2"]);
        for (text, why) in [
            (
                "pigeon.clients = 1",
                "0.toml:1: `pigeon.clients` is 1, must be a table for each account, such as \
                                    [pigeon.clients.\"NAME\"] with ring_file and base_url as they are needed",
            ),
            (
                "[pigeon.clients.b]\nurl = 'x'",
                "0.toml:2: `pigeon.clients` of \"b\" has the unknown key \"url\"",
            ),
            ("[pigeon.clients.b]\nring_file = '/r'", "0.toml:1: `pigeon.clients.\"b\"` must have a base_url"),
            (
                "[onebot.clients.b]\n[pigeon.clients.b]\nbase_url = 'http://h/'",
                "0.toml:2: `pigeon.clients.\"b\"` is in [onebot] as well, must be in one of the two",
            ),
        ] {
            let problems = read(&[text]).2;
            assert!(problems.starts_with(why), "{text}: {problems}");
        }
    }

    #[test]
    fn accounts_are_merged_by_name_and_key() {
        let first =
            "[onebot.clients.'小红']\ntoken_file = '/red'\nurl = 'ws://127.0.0.1:1/'\n[onebot.clients.b]\n";
        let (clients, overridden, problems) = read(&[
            first,
            "[onebot.clients.'小明']\ntoken_file = '/bright'",
            "[onebot.clients.'小红']\nurl = 'ws://127.0.0.1:2/'\nqrcode_path = '/q'",
        ]);
        assert_eq!(problems, "");
        let shown = |(name, account): &(String, Account)| {
            let [token, url] = ["token_file", "url"].map(|key| account.get(key).unwrap_or_default());
            format!("{name} {token} {url}")
        };
        let shown: Vec<String> = clients.iter().map(shown).collect();
        assert_eq!(shown, ["b  ", "小明 /bright ", "小红 /red ws://127.0.0.1:2/"]);
        assert_eq!(clients[2].1.get("qrcode_path"), Some("/q"));
        assert_eq!(overridden, ["onebot.clients.\"小红\".url: 0.toml:3, replaced by 2.toml:2"]);
    }

    #[test]
    fn account_list_of_0_1_0_is_merged_and_an_empty_one_clears() {
        let list = "onebot.clients = [{ client = 'a', token_file = '/a' }]";
        let (clients, ..) = read(&[list, "onebot.clients = [{ client = 'b', token_file = '/b' }]"]);
        assert_eq!(clients.len(), 2, "the token of a is still there: {clients:?}");
        let (clients, ..) = read(&[list, "[onebot.clients.a]\ntoken_file = ''"]);
        assert_eq!(clients[0].1.get("token_file"), None);
        let (clients, overridden, _) = read(&[list, "onebot.clients = []"]);
        assert_eq!((clients.len(), overridden.len()), (0, 1));
        assert_eq!(overridden[0], "onebot.clients: 0.toml:1, replaced by 1.toml:1");
        assert_eq!(read(&[list, "[onebot.clients]"]).0.len(), 1, "its keys may just be commented out");
    }

    #[test]
    fn open_listener_needs_a_token_file() {
        let open = "[onebot.clients.a]\n\nlisten = '0.0.0.0:1'";
        let token = "[onebot.clients.a]\ntoken_file = '/t'";
        assert_eq!(read(&[open, token]).2, "");
        assert_eq!(read(&[token, open]).2, "");
        let why =
            "0.toml:3: `onebot.clients.\"a\"` listens to other machines, and must have a token_file then";
        assert_eq!(read(&[open]).2, why);
        assert_eq!(read(&[open, token, "[onebot.clients.a]\ntoken_file = ''"]).2, why);
    }

    #[test]
    fn mistakes_in_account_tables_are_reported() {
        for (bad, why) in [
            (
                "[onebot.clients.'a/b']",
                "0.toml:1: `onebot.clients` of \"a/b\" must be the name of a client, but",
            ),
            (
                "[onebot.clients.a]\ntoken = 'hush'",
                "0.toml:2: `onebot.clients` of \"a\" has the unknown key \"token\"",
            ),
            (
                "[onebot.clients]\na = 'hush'",
                "0.toml:2: `onebot.clients` of \"a\" is a string, must be a table",
            ),
            (
                "[onebot.clients.a]\nclient = 'b'",
                "0.toml:2: `onebot.clients` of \"a\" has another name as its client",
            ),
            (
                "[onebot.clients.a]\nurl = 'hush'",
                "0.toml:2: `onebot.clients` of \"a\" is a string, must be a ws or http URL",
            ),
            (
                "[onebot]\nclients = 'hush'",
                "0.toml:2: `onebot.clients` is a string, must be a table for each account",
            ),
        ] {
            let problems = read(&[bad]).2;
            assert!(problems.starts_with(why) && !problems.contains("hush"), "{bad}: {problems}");
        }
    }

    #[test]
    fn mistakes_in_account_lists_are_reported() {
        let check = |value: &str| {
            let (clients, _, problems) = read(&[&format!("onebot.clients = {value}")]);
            if problems.is_empty() { Ok(clients) } else { Err(problems) }
        };
        let good = "[{ client = '小明', token_file = '/t', qrcode_path = '/q', url = 'wss://h:1/', listen = '[::1]:2' }, \
                    { client = 'b' }]";
        let clients = check(good).unwrap();
        assert_eq!((clients[1].0.as_str(), clients[0].1.get("token_file")), ("小明", None));
        for (bad, why) in [
            ("1", "must be a table for each account"),
            ("['a']", "entry 1 is a string, must be a table"),
            ("[{ token_file = '/t' }]", "has no client"),
            ("[{ client = 'a/b' }]", "the name of a client"),
            ("[{ client = 'a', token = 'hush' }]", "has the unknown key \"token\""),
            ("[{ client = 'a', token_file = 't' }]", "an absolute path"),
            ("[{ client = 'a', url = 'ftp://hush' }]", "a ws or http URL"),
            ("[{ client = 'a', listen = 'here' }]", "an IP address with a port"),
            ("[{ client = 'a', listen = '0.0.0.0:1' }]", "must have a token_file"),
            (
                "[{ client = 'a' },\n{ client = 'a' }]",
                ":2: `onebot.clients` entry 2 repeats the client \"a\"",
            ),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hush"), "{bad}: {error}");
        }
    }
}
