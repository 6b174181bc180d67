//! `get_client_info`, `stop_client` and `relogin`: what is about this process and its login.

use serde_json::json;

use super::reply::{self, Reply};
use crate::client::endings::{RELOGIN_DELAY, STOP_DELAY};
use crate::client::events::unix_seconds;
use crate::client::settings::Settings;

/// What the API says about this process.
pub(in crate::client) struct Own {
    account: String,
    start_time: u64,
    /// Whether requests are logged.
    pub(super) http_debug: bool,
    log_encoding: Option<String>,
    log_path: Option<String>,
    log_level: &'static str,
}

impl Own {
    /// What `settings` say; `start_time` in Unix seconds.
    pub(in crate::client) fn new(settings: &Settings, start_time: u64) -> Self {
        Self {
            account: settings.account.to_string(),
            start_time,
            http_debug: settings.http_debug,
            log_encoding: settings.log.encoding.clone(),
            log_path: settings.log.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            log_level: settings.log.level.as_str(),
        }
    }

    fn runtime(&self) -> u64 {
        // The clock may have been set back.
        unix_seconds().saturating_sub(self.start_time)
    }

    /// The answer to `get_client_info`.
    pub(super) fn client_info(&self) -> Reply {
        Reply::ok(json!({
            "code": reply::OK,
            "status": "success",
            "account": self.account,
            "pid": std::process::id(),
            "os": std::env::consts::OS,
            "version": env!("CARGO_PKG_VERSION"),
            "starttime": self.start_time,
            "runtime": self.runtime(),
            "http_debug": u8::from(self.http_debug).to_string(),
            "log_encoding": self.log_encoding,
            "log_path": self.log_path,
            "log_level": self.log_level,
        }))
    }

    /// The answer to `stop_client`.
    pub(super) fn will_stop(&self) -> Reply {
        let pid = std::process::id();
        Reply::ok(json!({
            "code": reply::OK,
            "status": format!("success, client({pid}) will stop in {} seconds", STOP_DELAY.as_secs()),
            "account": self.account,
            "pid": pid,
            "starttime": self.start_time,
            "runtime": self.runtime(),
        }))
    }

    /// The answer to `relogin`.
    pub(super) fn will_relogin(&self) -> Reply {
        let (pid, seconds) = (std::process::id(), RELOGIN_DELAY.as_secs());
        Reply::ok(json!({
            "code": reply::OK,
            "status": format!("success, client({pid}) will relogin in {seconds} seconds"),
            "account": self.account,
        }))
    }
}
