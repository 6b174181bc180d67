//! wqcontroller-onebot(7) says of each action, event and segment what the tables of the code say.

use std::collections::BTreeMap;

use super::page::{code, source};

/// The rows of a table of the page, without its head: the name, and the other columns.
fn of_page(section: &str) -> BTreeMap<String, Vec<String>> {
    let page = source("man/wqcontroller-onebot.7");
    let section = page.split(&format!(".Sh TABLE OF {section}\n")).nth(1).unwrap();
    let section = section.split("\n.Sh ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix(".It Li "));
    let rows = rows.map(|row| {
        let mut cells = row.split(" Ta ").map(str::to_owned);
        (cells.next().unwrap(), cells.collect::<Vec<_>>())
    });
    rows.collect()
}

/// The rows of a table of Milky's: the name, and what becomes of it in words of the page.
fn of_milky(table: &str) -> BTreeMap<String, Vec<String>> {
    let code = code("src/client/milky/translation/table.rs");
    let table = code.split(&format!("const {table}: ")).nth(1).unwrap();
    let table = table.split("= &[").nth(1).unwrap().split("\n];").next().unwrap();
    let word = |way: &str| match way {
        "Own" => Some("itself".to_owned()),
        "Translated" => Some("translated".to_owned()),
        "Cannot" => Some("no".to_owned()),
        _ => None,
    };
    let rows = table.lines().filter_map(|line| line.trim().strip_prefix("(\""));
    let rows = rows.map(|row| {
        let (name, rest) = row.split_once('"').unwrap();
        (name.to_owned(), rest.split(',').filter_map(|part| word(part.trim())).collect())
    });
    rows.collect()
}

/// Whether the sandbox has each action.
fn of_sandbox() -> BTreeMap<String, bool> {
    let code = code("src/client/sandbox/actions/mod.rs");
    let table = code.split("= actions! {").nth(1).unwrap().split("\n};").next().unwrap();
    let rows = table.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
    // What is there to say why it can't be done.
    let refused = ["about::no_anonymous,", "about::no_web,", "about::restart,"];
    rows.map(|(name, function)| (name.to_owned(), !refused.contains(&function))).collect()
}

#[test]
fn actions_are_those_of_the_tables() {
    let (page, milky, sandbox) = (of_page("ACTIONS"), of_milky("ACTIONS"), of_sandbox());
    assert!(milky.len() > 50 && sandbox.len() > 50 && page.len() >= milky.len());
    let all: std::collections::BTreeSet<_> = milky.keys().chain(sandbox.keys()).collect();
    assert_eq!(all, page.keys().collect());
    for (name, cells) in &page {
        let over_milky = milky.get(name).map_or("no", |ways| &ways[0]);
        let in_sandbox = if sandbox.get(name) == Some(&true) { "yes" } else { "no" };
        assert_eq!(cells, &["passes", over_milky, in_sandbox], "{name}");
    }
}

#[test]
fn events_and_segments_are_those_of_the_tables() {
    for (section, least) in [("EVENTS", 20), ("SEGMENTS", 20)] {
        let (page, milky) = (of_page(section), of_milky(section));
        assert!(page.len() >= least);
        assert_eq!(page.keys().collect::<Vec<_>>(), milky.keys().collect::<Vec<_>>());
        for (name, cells) in &page {
            assert_eq!((cells[0].as_str(), &cells[1..]), ("passes", &milky[name][..]), "{name}");
        }
    }
}
