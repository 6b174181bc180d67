//! The launches of implementations.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};

use super::endpoints::token_file;
use super::{NotPrepared, PrepareError, blocking};
use crate::backends::Secret;
use crate::config::Settings;
use crate::environ::{PREFIX, implementation_of, uin_of};
use crate::files::{FileError, make_parent, read_secret, replace};
use crate::implementations::ImplementationSettings;
use crate::model::client::{ClientSpec, Exit};
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::supervisor::implementation::{ImplementationChild, LaunchValues};
use crate::supervisor::{LaunchPlan, Output, Program};

/// The bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Prepares the launches of implementations.
#[derive(Clone, Debug)]
pub struct ImplementationLauncher {
    /// This program, which is the launcher, too.
    pub executable: Arc<Path>,
    /// The only file of the configuration, where there is one.
    pub config: Option<PathBuf>,
    /// The folder of the tokens, and of the homes of child processes.
    pub folder: Arc<Path>,
}

impl ImplementationLauncher {
    pub(super) async fn prepare(
        &self,
        launch: &Launch,
        port: u16,
        spec: &Arc<ClientSpec>,
        settings: Arc<Settings>,
        is_unit: bool,
    ) -> Result<LaunchPlan, NotPrepared> {
        let (this, launch, spec) = (self.clone(), launch.clone(), spec.clone());
        blocking(move || Ok(this.plan(launch, port, &spec, &settings, is_unit)?)).await
    }

    fn plan(
        &self,
        launch: Launch,
        port: u16,
        spec: &ClientSpec,
        settings: &Settings,
        is_unit: bool,
    ) -> Result<LaunchPlan, PrepareError> {
        let (name, implementation) = configured(spec, settings).ok_or_else(|| {
            let name = implementation_of(spec).unwrap_or_default();
            PrepareError::Implementation(format!("{name} is not in the configuration any more").into())
        })?;
        let auth_token = match implementation.get("auth_token_file") {
            Some(file) => {
                let secret = read_secret(Path::new(file), true, Secret::MAX_BYTES);
                String::from_utf8_lossy(&secret.map_err(PrepareError::Secret)?).trim().to_owned()
            }
            None => String::new(),
        };
        let values = LaunchValues {
            name: launch.name.clone(),
            implementation: name.to_owned(),
            port,
            token: self.token(&spec.id).map_err(PrepareError::Token)?,
            uin: uin_of(spec).unwrap_or_default().to_owned(),
            auth_token,
        };
        let child = if is_unit { None } else { Some(self.child(name, port, spec)?) };
        // What a unit prints goes to the journal.
        let outlives = child.is_some() && settings.supervisor.clients_outlive_controller;
        Ok(LaunchPlan {
            launch,
            id: spec.id.clone(),
            program: Program::Implementation(child),
            env: values.to_env(),
            output: if outlives { Output::File(spec.output()) } else { Output::Log },
            limits: settings.limits,
        })
    }

    /// The token of an account's implementation, which stays the same as long as the account is registered.
    fn token(&self, id: &UnitId) -> Result<String, FileError> {
        let path = token_file(&self.folder, id);
        match read_secret(&path, true, Secret::MAX_BYTES) {
            Ok(token) if token.len() == 2 * TOKEN_BYTES => {
                return Ok(String::from_utf8_lossy(&token).into_owned());
            }
            // Cut short by a full disk, or by hand.
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        let token = new_token().map_err(|source| FileError::Io { path: "/dev/urandom".into(), source })?;
        make_parent(&path)?;
        replace(&path, token.as_bytes(), 0o600)?;
        Ok(token)
    }

    /// The folders of a child process.
    fn child(&self, name: &str, port: u16, spec: &ClientSpec) -> Result<ImplementationChild, PrepareError> {
        let (state, runtime) = (self.folder.join(spec.id.as_str()), spec.files.tmpdir.clone());
        for folder in [&state, &runtime] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| PrepareError::Folder { folder: folder.clone(), source })?;
        }
        let variable = |name: &str, value: OsString| (OsString::from(format!("{PREFIX}{name}")), value);
        // The three by which `supervisor::direct::adopt` recognises a process without a handle.
        let identity = vec![
            variable("ACCOUNT", spec.name.as_str().into()),
            variable("PLUGIN_OPENQQ_PORT", port.to_string().into()),
            variable("STATE_PATH", spec.files.state.clone().into()),
        ];
        let (executable, config) = (self.executable.to_path_buf(), self.config.clone());
        Ok(ImplementationChild { name: name.to_owned(), executable, config, state, runtime, identity })
    }
}

fn new_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        // It may fill less than asked for if a signal comes (getrandom(2)).
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().fold(String::new(), |mut token, byte| {
        // Writing to a string never fails.
        let _ = write!(token, "{byte:02x}");
        token
    }))
}

fn configured<'a>(
    spec: &'a ClientSpec,
    settings: &'a Settings,
) -> Option<(&'a str, &'a ImplementationSettings)> {
    let name = implementation_of(spec)?;
    Some((name, settings.implementations.get(name)?))
}

/// What the exit of an implementation means. A status of 0 is no success: nothing asked it to end.
pub(super) fn meaning(spec: &ClientSpec, settings: &Settings, exit: Exit) -> Exit {
    match configured(spec, settings) {
        Some((_, implementation)) if implementation.kind.contract().is_misconfigured(exit) => {
            exit.misconfigured()
        }
        _ => exit,
    }
}
