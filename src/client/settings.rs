//! [`Settings`]: what the environment says, `MOJO_WEBQQ_*`, checked once at the start.
//!
//! The names are those of the original's templates, so that a controller starts either program the same way. An
//! empty value counts as unset, as the original's templates have it. No message repeats a value: several are
//! secrets or contain one.

mod onebot;
mod sandbox;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Pid;

use super::reports::ReportSettings;
use crate::config::{Endpoint, LogLevel};
use crate::environ::PREFIX;
use crate::model::name::{ClientName, NameError};
pub(super) use onebot::{OneBotSettings, Reach};
pub(super) use sandbox::{FaultSettings, SandboxSettings};

/// How often a code is shown that nobody scans, unless something else is set; the original's number.
const QRCODE_COUNT_MAX: u32 = 10;

/// Everything that can be set on a client.
pub(super) struct Settings {
    /// Who we are.
    pub account: ClientName,
    /// The port of our API on 127.0.0.1.
    pub port: NonZeroU16,
    /// The controller, where it is our parent and we shall end with it.
    pub controller_pid: Option<Pid>,
    /// Where our files are.
    pub files: Files,
    /// What is logged, and where.
    pub log: LogSettings,
    /// Whether each request is logged.
    pub http_debug: bool,
    /// Who gets reports, and which.
    pub reports: ReportSettings,
    /// Who is asked for something to do.
    pub poll_api: Option<Endpoint>,
    /// The pause after an answer of `poll_api`.
    pub poll_interval: Duration,
    /// The least time between two messages.
    pub send_interval: Duration,
    /// How many login codes are shown one after another before the client gives up.
    pub qrcode_count_max: u32,
    /// The sandbox.
    pub sandbox: SandboxSettings,
    /// The OneBot backend, where that is what is behind the API, and not the sandbox.
    pub onebot: Option<OneBotSettings>,
    /// What only the state file repeats.
    pub reported: Reported,
}

/// The files of one account.
pub(super) struct Files {
    /// The folder in which those are that are not set one by one.
    pub tmpdir: PathBuf,
    /// What we say about ourselves, JSON.
    pub state: PathBuf,
    /// The image of the login code, while there is one. PNG, though the original's name for it ends in `.jpg`.
    pub qrcode: PathBuf,
    /// Our pid, and the lock against a second client of this account.
    pub pid: PathBuf,
    /// Where a backend keeps what spares the next login its scan.
    pub cookie: PathBuf,
}

/// What is logged, and where.
pub(super) struct LogSettings {
    /// From where on lines are written.
    pub level: LogLevel,
    /// A file to append to.
    pub path: Option<PathBuf>,
    /// Whether to log on standard output; unset: only if there is no [`LogSettings::path`].
    pub console: Option<bool>,
    /// The encoding that was asked for. Only reported: lines are always UTF-8.
    pub encoding: Option<String>,
    /// Whether a terminal is left without colours.
    pub disable_color: Option<bool>,
}

/// Settings of the original that change nothing here, repeated in the state file for those who look for them.
pub(super) struct Reported {
    /// `mode`.
    pub mode: Option<String>,
    /// `keep_cookie`.
    pub keep_cookie: Option<u32>,
    /// `ua_retry_times`.
    pub ua_retry_times: Option<u32>,
}

/// Why the environment cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SettingsError {
    /// A variable that must be there is not.
    #[error("the environment variable {PREFIX}{0} is not set")]
    Missing(&'static str),
    /// A value is not text.
    #[error("the environment variable {PREFIX}{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A value is not what its variable takes.
    #[error("the environment variable {PREFIX}{0} must be {1}")]
    Invalid(&'static str, &'static str),
    /// The account's name breaks the rules for names.
    #[error("the environment variable {PREFIX}ACCOUNT is no name of a client")]
    Account(#[source] NameError),
}

impl Settings {
    /// Reads the variables of an environment; others than ours are left alone, but for `TMPDIR`.
    ///
    /// # Errors
    /// The first variable that is missing or cannot be used.
    pub(super) fn from_vars(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let vars = Vars::new(vars);
        let account = vars.text("ACCOUNT")?.ok_or(SettingsError::Missing("ACCOUNT"))?;
        let account = ClientName::new(account).map_err(SettingsError::Account)?;
        let port = vars
            .parsed("PLUGIN_OPENQQ_PORT", "a port, from 1 to 65535")?
            .ok_or(SettingsError::Missing("PLUGIN_OPENQQ_PORT"))?;
        let controller_pid: Option<i32> = vars.parsed("CONTROLLER_PID", "a process ID")?;
        let controller_pid = match controller_pid {
            None => None,
            Some(pid) if pid > 0 => Pid::from_raw(pid),
            Some(_) => return Err(SettingsError::Invalid("CONTROLLER_PID", "a process ID")),
        };
        let files = Files::from_vars(&vars, &account)?;
        Ok(Self {
            reports: ReportSettings::from_vars(&vars, &account, &files.tmpdir)?,
            files,
            log: LogSettings::from_vars(&vars)?,
            account,
            port,
            controller_pid,
            http_debug: vars.flag("HTTP_DEBUG")?.unwrap_or(false),
            poll_api: vars.checked(vars.plugin("POLL_API"), "an http or https URL", Endpoint::new)?,
            poll_interval: vars.seconds(vars.plugin("POLL_INTERVAL"))?.unwrap_or(Duration::from_secs(5)),
            send_interval: vars.seconds("SEND_INTERVAL")?.unwrap_or(Duration::from_secs(3)),
            qrcode_count_max: vars.count("QRCODE_COUNT_MAX")?.unwrap_or(QRCODE_COUNT_MAX),
            sandbox: SandboxSettings::from_vars(&vars)?,
            onebot: match vars.checked("BACKEND", "sandbox or onebot", is_onebot)? {
                Some(true) => Some(OneBotSettings::from_vars(&vars)?),
                _ => None,
            },
            reported: Reported {
                mode: vars.text("MODE")?,
                keep_cookie: vars.count("KEEP_COOKIE")?,
                ua_retry_times: vars.count("UA_RETRY_TIMES")?,
            },
        })
    }
}

fn is_onebot(backend: &str) -> Option<bool> {
    match backend {
        "onebot" => Some(true),
        "sandbox" => Some(false),
        _ => None,
    }
}

impl Files {
    fn from_vars(vars: &Vars, account: &ClientName) -> Result<Self, SettingsError> {
        let tmpdir: PathBuf = match vars.text("TMPDIR")? {
            Some(path) => path.into(),
            None => vars.system_tmpdir.clone(),
        };
        let file = |variable, what, extension| {
            let path = vars.text(variable)?;
            let usual = || tmpdir.join(format!("mojo_webqq_{what}_{account}.{extension}"));
            Ok(path.map_or_else(usual, PathBuf::from))
        };
        Ok(Self {
            state: file("STATE_PATH", "state", "json")?,
            qrcode: file("QRCODE_PATH", "qrcode", "jpg")?,
            pid: file("PID_PATH", "pid", "pid")?,
            cookie: file("COOKIE_PATH", "cookie", "dat")?,
            tmpdir,
        })
    }
}

impl LogSettings {
    fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let levels = "one of debug, info, msg, warn, error, fatal";
        Ok(Self {
            level: vars.checked("LOG_LEVEL", levels, LogLevel::from_word)?.unwrap_or(LogLevel::Info),
            path: vars.text("LOG_PATH")?.map(PathBuf::from),
            console: vars.flag("LOG_CONSOLE")?,
            encoding: vars.text("LOG_ENCODING")?,
            disable_color: vars.flag("DISABLE_COLOR")?,
        })
    }
}

/// The settings of the original's plugin, which its template reads under these names.
const PLUGIN_SETTINGS: [&str; 12] = [
    "PLUGIN_OPENQQ_CHECK_EVENT_LIST_MAX_SIZE",
    "PLUGIN_OPENQQ_POLL_API",
    "PLUGIN_OPENQQ_POLL_INTERVAL",
    "PLUGIN_OPENQQ_POST_API",
    "PLUGIN_OPENQQ_POST_EVENT",
    "PLUGIN_OPENQQ_POST_EVENT_LIST",
    "PLUGIN_OPENQQ_POST_MEDIA_DATA",
    "PLUGIN_OPENQQ_POST_QUEUE",
    "PLUGIN_OPENQQ_POST_RETRY",
    "PLUGIN_OPENQQ_POST_RETRY_MAX",
    "PLUGIN_OPENQQ_POST_RETRY_MIN",
    "PLUGIN_OPENQQ_POST_STDOUT",
];

/// The variables with our prefix, without it.
pub(super) struct Vars {
    ours: BTreeMap<String, OsString>,
    system_tmpdir: PathBuf,
    /// The folder for what must outlive us: systemd's, where it gave us one.
    pub(super) state_directory: Option<OsString>,
}

impl Vars {
    fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut found = Self { ours: BTreeMap::new(), system_tmpdir: "/tmp".into(), state_directory: None };
        let mut of_systemd = None;
        for (name, value) in vars {
            match name.to_str() {
                _ if value.is_empty() => {}
                // The folder that std::env::temp_dir takes. It must be text, for the state file names it.
                Some("TMPDIR") if value.to_str().is_some() => found.system_tmpdir = value.into(),
                // With several StateDirectory= the variable is a list; ours is the first.
                Some("STATE_DIRECTORY") => {
                    of_systemd = std::env::split_paths(&value).next().map(PathBuf::into_os_string);
                }
                Some(name) => {
                    if let Some(name) = name.strip_prefix(PREFIX) {
                        found.ours.insert(name.to_owned(), value);
                    }
                }
                None => {}
            }
        }
        found.state_directory = of_systemd.or_else(|| found.ours.get("STATE_DIRECTORY").cloned());
        found
    }

    /// The name of a setting of the original's plugin: with the plugin's prefix, if it is there, else without.
    pub(super) fn plugin(&self, name: &'static str) -> &'static str {
        const LONG: &str = "PLUGIN_OPENQQ_";
        let named = PLUGIN_SETTINGS.iter().find(|long| long.strip_prefix(LONG) == Some(name));
        named.filter(|long| self.ours.contains_key(**long)).map_or(name, |long| *long)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let Some(value) = self.ours.get(name) else { return Ok(None) };
        value.to_str().map(|text| Some(text.to_owned())).ok_or(SettingsError::NotUtf8(name))
    }

    /// The value as `read` takes it; `what` says what that is.
    pub(super) fn checked<T>(
        &self,
        name: &'static str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        self.text(name)?.map(|text| read(&text).ok_or(SettingsError::Invalid(name, what))).transpose()
    }

    fn parsed<T: FromStr>(&self, name: &'static str, what: &'static str) -> Result<Option<T>, SettingsError> {
        self.checked(name, what, |text| text.parse().ok())
    }

    fn count(&self, name: &'static str) -> Result<Option<u32>, SettingsError> {
        self.parsed(name, "a whole number")
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, SettingsError> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("0") => Ok(Some(false)),
            Some("1") => Ok(Some(true)),
            Some(_) => Err(SettingsError::Invalid(name, "0 or 1")),
        }
    }

    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<Duration>, SettingsError> {
        const DAY: f64 = 86_400.0;
        let invalid = SettingsError::Invalid(name, "a number of seconds, from 0 to 86400");
        match self.parsed::<f64>(name, "a number of seconds, from 0 to 86400")? {
            None => Ok(None),
            Some(seconds) if (0.0..=DAY).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
            Some(_) => Err(invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_vars(vars.iter().map(|(name, value)| {
            let name = if *name == "TMPDIR" { (*name).to_owned() } else { format!("{PREFIX}{name}") };
            (name.into(), (*value).into())
        }))
    }

    const LEAST: [(&str, &str); 2] = [("ACCOUNT", "小明"), ("PLUGIN_OPENQQ_PORT", "5000")];

    fn with(more: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        read(&[&LEAST, more].concat())
    }

    #[test]
    fn the_least_gives_the_originals_names() {
        let settings = read(&LEAST).unwrap();
        assert_eq!(settings.files.state.to_str(), Some("/tmp/mojo_webqq_state_小明.json"));
        assert_eq!(settings.files.qrcode.to_str(), Some("/tmp/mojo_webqq_qrcode_小明.jpg"));
        assert_eq!(settings.files.pid.to_str(), Some("/tmp/mojo_webqq_pid_小明.pid"));
        assert_eq!(settings.files.cookie.to_str(), Some("/tmp/mojo_webqq_cookie_小明.dat"));
        assert_eq!(settings.log.level, LogLevel::Info);
        assert_eq!(settings.send_interval, Duration::from_secs(3));
        assert!(settings.reports.post_api.is_none() && settings.controller_pid.is_none());
    }

    #[test]
    fn files_follow_the_folder_unless_set() {
        let settings = with(&[("TMPDIR", "/system")]).unwrap();
        assert_eq!(settings.files.tmpdir.to_str(), Some("/system"));
        let ours = (OsString::from("MOJO_WEBQQ_TMPDIR"), OsString::from("/ours"));
        let pid = (OsString::from("MOJO_WEBQQ_PID_PATH"), OsString::from("/run/x.pid"));
        let least = LEAST.iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), (*value).into()));
        let settings = Settings::from_vars(least.chain([ours, pid])).unwrap();
        assert_eq!(settings.files.state.to_str(), Some("/ours/mojo_webqq_state_小明.json"));
        assert_eq!(settings.files.pid.to_str(), Some("/run/x.pid"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let said = |vars: &[(&str, &str)]| with(vars).err().unwrap().to_string();
        for (name, value) in [
            ("PLUGIN_OPENQQ_PORT", "0"),
            ("PLUGIN_OPENQQ_PORT", "65536"),
            ("CONTROLLER_PID", "-4"),
            ("LOG_LEVEL", "loud"),
            ("LOG_CONSOLE", "yes"),
            ("SEND_INTERVAL", "-1"),
            ("SEND_INTERVAL", "NaN"),
            ("SANDBOX_LOGIN_TIME", "inf"),
            ("SANDBOX_LOGIN", "never"),
            ("SANDBOX_FAULT_FAIL", "0"),
            ("QRCODE_COUNT_MAX", "many"),
            ("KEEP_COOKIE", "1.5"),
            ("POST_QUEUE", "0"),
            ("PLUGIN_OPENQQ_POST_QUEUE", "100001"),
            ("POST_RETRY", "-1"),
            ("POST_EVENT_LIST", "login,logout"),
            ("CHECK_EVENT_LIST_MAX_SIZE", "0"),
            ("POLL_API", "nowhere"),
            ("PLUGIN_OPENQQ_POST_API", "not a URL"),
            ("PLUGIN_OPENQQ_POST_API", "ftp://user:secret@host/"),
        ] {
            let said = said(&[(name, value)]);
            assert!(said.contains(&format!("MOJO_WEBQQ_{name} must be")), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
        assert_eq!(read(&LEAST[..1]).err(), Some(SettingsError::Missing("PLUGIN_OPENQQ_PORT")));
        assert_eq!(read(&LEAST[1..]).err(), Some(SettingsError::Missing("ACCOUNT")));
        assert!(matches!(with(&[("ACCOUNT", "a/b")]), Err(SettingsError::Account(NameError::Slash))));
    }

    #[test]
    fn empty_is_unset() {
        let settings =
            with(&[("PLUGIN_OPENQQ_POST_API", ""), ("LOG_LEVEL", ""), ("CONTROLLER_PID", "")]).unwrap();
        assert!(settings.reports.post_api.is_none() && settings.controller_pid.is_none());
    }
}
