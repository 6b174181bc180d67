//! [`ClientSettings`]: the settings of the built-in client, read once at its start from `MOJO_WEBQQ_*` variables.
//!
//! The controller reads the same settings before it starts a client, so that a start that can't succeed is refused with the
//! reason. The names are those of the original's templates, so that a controller starts either program in the same way. An
//! empty value counts as unset, as in the original. No message repeats a value, since several are or contain secrets.

mod applications;
mod error;
mod event_filter;
mod milky;
mod onebot;
mod remote;
mod reports;
mod sandbox;
mod vars;

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;

use crate::backends::BackendKind;
use crate::config::{Endpoint, LogLevel};
pub use crate::config::{SocketRole, SocketUrl};
use crate::model::name::ClientName;
pub use applications::{
    ApplicationFileError, ApplicationSettings, ApplicationToken, PostSecret, SecretSource, TokenSource,
};
pub use error::SettingsError;
pub use event_filter::{CODE, EventFilter};
pub use milky::{EventAddress, MilkySettings};
pub use onebot::{ConnectionMode, OneBotSettings};
pub use remote::RemoteSettings;
pub use reports::ReportSettings;
pub use sandbox::{FaultSettings, SandboxSettings};
use vars::Vars;

/// What every variable of a client begins with.
pub const PREFIX: &str = "MOJO_WEBQQ_";

/// The default of [`ClientSettings::qrcode_count_max`], which is the original's.
const QRCODE_COUNT_MAX: u32 = 10;

/// The default of [`OutboxSettings::max_messages`].
const SEND_QUEUE: usize = 100;
/// The largest value of [`OutboxSettings::max_messages`].
const MAX_SEND_QUEUE: usize = 10_000;

/// Everything that can be set on a client.
pub struct ClientSettings {
    /// The name of the account.
    pub account: ClientName,
    /// The port of the client's API on 127.0.0.1.
    pub port: NonZeroU16,
    /// The controller, where it is the parent of the client and the client ends with it.
    pub controller_pid: Option<Pid>,
    /// The client's files.
    pub files: AccountFiles,
    /// The log.
    pub log: LogSettings,
    /// Whether each request is logged.
    pub http_debug: bool,
    /// Which reports are posted, and where.
    pub reports: ReportSettings,
    /// The URL that is polled for commands.
    pub poll_api: Option<Endpoint>,
    /// The pause after each answer of `poll_api`.
    pub poll_interval: Duration,
    /// The queue of outgoing messages.
    pub outbox: OutboxSettings,
    /// How many login codes are shown in a row, unscanned, before the client gives up.
    pub qrcode_count_max: u32,
    /// What is behind the API.
    pub backend: BackendSettings,
    /// The applications that speak OneBot v11 to the client.
    pub applications: ApplicationSettings,
    /// Settings of the original that have no effect.
    pub legacy: LegacySettings,
    /// The names of variables that no setting has, without [`PREFIX`].
    pub unused: Vec<String>,
}

/// The network behind the API, with its settings.
pub enum BackendSettings {
    /// The sandbox.
    Sandbox(SandboxSettings),
    /// OneBot v11.
    OneBot(OneBotSettings),
    /// Milky.
    Milky(MilkySettings),
}

impl BackendSettings {
    /// Which network it is.
    pub fn kind(&self) -> BackendKind {
        match self {
            Self::Sandbox(_) => BackendKind::Sandbox,
            Self::OneBot(_) => BackendKind::OneBot,
            Self::Milky(_) => BackendKind::Milky,
        }
    }
}

/// The queue of outgoing messages.
pub struct OutboxSettings {
    /// How many messages may wait.
    pub max_messages: usize,
    /// The least time between two messages.
    pub interval: Duration,
    /// The folder of queued messages whose callers do not wait.
    pub folder: PathBuf,
}

/// The files of one account.
pub struct AccountFiles {
    /// The folder of all files that are not set one by one.
    pub tmpdir: PathBuf,
    /// The state file, JSON.
    pub state: PathBuf,
    /// The image of the login code, while there is one. PNG, though the original's name for it ends in `.jpg`.
    pub qrcode: PathBuf,
    /// The pid file, which is also the lock against a second client of the account.
    pub pid: PathBuf,
    /// The file by which a backend logs in again without a scan.
    pub cookie: PathBuf,
}

/// The log of the client.
pub struct LogSettings {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// A file to append to.
    pub path: Option<PathBuf>,
    /// Whether to log on standard output; unset: only if there is no [`LogSettings::path`].
    pub console: Option<bool>,
    /// The requested encoding. The state file repeats it; lines are always UTF-8.
    pub encoding: Option<String>,
    /// Whether lines on a terminal have no colours.
    pub disable_color: Option<bool>,
}

/// Settings of the original that have no effect here. The state file repeats them, since programs look for them there.
pub struct LegacySettings {
    /// `mode`.
    pub mode: Option<String>,
    /// `keep_cookie`.
    pub keep_cookie: Option<u32>,
    /// `ua_retry_times`.
    pub ua_retry_times: Option<u32>,
}

impl ClientSettings {
    /// Reads the settings from the variables of an environment.
    ///
    /// # Errors
    /// The first variable that is missing or cannot be used.
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, SettingsError> {
        let vars = Vars::new(vars);
        let account = vars.text("ACCOUNT")?.ok_or(SettingsError::Missing("ACCOUNT"))?;
        let account = ClientName::new(account).map_err(SettingsError::Account)?;
        let port = vars
            .parsed("PLUGIN_OPENQQ_PORT", "a port, from 1 to 65535")?
            .ok_or(SettingsError::Missing("PLUGIN_OPENQQ_PORT"))?;
        let controller_pid: Option<i32> = vars.parsed("CONTROLLER_PID", "a process ID")?;
        let controller_pid = match controller_pid {
            None => None,
            // `Pid::from_raw` takes 0 for no process and must not get a negative number.
            Some(pid) if pid > 0 => Pid::from_raw(pid),
            Some(_) => return Err(SettingsError::Invalid("CONTROLLER_PID", "a process ID")),
        };
        let files = AccountFiles::from_vars(&vars, &account)?;
        // Queued messages outlive the client. systemd removes the runtime folder of a unit, which is its `tmpdir`, when the
        // unit ends.
        let lasting = vars.state_directory.clone().map_or_else(|| files.tmpdir.clone(), PathBuf::from);
        let queue = |text: &str| text.parse().ok().filter(|count| (1..=MAX_SEND_QUEUE).contains(count));
        let outbox = OutboxSettings {
            max_messages: vars
                .checked("SEND_QUEUE", "a number from 1 to 10000", queue)?
                .unwrap_or(SEND_QUEUE),
            interval: vars.seconds("SEND_INTERVAL")?.unwrap_or(Duration::from_secs(3)),
            folder: lasting.join(format!("mojo_webqq_outbox_{account}")),
        };
        let kind = match vars.text("BACKEND")? {
            Some(name) => BackendKind::from_name(&name).ok_or(SettingsError::Backend)?,
            None => BackendKind::default(),
        };
        let backend = match kind {
            BackendKind::Sandbox => BackendSettings::Sandbox(SandboxSettings::from_vars(&vars)?),
            BackendKind::OneBot => {
                BackendSettings::OneBot(OneBotSettings::from_vars(&vars, &account, &files.tmpdir)?)
            }
            BackendKind::Milky => {
                BackendSettings::Milky(MilkySettings::from_vars(&vars, &account, &files.tmpdir)?)
            }
        };
        let mut settings = Self {
            reports: ReportSettings::from_vars(&vars, &account, &files.tmpdir)?,
            files,
            log: LogSettings::from_vars(&vars)?,
            account,
            port,
            controller_pid,
            http_debug: vars.flag("HTTP_DEBUG")?.unwrap_or(false),
            poll_api: vars.checked(vars.plugin("POLL_API"), "an http or https URL", Endpoint::new)?,
            poll_interval: vars.pause(vars.plugin("POLL_INTERVAL"))?.unwrap_or(Duration::from_secs(5)),
            outbox,
            qrcode_count_max: vars.count("QRCODE_COUNT_MAX")?.unwrap_or(QRCODE_COUNT_MAX),
            backend,
            applications: ApplicationSettings::from_vars(&vars)?,
            legacy: LegacySettings {
                mode: vars.text("MODE")?,
                keep_cookie: vars.count("KEEP_COOKIE")?,
                ua_retry_times: vars.count("UA_RETRY_TIMES")?,
            },
            unused: Vec::new(),
        };
        // When all have been asked for.
        settings.unused = vars.unused();
        Ok(settings)
    }
}

impl AccountFiles {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::NameError;

    fn read(vars: &[(&str, &str)]) -> Result<ClientSettings, SettingsError> {
        ClientSettings::from_vars(vars.iter().map(|(name, value)| {
            let name = if *name == "TMPDIR" { (*name).to_owned() } else { format!("{PREFIX}{name}") };
            (name.into(), (*value).into())
        }))
    }

    const LEAST: [(&str, &str); 2] = [("ACCOUNT", "小明"), ("PLUGIN_OPENQQ_PORT", "5000")];

    fn with(more: &[(&str, &str)]) -> Result<ClientSettings, SettingsError> {
        read(&[&LEAST, more].concat())
    }

    #[test]
    fn minimal_environment_gives_the_originals_file_names() {
        let settings = read(&LEAST).unwrap();
        assert_eq!(settings.files.state.to_str(), Some("/tmp/mojo_webqq_state_小明.json"));
        assert_eq!(settings.files.qrcode.to_str(), Some("/tmp/mojo_webqq_qrcode_小明.jpg"));
        assert_eq!(settings.files.pid.to_str(), Some("/tmp/mojo_webqq_pid_小明.pid"));
        assert_eq!(settings.files.cookie.to_str(), Some("/tmp/mojo_webqq_cookie_小明.dat"));
        assert_eq!(settings.log.level, LogLevel::Info);
        assert_eq!(settings.outbox.interval, Duration::from_secs(3));
        assert!(settings.reports.post_api.is_none() && settings.controller_pid.is_none());
    }

    #[test]
    fn files_follow_the_folder_unless_set() {
        let settings = with(&[("TMPDIR", "/system")]).unwrap();
        assert_eq!(settings.files.tmpdir.to_str(), Some("/system"));
        let ours = (OsString::from("MOJO_WEBQQ_TMPDIR"), OsString::from("/ours"));
        let pid = (OsString::from("MOJO_WEBQQ_PID_PATH"), OsString::from("/run/x.pid"));
        let least = LEAST.iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), (*value).into()));
        let settings = ClientSettings::from_vars(least.chain([ours, pid])).unwrap();
        assert_eq!(settings.files.state.to_str(), Some("/ours/mojo_webqq_state_小明.json"));
        assert_eq!(settings.files.pid.to_str(), Some("/run/x.pid"));
    }

    #[test]
    fn invalid_variable_is_named_without_its_value() {
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
            ("POST_TIMEOUT", "0"),
            ("PLUGIN_OPENQQ_POST_TIMEOUT", "3601"),
            ("POST_TIMEOUT", "NaN"),
            ("POST_EVENT_LIST", "login,logout"),
            ("CHECK_EVENT_LIST_MAX_SIZE", "0"),
            ("POLL_API", "nowhere"),
            ("PLUGIN_OPENQQ_POST_API", "not a URL"),
            ("PLUGIN_OPENQQ_POST_API", "ftp://user:secret@host/"),
            ("ONEBOT_SERVER_TOKEN", "a secret"),
            ("ONEBOT_SERVER_CONNECT", "http://user:secret@host/"),
            ("ONEBOT_SERVER_POST", "ws://user:secret@host/"),
            ("ONEBOT_SERVER_SECRET", "a secret"),
            ("ONEBOT_SERVER_HOLD", "3601"),
            ("ONEBOT_SERVER_HEARTBEAT", "-1"),
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
    fn pause_of_0_is_no_loop() {
        let settings = with(&[
            ("BACKEND", "onebot"),
            ("ONEBOT_URL", "ws://127.0.0.1:1/"),
            ("ONEBOT_TIMEOUT", "0"),
            ("ONEBOT_REFRESH", "0"),
            ("POST_RETRY_MIN", "0"),
            ("PLUGIN_OPENQQ_POST_RETRY_MAX", "0"),
            ("POLL_INTERVAL", "0"),
        ])
        .unwrap();
        let BackendSettings::OneBot(own) = &settings.backend else { panic!("it is asked for") };
        let (first, longest) = settings.reports.pauses;
        for pause in [own.remote.call_time, own.remote.refresh, first, longest, settings.poll_interval] {
            assert_eq!(pause, Duration::from_millis(10));
        }
        let settings =
            with(&[("QRCODE_EXPIRE", "0"), ("SANDBOX_FAULT_DROP", "0"), ("SANDBOX_FAULT_EXPIRE", "0")])
                .unwrap();
        let BackendSettings::Sandbox(own) = &settings.backend else { panic!("it is the default") };
        for pause in [Some(own.qrcode_expire), own.faults.drop, own.faults.expire] {
            assert_eq!(pause, Some(Duration::from_millis(10)));
        }
    }

    #[test]
    fn empty_variable_is_unset() {
        let settings =
            with(&[("PLUGIN_OPENQQ_POST_API", ""), ("LOG_LEVEL", ""), ("CONTROLLER_PID", "")]).unwrap();
        assert!(settings.reports.post_api.is_none() && settings.controller_pid.is_none());
    }
}
