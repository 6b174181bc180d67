//! What the launch file of an implementation says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::environ::PREFIX;
use crate::model::name::ClientName;

/// The values of one launch.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchValues {
    /// The account.
    pub name: ClientName,
    /// The operator's name for the implementation.
    pub implementation: String,
    /// The port of its API.
    pub port: u16,
    /// The token of its API.
    pub token: String,
    /// The number of the account, or nothing.
    pub uin: String,
    /// The content of `auth_token_file`, or nothing.
    pub auth_token: String,
    /// The request to drop the saved login, or nothing. It is carried out once, however often the unit is started with it.
    pub forget: String,
}

impl fmt::Debug for LaunchValues {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchValues")
            .field("name", &self.name)
            .field("implementation", &self.implementation)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// What a child process of the controller needs besides: its folders, which systemd makes for a unit.
#[derive(Clone, Debug)]
pub struct ImplementationChild {
    /// The operator's name for the implementation.
    pub name: String,
    /// This program, which is the launcher.
    pub executable: PathBuf,
    /// The only file of the configuration, where the controller has one.
    pub config: Option<PathBuf>,
    /// Its home.
    pub state: PathBuf,
    /// The folder of its login code.
    pub runtime: PathBuf,
    /// The variables by which the next controller recognises it where this one was killed before it wrote down the process.
    pub identity: Vec<(OsString, OsString)>,
}

impl ImplementationChild {
    /// The state file that is in its environment. Only one account has it.
    pub fn state_file(&self) -> Option<PathBuf> {
        let variable = format!("{PREFIX}STATE_PATH");
        let value = self.identity.iter().find(|(name, _)| *name == *variable);
        value.map(|(_, file)| file.into())
    }
}

const IMPLEMENTATION: &str = "IMPLEMENTATION";
const PORT: &str = "IMPLEMENTATION_PORT";
const TOKEN: &str = "IMPLEMENTATION_TOKEN";
const UIN: &str = "UIN";
const AUTH_TOKEN: &str = "IMPLEMENTATION_AUTH_TOKEN";
const FORGET: &str = "IMPLEMENTATION_FORGET";
const ACCOUNT: &str = "ACCOUNT";

impl LaunchValues {
    /// The values as the variables of a launch file. They become no variables of a process.
    pub fn to_env(&self) -> Vec<(OsString, OsString)> {
        let port = self.port.to_string();
        let all = [
            (ACCOUNT, self.name.as_str()),
            (IMPLEMENTATION, &self.implementation),
            (PORT, &port),
            (TOKEN, &self.token),
            (UIN, &self.uin),
            (AUTH_TOKEN, &self.auth_token),
            (FORGET, &self.forget),
        ];
        all.map(|(name, value)| (format!("{PREFIX}{name}").into(), value.into())).into()
    }

    /// Reads them back.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(super) fn from_env(env: &BTreeMap<OsString, OsString>) -> Result<Self, &'static str> {
        let value = |name: &str| {
            let value = env.get(OsStr::new(&format!("{PREFIX}{name}")))?;
            std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
        };
        // Some kinds have no number and no second secret, so only those two may be empty.
        let filled = |name| value(name).filter(|value| !value.is_empty());
        let name =
            filled(ACCOUNT).and_then(|name| ClientName::new(name).ok()).ok_or("which account it is for")?;
        Ok(Self {
            name,
            implementation: filled(IMPLEMENTATION).ok_or("which implementation it is for")?,
            port: filled(PORT).and_then(|port| port.parse().ok()).ok_or("its port")?,
            token: filled(TOKEN).ok_or("its token")?,
            uin: value(UIN).unwrap_or_default(),
            auth_token: value(AUTH_TOKEN).unwrap_or_default(),
            forget: value(FORGET).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_stay_out_of_debug_output() {
        let values = LaunchValues {
            name: ClientName::new("小红").unwrap(),
            implementation: "yogurt".into(),
            port: 15_000,
            token: "geheim".into(),
            uin: "123456789".into(),
            auth_token: "secret".into(),
            forget: "0123456789abcdef".into(),
        };
        let env: BTreeMap<_, _> = values.to_env().into_iter().collect();
        assert_eq!(LaunchValues::from_env(&env), Ok(values.clone()));
        let shown = format!("{values:?}");
        assert!(!shown.contains("geheim") && !shown.contains("secret"), "{shown}");
        for name in [ACCOUNT, IMPLEMENTATION, PORT, TOKEN] {
            let mut env = env.clone();
            env.remove(OsStr::new(&format!("{PREFIX}{name}")));
            assert!(LaunchValues::from_env(&env).is_err(), "{name}");
        }
    }
}
