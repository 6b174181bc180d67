//! What the settings of all networks have in common whose accounts are logged in in another program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{SettingsError, Vars};
use crate::model::name::ClientName;

/// The settings of an account that is logged in in another program.
pub struct RemoteSettings {
    /// The file that says to which QQ account the client belongs.
    pub binding: PathBuf,
    /// The file with the numbers that applications know messages by.
    pub message_ids: PathBuf,
    /// The QQ account, where the start says which.
    pub uin: Option<u64>,
    /// The controller's registration of the account: with another one, the client forgets its QQ account.
    pub registration: Option<String>,
    /// The file with the implementation's token. It is read again at each connection, since the operator may change it.
    pub token_file: Option<PathBuf>,
    /// The image into which the implementation writes its login code.
    pub qrcode: Option<PathBuf>,
    /// The time limit of a call.
    pub call_time: Duration,
    /// The pause between two loads of the lists.
    pub refresh: Duration,
    /// Whether messages that the account sends from another device are reported.
    pub message_sync: bool,
}

/// The variables that each network has under its own name.
pub(super) struct RemoteVariables {
    pub(super) token_file: &'static str,
    pub(super) qrcode_path: &'static str,
    pub(super) timeout: &'static str,
    pub(super) refresh: &'static str,
}

impl RemoteSettings {
    pub(super) fn from_vars(
        vars: &Vars,
        names: &RemoteVariables,
        account: &ClientName,
        tmpdir: &Path,
    ) -> Result<Self, SettingsError> {
        let state = vars.state_directory.clone().map_or_else(|| tmpdir.to_owned(), PathBuf::from);
        Ok(Self {
            binding: state.join(format!("mojo_webqq_binding_{account}.json")),
            message_ids: state.join(format!("mojo_webqq_message_ids_{account}")),
            uin: vars.checked("UIN", "a QQ number", |text| text.parse().ok().filter(|uin| *uin > 0))?,
            registration: vars.text("REGISTRATION")?,
            token_file: vars.text(names.token_file)?.map(PathBuf::from),
            qrcode: vars.text(names.qrcode_path)?.map(PathBuf::from),
            // With 0 each call would time out before it is sent.
            call_time: vars.pause(names.timeout)?.unwrap_or(Duration::from_secs(30)),
            refresh: vars.pause(names.refresh)?.unwrap_or(Duration::from_secs(600)),
            message_sync: vars.flag("ALLOW_MESSAGE_SYNC")?.unwrap_or(false),
        })
    }
}
