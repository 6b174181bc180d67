//! `bugreport`: what a report of a bug should have, as one text. Secrets are not in it: those that are known by their value or their
//! name, and of URLs all behind the host.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value};

use super::Context;
use super::configuration::{checking, read, text};
use super::follow::entry_line;
use super::list::{fetch, lines};
use super::machine::{said, said_by};
use crate::config::{Settings, TokenPlace};
use crate::ctl::account::Account;
use crate::ctl::arguments::{Configuration, List};
use crate::ctl::client::path_of;
use crate::ctl::failure::Outcome;
use crate::ctl::screen::{print, print_json, printable_lines};
use crate::ctl::time::{now, shown};
use crate::files;
use crate::redact::Redactor;

/// How many lines of each log there are.
const LINES: usize = 200;
/// How many accounts' own logs there are: those that do not run come first.
const MAX_LOGS: usize = 10;
/// How much of the end of a log file is read.
const MAX_TAIL: u64 = 256 * 1024;
/// The largest file of a secret.
const MAX_SECRET: u64 = 64 * 1024;

pub(super) async fn bugreport(context: &Context, files: &Configuration) -> Outcome {
    let redactor = redactor(context, files.config.as_deref());
    let mut report = Report { redactor, sections: Vec::new() };
    context.screen.progress("wqctl: collecting; this takes some seconds");
    report.add("versions", &versions(context).await);
    report.add("system", &system());
    report.add("units", &units());
    report.add("configuration", &configuration(files.config.as_deref()));
    report.add("check of the configuration", &said(checking(files.config.as_deref())));
    match fetch(context, &List::default())
        .await
        .and_then(|found| found.accounts.iter().map(Account::of).collect::<Outcome<Vec<_>>>())
    {
        Ok(mut accounts) => {
            report.add("accounts", &(lines(context, &accounts, None).join("\n") + "\n"));
            report.add("parameters", &parameters(&accounts));
            accounts.sort_by_key(Account::is_running);
            report.add("log of the controller", &log(files.config.as_deref()));
            for account in accounts.iter().take(MAX_LOGS) {
                report.add(&format!("log of {}", account.name), &log_of(context, &account.name).await);
            }
        }
        Err(failure) => {
            report.add("accounts", &format!("{failure}\n"));
            report.add("log of the controller", &log(files.config.as_deref()));
        }
    }
    report.print(context.json)
}

/// What is collected, without secrets.
struct Report {
    redactor: Redactor,
    sections: Vec<(String, String)>,
}

impl Report {
    fn add(&mut self, heading: &str, text: &str) {
        // First without colours and the like, which could stand inside a secret.
        let text = self.redactor.redact(&printable_lines(&without_colours(text)));
        self.sections.push((self.redactor.redact(heading), text));
    }

    fn print(self, json: bool) -> Outcome {
        if json {
            let sections = self.sections.into_iter().map(|(heading, text)| (heading, Value::String(text)));
            return print_json(&Value::Object(sections.collect::<Map<_, _>>()));
        }
        let mut all = format!(
            "# Report of wqctl, {}\n\nLook through it before you send it: names of accounts are in it.\n",
            shown(now())
        );
        for (heading, text) in self.sections {
            all += &printable_lines(&format!("\n## {heading}\n"));
            all += "\n```\n";
            // A line of the text must not end the block.
            all += text.replace("```", "'''").trim_end();
            all += "\n```\n";
        }
        print(&all)
    }
}

/// Knows this program's token, and the secrets that the configuration names and this user may read.
fn redactor(context: &Context, config: Option<&Path>) -> Redactor {
    let mut redactor = Redactor::default();
    context.client.token_value().into_iter().for_each(|token| redactor.hide_value(token));
    for name in [crate::ctl::token::TOKEN, "CREDENTIALS"] {
        std::env::var(name).iter().for_each(|value| redactor.hide_value(value));
    }
    let Ok((loaded, _)) = Settings::load_readable(Path::new("/"), config) else { return redactor };
    let settings = loaded.settings;
    settings.client.secret_params.iter().for_each(|name| redactor.hide_name(name));
    let tokens = settings.auth.tokens.iter().filter_map(|token| match &token.place {
        TokenPlace::File(file) => Some(file.clone()),
        TokenPlace::Credential(_) => None,
    });
    let accounts =
        settings.accounts.iter().filter_map(|(.., account)| account.get("token_file").map(Into::into));
    let applications = [settings.onebot_server.token_file, settings.onebot_server.secret_file];
    for file in tokens.chain(accounts).chain(applications.into_iter().flatten()) {
        if let Ok((open, _)) = files::open_regular(&file) {
            let mut content = String::new();
            if open.take(MAX_SECRET).read_to_string(&mut content).is_ok() {
                redactor.hide_value(&content);
                // Those of applications may be several, each after its name.
                for one in content.split(',') {
                    redactor.hide_value(one);
                    one.split_once('=').into_iter().for_each(|(_, token)| redactor.hide_value(token));
                }
            }
        }
    }
    redactor
}

async fn versions(context: &Context) -> String {
    let daemon = match context.client.get("/v1/openapi.json").await {
        Ok(specification) => specification["info"]["version"].as_str().unwrap_or("?").to_owned(),
        Err(failure) => failure.to_string(),
    };
    let systemd = said_by("systemctl", &["--version"]);
    let systemd = systemd.lines().next().unwrap_or_default();
    format!("wqctl {}\nwqcontroller {daemon}\n{systemd}\n", env!("CARGO_PKG_VERSION"))
}

fn system() -> String {
    let uname = rustix::system::uname();
    let line = |file: &str, beginning: &str| {
        let content = fs::read_to_string(file).unwrap_or_default();
        content.lines().find(|line| line.starts_with(beginning)).unwrap_or_default().to_owned()
    };
    format!(
        "{} {} {}\n{}\n{}\n{}\nload {}\nuser {}\n",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
        line("/etc/os-release", "PRETTY_NAME="),
        line("/proc/meminfo", "MemTotal:"),
        line("/proc/meminfo", "MemAvailable:"),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        rustix::process::geteuid().as_raw(),
    )
}

fn units() -> String {
    let patterns = ["wqcontroller*", "wqclient*", "wqimpl*"];
    let list = said_by(
        "systemctl",
        &[&["list-units", "--all", "--plain", "--no-legend", "--no-pager"], &patterns[..]].concat(),
    );
    let show = [
        "show",
        "--no-pager",
        "--property=Id,ActiveState,SubState,Result,NRestarts,StatusText,ActiveEnterTimestamp",
    ];
    let services = ["wqcontroller.service", "wqcontroller.socket", "wqcontroller-unix.socket"];
    list + "\n" + &said_by("systemctl", &[&show[..], &services[..]].concat())
}

fn configuration(config: Option<&Path>) -> String {
    match read(config) {
        Ok((options, left_out)) => text(&options) + &left_out.join("\n"),
        Err(failure) => format!("{failure}\n"),
    }
}

fn parameters(accounts: &[Account]) -> String {
    let of = |account: &Account| {
        let parameters = account.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        format!("{}: {}\n", account.name, parameters.collect::<Vec<_>>().join(" "))
    };
    accounts.iter().map(of).collect()
}

/// The end of the controller's log: of its file, or of the journal.
fn log(config: Option<&Path>) -> String {
    let settings = Settings::load_readable(Path::new("/"), config).ok().map(|(loaded, _)| loaded.settings);
    let Some(file) = settings.and_then(|settings| settings.log_path) else {
        let lines = LINES.to_string();
        return said_by(
            "journalctl",
            &["--no-pager", "--output=short-iso", "--unit=wqcontroller.service", "--lines", &lines],
        );
    };
    match tail(&file) {
        Ok(text) => text,
        Err(error) => format!("({}: {error})\n", file.display()),
    }
}

/// The last lines of a file.
fn tail(file: &Path) -> std::io::Result<String> {
    let (mut open, metadata) = files::open_regular(file).map_err(std::io::Error::other)?;
    open.seek(SeekFrom::Start(metadata.len().saturating_sub(MAX_TAIL)))?;
    let mut content = Vec::new();
    open.take(MAX_TAIL).read_to_end(&mut content)?;
    let text = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("{line}\n")).collect())
}

async fn log_of(context: &Context, name: &str) -> String {
    match context.client.get(&path_of(name, "/log?lines=50")).await {
        Ok(log) => log["entries"].as_array().into_iter().flatten().map(entry_line).collect(),
        Err(failure) => format!("{failure}\n"),
    }
}

/// The text without what colours it (ECMA-48: CSI sequences).
fn without_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        shown.push_str(before);
        rest = after.trim_start_matches(|c: char| matches!(c, '\x20'..='\x3f'));
        rest = rest.strip_prefix(|c: char| matches!(c, '\x40'..='\x7e')).unwrap_or(rest);
    }
    shown + rest
}
