//! Completions know the commands, the options, and the accounts.

use std::collections::BTreeSet;
use std::process::Command;

use super::{in_shell, printed, ran, wqctl};
use crate::fixture::{Builder, Controller};
use crate::manual::page::{Page, source};
use crate::output::run;

/// The commands that `help` lists.
fn commands(controller: &Controller) -> BTreeSet<String> {
    let help = printed(controller, &["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The long options of a command, by its help.
fn options(controller: &Controller, command: &[&str]) -> BTreeSet<String> {
    let help = printed(controller, &[command, &["--help"]].concat());
    let list = help.split("Options:\n").nth(1).unwrap();
    let words = list.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    words.map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_accounts() {
    let controller = Builder::new().built_in();
    for name in ["bot-1", "小 明"] {
        assert_eq!(ran(&controller, &["start", name, "sandbox_login_time=0"]).0, Some(0));
    }
    let (folder, _) = wqctl();
    let url = controller.url("");
    let complete = |words: &[&str]| -> BTreeSet<String> {
        let script = "source packaging/completions/wqctl.bash
            COMP_WORDS=(wqctl \"$@\") COMP_CWORD=$#; _wqctl; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("PATH", in_shell(folder.path()));
        command.env("WQCONTROLLER_TEST_DOORS", format!("/none {}", controller.address.port()));
        let (status, printed, complaint) = run(command.args(["-uc", script, "bash"]).args(words));
        assert_eq!((status, complaint.as_str()), (Some(0), ""), "{words:?}");
        printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let expected: BTreeSet<String> =
        commands(&controller).union(&options(&controller, &[])).cloned().collect();
    assert_eq!(complete(&[""]), expected);
    let names = BTreeSet::from(["bot-1".to_owned(), "小\\ 明".to_owned()]);
    for command in
        ["show", "start", "stop", "restart", "relogin", "remove", "forget", "qr", "logs", "explain"]
    {
        assert_eq!(complete(&[command, ""]), names, "{command}");
    }
    assert_eq!(complete(&["stop", "bot-1", "b"]), BTreeSet::from(["bot-1".to_owned()]));
    // At the door that is named; bash takes a URL apart.
    let parts: Vec<&str> = vec![
        "--url",
        "http",
        ":",
        url.strip_prefix("http:").unwrap().rsplit_once(':').unwrap().0,
        ":",
        url.rsplit_once(':').unwrap().1,
    ];
    assert_eq!(complete(&[&parts[..], &["show", ""]].concat()), names);
    assert_eq!(complete(&["--url", "unix:/none", "show", ""]), BTreeSet::new(), "in silence");
    for command in commands(&controller).iter().filter(|command| *command != "help") {
        assert_eq!(complete(&[command, "-"]), options(&controller, &[command]), "{command}");
    }
}

#[test]
fn zsh_and_fish_complete_commands_options_and_accounts() {
    let controller = Builder::new().built_in();
    let (zsh, fish) = (source("packaging/completions/wqctl.zsh"), source("packaging/completions/wqctl.fish"));
    for command in commands(&controller) {
        assert!(zsh.contains(&format!("'{command}:")) || zsh.contains(&format!("\"{command}:")), "{command}");
        assert!(fish.contains(&format!(" -a {command} ")), "{command}");
        if command == "help" {
            continue;
        }
        for option in options(&controller, &[&command]) {
            assert!(zsh.contains(&option), "{command} {option}");
            assert!(fish.contains(&format!("-l {} ", option.trim_start_matches('-'))), "{command} {option}");
        }
    }
    for text in [zsh, fish] {
        assert!(text.contains("list --names 2>/dev/null"), "{text}");
    }
    // Where the shells are installed they have to take the files.
    for (shell, file) in [("zsh", "wqctl.zsh"), ("fish", "wqctl.fish")] {
        let path = format!("{}/packaging/completions/{file}", env!("CARGO_MANIFEST_DIR"));
        if let Ok(output) = Command::new(shell).args(["-n", &path]).output() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn manual_has_every_command_option_and_status() {
    let controller = Builder::new().built_in();
    let page = Page::read("wqctl.1");
    let named: BTreeSet<String> = page
        .section("DESCRIPTION")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm ")?.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(named, commands(&controller));
    let flags: BTreeSet<String> = page
        .macros("Fl")
        .iter()
        .map(|flag| flag.trim_start_matches("Fl ").split(' ').next().unwrap().to_owned())
        .collect();
    let mut known = BTreeSet::from(["f", "n", "d"].map(str::to_owned));
    let all = commands(&controller);
    let each =
        all.iter().filter(|command| *command != "help").map(|command| options(&controller, &[command]));
    for options in each.chain([options(&controller, &[])]) {
        known.extend(options.iter().map(|option| option.trim_start_matches('-').to_owned()));
    }
    assert_eq!(flags, known);
    let statuses = page.section("EXIT STATUS").lines().filter_map(|line| line.strip_prefix(".It "));
    assert_eq!(statuses.collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
}
