//! The launches of implementations.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::rand::{GetRandomFlags, getrandom};

use super::endpoints::token_file;
use super::{NotPrepared, PrepareError, blocking};
use crate::backends::Secret;
use crate::config::Settings;
use crate::environ::{PREFIX, implementation_of, uin_of};
use crate::files::{FileError, make_parent, read_secret, replace};
use crate::implementations::ImplementationSettings;
use crate::locks::locked;
use crate::model::client::{ClientSpec, Exit};
use crate::model::fleet::Launch;
use crate::model::name::{ClientName, UnitId};
use crate::supervisor::implementation::{ImplementationChild, LaunchValues};
use crate::supervisor::{LaunchPlan, Output, Program};

/// The bytes of a token.
const TOKEN_BYTES: usize = 32;
/// The bytes of the name of a request to drop a login, so that no two are equal.
const REQUEST_BYTES: usize = 8;

/// Prepares the launches of implementations.
#[derive(Clone, Debug)]
pub struct ImplementationLauncher {
    /// This program, which is the launcher, too.
    pub executable: Arc<Path>,
    /// The only file of the configuration, where there is one.
    pub config: Option<PathBuf>,
    /// The folder of the tokens, and of the homes of child processes.
    pub folder: Arc<Path>,
    /// The accounts whose saved login is dropped at their next start.
    pub forgetting: Forgetting,
}

/// The accounts whose saved login is dropped at their next start. It lives as long as the controller: a call that asked for it
/// and was not answered has to be repeated.
#[derive(Clone, Debug, Default)]
pub struct Forgetting(Arc<Mutex<BTreeMap<ClientName, String>>>);

impl Forgetting {
    /// Has the next start of this account drop the login.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn ask(&self, name: ClientName) -> io::Result<()> {
        let request = random_hex(REQUEST_BYTES)?;
        locked(&self.0).insert(name, request);
        Ok(())
    }

    /// The request for an account, if there is one. Each is handed out once. A launch that fails with it drops nothing, as the
    /// launcher did not run.
    fn take(&self, name: &ClientName) -> Option<String> {
        locked(&self.0).remove(name)
    }
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
            forget: self.forgetting.take(&launch.name).unwrap_or_default(),
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
        let token = random_hex(TOKEN_BYTES)
            .map_err(|source| FileError::Io { path: "/dev/urandom".into(), source })?;
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

/// Random bytes in hexadecimal digits.
fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    let mut filled = 0;
    while filled < random.len() {
        filled += getrandom(&mut random[filled..], GetRandomFlags::empty())?;
    }
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
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
