//! wqcontroller.toml(5) has every option of the parser, wqclient(8) every variable that the client reads.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::page::{Page, code, literals, macros, plain, source};
use crate::fixture::program;
use crate::output::run;

/// An option as a page or the reference file shows it.
#[derive(Debug)]
struct Shown {
    /// `= value`, or `= Ar kind` where there is no default.
    value: String,
    /// What is said about it.
    text: String,
}

/// The options of the page, by their full names.
fn in_page(page: &Page) -> BTreeMap<String, Shown> {
    let mut found = BTreeMap::new();
    for part in page.section("OPTIONS").split(".Ss ").skip(1) {
        let (heading, part) = part.split_once('\n').unwrap();
        let table = match heading {
            "Top level" => String::new(),
            table => format!("{}.", table.strip_prefix('[').unwrap().strip_suffix("]\\&").unwrap()),
        };
        for item in part.split(".It Cm ").skip(1) {
            let (head, text) = item.split_once('\n').unwrap();
            let (name, value) = head.split_once(" Li = ").unwrap();
            let (value, text) = (value.replace("\\(dq", "\""), text.to_owned());
            assert!(
                found.insert(format!("{table}{name}"), Shown { value, text }).is_none(),
                "{head} is there twice"
            );
        }
    }
    found
}

/// The options of packaging/wqcontroller.toml, which a unit test compares with the parser.
fn in_reference() -> BTreeMap<String, Shown> {
    let (mut found, mut table) = (BTreeMap::new(), String::new());
    let reference = source("packaging/wqcontroller.toml");
    for paragraph in reference.split("\n\n") {
        let last = paragraph.lines().last().unwrap();
        if let Some(name) = last.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((name, value)) = last.strip_prefix('#').and_then(|line| line.split_once(" = "))
            && !name.starts_with(' ')
        {
            let shown = Shown { value: value.to_owned(), text: paragraph.to_owned() };
            found.insert(format!("{table}{name}"), shown);
        }
    }
    found
}

/// The options that have no default.
fn without_default() -> BTreeSet<String> {
    let files =
        ["settings", "http", "auth", "units", "onebot_server"].map(|file| format!("src/config/{file}.rs"));
    let files =
        files.iter().filter(|file| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists());
    let mut found = BTreeSet::new();
    for file in files {
        let code = code(file);
        let calls = code.split("options.get(").skip(1).filter(|call| {
            call.split_once(',').is_some_and(|(_, rest)| rest.trim_start().starts_with("None,"))
        });
        found.extend(calls.map(|call| call.split('"').nth(1).unwrap().to_owned()));
    }
    found
}

#[test]
fn every_option_is_there_with_its_default() {
    let (page, reference, none) =
        (in_page(&Page::read("wqcontroller.toml.5")), in_reference(), without_default());
    let names = |options: &BTreeMap<String, Shown>| options.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&page), names(&reference));
    assert!(none.len() >= 8 && none.iter().all(|name| page.contains_key(name)), "{none:?}");
    for (name, shown) in &page {
        match none.contains(name) {
            true => assert!(shown.value.starts_with("Ar "), "{name} has no default"),
            false => assert_eq!(shown.value, reference[name].value, "{name}"),
        }
        let restart = shown.text.lines().any(|line| line == "Restart." || line.ends_with(" Restart."));
        assert_eq!(restart, reference[name].text.contains("(restart)"), "{name}: when does a change count?");
    }
}

/// The numbers of a text, and the words that an option may be.
fn bounds(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'));
    let words = words.map(|word| word.trim_matches('.'));
    words.filter(|word| word.parse::<f64>().is_ok()).map(str::to_owned).collect()
}

#[test]
fn the_bounds_of_every_option_are_those_of_the_parser() {
    let page = in_page(&Page::read("wqcontroller.toml.5"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.toml");
    // Nothing that any option allows.
    let text: String = page.keys().map(|name| format!("{name} = 1979-05-27\n")).collect();
    std::fs::write(&path, text).unwrap();
    let (_, _, complaint) = run(Command::new(program()).arg("--check-config").arg("--config").arg(&path));
    assert_eq!(complaint.trim_end().lines().count(), page.len(), "{complaint}");
    for line in complaint.lines() {
        let (name, rest) = line.split_once(": `").unwrap().1.split_once("` ").unwrap();
        let allowed = rest.split_once("must be ").unwrap_or_else(|| panic!("{line}")).1;
        let told = plain(&page[name].text);
        if let Some(words) = allowed.strip_prefix("one of ") {
            for word in words.split(", ") {
                assert!(told.contains(word), "{name}: {word} is missing");
            }
        } else if allowed.starts_with("a number")
            || allowed.starts_with("a whole number")
            || allowed.starts_with("1 to")
        {
            let allowed = allowed.split(", such as").next().unwrap().split(" (").next().unwrap();
            let missing: Vec<_> = bounds(allowed).difference(&bounds(&told)).cloned().collect();
            assert!(missing.is_empty(), "{name}: {missing:?} of {allowed:?} is missing in {told:?}");
            assert_eq!(allowed.contains("or 0 for none"), told.contains(" 0 "), "{name}: what does 0 mean?");
        } else if allowed == "a list" {
            assert!(told.trim_start().starts_with("A list of "), "{name}: {told}");
        } else if allowed == "true or false" {
            assert!(told.contains("true or false"), "{name}: {told}");
        }
    }
}

/// The variables that the client reads, without their prefix.
fn variables() -> BTreeSet<String> {
    let files = [
        "client_settings/mod.rs",
        "client_settings/applications.rs",
        "client_settings/vars.rs",
        "client_settings/milky.rs",
        "client_settings/onebot.rs",
        "client_settings/remote.rs",
        "client_settings/sandbox.rs",
        "client_settings/reports.rs",
    ];
    let mut found = BTreeSet::new();
    for file in files {
        let code = code(&format!("src/{file}"));
        let is_name = |text: &&str| {
            text.len() > 2
                && text.starts_with(|c: char| c.is_ascii_uppercase())
                && text.ends_with(|c: char| c.is_ascii_uppercase())
                && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        found.extend(literals(&code).into_iter().filter(is_name).map(str::to_owned));
    }
    // By either name; the page says so of the whole group.
    found
        .iter()
        .filter(|name| !name.starts_with("PLUGIN_OPENQQ_POST") && !name.starts_with("PLUGIN_OPENQQ_POLL"))
        .filter(|name| *name != "PLUGIN_OPENQQ_CHECK_EVENT_LIST_MAX_SIZE")
        .cloned()
        .collect()
}

#[test]
fn every_variable_of_the_client_is_in_its_page_and_no_other() {
    let page = Page::read("wqclient.8");
    let items: String =
        page.text.lines().filter(|line| line.starts_with(".It Ev ")).flat_map(|line| [line, "\n"]).collect();
    let listed: BTreeSet<String> = macros(&items, "Ev").into_iter().collect();
    let mut known = variables();
    assert!(known.len() > 35, "{known:?}");
    // Of systemd, not of the controller.
    known.insert("NOTIFY_SOCKET".to_owned());
    assert_eq!(listed, known);
    let whole = ["MOJO_WEBQQ_", "MOJO_WEBQQ_PLUGIN_OPENQQ_"];
    for page in super::page::ALL {
        for name in Page::read(page).macros("Ev") {
            let bare = name.strip_prefix("MOJO_WEBQQ_").unwrap_or(&name);
            let of_the_controller = [
                "STATE_DIRECTORY",
                "RUNTIME_DIRECTORY",
                "XDG_RUNTIME_DIR",
                "XDG_STATE_HOME",
                "CREDENTIALS_DIRECTORY",
                "TMPDIR",
                "WQCTL_TOKEN",
                "WQCTL_TOKEN_FILE",
                "NO_COLOR",
            ];
            let is_known = known.contains(bare)
                || whole.contains(&&*name)
                || name.starts_with("MOJO_WEBQQ_*")
                || bare == "NAME"
                || bare == "PARAMETER"
                || of_the_controller.contains(&&*name);
            assert!(is_known, "{page} names {name}, which nobody reads");
        }
    }
}
