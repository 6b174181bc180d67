//! The implementations that the operator installed: `[implementations.NAME]`. What each kind may say is in `implementations`.

use super::named_tables::NamedTables;
use super::options::Options;
use crate::implementations::{ImplementationSettings, Implementations, KEYS};

/// The most bytes in a name.
const MAX_NAME: usize = 32;

const TABLES: NamedTables =
    NamedTables { option: "implementations", noun: "implementation", keys: &KEYS, check_name, list: None };

/// Reads them from every file.
pub(super) fn read(options: &mut Options<'_>) -> Implementations {
    let mut implementations = Implementations::default();
    for (name, entry) in TABLES.read(options) {
        let origin = entry.origin;
        let (origins, keys) = entry.split();
        match ImplementationSettings::new(keys) {
            Ok(settings) => implementations.add(name, settings),
            Err((key, why)) => {
                let place = format!("{}.{name}", TABLES.option);
                options.object_at(&place, origins.get(key).copied().unwrap_or(origin), &why);
            }
        }
    }
    implementations
}

/// Checks the name of an implementation: callers give it as a start parameter, and log lines show it.
fn check_name(name: &str) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_letter) {
        true => Ok(()),
        false => Err(format!("must be a name of at most {MAX_NAME} letters, digits, _ and -")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fragment::Fragment;
    use std::path::Path;

    fn read_files(files: &[&str]) -> (Implementations, String) {
        let parse = |(at, text): (usize, &&str)| Fragment::parse(Path::new(&format!("{at}.toml")), text);
        let fragments: Vec<_> = files.iter().enumerate().map(parse).collect();
        let mut options = Options::new(&fragments);
        let implementations = read(&mut options);
        (implementations, options.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn implementations_are_merged_by_name_and_key() {
        let (found, problems) = read_files(&[
            "[implementations.yogurt]\nkind = 'yogurt'\nprogram = '/opt/yogurt'\nsign_url = 'http://127.0.0.1:1/'",
            "[implementations.yogurt]\nsign_url = 'http://127.0.0.1:2/'\n[implementations.own]\nkind = 'command'\n\
             command = \"/opt/bot --port {port} 'a b'\"\nurl = 'ws://127.0.0.1:{port}/'",
        ]);
        assert_eq!(problems, "");
        assert_eq!(found.names(), "own, yogurt");
        assert_eq!(found.get("yogurt").unwrap().get("sign_url"), Some("http://127.0.0.1:2/"));
    }

    #[test]
    fn mistakes_in_implementations_are_reported() {
        for (bad, why) in [
            ("program = '/x'", "0.toml:1: `implementations.a` must have a kind"),
            ("kind = 'lagrange'", "0.toml:2: `implementations` of \"a\" is \"lagrange\", must be llbot,"),
            ("kind = 'yogurt'\nprogram = '/x'", "0.toml:2: `implementations.a` must have sign_url"),
            (
                "kind = 'yogurt'\nprogram = '/x'\nsign_url = 'http://h/'\nscript = '/y'",
                "0.toml:5: `implementations.a` has script, which yogurt does not know",
            ),
            (
                "kind = 'yogurt'\nprogram = 'x'",
                "0.toml:3: `implementations` of \"a\" is \"x\", must be an absolute",
            ),
            ("kind = 'yogurt'\nuin = 5", "0.toml:3: `implementations` of \"a\" has the unknown key \"uin\""),
            ("command = '/x --token {token}'", "0.toml:2: `implementations` of \"a\" is"),
            ("command = '/x {ports}'", "0.toml:2: `implementations` of \"a\" is"),
            ("command = 'x'", "0.toml:2: `implementations` of \"a\" is"),
            ("url = 'ws://example.org:{port}/'", "0.toml:2: `implementations` of \"a\" is"),
            ("file = '../x'", "0.toml:2: `implementations` of \"a\" is"),
        ] {
            let problems = read_files(&[&format!("[implementations.a]\n{bad}")]).1;
            assert!(problems.starts_with(why), "{bad}: {problems}");
        }
        let problems = read_files(&["[implementations.'a b']\nkind = 'yogurt'"]).1;
        assert!(problems.contains("must be a name of at most 32 letters"), "{problems}");
    }

    #[test]
    fn examples_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples");
        for kind in crate::implementations::ImplementationKind::ALL {
            let name = kind.name();
            let file = folder.join(format!("{name}/etc/wqcontroller/wqcontroller.toml.d/50-{name}.toml"));
            let text = std::fs::read_to_string(&file).unwrap();
            let (found, problems) = read_files(&[&text]);
            assert_eq!(problems, "", "{}", file.display());
            assert!(found.iter().all(|(_, implementation)| implementation.kind == *kind), "{name}");
        }
    }
}
