//! The settings of the sandbox.

use std::path::PathBuf;
use std::time::Duration;

use super::{SettingsError, Vars};

/// The settings of the sandbox.
pub struct SandboxSettings {
    /// The file that describes the world; without one, the built-in world.
    pub world: Option<PathBuf>,
    /// The folder in which clients of one world find each other; without one, a folder in `tmpdir`.
    pub network: Option<PathBuf>,
    /// Whether a login waits until its code is scanned and confirmed.
    pub scan: bool,
    /// How long a login without a scan takes.
    pub login_time: Duration,
    /// How long a login code is valid.
    pub qrcode_expire: Duration,
    /// The faults that are injected.
    pub faults: FaultSettings,
}

/// Faults that are injected. None: no fault.
#[derive(Clone, Copy, Default)]
pub struct FaultSettings {
    /// After which time a login's connection is lost.
    pub drop: Option<Duration>,
    /// After which time a login expires.
    pub expire: Option<Duration>,
    /// One in this many messages fails.
    pub fail: Option<u32>,
    /// How long sending a message takes.
    pub delay: Option<Duration>,
}

impl SandboxSettings {
    pub(super) fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let modes = |word: &str| match word {
            "auto" => Some(false),
            "scan" => Some(true),
            _ => None,
        };
        // 0 would silently mean that no message fails.
        let every = |word: &str| word.parse().ok().filter(|every| *every > 0);
        Ok(Self {
            world: vars.text("SANDBOX_WORLD")?.map(PathBuf::from),
            network: vars.text("SANDBOX_NETWORK")?.map(PathBuf::from),
            scan: vars.checked("SANDBOX_LOGIN", "auto or scan", modes)?.unwrap_or(false),
            login_time: vars.seconds("SANDBOX_LOGIN_TIME")?.unwrap_or(Duration::from_secs(3)),
            qrcode_expire: vars.pause("QRCODE_EXPIRE")?.unwrap_or(Duration::from_secs(120)),
            faults: FaultSettings {
                drop: vars.pause("SANDBOX_FAULT_DROP")?,
                expire: vars.pause("SANDBOX_FAULT_EXPIRE")?,
                fail: vars.checked("SANDBOX_FAULT_FAIL", "a whole number from 1 on", every)?,
                delay: vars.seconds("SANDBOX_FAULT_DELAY")?,
            },
        })
    }
}
