//! [`StateFile`]: the state of this client as JSON, for the controller and other readers.
//!
//! Keys and types are those of the original's file: `start_time` and `http_debug` are strings, `pid` is a
//! number, and unset values are null.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::client::READABLE;
use crate::client::settings::ClientSettings;
use crate::files::{FileError, make_parent, replace};
use crate::model::state::{ClientState, Queues};

/// How many unused parameters are named: they come from callers.
const MAX_UNUSED: usize = 32;

/// The state file. Each [`StateFile::write`] replaces it whole.
pub(crate) struct StateFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl StateFile {
    /// The file for a client with `settings` that started at `start_time` (Unix seconds). Writes nothing yet.
    pub(crate) fn new(settings: &ClientSettings, start_time: u64) -> Self {
        let ClientSettings { files, log, legacy, .. } = settings;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let number = |flag: bool| u8::from(flag);
        let unused: Vec<_> =
            settings.unused.iter().take(MAX_UNUSED).map(|name| name.to_lowercase()).collect();
        let fields = [
            ("account", json!(settings.account)),
            ("backend", json!(settings.backend.kind().name())),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("start_time", json!(start_time.to_string())),
            ("mode", json!(legacy.mode)),
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
            ("keep_cookie", json!(legacy.keep_cookie)),
            ("ua_retry_times", json!(legacy.ua_retry_times)),
            ("qrcode_count_max", json!(settings.qrcode_count_max)),
            ("unused_parameters", json!(unused)),
            ("pid", json!(std::process::id())),
            ("os", json!(std::env::consts::OS)),
            // Programs look for this plugin by its original name. It is the API itself.
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

    /// Whether the file was removed.
    pub(crate) fn is_missing(&self) -> bool {
        self.path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Writes the current state, since when it is so (Unix seconds), the one before, the reason if the client cannot get further
    /// by itself, and what waits.
    ///
    /// # Errors
    /// The file cannot be written; the earlier one stays.
    pub(crate) fn write(
        &mut self,
        (state, since): (&ClientState, u64),
        previous: Option<&ClientState>,
        reason: Option<&str>,
        queues: Queues,
    ) -> Result<(), FileError> {
        self.fields.insert("state".into(), json!(state));
        self.fields.insert("previous_state".into(), json!(previous));
        match reason {
            // Not a key of the original: present only if there is a reason.
            Some(reason) => self.fields.insert("reason".into(), json!(reason)),
            None => self.fields.remove("reason"),
        };
        // Nor are these.
        self.fields.insert("state_since".into(), json!(since));
        for (key, waiting) in [("reports_waiting", queues.reports), ("messages_waiting", queues.messages)] {
            if let Some(waiting) = waiting {
                self.fields.insert(key.into(), json!(waiting));
            }
        }
        let mut content = json!(self.fields).to_string();
        content.push('\n');
        // The folder may have been removed since the last write.
        make_parent(&self.path)?;
        replace(&self.path, content.as_bytes(), READABLE)
    }
}
