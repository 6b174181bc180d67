//! [`Effective`]: the value of every option, and where it comes from. For people: secrets are not in it.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::fragment::{Fragment, Item, Value};
use super::options::Options;
use super::settings::Settings;
use crate::backends::BackendKind;
use crate::redact::redact;

/// The reference file: every option with its default or, where there is none, an example.
const REFERENCE: &str = include_str!("../../packaging/wqcontroller.toml");

/// The options whose tables are no accounts; those of accounts are named by their contracts.
const TABLES: [&str; 2] = ["implementations", "machines"];

/// An option as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its name: `key`, `table.key` or, in a table for each name, `table."NAME".key`.
    pub name: String,
    /// Its value as TOML, without secrets; none where it has none.
    pub value: Option<String>,
    /// The file and line that it comes from; none for a default.
    pub origin: Option<(PathBuf, usize)>,
}

impl Settings {
    /// Every option as the configuration files say it: those under `root`, or only `explicit`. What this user may not read is left out, and
    /// returned as well. Blocks on files.
    ///
    /// # Errors
    /// As for [`Settings::load_readable`].
    pub fn effective(
        root: &Path,
        explicit: Option<&Path>,
    ) -> Result<(Vec<Effective>, Vec<ConfigError>), ConfigError> {
        let (loaded, left_out) = Self::load_readable(root, explicit)?;
        let fragments: Result<Vec<_>, _> = loaded.files.iter().map(|file| Fragment::read(file)).collect();
        Ok((effective(&fragments?), left_out))
    }
}

/// The options of these files, in the order of the reference.
fn effective(fragments: &[Fragment]) -> Vec<Effective> {
    let reference = Fragment::parse(Path::new("default"), &uncommented());
    let mut options = Options::new(&[]);
    Settings::read(&mut options);
    let mut found = Vec::new();
    for name in options.known() {
        if is_merged(name) {
            found.extend(merged(name, fragments));
            continue;
        }
        let last = fragments.iter().rev().find_map(|fragment| Some((fragment, fragment.find(name)?)));
        let (value, origin) = match last {
            Some((fragment, item)) => (Some(shown(&item.value)), Some((fragment.file.clone(), item.line))),
            None => (default(&reference, name), None),
        };
        // The empty string takes a value back.
        let value = value.filter(|value| value != "\"\"");
        found.push(Effective { name: (*name).to_owned(), value, origin });
    }
    found
}

/// Whether the option is a table for each name, which files add to.
fn is_merged(name: &str) -> bool {
    let mut tables = BackendKind::ALL.iter().filter_map(|kind| kind.contract().accounts());
    TABLES.contains(&name) || tables.any(|table| table.option == name)
}

/// The keys of such a table, each by the last file that has it.
fn merged(option: &str, fragments: &[Fragment]) -> Vec<Effective> {
    let mut found: Vec<Effective> = Vec::new();
    for fragment in fragments {
        let Some(item) = fragment.find(option) else { continue };
        let mut add = |name: String, item: &Item| {
            found.retain(|earlier| earlier.name != name);
            let value = Some(shown(&item.value)).filter(|value| value != "\"\"");
            found.push(Effective { name, value, origin: Some((fragment.file.clone(), item.line)) });
        };
        match &item.value {
            Value::Table(tables) => {
                for (name, table) in tables {
                    match &table.value {
                        Value::Table(keys) if !keys.is_empty() => {
                            keys.iter().for_each(|(key, item)| add(format!("{option}.{name:?}.{key}"), item));
                        }
                        _ => add(format!("{option}.{name:?}"), table),
                    }
                }
            }
            // The form of 0.1.0; the empty one takes all back.
            Value::List(entries) if entries.is_empty() => found.clear(),
            _ => add(option.to_owned(), item),
        }
    }
    found
}

/// The default of an option; none where the reference shows an example.
fn default(reference: &Fragment, name: &str) -> Option<String> {
    let item = reference.find(name)?;
    // An example changes the settings, a default does not.
    let alone = format!("{name} = {}", toml_of(&item.value, &|text| text.to_owned()));
    let settings = Settings::parse(Path::new("default"), alone.as_bytes()).ok()?;
    (settings == Settings::default()).then(|| shown(&item.value))
}

/// The reference file with every option switched on: `#key` is an option, `# text` is prose.
fn uncommented() -> String {
    let is_option =
        |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let lines = REFERENCE.lines().map(|line| if is_option(&line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// A value as it may be shown.
fn shown(value: &Value) -> String {
    toml_of(value, &|text| redact(text))
}

/// A value as TOML, its texts by `show`. A string of JSON is one of TOML.
fn toml_of(value: &Value, show: &dyn Fn(&str) -> String) -> String {
    match value {
        Value::Text(text) => serde_json::Value::String(show(text)).to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| toml_of(&item.value, show)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, item)| format!("{key} = {}", toml_of(&item.value, show)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.shown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> Vec<(String, Option<String>, Option<String>)> {
        let parse = |(at, text): (usize, &&str)| Fragment::parse(Path::new(&format!("{at}")), text);
        let fragments: Vec<_> = files.iter().enumerate().map(parse).collect();
        let origin = |(file, line): (PathBuf, usize)| format!("{}:{line}", file.display());
        let found = effective(&fragments).into_iter();
        found.map(|option| (option.name, option.value, option.origin.map(origin))).collect()
    }

    fn one(files: &[&str], name: &str) -> (Option<String>, Option<String>) {
        let found = of(files).into_iter().find(|(found, ..)| found == name);
        found.map(|(_, value, origin)| (value, origin)).unwrap()
    }

    #[test]
    fn every_option_has_its_default_or_none() {
        let all = of(&[]);
        assert!(all.len() > 45 && all.iter().all(|(.., origin)| origin.is_none()), "{all:?}");
        for (name, value) in [
            ("listen", Some("\"127.0.0.1:4000\"")),
            ("max_clients", Some("100")),
            ("post_api", None),
            ("limits.memory_max", None),
            ("limits.tasks_max", Some("512")),
            ("supervisor.restore", Some("true")),
            ("auth.tokens", Some("[]")),
        ] {
            assert_eq!(one(&[], name), (value.map(str::to_owned), None), "{name}");
        }
    }

    #[test]
    fn last_file_counts_and_tables_are_merged_by_key() {
        let files = [
            "max_clients = 1\npost_api = 'http://h/'\n[onebot.clients.a]\nurl = 'ws://h/'\ntoken_file = '/t'",
            "\nmax_clients = 2\npost_api = ''\n[onebot.clients.a]\nurl = 'ws://g/'\n[onebot_server]\nhold = 5",
        ];
        let at = |value: &str, place: &str| (Some(value.to_owned()), Some(place.to_owned()));
        assert_eq!(one(&files, "max_clients"), at("2", "1:2"));
        assert_eq!(one(&files, "post_api"), (None, Some("1:3".to_owned())));
        assert_eq!(one(&files, "onebot_server.hold"), at("5", "1:7"));
        assert_eq!(one(&files, "onebot_server.connect"), (Some("[]".to_owned()), None));
        assert_eq!(one(&files, "onebot.clients.\"a\".url"), at("\"ws://g/\"", "1:5"));
        assert_eq!(one(&files, "onebot.clients.\"a\".token_file"), at("\"/t\"", "0:5"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "post_api = 'http://me:hunter2@h/hunter2'\n[onebot_server]\nconnect = ['a=api+ws://me:hunter2@h/?t=hunter2']\n\
                    token_file = '/t'\n[login]\nnotify = [{ url = 'https://hook/hunter2' }]\n\
                    [implementations.own]\nkind = 'command'\ncommand = '/x --password hunter2 --url http://a:hunter2@b/'\n\
                    url = 'ws://127.0.0.1:{port}/?access_token=hunter2'";
        let all = format!("{:?}", of(&[text]));
        assert!(!all.contains("hunter2") && all.contains("/x --password ***"), "{all}");
    }
}
