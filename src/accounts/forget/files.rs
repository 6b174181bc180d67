//! The removal of files that belong to the controller's user. No link is followed: a client has that user as well, and could lead
//! the controller to other files.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::model::client::ClientSpec;

/// Whether something is at a path, also a link that leads nowhere.
pub(in crate::accounts) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The files whose paths a client is given, and those that the controller writes for it.
pub(super) fn named(spec: &ClientSpec) -> Vec<PathBuf> {
    let output = spec.output();
    // Beside its output: what is logged already, and the end of what was cut off.
    let beside = [".read", ".old"].map(|extension| {
        let mut path = output.clone().into_os_string();
        path.push(extension);
        PathBuf::from(path)
    });
    let files = [&spec.files.state, &spec.files.qrcode, &spec.files.pid].map(Clone::clone);
    files.into_iter().chain([output]).chain(beside).collect()
}

/// Removes a folder and all that is in it, or what else is there. Returns whether there was something.
pub(super) fn remove_tree(path: &Path) -> io::Result<bool> {
    let removed = match path.symlink_metadata() {
        // It opens each folder without following links, so none that appears meanwhile leads out of it.
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    was_there(removed)
}

/// Removes a file below `root`; anything else stays. Returns whether there was one.
pub(super) fn remove_below(root: &Path, path: &Path) -> io::Result<bool> {
    let Ok(below) = path.strip_prefix(root) else { return Ok(false) };
    let mut parts = Vec::new();
    for part in below.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            _ => return Ok(false),
        }
    }
    let Some(name) = parts.pop() else { return Ok(false) };
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let remove = || -> rustix::io::Result<bool> {
        // The root itself is the operator's choice, and may be a link.
        let mut at: OwnedFd = open(root, folder, Mode::empty())?;
        for part in parts {
            at = openat(&at, part, folder | OFlags::NOFOLLOW, Mode::empty())?;
        }
        let there = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        unlinkat(&at, name, AtFlags::empty())?;
        Ok(true)
    };
    match remove() {
        // A symbolic link among the parent folders counts as missing: it could lead to files of another account.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        removed => Ok(removed?),
    }
}

fn was_there(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_below_the_folder_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("tmp"), folder.path().join("other"));
        for made in [root.join("in"), root.join("name"), other.clone()] {
            fs::create_dir_all(made).unwrap();
        }
        let files = [root.join("a"), root.join("in/b"), other.join("c")];
        for file in &files {
            fs::write(file, "x").unwrap();
        }
        symlink(&other, root.join("link")).unwrap();
        symlink(other.join("c"), root.join("alias")).unwrap();
        for (path, removed) in [
            ("a", true),
            ("a", false),
            ("in/b", true),
            ("link/c", false),
            ("alias", false),
            ("name", false),
            ("../other/c", false),
            ("none/x", false),
            ("", false),
        ] {
            assert_eq!(remove_below(&root, &root.join(path)).unwrap(), removed, "{path}");
        }
        assert!(!remove_below(&root, &other.join("c")).unwrap());
        assert!(files[2].exists() && !files[0].exists() && !files[1].exists());
    }

    #[test]
    fn tree_is_removed_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, other) = (folder.path().join("tree"), folder.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("c"), "x").unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        assert!(remove_tree(&tree).unwrap() && !is_there(&tree));
        symlink(&other, &tree).unwrap();
        assert!(remove_tree(&tree).unwrap() && !is_there(&tree));
        assert!(!remove_tree(&tree).unwrap());
        assert!(other.join("c").exists());
    }
}
