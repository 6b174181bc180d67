//! The default paths of the controller's own files and folders.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::files::{FileError, FileOwner, private_folder, read_untrusted, replace};

/// The files and folders of a running controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The folder of the clients' files, and of those of the controller that have no other path.
    pub tmpdir: PathBuf,
    /// Whether `tmpdir` is a default in a folder where other users can make folders, too.
    chosen_among_others: bool,
    /// The pid file.
    pub pid: PathBuf,
    /// The template.
    pub template: PathBuf,
    /// The registry file. It survives a reboot, unlike `tmpdir`.
    pub registry: PathBuf,
    /// The parent of the clients' state folders.
    pub client_state: PathBuf,
    /// The registry file of implementations, beside that of clients.
    pub implementations: PathBuf,
    /// The folder of the tokens of implementations, and of the homes of those that are child processes.
    pub implementation_state: PathBuf,
    /// The folder of what waits to be posted to `[login] notify`.
    pub notifications: PathBuf,
    /// Which accounts live on which other machines.
    pub machines: PathBuf,
    /// Which accounts are being moved between machines.
    pub moves: PathBuf,
    /// The folder of the sockets that lead to other machines.
    pub tunnels: PathBuf,
    /// The parent of the folders in which implementations show their login codes.
    pub implementations_runtime: PathBuf,
}

impl Paths {
    /// Chooses the paths. `tmpdir` is the first of: the configured one; the runtime directory from systemd; a folder in the user's
    /// runtime directory; a folder in the system's temporary one. The names of the files are those of the original. `env` looks up an
    /// environment variable, `uid` is the controller's user.
    pub fn choose(settings: &Settings, env: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let runtime = env("RUNTIME_DIRECTORY").and_then(|list| first_folder(&list));
        let (tmpdir, chosen_among_others) = if let Some(tmpdir) = &settings.tmpdir {
            (tmpdir.clone(), false)
        } else if let Some(runtime) = runtime {
            (runtime, false)
        } else if let Some(user) = absolute("XDG_RUNTIME_DIR") {
            (user.join("wqcontroller"), true)
        } else {
            let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
            (temporary.join(format!("wqcontroller-{uid}")), true)
        };
        let or_in_tmpdir =
            |path: &Option<PathBuf>, name: &str| path.clone().unwrap_or_else(|| tmpdir.join(name));
        // A configured `tmpdir` is the folder for everything that has no path of its own, so for what lasts as well.
        let lasting = if settings.tmpdir.is_some() { None } else { state_folder(&env) };
        let lasting = lasting.unwrap_or_else(|| tmpdir.clone());
        let registry = settings
            .backend_path
            .clone()
            .unwrap_or_else(|| lasting.join("mojo_webqq_controller_backend.dat"));
        // Named after the registry file: controllers whose registries share a folder must not share this one.
        let mut implementations = registry.clone().into_os_string();
        implementations.push(".implementations");
        Self {
            client_state: lasting.join("clients"),
            implementations: implementations.into(),
            implementation_state: lasting.join("implementations"),
            notifications: lasting.join("notifications"),
            machines: lasting.join("machines.json"),
            moves: lasting.join("moves.json"),
            tunnels: tmpdir.join("machines"),
            implementations_runtime: tmpdir.join("implementation_codes"),
            pid: or_in_tmpdir(&settings.pid_path, "mojo_webqq_controller_process.pid"),
            template: tmpdir.join("mojo_webqq_controller_template.pl"),
            registry,
            tmpdir,
            chosen_among_others,
        }
    }

    /// Restores what was removed while the controller runs: `tmpdir` and the pid file. Returns the restored paths. Blocks on the
    /// file system.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn remake(&self) -> Result<Vec<PathBuf>, FileError> {
        let is_missing = |path: &Path| {
            use io::ErrorKind::{NotADirectory, NotFound};
            fs::symlink_metadata(path).is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
        };
        let mut remade = Vec::new();
        if is_missing(&self.tmpdir) {
            self.prepare()?;
            remade.push(self.tmpdir.clone());
        }
        if is_missing(&self.pid) {
            write_pid(&self.pid)?;
            remade.push(self.pid.clone());
        }
        Ok(remade)
    }

    /// Makes the folders. Checks that `tmpdir` is private where another user could have made it.
    pub fn prepare(&self) -> Result<(), FileError> {
        if let Some(folder) = self.registry.parent() {
            make_folder(folder)?;
        }
        if self.chosen_among_others {
            return private_folder(&self.tmpdir);
        }
        make_folder(&self.tmpdir)
    }
}

/// The state directory: from systemd, else by the XDG base directory specification.
fn state_folder(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_systemd = env("STATE_DIRECTORY").and_then(|list| first_folder(&list));
    let of_user =
        || absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    of_systemd.or_else(|| of_user().map(|folder| folder.join("wqcontroller")))
}

/// Our folder in the value of `$RUNTIME_DIRECTORY`, `$STATE_DIRECTORY` and the like. systemd separates several folders by colons
/// (systemd.exec(5)), and ours is the first. None where it is not absolute.
pub fn first_folder(list: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(list).next().filter(|path| path.is_absolute())
}

fn make_folder(path: &Path) -> Result<(), FileError> {
    // The mode is for folders made here. One that exists keeps its own, which is the operator's choice.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// The pid file. Removed when dropped, unless another process has replaced it.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the pid of this process. A file that an earlier process left is replaced: it proves nothing.
    pub fn write(path: &Path) -> Result<Self, FileError> {
        write_pid(path)?;
        Ok(Self(path.to_owned()))
    }
}

fn write_pid(path: &Path) -> Result<(), FileError> {
    replace(path, format!("{}\n", std::process::id()).as_bytes(), 0o644)
}

/// Whether `folder` may be removed while this process still runs. logind makes the runtime directory of a user, and removes it after
/// the last logout, when the user's manager has ended (pam_systemd(8)). `cgroup` is the content of `/proc/self/cgroup`.
pub fn goes_before_us(folder: &Path, uid: u32, cgroup: &str) -> bool {
    let of_manager = format!("/user@{uid}.service/");
    folder == Path::new("/run/user").join(uid.to_string())
        && !cgroup.lines().any(|line| line.contains(&of_manager))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = std::process::id().to_string();
        // Child processes can put anything there, and a pipe must not hold up the end of the controller.
        let read = read_untrusted(&self.0, &FileOwner::me(), 64);
        if read.is_ok_and(|(text, _)| text.trim_ascii() == ours.as_bytes()) {
            // A stale file does no harm.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpdir(settings: &Settings, env: &[(&str, &str)]) -> (String, bool) {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        let paths = Paths::choose(settings, env, 1000);
        (paths.tmpdir.to_str().unwrap().to_owned(), paths.chosen_among_others)
    }

    #[test]
    fn tmpdir_follows_order_of_preference() {
        let none = Settings::default();
        let explicit = Settings { tmpdir: Some("/srv/wq".into()), ..Settings::default() };
        let all =
            [("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/run/user/1000"), ("TMPDIR", "/t")];
        assert_eq!(tmpdir(&explicit, &all), ("/srv/wq".into(), false));
        assert_eq!(tmpdir(&none, &all), ("/run/a".into(), false));
        assert_eq!(tmpdir(&none, &all[1..]), ("/run/user/1000/wqcontroller".into(), true));
        assert_eq!(tmpdir(&none, &all[2..]), ("/t/wqcontroller-1000".into(), true));
        assert_eq!(tmpdir(&none, &[]), ("/tmp/wqcontroller-1000".into(), true));
        assert_eq!(tmpdir(&none, &[("TMPDIR", "relative")]), ("/tmp/wqcontroller-1000".into(), true));
    }

    #[test]
    fn configured_paths_override_tmpdir() {
        let mut settings = Settings { tmpdir: Some("/srv/wq".into()), ..Settings::default() };
        let paths = Paths::choose(&settings, |_| None, 0);
        assert_eq!(paths.pid, Path::new("/srv/wq/mojo_webqq_controller_process.pid"));
        assert_eq!(paths.template, Path::new("/srv/wq/mojo_webqq_controller_template.pl"));
        settings.pid_path = Some("/run/wq.pid".into());
        assert_eq!(Paths::choose(&settings, |_| None, 0).pid, Path::new("/run/wq.pid"));
    }

    #[test]
    fn registry_is_in_state_directory() {
        let registry = |settings: &Settings, env: &[(&str, &str)]| {
            let env =
                |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            Paths::choose(settings, env, 0).registry
        };
        let name = "mojo_webqq_controller_backend.dat";
        let none = Settings::default();
        let explicit = Settings { tmpdir: Some("/srv/wq".into()), ..Settings::default() };
        let all = [("STATE_DIRECTORY", "/var/lib/wq"), ("XDG_STATE_HOME", "/x"), ("HOME", "/root")];
        assert_eq!(registry(&explicit, &all), Path::new("/srv/wq").join(name));
        assert_eq!(registry(&none, &all), Path::new("/var/lib/wq").join(name));
        assert_eq!(registry(&none, &all[1..]), Path::new("/x/wqcontroller").join(name));
        assert_eq!(registry(&none, &all[2..]), Path::new("/root/.local/state/wqcontroller").join(name));
        assert_eq!(registry(&none, &[]), Path::new("/tmp/wqcontroller-0").join(name));
        let clients = |settings: &Settings| {
            let env = |name: &str| (name == "STATE_DIRECTORY").then(|| OsString::from("/var/lib/wq"));
            Paths::choose(settings, env, 0).client_state
        };
        assert_eq!(clients(&none), Path::new("/var/lib/wq/clients"));
        assert_eq!(clients(&explicit), Path::new("/srv/wq/clients"));
        let own = Settings { backend_path: Some("/b".into()), ..explicit };
        assert_eq!(registry(&own, &all), Path::new("/b"));
    }

    #[test]
    fn login_runtime_directory_is_not_for_longer_lived_process() {
        let folder = Path::new("/run/user/1000");
        let session = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let managed = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/wq.service\n";
        assert!(goes_before_us(folder, 1000, session));
        assert!(
            !goes_before_us(folder, 1000, managed),
            "it ends with the manager, and the folder after that"
        );
        assert!(!goes_before_us(Path::new("/home/me/run"), 1000, session), "somebody chose it");
        assert!(goes_before_us(folder, 1000, ""));
    }

    #[test]
    fn removed_tmpdir_and_pid_file_are_restored() {
        let folder = tempfile::tempdir().unwrap();
        let tmpdir = folder.path().join("tmp");
        let settings = Settings { tmpdir: Some(tmpdir.clone()), ..Settings::default() };
        let paths = Paths::choose(&settings, |_| None, 0);
        paths.prepare().unwrap();
        let _pid_file = PidFile::write(&paths.pid).unwrap();
        assert_eq!(paths.remake().unwrap(), [] as [PathBuf; 0]);
        fs::remove_dir_all(&tmpdir).unwrap();
        assert_eq!(paths.remake().unwrap(), [tmpdir.clone(), paths.pid.clone()]);
        fs::remove_dir_all(&tmpdir).unwrap();
        fs::write(&tmpdir, "a file in its place").unwrap();
        assert!(paths.remake().is_err());
    }

    #[test]
    fn pid_file_replaces_stale_one_and_is_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists(), "it is another one's by now");
        let file = PidFile::write(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        drop(file);
        assert!(path.exists(), "a pipe is left alone, and does not block");
    }
}
