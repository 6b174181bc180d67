//! Where the controller's and the clients' files are, when nobody says otherwise.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::files::{FileError, private_folder, replace};

/// The folders and files of a running controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The folder of the clients' files, and of ours that have no place of their own.
    pub tmpdir: PathBuf,
    /// Whether `tmpdir` was chosen here, in a place where others can make folders too.
    chosen_among_others: bool,
    /// The file with our pid.
    pub pid: PathBuf,
    /// The template.
    pub template: PathBuf,
    /// The registry file: it outlives a boot, which the folder of the clients' files may not.
    pub registry: PathBuf,
    /// The folder of what clients must keep: below it each has one of its own.
    pub client_state: PathBuf,
}

impl Places {
    /// Chooses. `env` looks up an environment variable, `uid` is who we are. In this order: the configured `tmpdir`;
    /// the runtime directory that systemd gave us; the user's runtime directory; a folder of our own in the system's
    /// temporary one. The names of the files are the seed's.
    pub fn choose(settings: &Settings, env: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // With several RuntimeDirectory= the variable is a list; ours is the first.
        let runtime = env("RUNTIME_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
        let (tmpdir, chosen_among_others) = if let Some(tmpdir) = &settings.tmpdir {
            (tmpdir.clone(), false)
        } else if let Some(runtime) = runtime.filter(|path| path.is_absolute()) {
            (runtime, false)
        } else if let Some(user) = absolute("XDG_RUNTIME_DIR") {
            (user.join("wqcontroller"), true)
        } else {
            let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
            (temporary.join(format!("wqcontroller-{uid}")), true)
        };
        let or_in_tmpdir =
            |path: &Option<PathBuf>, name: &str| path.clone().unwrap_or_else(|| tmpdir.join(name));
        let lasting = if settings.tmpdir.is_some() { None } else { state_folder(&env) };
        let lasting = lasting.unwrap_or_else(|| tmpdir.clone());
        Self {
            client_state: lasting.join("clients"),
            pid: or_in_tmpdir(&settings.pid_path, "mojo_webqq_controller_process.pid"),
            template: tmpdir.join("mojo_webqq_controller_template.pl"),
            registry: settings
                .backend_path
                .clone()
                .unwrap_or_else(|| lasting.join("mojo_webqq_controller_backend.dat")),
            tmpdir,
            chosen_among_others,
        }
    }

    /// Makes the folders, and checks that the one for clients is ours alone where others could have made it.
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

/// Where a program keeps what must outlive a boot: what systemd says, else what the XDG base directory specification says.
fn state_folder(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_systemd = env("STATE_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
    let of_user =
        || absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    of_systemd
        .filter(|path| path.is_absolute())
        .or_else(|| of_user().map(|folder| folder.join("wqcontroller")))
}

fn make_folder(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// A pid file; removed when dropped, if it is still ours.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes our pid. What an earlier process left is replaced: it proves nothing.
    pub fn write(path: &Path) -> Result<Self, FileError> {
        replace(path, format!("{}\n", std::process::id()).as_bytes(), 0o644)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours =
            fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if ours {
            // Left behind it harms nobody.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpdir(settings: &Settings, env: &[(&str, &str)]) -> (String, bool) {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        let places = Places::choose(settings, env, 1000);
        (places.tmpdir.to_str().unwrap().to_owned(), places.chosen_among_others)
    }

    #[test]
    fn the_order_of_preference() {
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
    fn files_go_where_they_are_told_or_to_the_tmpdir() {
        let mut settings = Settings { tmpdir: Some("/srv/wq".into()), ..Settings::default() };
        let places = Places::choose(&settings, |_| None, 0);
        assert_eq!(places.pid, Path::new("/srv/wq/mojo_webqq_controller_process.pid"));
        assert_eq!(places.template, Path::new("/srv/wq/mojo_webqq_controller_template.pl"));
        settings.pid_path = Some("/run/wq.pid".into());
        assert_eq!(Places::choose(&settings, |_| None, 0).pid, Path::new("/run/wq.pid"));
    }

    #[test]
    fn the_registry_is_where_a_boot_leaves_it_alone() {
        let registry = |settings: &Settings, env: &[(&str, &str)]| {
            let env =
                |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            Places::choose(settings, env, 0).registry
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
            Places::choose(settings, env, 0).client_state
        };
        assert_eq!(clients(&none), Path::new("/var/lib/wq/clients"));
        assert_eq!(clients(&explicit), Path::new("/srv/wq/clients"));
        let own = Settings { backend_path: Some("/b".into()), ..explicit };
        assert_eq!(registry(&own, &all), Path::new("/b"));
    }

    #[test]
    fn a_pid_file_replaces_a_stale_one_and_goes_with_its_owner() {
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
    }
}
