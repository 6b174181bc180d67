//! [`Settings::load`]: from the files on disk to settings, or to all that is wrong with them.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Overridden};
use super::fragment::Fragment;
use super::options::Options;
use super::settings::Settings;
use super::sources;

/// [`Settings`] and where they came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that alone was to be read, if one was named; absolute.
    pub explicit: Option<PathBuf>,
    /// The files that were read, in order: later ones win.
    pub files: Vec<PathBuf>,
    /// The values of earlier files that later ones replace, in the order of the options.
    pub overridden: Vec<Overridden>,
}

impl Settings {
    /// Reads the configuration files under `root` (`/`, except in tests), or only `explicit`. Blocks on files.
    ///
    /// # Errors
    /// If a file can't be read (`explicit` has to exist, the others need not), or else with everything that is
    /// wrong in any of them.
    pub fn load(root: &Path, explicit: Option<&Path>) -> Result<Loaded, ConfigError> {
        Self::load_unless(root, explicit, Err)
    }

    /// Like [`Settings::load`], for a user who may not read every file: leaves out those, and says why. One that is named
    /// must be readable.
    ///
    /// # Errors
    /// As above, but for what this user may not read.
    pub fn load_readable(
        root: &Path,
        explicit: Option<&Path>,
    ) -> Result<(Loaded, Vec<ConfigError>), ConfigError> {
        let mut left_out = Vec::new();
        if explicit.is_some() {
            return Self::load(root, explicit).map(|loaded| (loaded, left_out));
        }
        let loaded = Self::load_unless(root, explicit, |error| match error.is_forbidden() {
            true => {
                left_out.push(error);
                Ok(())
            }
            false => Err(error),
        })?;
        Ok((loaded, left_out))
    }

    fn load_unless(
        root: &Path,
        explicit: Option<&Path>,
        mut pass: impl FnMut(ConfigError) -> Result<(), ConfigError>,
    ) -> Result<Loaded, ConfigError> {
        let found = match explicit {
            Some(file) => vec![file.to_owned()],
            None => sources::default_files(root, &mut pass)?,
        };
        let (mut files, mut fragments) = (Vec::new(), Vec::new());
        for file in found {
            match Fragment::read(&file) {
                Ok(fragment) => {
                    files.push(file);
                    fragments.push(fragment);
                }
                Err(error) => pass(error)?,
            }
        }
        let (settings, overridden) = Self::of(&fragments)?;
        Ok(Loaded {
            settings,
            explicit: explicit.and_then(|file| std::path::absolute(file).ok()),
            files,
            overridden,
        })
    }

    /// The settings of one file's content; messages call it `file`.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(file: &Path, content: &[u8]) -> Result<Self, ConfigError> {
        Self::of(&[Fragment::from_bytes(file, content)]).map(|(settings, _)| settings)
    }

    fn of(fragments: &[Fragment]) -> Result<(Self, Vec<Overridden>), ConfigError> {
        let mut options = Options::new(fragments);
        let settings = Self::read(&mut options);
        let overridden = options.take_overridden();
        options.finish()?;
        Ok((settings, overridden))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::config::ListenAddress;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn no_files_give_the_defaults() {
        let root = tree(&[]);
        let loaded = Settings::load(root.path(), None).unwrap();
        assert_eq!(
            loaded,
            Loaded { settings: Settings::default(), explicit: None, files: vec![], overridden: vec![] }
        );
        assert_eq!(loaded.settings.listen, [ListenAddress::default()]);
        assert_eq!(loaded.settings.http.max_form_body, 1_048_576);
    }

    #[test]
    fn files_in_order_and_the_last_one_wins() {
        let root = tree(&[
            (
                "usr/lib/wqcontroller/wqcontroller.toml",
                "max_clients = 1\npoll_interval = 1\n[client]\nallowed_dirs = ['/a', '/b']\nsecret_params = ['x']",
            ),
            ("run/wqcontroller/wqcontroller.toml", "max_clients = 2\ncheck_interval = 0.5"),
            ("etc/wqcontroller/wqcontroller.toml", "max_clients = 3\n[client]\nallowed_dirs = ['/c']"),
            ("usr/lib/wqcontroller/wqcontroller.toml.d/10.toml", "max_clients = 4\nlisten = 'hidden:1'"),
            ("etc/wqcontroller/wqcontroller.toml.d/10.toml", "max_clients = 5"),
            ("run/wqcontroller/wqcontroller.toml.d/20.toml", "max_clients = 6\n[http]\ndrain_timeout = 0"),
        ]);
        let Loaded { settings, files, overridden, .. } = Settings::load(root.path(), None).unwrap();
        assert_eq!(files.len(), 5);
        assert_eq!(settings.max_clients, 6);
        assert_eq!(settings.poll_interval, Duration::from_secs(1));
        assert_eq!(settings.check_interval, Duration::from_millis(500));
        assert_eq!(settings.client.allowed_dirs, [PathBuf::from("/c")], "a list is replaced as a whole");
        assert_eq!(settings.client.secret_params, ["x"], "a table is merged by key");
        assert_eq!(settings.http.drain_timeout, Duration::ZERO);
        assert_eq!(settings.http.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.listen, [ListenAddress::default()], "a drop-in hides its namesake");
        let file = |path: &str| root.path().join(path);
        let last = Overridden {
            name: "client.allowed_dirs".into(),
            earlier: (file("usr/lib/wqcontroller/wqcontroller.toml"), 4),
            later: (file("etc/wqcontroller/wqcontroller.toml"), 3),
        };
        assert_eq!((overridden.len(), overridden.last()), (5, Some(&last)));
    }

    #[test]
    fn empty_drop_in_masks_earlier_ones() {
        let root = tree(&[
            ("usr/lib/wqcontroller/wqcontroller.toml.d/10.toml", "max_clients = 1"),
            ("usr/lib/wqcontroller/wqcontroller.toml.d/20.toml", "poll_interval = 1"),
            ("run/wqcontroller/wqcontroller.toml.d/20.toml", ""),
            ("etc/wqcontroller/wqcontroller.toml.d/30.toml", ""),
        ]);
        symlink("/dev/null", root.path().join("etc/wqcontroller/wqcontroller.toml.d/10.toml")).unwrap();
        assert_eq!(Settings::load(root.path(), None).unwrap().settings, Settings::default());
    }

    #[test]
    fn explicit_file_is_read_alone() {
        let root =
            tree(&[("etc/wqcontroller/wqcontroller.toml", "max_clients = 1"), ("x", "poll_interval = 1")]);
        let file = root.path().join("x");
        let Loaded { settings, files, .. } = Settings::load(root.path(), Some(&file)).unwrap();
        assert_eq!((settings.max_clients, files), (100, vec![file]));
        let missing = root.path().join("missing.toml");
        let error = Settings::load(root.path(), Some(&missing)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read the configuration file {}", missing.display()));
    }

    #[test]
    fn unreadable_file_is_an_error() {
        let root = tree(&[("etc/wqcontroller/wqcontroller.toml.d/10.toml/x", "")]);
        let error = Settings::load(root.path(), None).unwrap_err();
        assert!(matches!(&error, ConfigError::Read { path, .. } if path.ends_with("10.toml")), "{error}");
    }

    #[test]
    fn only_what_this_user_may_not_read_is_left_out() {
        let forbidden = ConfigError::Read {
            path: "/x".into(),
            source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
        };
        assert!(forbidden.is_forbidden());
        let root = tree(&[("etc/wqcontroller/wqcontroller.toml", "max_clients = 1")]);
        let (loaded, left_out) = Settings::load_readable(root.path(), None).unwrap();
        assert_eq!((loaded.settings.max_clients, left_out.len()), (1, 0));
        let broken = tree(&[("etc/wqcontroller/wqcontroller.toml/x", "")]);
        assert!(Settings::load_readable(broken.path(), None).is_err());
    }

    #[test]
    fn mistakes_of_several_files_are_reported_together() {
        let root = tree(&[
            ("etc/wqcontroller/wqcontroller.toml", "\nmax_client = 1\n\nlog_level = 1"),
            ("etc/wqcontroller/wqcontroller.toml.d/10.toml", "listen ="),
        ]);
        let error = Settings::load(root.path(), None).unwrap_err().to_string();
        let main = root.path().join("etc/wqcontroller/wqcontroller.toml");
        let lines: Vec<_> = error.lines().collect();
        assert!(lines[0].starts_with(&format!("{}:2: unknown key `max_client`", main.display())), "{error}");
        assert!(lines[0].contains("did you mean `max_clients`?"), "{error}");
        assert!(lines[1].starts_with(&format!("{}:4: `log_level` is 1, must be", main.display())), "{error}");
        assert!(lines[2].contains("10.toml:1: not valid TOML"), "{error}");
        assert_eq!(lines.len(), 3);
    }
}
