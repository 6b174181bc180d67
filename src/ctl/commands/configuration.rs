//! `check` and `effective`: the configuration files, which need no controller.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::config::{Effective, Settings};
use crate::ctl::arguments::Configuration;
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::screen::{print, print_json, printable, printable_lines};
use crate::model::error_chain::ErrorChain;

/// This executable, also after an upgrade has put another one in its place (proc(5)).
pub(super) const ITSELF: &str = "/proc/self/exe";

/// Checks the configuration as the controller does: by the controller itself, which tries what a start needs.
pub(super) fn check(files: &Configuration, json: bool) -> Outcome {
    let mut command = checking(files.config.as_deref());
    let run = |error: io::Error| Failure::refused(format!("the check can't be run: {error}"));
    let refused = || {
        Failure::refused("the configuration has mistakes")
            .next("correct them, and then: sudo systemctl reload-or-restart wqcontroller")
    };
    if !json {
        return if command.status().map_err(run)?.success() { Ok(()) } else { Err(refused()) };
    }
    let output = command.output().map_err(run)?;
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>();
    let is_good = output.status.success();
    print_json(
        &json!({ "good": is_good, "said": lines(&output.stdout), "mistakes": lines(&output.stderr) }),
    )?;
    if is_good { Ok(()) } else { Err(refused()) }
}

/// The controller's own check.
pub(super) fn checking(config: Option<&Path>) -> Command {
    let mut command = Command::new(ITSELF);
    command.arg0("wqcontroller").arg("--check-config");
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command
}

/// Shows every option, its value without secrets, and where that comes from.
pub(super) fn effective(files: &Configuration, json: bool) -> Outcome {
    let (options, left_out) = read(files.config.as_deref())?;
    if json {
        let options = options.iter().map(|option| {
            let (file, line) =
                option.origin.as_ref().map(|(file, line)| (file.display().to_string(), line)).unzip();
            json!({ "name": option.name, "value": option.value, "file": file, "line": line })
        });
        return print_json(&json!({ "options": options.collect::<Vec<_>>(), "not_read": left_out }));
    }
    for line in left_out {
        let _ = writeln!(io::stderr(), "wqctl: {}", printable(&line));
    }
    print(&text(&options))
}

/// The options, and what could not be read.
pub(super) fn read(config: Option<&Path>) -> Outcome<(Vec<Effective>, Vec<String>)> {
    match Settings::effective(Path::new("/"), config) {
        Ok((options, left_out)) => {
            Ok((options, left_out.iter().map(|error| ErrorChain(error).to_string()).collect()))
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", printable_lines(&ErrorChain(&error).to_string()).trim_end());
            Err(Failure::refused("the configuration is refused").next("wqctl check"))
        }
    }
}

/// A line for each option: as it would stand in a file, with where it comes from behind.
pub(super) fn text(options: &[Effective]) -> String {
    let line = |option: &Effective| {
        let value = option.value.as_deref().unwrap_or("(none)");
        let origin = match &option.origin {
            Some((file, line)) => format!("{}:{line}", file.display()),
            None => "default".to_owned(),
        };
        format!("{} = {}  # {}\n", printable(&option.name), printable(value), printable(&origin))
    };
    options.iter().map(line).collect()
}
