//! Any other program: a command line and a file with placeholders, both from the operator.

use std::path::PathBuf;

use super::contract::{CommandLine, ConfigFile, Content, ImplementationContract, StartValues};
use super::placeholders::{filled, words};
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;

pub struct Command;

impl ImplementationContract for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn required(&self) -> &'static [&'static str] {
        &["command", "url"]
    }

    fn optional(&self) -> &'static [&'static str] {
        &["file", "file_template"]
    }

    fn check(&self, settings: &ImplementationSettings) -> Result<(), (&'static str, String)> {
        match (settings.get("file"), settings.get("file_template")) {
            (Some(_), None) => {
                Err(("file", "has file, and must have file_template, too: what it is filled from".into()))
            }
            (None, Some(_)) => {
                Err(("file_template", "has file_template, and must have file, too: where it goes".into()))
            }
            _ => Ok(()),
        }
    }

    fn needs_uin(&self) -> bool {
        false
    }

    fn endpoint(&self, settings: &ImplementationSettings, port: u16) -> (BackendKind, String) {
        let url = settings.get("url").unwrap_or_default();
        (BackendKind::OneBot, url.replace("{port}", &port.to_string()))
    }

    fn program(&self, settings: &ImplementationSettings) -> PathBuf {
        let words = words(settings.get("command").unwrap_or_default()).unwrap_or_default();
        words.into_iter().next().unwrap_or_default().into()
    }

    fn command_line(&self, settings: &ImplementationSettings, values: &StartValues) -> CommandLine {
        // Each word is filled in by itself, so that no value becomes two arguments. The words were checked when the
        // configuration was read.
        let words = words(settings.get("command").unwrap_or_default()).unwrap_or_default();
        let mut words = words.iter().map(|word| filled(word, values));
        CommandLine {
            program: words.next().unwrap_or_default().into(),
            arguments: words.map(Into::into).collect(),
            environment: Vec::new(),
        }
    }

    fn files(&self, settings: &ImplementationSettings, _values: &StartValues) -> Vec<ConfigFile> {
        let file = settings.get("file").zip(settings.get("file_template"));
        let filled = |(path, template): (&str, &str)| ConfigFile {
            path: path.to_owned(),
            content: Content::Template(template.into()),
        };
        file.map(filled).into_iter().collect()
    }

    /// Nothing is known about its exit statuses.
    fn is_misconfigured(&self, _exit: Exit) -> bool {
        false
    }
}
