//! [`ImplementationContract`]: what the controller has to know about a program that holds an account.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::login::LoginQuestion;
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;
use crate::model::login::LoginAnswer;

/// The time from one heartbeat to the next, in milliseconds, where we choose it. Heartbeats may be the only ones that tell of a lost
/// connection to the network: LLBot goes on to say that it is logged in. A loss is to be shown within five seconds.
pub(super) const HEARTBEAT_MS: u32 = 4_000;

/// What the controller has to know about a kind of implementation. Pure: nothing here touches a file or a process.
pub trait ImplementationContract: Sync {
    /// Its name: the value of `kind` in the configuration.
    fn name(&self) -> &'static str;

    /// The keys that its table must have, besides `kind`.
    fn required(&self) -> &'static [&'static str];

    /// The keys that its table may have as well.
    fn optional(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks the keys of a table together; each one alone is allowed.
    ///
    /// # Errors
    /// The key that is wrong, and why: the end of a sentence that begins with the implementation.
    fn check(&self, _settings: &ImplementationSettings) -> Result<(), (&'static str, String)> {
        Ok(())
    }

    /// Whether it can't start without knowing the account's number.
    fn needs_uin(&self) -> bool {
        true
    }

    /// The network by which the client reaches it, and its URL there.
    fn endpoint(&self, settings: &ImplementationSettings, port: u16) -> (BackendKind, String);

    /// What is executed, in the working directory of [`StartValues::home`]. No secret is in it: every user can read a command
    /// line.
    fn command_line(&self, settings: &ImplementationSettings, values: &StartValues) -> CommandLine;

    /// The program, absolute.
    fn program(&self, settings: &ImplementationSettings) -> PathBuf {
        settings.path("program")
    }

    /// The configuration that is written before each start. What the user added to a file is kept where the format allows it.
    fn files(&self, settings: &ImplementationSettings, values: &StartValues) -> Vec<ConfigFile>;

    /// The links that lead from where it writes its login code to the folder that the controller reads.
    fn links(&self) -> &'static [Link] {
        &[]
    }

    /// The image of its login code, relative to [`StartValues::runtime`].
    fn code_file(&self) -> Option<&'static str> {
        None
    }

    /// Whether its login works on another machine. QQ's own program ties it to the machine, and may ask for a scan on another one.
    fn login_is_portable(&self) -> bool {
        false
    }

    /// How long such a code can be scanned. QQ's own are valid for two minutes.
    fn code_lifetime(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// Whether it shows a new code by itself when one has expired.
    fn renews_codes(&self) -> bool {
        true
    }

    /// How it is asked about its login.
    fn login_question(&self) -> LoginQuestion {
        LoginQuestion::OfClient
    }

    /// Reads its answer to [`ImplementationContract::login_question`]. `info` is the answer to the second request, where the
    /// question has one. None where it is none that this kind gives.
    fn login_answer(&self, _status: &Value, _info: Option<&Value>) -> Option<LoginAnswer> {
        None
    }

    /// The files of the saved login, relative to [`StartValues::home`], whose removal makes it ask for a new code.
    fn login_files(&self, _values: &StartValues) -> Vec<String> {
        Vec::new()
    }

    /// Whether an exit means a mistake in its configuration or its environment, which further starts hardly mend.
    fn is_misconfigured(&self, exit: Exit) -> bool;
}

/// What one start of an implementation is given. The launch file carries it from the controller to the unit.
#[derive(Clone, PartialEq, Eq)]
pub struct StartValues {
    /// The port on 127.0.0.1 where it serves its API. The next one is its web page's, where it has one.
    pub port: u16,
    /// The token that the client shows there, 64 hexadecimal digits.
    pub token: String,
    /// The number of the account, digits only. Empty where the caller gave none.
    pub uin: String,
    /// Another secret that the kind needs, from a file of the operator. Empty where there is none.
    pub auth_token: String,
    /// Its home and working directory, which only its own user can read.
    pub home: PathBuf,
    /// The folder for what the controller reads and for sockets. systemd makes that of a unit anew at each start. In that of a child
    /// process the old login code is removed, and nothing else.
    pub runtime: PathBuf,
}

impl StartValues {
    /// The port of its web page. Implementations get no port without a next one.
    pub fn page_port(&self) -> u16 {
        self.port.saturating_add(1)
    }
}

impl std::fmt::Debug for StartValues {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartValues")
            .field("port", &self.port)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// A program and what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables besides the usual ones.
    pub environment: Vec<(&'static str, OsString)>,
}

/// A file that is written before a start, readable for the implementation's user alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// Its path below [`StartValues::home`].
    pub path: String,
    /// What it is to hold.
    pub content: Content,
}

/// The content of a [`ConfigFile`].
#[derive(Clone, PartialEq)]
pub enum Content {
    /// JSON whose keys win over those that the file has; all others stay.
    Json {
        /// The keys that are set.
        set: Value,
        /// The keys that are set only where the file does not have them.
        default: Value,
        /// The list, by its keys from the root, in which the entry with our name is replaced and all others stay.
        entry: Option<(&'static [&'static str], Value)>,
    },
    /// The whole text.
    Text(String),
    /// The whole text, written only where there is no file yet.
    Once(String),
    /// The root's template, by its path; the launcher reads it and fills it in.
    Template(PathBuf),
}

impl std::fmt::Debug for Content {
    /// Only the form: the token is in each of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json { .. } => "Json",
            Self::Text(_) => "Text",
            Self::Once(_) => "Once",
            Self::Template(_) => "Template",
        })
    }
}

/// Why a configuration file can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFileError {
    /// The file that is there is no JSON, and what its user wrote into it should not be lost.
    #[error(
        "{0} is no JSON object, so it can't be completed; correct it, or remove it to have a new one written"
    )]
    NotJson(String),
    /// The template has a placeholder that does not exist.
    #[error("{0} has the unknown placeholder {1}, known are {{port}}, {{token}}, {{uin}} and {{dir}}")]
    Placeholder(String, String),
}

/// A link below [`StartValues::home`] to a name below [`StartValues::runtime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the implementation writes.
    pub from: &'static str,
    /// Where that is to lie.
    pub to: &'static str,
    /// Whether it is a folder, which is made.
    pub is_folder: bool,
}

impl Content {
    /// The text of the file, given what it holds now.
    ///
    /// # Errors
    /// The existing file is no JSON, so our keys can't be merged into it.
    pub fn text(&self, path: &Path, now: Option<&[u8]>) -> Result<Option<String>, ConfigFileError> {
        match self {
            Self::Json { set, default, entry } => super::json::completed(now, (set, default), entry.as_ref())
                .map(Some)
                .ok_or_else(|| ConfigFileError::NotJson(path.display().to_string())),
            Self::Text(text) => Ok(Some(text.clone())),
            Self::Once(text) => Ok(now.is_none().then(|| text.clone())),
            // The launcher reads the template and fills it in.
            Self::Template(_) => Ok(None),
        }
    }
}
