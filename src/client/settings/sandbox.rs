//! What can be set on the sandbox.

use std::path::PathBuf;
use std::time::Duration;

use super::{SettingsError, Vars};

/// What can be set on the sandbox.
pub(in crate::client) struct SandboxSettings {
    /// The file of the world; none: the one that is built in.
    pub world: Option<PathBuf>,
    /// The folder in which clients of one world meet; none: one in `tmpdir`.
    pub network: Option<PathBuf>,
    /// Whether a login waits for somebody who scans and confirms it.
    pub scan: bool,
    /// How long a login takes that goes on by itself.
    pub login_time: Duration,
    /// How long a login code holds.
    pub qrcode_expire: Duration,
    /// What goes wrong on purpose.
    pub faults: FaultSettings,
}

/// What goes wrong on purpose; none: nothing.
#[derive(Clone, Copy, Default)]
pub(in crate::client) struct FaultSettings {
    /// After how long the connection of a login is lost.
    pub drop: Option<Duration>,
    /// After how long a login is no longer good.
    pub expire: Option<Duration>,
    /// Every how many messages one fails.
    pub fail: Option<u32>,
    /// How long each message takes.
    pub delay: Option<Duration>,
}

impl SandboxSettings {
    pub(super) fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let modes = |word: &str| match word {
            "auto" => Some(false),
            "scan" => Some(true),
            _ => None,
        };
        let every = |word: &str| word.parse().ok().filter(|every| *every > 0);
        Ok(Self {
            world: vars.text("SANDBOX_WORLD")?.map(PathBuf::from),
            network: vars.text("SANDBOX_NETWORK")?.map(PathBuf::from),
            scan: vars.checked("SANDBOX_LOGIN", "auto or scan", modes)?.unwrap_or(false),
            login_time: vars.seconds("SANDBOX_LOGIN_TIME")?.unwrap_or(Duration::from_secs(3)),
            qrcode_expire: vars.seconds("QRCODE_EXPIRE")?.unwrap_or(Duration::from_secs(120)),
            faults: FaultSettings {
                drop: vars.seconds("SANDBOX_FAULT_DROP")?,
                expire: vars.seconds("SANDBOX_FAULT_EXPIRE")?,
                fail: vars.checked("SANDBOX_FAULT_FAIL", "a whole number from 1 on", every)?,
                delay: vars.seconds("SANDBOX_FAULT_DELAY")?,
            },
        })
    }
}
