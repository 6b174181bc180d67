//! [`StateFile`]: what this client says about itself, for the controller and everybody else to read.
//!
//! Keys and types are those of the original's file: `start_time` and `http_debug` are strings, `pid` is a number,
//! and what is not set is null.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::READABLE;
use super::settings::Settings;
use crate::files::{FileError, replace};
use crate::model::state::ClientState;

/// The state file. Each [`StateFile::write`] replaces it whole.
pub(super) struct StateFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl StateFile {
    /// The file for a client with `settings` that started at `start_time` (Unix seconds). Writes nothing yet.
    pub(super) fn new(settings: &Settings, start_time: u64) -> Self {
        let Settings { files, log, reported, .. } = settings;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let number = |flag: bool| u8::from(flag);
        let fields = [
            ("account", json!(settings.account)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("start_time", json!(start_time.to_string())),
            ("mode", json!(reported.mode)),
            ("http_debug", json!(number(settings.http_debug).to_string())),
            ("log_encoding", json!(log.encoding)),
            ("log_path", json!(log.path.as_deref().map(text))),
            ("log_level", json!(log.level.as_str())),
            ("log_console", json!(log.console.map(number))),
            ("disable_color", json!(log.disable_color.map(number))),
            ("tmpdir", json!(text(&files.tmpdir))),
            ("cookie_path", json!(text(&files.cookie))),
            ("qrcode_path", json!(text(&files.qrcode))),
            ("pid_path", json!(text(&files.pid))),
            ("state_path", json!(text(&files.state))),
            ("keep_cookie", json!(reported.keep_cookie)),
            ("ua_retry_times", json!(reported.ua_retry_times)),
            ("qrcode_count_max", json!(settings.qrcode_count_max)),
            ("pid", json!(std::process::id())),
            ("os", json!(std::env::consts::OS)),
            // The one plugin that every program looks for: the API itself, under its original name.
            (
                "plugin",
                json!([{
                    "name": "Mojo::Webqq::Plugin::Openqq",
                    "priority": 98,
                    "auto_call": null,
                    "call_on_load": 1,
                }]),
            ),
        ];
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { path: files.state.clone(), fields }
    }

    /// Writes that the client is in `state` now and was in `previous` before, and why it does not get further, where
    /// somebody has to act.
    ///
    /// # Errors
    /// The file cannot be written; the one before is as it was.
    pub(super) fn write(
        &mut self,
        state: &ClientState,
        previous: Option<&ClientState>,
        reason: Option<&str>,
    ) -> Result<(), FileError> {
        self.fields.insert("state".into(), json!(state));
        self.fields.insert("previous_state".into(), json!(previous));
        match reason {
            // A key of ours: there only where there is something to say.
            Some(reason) => self.fields.insert("reason".into(), json!(reason)),
            None => self.fields.remove("reason"),
        };
        let mut content = json!(self.fields).to_string();
        content.push('\n');
        replace(&self.path, content.as_bytes(), READABLE)
    }
}
