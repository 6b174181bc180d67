//! [`Vars`]: the variables of a client, and how their values are read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{PREFIX, SettingsError};

/// The shortest pause before something is done again. It bounds the load where a pause is configured as 0.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The settings of the original's plugin, under the names by which its template reads them.
const PLUGIN_SETTINGS: [&str; 13] = [
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
    "PLUGIN_OPENQQ_POST_TIMEOUT",
];

/// The variables that begin with [`PREFIX`], by their names without it.
pub(super) struct Vars {
    ours: BTreeMap<String, OsString>,
    /// The names that were asked for.
    asked: RefCell<BTreeSet<&'static str>>,
    pub(super) system_tmpdir: PathBuf,
    /// The folder for files that outlive the client: systemd's, where it gave one.
    pub(super) state_directory: Option<OsString>,
}

impl Vars {
    /// Takes the variables with [`PREFIX`] from an environment, and the two of systemd and the system that count besides.
    pub(super) fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut found = Self {
            ours: BTreeMap::new(),
            asked: RefCell::default(),
            system_tmpdir: "/tmp".into(),
            state_directory: None,
        };
        let mut of_systemd = None;
        for (name, value) in vars {
            match name.to_str() {
                // First of all arms, so that an empty TMPDIR does not replace the default.
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
        // After the loop, as the order of variables is arbitrary. A unit knows its folder from systemd alone, a child process
        // from the controller.
        found.state_directory = of_systemd.or_else(|| found.ours.get("STATE_DIRECTORY").cloned());
        found
    }

    /// The name under which a setting of the original's plugin is given: with the plugin's prefix, which wins, or without.
    pub(super) fn plugin(&self, name: &'static str) -> &'static str {
        const LONG: &str = "PLUGIN_OPENQQ_";
        // Known under either name.
        self.asked.borrow_mut().insert(name);
        let named = PLUGIN_SETTINGS.iter().find(|long| long.strip_prefix(LONG) == Some(name));
        named.filter(|long| self.ours.contains_key(**long)).map_or(name, |long| *long)
    }

    /// The names of those that were not asked for: they have no effect.
    pub(super) fn unused(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        self.ours.keys().filter(|name| !asked.contains(name.as_str())).cloned().collect()
    }

    /// The value as text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        self.asked.borrow_mut().insert(name);
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

    /// The value, parsed; `what` says what it must be.
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        what: &'static str,
    ) -> Result<Option<T>, SettingsError> {
        self.checked(name, what, |text| text.parse().ok())
    }

    /// The value as a number.
    pub(super) fn count(&self, name: &'static str) -> Result<Option<u32>, SettingsError> {
        self.parsed(name, "a whole number")
    }

    /// The value as a switch.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, SettingsError> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("0") => Ok(Some(false)),
            Some("1") => Ok(Some(true)),
            Some(_) => Err(SettingsError::Invalid(name, "0 or 1")),
        }
    }

    /// The value as a duration of at most a day.
    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<Duration>, SettingsError> {
        const DAY: f64 = 86_400.0;
        let invalid = SettingsError::Invalid(name, "a number of seconds, from 0 to 86400");
        match self.parsed::<f64>(name, "a number of seconds, from 0 to 86400")? {
            None => Ok(None),
            // `from_secs_f64` panics on what this leaves out: NaN, infinity and negative numbers.
            Some(seconds) if (0.0..=DAY).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
            Some(_) => Err(invalid),
        }
    }

    /// The value as the time after which something is done again: like [`Vars::seconds`], but at least 10 ms, since 0 would
    /// make a loop without a pause.
    pub(super) fn pause(&self, name: &'static str) -> Result<Option<Duration>, SettingsError> {
        Ok(self.seconds(name)?.map(|pause| pause.max(MIN_PAUSE)))
    }
}
