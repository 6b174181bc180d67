//! The manual pages say what is so, and all of it. The truth is taken from the program itself where that tells it, and
//! from its source elsewhere.

mod api;
mod onebot;
pub mod page;
mod settings;

use std::collections::BTreeSet;
use std::process::Command;

use page::{ALL, Page};

use crate::fixture::program;
use crate::output::run;

#[test]
fn mandoc_has_nothing_to_complain_of() {
    if Command::new("mandoc").arg("/dev/null").output().is_err() {
        eprintln!("NOT RUN: mandoc is not installed.");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "all tests have to run where CI=true");
        return;
    }
    for name in ALL {
        let page = Page::read(name);
        let output = Command::new("mandoc").args(["-T", "lint", "-W", "style"]).arg(&page.path).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        // Which other manuals are installed on this machine says nothing about the page.
        let complaints = said.lines().filter(|line| {
            !line.contains("referenced manual not found") && !line.contains("outdated mandoc.db")
        });
        assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn each_page_names_the_others_that_it_refers_to_and_says_who_it_is() {
    for name in ALL {
        let page = Page::read(name);
        let (title, section) = name.rsplit_once('.').unwrap();
        assert!(page.text.contains(&format!(".Dt {} {section}\n", title.to_uppercase())), "{name}");
        assert!(page.text.contains(&format!(".Nm {title}\n")), "{name}");
        let seen: Vec<&str> = page.section("SEE ALSO").lines().collect();
        for reference in page.text.lines().filter_map(|line| line.strip_prefix(".Xr ")) {
            let mut words = reference.split(' ');
            let (title, section) = (words.next().unwrap(), words.next().unwrap());
            if title.starts_with("wq") {
                assert!(ALL.contains(&&*format!("{title}.{section}")), "{name} refers to {reference}");
            }
            let beginning = format!(".Xr {title} {section}");
            assert!(seen.iter().any(|line| line.starts_with(&beginning)), "{name}: SEE ALSO has no {title}");
        }
    }
}

#[test]
fn the_command_line_is_that_of_the_program() {
    let page = Page::read("wqcontroller.8");
    let (_, help, _) = run(Command::new(program()).arg("--help"));
    let told: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
        .map(|flag| flag.trim_start_matches('-'))
        .collect();
    let flags = page.macros("Fl");
    let named: BTreeSet<&str> =
        flags.iter().map(|flag| flag.trim_start_matches("Fl ")).map(flag_name).collect();
    assert_eq!(named, told);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help");
    let named: BTreeSet<&str> = page
        .section("DESCRIPTION")
        .split(".Ss ")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .map(|item| item.split(' ').next().unwrap())
        .collect();
    for command in commands {
        assert!(named.contains(command), "{command} is missing");
    }
    for command in named {
        let (status, _, complaint) = run(Command::new(program()).args(["help", command]));
        assert_eq!(status, Some(0), "{command}: {complaint}");
    }
}

/// The flag alone: what follows may be its argument.
fn flag_name(flag: &str) -> &str {
    flag.split(' ').next().unwrap()
}

/// What a message says that the service manager writes, not we.
const OF_SYSTEMD: [&str; 1] = ["Watchdog timeout"];

#[test]
fn what_troubleshooting_quotes_is_what_the_program_says() {
    let page = Page::read("wqcontroller.8");
    let (mut all, mut folders) = (String::new(), vec![page::project("src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => all.push_str(&std::fs::read_to_string(entry.path()).unwrap()),
            }
        }
    }
    // A literal may go on in the next line.
    let all = all.split('\n').map(str::trim_start).collect::<Vec<_>>().join(" ").replace("\\ ", "");
    let quoted = page.section("TROUBLESHOOTING").lines().filter_map(|line| line.strip_prefix(".It Li "));
    let quoted: Vec<&str> = quoted.collect();
    assert!(quoted.len() > 15, "{quoted:?}");
    for words in quoted {
        let words = words.trim_end_matches(" :");
        assert!(OF_SYSTEMD.contains(&words) || all.contains(words), "nobody says {words:?}");
    }
}
