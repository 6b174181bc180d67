//! The launches of clients.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use super::endpoints::Endpoints;
use super::{NotPrepared, PrepareError, blocking};
use crate::backends::Secret;
use crate::client_dirs::ClientDirs;
use crate::config::{ManagerKind, Settings};
use crate::environ::{LaunchSecret, SpecError, check_start, environment, launch_secrets, listen_address};
use crate::files::{FileError, read_secret};
use crate::model::client::{ClientFiles, ClientSpec};
use crate::model::fleet::Launch;
use crate::supervisor::{LaunchPlan, Output, Program};
use crate::template::{self, TemplateCommand};

/// Prepares launches: finds the program of a client, checks what it needs, and puts its environment together.
#[derive(Clone, Debug)]
pub struct ClientLauncher {
    /// Where clients keep their files.
    pub client_dirs: Arc<ClientDirs>,
    /// Where the template of child processes is, unless the settings say otherwise.
    pub default_template: Arc<Path>,
    /// This program, which is the built-in client, too.
    pub executable: Arc<Path>,
    /// Where clients find the implementations of their accounts.
    pub endpoints: Endpoints,
}

impl ClientLauncher {
    /// Prepares the launch of a child process. Blocks on nothing: the file system is asked on threads of its own.
    pub(super) async fn prepare_child(
        &self,
        launch: &Launch,
        port: u16,
        spec: &Arc<ClientSpec>,
        settings: Arc<Settings>,
    ) -> Result<LaunchPlan, NotPrepared> {
        let settings = self.checked_settings(launch, spec, settings).await?;
        let command = {
            let (launcher, spec, settings) = (self.clone(), spec.clone(), settings.clone());
            blocking(move || Ok(launcher.prepare(&spec, &settings)?))
        }
        .await?;
        let outlives = settings.supervisor.clients_outlive_controller;
        let controller_pid = if outlives { None } else { Some(std::process::id()) };
        Ok(LaunchPlan {
            launch: launch.clone(),
            id: spec.id.clone(),
            program: Program::Command(command),
            env: environment(std::env::vars_os(), spec, port, &settings, &self.client_dirs, controller_pid),
            output: if outlives { Output::File(spec.output()) } else { Output::Log },
            limits: settings.limits,
        })
    }

    /// Prepares the launch of a unit of `manager`. `is_active` says whether the unit is active already; it is asked where the
    /// address of the client is taken. Blocks on nothing, as above.
    pub(super) async fn prepare_unit(
        &self,
        launch: &Launch,
        port: u16,
        spec: &Arc<ClientSpec>,
        settings: Arc<Settings>,
        manager: ManagerKind,
        is_active: impl Future<Output = bool>,
    ) -> Result<LaunchPlan, NotPrepared> {
        let settings = self.checked_settings(launch, spec, settings).await?;
        let checked = {
            let (launcher, spec, settings) = (self.clone(), spec.clone(), settings.clone());
            blocking(move || Ok(launcher.check_unit(&spec, &settings, manager)?))
        }
        .await;
        // `check_unit` tries the address last, so all else is in order then.
        let is_taken = matches!(checked, Err(NotPrepared::Failed(PrepareError::Listen { .. })));
        // A unit that an operator has started has the address itself. It is ended before it is started.
        if !(is_taken && is_active.await) {
            checked?;
        }
        // By the settings with the implementation, as its token is one of them.
        let secrets = launch_secrets(spec, &settings, &self.client_dirs);
        let secrets = blocking(move || Ok(read_secrets(secrets)?)).await?;
        // A unit has an environment of its own, and nothing of ours is for it.
        let mut env = environment([], spec, port, &settings, &self.client_dirs, None);
        env.extend(secrets);
        Ok(LaunchPlan {
            launch: launch.clone(),
            id: spec.id.clone(),
            program: Program::Template(settings.template_path.clone()),
            env,
            output: Output::Log,
            limits: settings.limits,
        })
    }

    /// The settings for a launch whose parameters are in order. Waits for the implementation of the account, if it has one.
    async fn checked_settings(
        &self,
        launch: &Launch,
        spec: &Arc<ClientSpec>,
        settings: Arc<Settings>,
    ) -> Result<Arc<Settings>, NotPrepared> {
        let (launcher, checked, current) = (self.clone(), spec.clone(), settings.clone());
        blocking(move || launcher.check_start(&checked, &current).map_err(NotPrepared::Refused)).await?;
        Ok(self.endpoints.settings_for(launch, spec, settings).await?)
    }

    /// Checks the parameters of a start by the rules of the program that it runs. Blocks on the file system.
    ///
    /// # Errors
    /// The first one that can't be used.
    pub fn check_start(&self, spec: &ClientSpec, settings: &Settings) -> Result<(), SpecError> {
        check_start(spec, settings, &self.client_dirs, self.runs_built_in(settings))
    }

    /// Whether the built-in client is started, with nothing between that could change what it is given.
    fn runs_built_in(&self, settings: &Settings) -> bool {
        match (&settings.template_path, &*self.client_dirs) {
            (Some(path), _) => template::is_built_in(path, &self.executable),
            (None, client_dirs) if client_dirs.are_units() => true,
            (None, _) => template::is_built_in(&self.default_template, &self.executable),
        }
    }

    /// Checks what a unit needs, last of all the address that only the unit itself uses. Blocks on the file system.
    fn check_unit(
        &self,
        spec: &ClientSpec,
        settings: &Settings,
        manager: ManagerKind,
    ) -> Result<(), PrepareError> {
        if let Some(path) = &settings.template_path {
            template::check_for_unit(path, manager == ManagerKind::System)?;
        }
        self.check_listen(spec, settings)
    }

    /// Makes what must be there before a child process is launched; what to execute. Blocks on the file system.
    fn prepare(&self, spec: &ClientSpec, settings: &Settings) -> Result<TemplateCommand, PrepareError> {
        let template = settings.template_path.as_deref().unwrap_or(&self.default_template);
        template::ensure(template, &self.executable)?;
        let command = template::command(template, &spec.name)?;
        self.check_listen(spec, settings)?;
        let files = &spec.files;
        for folder in
            [Some(files.tmpdir.as_path()), files.state.parent(), files.qrcode.parent(), files.pid.parent()]
        {
            let Some(folder) = folder else { continue };
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| PrepareError::Folder { folder: folder.to_owned(), source })?;
        }
        // An earlier process that was killed may have left its image, and a scan of that one would be in vain. What a
        // caller named is not ours to delete.
        if files.qrcode == ClientFiles::in_folder(files.tmpdir.clone(), &spec.name).qrcode {
            match fs::remove_file(&files.qrcode) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PrepareError::Image { path: files.qrcode.clone(), source });
                }
                _ => {}
            }
        }
        Ok(command)
    }

    /// Tries the address on which the client is to wait for its network. Without it the built-in client would end at once.
    fn check_listen(&self, spec: &ClientSpec, settings: &Settings) -> Result<(), PrepareError> {
        let listen =
            listen_address(spec, settings, &self.client_dirs).filter(|_| self.runs_built_in(settings));
        let Some(listen) = listen else { return Ok(()) };
        match TcpListener::bind(listen.address) {
            // A unit may have rights that we don't have.
            Err(source)
                if source.kind() == io::ErrorKind::PermissionDenied && self.client_dirs.are_units() =>
            {
                Ok(())
            }
            Err(source) => {
                Err(PrepareError::Listen { parameter: listen.name, address: listen.address, source })
            }
            Ok(_) => Ok(()),
        }
    }
}

/// The secrets of a unit, as variables for its launch file: the unit can't read the operator's files itself.
fn read_secrets(secrets: Vec<LaunchSecret>) -> Result<Vec<(OsString, OsString)>, PrepareError> {
    let read = |secret: LaunchSecret| {
        let value = launch_value(&secret.file).map_err(PrepareError::Secret)?;
        Ok((secret.variable.into(), value))
    };
    secrets.into_iter().map(read).collect()
}

/// The content of an operator's file with a secret, for a launch file. Blocks on the file system.
pub(in crate::registry) fn launch_value(file: &Path) -> Result<OsString, FileError> {
    let mut content = read_secret(file, true, Secret::MAX_BYTES)?;
    // The launch file ends its lines by NUL, and no secret has one.
    content.retain(|byte| *byte != 0);
    Ok(OsString::from_vec(content))
}
