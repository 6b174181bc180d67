//! `get_client_info`, `stop_client` and `relogin`: calls about this process and its login.

use serde_json::json;

use super::call::RequestParams;
use super::reply::{self, ApiReply};
use crate::client::process::shutdown::{RELOGIN_DELAY, STOP_DELAY};
use crate::client::process::unix_seconds;
use crate::client::settings::ClientSettings;

/// Whether a `relogin` removes the binding to the account.
pub(crate) fn forgets_account(call: &RequestParams) -> bool {
    call.get("forget") == Some("1")
}

/// The facts about this process that the API shows.
pub(crate) struct ProcessInfo {
    account: String,
    start_time: u64,
    /// Whether requests are logged.
    pub(crate) http_debug: bool,
    log_encoding: Option<String>,
    log_path: Option<String>,
    log_level: &'static str,
}

impl ProcessInfo {
    /// From `settings`; `start_time` in Unix seconds.
    pub(crate) fn new(settings: &ClientSettings, start_time: u64) -> Self {
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
    pub(crate) fn client_info(&self) -> ApiReply {
        ApiReply::ok(json!({
            "code": reply::OK,
            "status": "success",
            "account": self.account,
            "pid": std::process::id(),
            "os": std::env::consts::OS,
            "version": env!("CARGO_PKG_VERSION"),
            "starttime": self.start_time,
            "runtime": self.runtime(),
            // Text, as in the original's state file.
            "http_debug": u8::from(self.http_debug).to_string(),
            "log_encoding": self.log_encoding,
            "log_path": self.log_path,
            "log_level": self.log_level,
        }))
    }

    /// The answer to `stop_client`.
    pub(crate) fn will_stop(&self) -> ApiReply {
        let pid = std::process::id();
        ApiReply::ok(json!({
            "code": reply::OK,
            "status": format!("success, client({pid}) will stop in {} seconds", STOP_DELAY.as_secs()),
            "account": self.account,
            "pid": pid,
            "starttime": self.start_time,
            "runtime": self.runtime(),
        }))
    }

    /// The answer to `relogin`.
    pub(crate) fn will_relogin(&self) -> ApiReply {
        let (pid, seconds) = (std::process::id(), RELOGIN_DELAY.as_secs());
        ApiReply::ok(json!({
            "code": reply::OK,
            "status": format!("success, client({pid}) will relogin in {seconds} seconds"),
            "account": self.account,
        }))
    }
}
