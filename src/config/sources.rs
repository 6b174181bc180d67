//! Which files make the configuration, and in which order. Later wins; what is in them is not looked at.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// The package's folder, the one that does not survive a boot, and the administrator's. Later wins.
const FOLDERS: [&str; 3] = ["usr/lib", "run", "etc"];
const MAIN_FILE: &str = "wqcontroller/wqcontroller.toml";
const DROP_INS: &str = "wqcontroller/wqcontroller.toml.d";

/// The configuration files that exist under `root`: the main files in the order of their folders, then the
/// drop-ins by file name.
///
/// As with systemd, a drop-in hides those of the same name in earlier folders. An empty one, or a link to
/// `/dev/null`, thereby switches a drop-in of the package off.
///
/// # Errors
/// The first file or folder that can't be examined, unless `pass` accepts the error.
pub(super) fn default_files(
    root: &Path,
    mut pass: impl FnMut(ConfigError) -> Result<(), ConfigError>,
) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    let mut drop_ins = BTreeMap::new();
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        let main = folder.join(MAIN_FILE);
        match exists(&main) {
            Ok(true) => files.push(main),
            Ok(false) => {}
            Err(error) => pass(error)?,
        }
        let listed = list(&folder.join(DROP_INS));
        for path in listed.or_else(|error| pass(error).map(|()| Vec::new()))? {
            if let Some(name) = path.file_name() {
                drop_ins.insert(name.to_owned(), path);
            }
        }
    }
    // After every main file: a drop-in of the package wins over the administrator's main file, as with systemd
    // (systemd-system.conf(5)).
    files.extend(drop_ins.into_values());
    Ok(files)
}

/// Whether there is anything at `path`. A link that leads nowhere counts: it was meant to be read.
fn exists(path: &Path) -> Result<bool, ConfigError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

/// The drop-ins in `folder`: entries whose name ends in `.toml` and does not begin with a dot, which is what
/// editors put before the names of their temporary files. A folder that is missing has none.
fn list(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::List { path: folder.to_owned(), source };
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        // Of any type: a folder or a dangling link of such a name is a mistake, which reading it reports.
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn found(root: &Path) -> Vec<String> {
        let files = default_files(root, Err).unwrap();
        files.iter().map(|file| file.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn no_folders_give_no_files() {
        assert!(found(tree(&[]).path()).is_empty());
    }

    #[test]
    fn files_are_ordered_and_drop_ins_replaced() {
        let root = tree(&[
            "etc/wqcontroller/wqcontroller.toml",
            "usr/lib/wqcontroller/wqcontroller.toml",
            "run/wqcontroller/wqcontroller.toml",
            "etc/wqcontroller/wqcontroller.toml.d/10-a.toml",
            "run/wqcontroller/wqcontroller.toml.d/20-b.toml",
            "usr/lib/wqcontroller/wqcontroller.toml.d/20-b.toml",
            "usr/lib/wqcontroller/wqcontroller.toml.d/30-c.toml",
        ]);
        assert_eq!(
            found(root.path()),
            [
                "usr/lib/wqcontroller/wqcontroller.toml",
                "run/wqcontroller/wqcontroller.toml",
                "etc/wqcontroller/wqcontroller.toml",
                "etc/wqcontroller/wqcontroller.toml.d/10-a.toml",
                "run/wqcontroller/wqcontroller.toml.d/20-b.toml",
                "usr/lib/wqcontroller/wqcontroller.toml.d/30-c.toml",
            ]
        );
    }

    #[test]
    fn other_entries_are_ignored() {
        let folder = "etc/wqcontroller/wqcontroller.toml.d";
        let root =
            tree(&[&format!("{folder}/a.toml.bak"), &format!("{folder}/b.conf"), &format!("{folder}/.toml")]);
        // What Emacs leaves beside a file that is being edited: a link that leads nowhere.
        symlink("me@host.1", root.path().join(folder).join(".#c.toml")).unwrap();
        assert!(found(root.path()).is_empty());
    }

    #[test]
    fn dangling_link_counts_as_a_file() {
        let root = tree(&["etc/wqcontroller/x"]);
        symlink("gone", root.path().join("etc/wqcontroller/wqcontroller.toml")).unwrap();
        assert_eq!(found(root.path()), ["etc/wqcontroller/wqcontroller.toml"]);
    }

    #[test]
    fn file_in_place_of_the_drop_in_folder_is_an_error() {
        let root = tree(&["etc/wqcontroller/wqcontroller.toml.d"]);
        let error = default_files(root.path(), Err).unwrap_err();
        let path = root.path().join("etc/wqcontroller/wqcontroller.toml.d");
        assert_eq!(error.to_string(), format!("cannot list the configuration folder {}", path.display()));
    }
}
