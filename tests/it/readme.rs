//! The README's words are true: its `curl` lines are run as they stand there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ureq::http::Request;

use crate::client::process::scan;
use crate::fixture::{Builder, Controller, program};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn curl_lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

/// Runs a line of the README against this controller, in its folder; what it prints.
fn run(controller: &Controller, line: &str) -> String {
    let line = line.replace("127.0.0.1:4000", &controller.address.to_string());
    let mut command = Command::new("sh");
    command.args(["-c", &line.replacen("curl ", "curl --silent --show-error --fail ", 1)]);
    let output = command.current_dir(controller.folder.path()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap()
}

/// Scans the code that was fetched, as a user does.
pub(crate) fn log_in(controller: &Controller) {
    let page = scan(&fs::read(controller.path("qrcode.png")).unwrap());
    for request in [Request::get(&page), Request::post(&page)] {
        assert_eq!(controller.send(request.body(()).unwrap()).status, 200);
    }
}

#[test]
fn the_first_screen_holds_word_for_word() {
    let lines = curl_lines(&read("README.md"));
    // Those that follow are about the bot, of which tests/it/bot.rs has a conversation, and about accounts of today:
    // tests/it/implementation and tests/it/onebot/controller.rs. The last one is of another machine: tests/it/machines.
    assert_eq!(lines.len(), 11);
    // A login that went on by itself would not wait for its code to be fetched.
    let template = format!("#!/bin/sh\nexport MOJO_WEBQQ_SANDBOX_LOGIN=scan\nexec '{}' client\n", program());
    let controller = Builder::new().template(&template).start();
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&run(&controller, line)).unwrap() };
    let started = json(&lines[0]);
    assert_eq!((&started["code"], &started["status"]), (&0.into(), &"success".into()));
    assert_eq!(json(&lines[1])["client"][0]["account"], "webqq_client_01");
    controller.wait_for_state("webqq_client_01", "scaning");
    run(&controller, &lines[2]);
    log_in(&controller);
    controller.wait_for_state("webqq_client_01", "running");
    let friends = json(&lines[3]);
    assert!(friends.as_array().unwrap().iter().any(|friend| friend["uid"] == "10001"), "{friends}");
    assert_eq!(json(&lines[4])["code"], 0);
    assert_eq!(json(&lines[5]), started);
}

/// The commands of all blocks, without what is said about them.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).map(|line| line.split('#').next().unwrap().trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn both_languages_show_the_same_commands() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(commands(&english), commands(&chinese));
    for command in ["./run", "tests/run", "make deb"] {
        assert!(commands(&english).contains(&command.to_owned()), "{command}");
    }
}

/// What a heading is called in a link to it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn links_of_documents_lead_somewhere() {
    for document in
        ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "tests/bench/README.md"]
    {
        let text = read(document);
        let anchors: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#')))
            .collect();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if let Some(heading) = link.strip_prefix('#') {
                assert!(
                    anchors.iter().any(|anchor| anchor == heading),
                    "{document}: there is no heading {link}"
                );
            } else if !link.starts_with("https://") {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
                let target = folder.parent().unwrap().join(link.split('#').next().unwrap());
                assert!(target.exists(), "{document}: {} is not there", target.display());
            }
        }
    }
}
