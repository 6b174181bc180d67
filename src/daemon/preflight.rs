//! `--check-config`: tries what a start needs besides a configuration without mistakes, and changes nothing.

mod applications;

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::port_probe::{bind, is_controller};
use super::service_user;
use crate::backends::{Secret, Start};
use crate::client_dirs::ClientDirs;
use crate::config::{ConfigError, ListenAddress, ManagerKind, Mode, Settings};
use crate::environ::check_start;
use crate::files::{FileError, open_regular, read_secret};
use crate::http::auth::{TokenError, Tokens};
use crate::model::client::{ClientFiles, ClientSpec, ParamValue};
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use crate::model::persisted::{PersistedState, PersistedStateError};
use crate::template::{self, TemplateError};

/// What a start would meet. Each line says what, and which option it is about.
#[derive(Debug, Default)]
pub struct Preflight {
    /// What the start, or that of an account, would fail on.
    pub problems: Vec<String>,
    /// What could not be tried, and why.
    pub unchecked: Vec<String>,
    /// What has no effect, and why.
    pub ineffective: Vec<String>,
    /// What this user may not look at. Where it is the user of the service, these are problems.
    forbidden: Vec<String>,
}

impl Preflight {
    /// Tries everything. Blocks on files and, where a port is taken, on the program that has it. `credentials` is the folder of
    /// systemd's credentials, which only the service has; `left_out` says which files of the configuration this user may not
    /// read.
    pub fn run(settings: &Settings, left_out: &[ConfigError], credentials: Option<&Path>) -> Self {
        let forbidden = left_out.iter().map(|error| ErrorChain(error).to_string()).collect();
        let mut found = Self { forbidden, ..Self::default() };
        found.log_file(settings);
        found.folders(settings);
        found.registry(settings);
        found.tokens(settings, credentials);
        found.listen(settings);
        found.template(settings);
        found.accounts(settings);
        found.applications(settings);
        found.implementations(settings);
        let forbidden = std::mem::take(&mut found.forbidden);
        if rustix::process::geteuid().is_root()
            && let Some(user) = service_user::configured()
        {
            let user = user.name;
            found.unchecked.push(format!(
                "whether {user}, the user of wqcontroller.service, may do the same: call this with `sudo -u {user}`"
            ));
        }
        match service_user::is_me() {
            true => found.problems.extend(forbidden),
            false => found.unchecked.extend(forbidden),
        }
        found
    }

    fn io(&mut self, what: &str, path: &Path, error: &io::Error) {
        let line = format!("{what}: {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied => self.forbidden.push(line),
            _ => self.problems.push(line),
        }
    }

    fn file(&mut self, what: &str, error: &FileError) {
        let line = format!("{what}: {}", ErrorChain(error));
        match is_hidden(error) {
            true => self.forbidden.push(line),
            false => self.problems.push(line),
        }
    }

    fn log_file(&mut self, settings: &Settings) {
        let Some(path) = &settings.log_path else { return };
        // To append, since that neither creates the file nor changes it. A pipe that no program reads must not block this.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        match OpenOptions::new().append(true).custom_flags(nonblocking).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.folder_of("log_path", path),
            Err(error) => self.io("log_path", path, &error),
        }
    }

    fn folders(&mut self, settings: &Settings) {
        if let Some(tmpdir) = &settings.tmpdir {
            // It is made where it is missing, and so are those above it.
            let existing = tmpdir.ancestors().find(|path| path.symlink_metadata().is_ok());
            self.folder("tmpdir", existing.unwrap_or(Path::new("/")));
        }
        for (option, path) in [("pid_path", &settings.pid_path), ("backend_path", &settings.backend_path)] {
            if let Some(path) = path {
                self.folder_of(option, path);
            }
        }
    }

    fn folder_of(&mut self, option: &str, path: &Path) {
        self.folder(option, path.parent().unwrap_or(Path::new("/")));
    }

    /// Whether files can be made in a folder.
    fn folder(&mut self, option: &str, folder: &Path) {
        match fs::metadata(folder) {
            Ok(found) if !found.is_dir() => {
                self.io(option, folder, &io::ErrorKind::NotADirectory.into());
            }
            Ok(_) => {
                if let Err(error) = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
                    self.io(option, folder, &error.into());
                }
            }
            Err(error) => self.io(option, folder, &error),
        }
    }

    fn registry(&mut self, settings: &Settings) {
        // Where neither is configured, the place depends on what systemd gives to the service and not to this process.
        let in_tmpdir = || Some(settings.tmpdir.as_ref()?.join("mojo_webqq_controller_backend.dat"));
        let Some(path) = settings.backend_path.clone().or_else(in_tmpdir) else { return };
        let read = open_regular(&path).and_then(|(mut file, _)| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(|source| FileError::Io { path: path.clone(), source })?;
            Ok(content)
        });
        match read {
            Ok(content) => match PersistedState::parse(&content) {
                // The start moves it aside.
                Ok(_) | Err(PersistedStateError::Perl) => {}
                Err(error) => {
                    let line =
                        format!("the registry file {} can't be read: {}", path.display(), ErrorChain(&error));
                    self.problems.push(line);
                }
            },
            Err(error) if error.is_missing() => {}
            Err(error) => self.file("the registry file", &error),
        }
    }

    fn tokens(&mut self, settings: &Settings, credentials: Option<&Path>) {
        let mut readable = Vec::new();
        for source in &settings.auth.tokens {
            match Tokens::load(std::slice::from_ref(source), credentials) {
                Ok(_) => readable.push(source.clone()),
                Err(error @ TokenError::NoCredentials(_)) => {
                    self.unchecked.push(format!("auth.tokens: {}", ErrorChain(&error)));
                }
                Err(error) => {
                    let line = format!("auth.tokens: {}", ErrorChain(&error));
                    match &error {
                        TokenError::File { source, .. } if is_hidden(source) => self.forbidden.push(line),
                        _ => self.problems.push(line),
                    }
                }
            }
        }
        // What is wrong with several of them together.
        if let Err(error) = Tokens::load(&readable, credentials) {
            self.problems.push(format!("auth.tokens: {}", ErrorChain(&error)));
        }
    }

    fn listen(&mut self, settings: &Settings) {
        if sockets_of_systemd() {
            let line = "listen: systemd hands over the sockets of wqcontroller.socket";
            return self.ineffective.push(line.to_owned());
        }
        for address in &settings.listen {
            let (host, port) = match address {
                ListenAddress::Tcp { host, port } => (host.as_str(), *port),
                ListenAddress::Unix(socket) => {
                    self.folder_of("listen", &socket.path);
                    continue;
                }
            };
            let resolved = match (host, port).to_socket_addrs() {
                Ok(resolved) => resolved,
                Err(error) => {
                    self.problems.push(format!("listen: {address}: {error}"));
                    continue;
                }
            };
            for socket in resolved {
                match bind(socket) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_controller(socket) => {}
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        self.forbidden.push(format!("listen: {socket}: {error}"));
                    }
                    Err(error) => self.problems.push(format!("listen: {socket}: {error}")),
                }
            }
        }
    }

    fn template(&mut self, settings: &Settings) {
        let Some(path) = &settings.template_path else { return };
        let direct = !has_units(settings);
        if direct && !path.exists() {
            // It is written there.
            return self.folder_of("template_path", path);
        }
        let other_users = !direct && settings.systemd.manager == ManagerKind::System;
        match template::check_for_unit(path, other_users) {
            Ok(()) => {}
            // By then the controller may find that it has no units.
            Err(error @ TemplateError::OwnersOnly { .. }) if settings.supervisor.mode == Mode::Auto => {
                self.unchecked.push(format!("template_path: {}", ErrorChain(&error)));
            }
            Err(error) => self.problems.push(format!("template_path: {}", ErrorChain(&error))),
        }
        if let Err(errno @ Errno::ACCESS) = rustix::fs::access(path, Access::READ_OK) {
            self.io("template_path", path, &errno.into());
        }
    }

    /// The implementations that the configuration names.
    fn implementations(&mut self, settings: &Settings) {
        for (name, implementation) in settings.implementations.iter() {
            let what = |key: &str| format!("implementations.{name}.{key}");
            if let Some(file) = implementation.get("auth_token_file")
                && let Err(error) = read_secret(Path::new(file), true, Secret::MAX_BYTES)
            {
                self.file(&what("auth_token_file"), &error);
            }
            let program = implementation.kind.contract().program(implementation);
            let key = if implementation.get("program").is_some() { "program" } else { "command" };
            // A unit has a user of its own, which may not execute or read what this one may; that it is there is certain.
            for (key, path, access) in [
                (key, Some(program), Access::EXEC_OK),
                ("script", implementation.get("script").map(PathBuf::from), Access::READ_OK),
                ("file_template", implementation.get("file_template").map(PathBuf::from), Access::READ_OK),
            ] {
                let Some(path) = path else { continue };
                if let Err(errno) = rustix::fs::access(&path, access) {
                    self.io(&what(key), &path, &errno.into());
                } else if has_units(settings)
                    && settings.systemd.manager == ManagerKind::System
                    && let Some(why) = why_unit_lacks(&path)
                {
                    // A drop-in of the unit may allow it.
                    self.unchecked.push(format!("{}: {}: {why}", what(key), path.display()));
                }
            }
        }
    }

    fn accounts(&mut self, settings: &Settings) {
        let client_dirs = ClientDirs::Shared { tmpdir: PathBuf::from("/"), lasting: PathBuf::from("/") };
        // Those of a user are below the runtime directory of that user, whichever that is.
        let unit_dirs = ClientDirs::of_units(settings.systemd.manager, Path::new("/run/user/0"), |_| None);
        for (name, kind, account) in settings.accounts.iter() {
            let contract = kind.contract();
            let Some(table) = contract.accounts() else { continue };
            let what = format!("{}.{name:?}", table.option);
            if let Some(key) = contract.secret().map(|secret| secret.key)
                && let Some(file) = account.get(key)
                && let Err(error) = read_secret(Path::new(file), true, Secret::MAX_BYTES)
            {
                self.file(&format!("{what}.{key}"), &error);
            }
            for key in contract.client_files() {
                // A unit has a user of its own, and what it may read is judged below.
                if let Some(file) = account.get(key)
                    && !has_units(settings)
                    && let Err(errno @ Errno::ACCESS) = rustix::fs::access(file, Access::READ_OK)
                {
                    self.io(&format!("{what}.{key}"), Path::new(file), &errno.into());
                }
            }
            let Ok(name) = ClientName::new(name) else { continue };
            let trial = contract.trial_params(account);
            let value = |text: &str| ParamValue { text: text.to_owned(), secret: false, path: None };
            let params =
                trial.iter().flatten().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
            let files = ClientFiles::in_folder("/".into(), &name);
            let spec = ClientSpec { id: client_dirs.new_id(&name), name, params, files };
            if trial.is_some()
                && let Err(error) = check_start(&spec, settings, &client_dirs, true)
            {
                self.problems.push(format!("{what}: {}", ErrorChain(&error)));
            }
            let start = Start::of(kind, &spec, &settings.accounts, &unit_dirs);
            if has_units(settings)
                && let Err(error) = contract.check_files(&start)
            {
                let line = format!("{what}: {}", ErrorChain(&error));
                match settings.supervisor.mode {
                    // By then the controller may find that it has no units.
                    Mode::Auto => self.unchecked.push(line),
                    Mode::Direct | Mode::Systemd => self.problems.push(line),
                }
            }
        }
    }
}

/// Whether clients will be units, or may be with `mode = "auto"`.
fn has_units(settings: &Settings) -> bool {
    settings.supervisor.mode != Mode::Direct && settings.tmpdir.is_none()
}

/// Why wqimpl@.service, as it is installed, can't use a file that is there, if that is known. Its user is a new one.
fn why_unit_lacks(path: &Path) -> Option<&'static str> {
    let real = fs::canonicalize(path).ok()?;
    // systemd.exec(5): ProtectHome=, and PrivateTmp=, which DynamicUser= implies.
    if ["/home", "/root", "/run/user", "/tmp", "/var/tmp"].iter().any(|hidden| real.starts_with(hidden)) {
        return Some(
            "units have no /home, /root, /run/user, /tmp and /var/tmp; move it, for example to /opt, or change that with \
             `systemctl edit wqimpl@.service`",
        );
    }
    let for_others =
        |path: &Path, bits| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits == bits);
    if !for_others(&real, 0o004) || !real.ancestors().skip(1).all(|folder| for_others(folder, 0o001)) {
        return Some(
            "a unit has a user of its own, who may not read this; allow it to all users, for example with `chmod -R o+rX`",
        );
    }
    None
}

fn is_hidden(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether systemd listens for the service. Its socket must not be called, for that would start the service.
fn sockets_of_systemd() -> bool {
    let mut command = Command::new("systemctl");
    command.args(["is-active", "--quiet", "wqcontroller.socket"]);
    // Only the status counts. Without systemd there is no such program, and its words do not belong into the report.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_in_place_of_files_are_problems() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
            Some(path)
        };
        let settings =
            Settings { log_path: pipe("log"), backend_path: pipe("registry"), ..Settings::default() };
        let mut found = Preflight::default();
        found.log_file(&settings);
        found.registry(&settings);
        assert!(
            matches!(&found.problems[..], [log, registry] if log.starts_with("log_path: ")
            && registry.ends_with("not a regular file")),
            "{found:?}"
        );
    }

    #[test]
    fn unit_uses_what_all_users_may() {
        assert_eq!(why_unit_lacks(Path::new("/bin/sh")), None);
        assert!(why_unit_lacks(Path::new("/etc/shadow")).unwrap().contains("user of its own"));
        assert!(why_unit_lacks(Path::new("/tmp")).unwrap().contains("/opt"));
    }
}
