//! Checks of trusted folders and programs: that no other user can change, read or redirect them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::FileError;

/// The most links in a path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Checks that only root and this user can change or replace the file at `path`: that they own it, each folder above it and each
/// link on the way, and that no other user may write to the file or to a folder. Others may write to a sticky folder, since there
/// only the owner of a file can replace it.
///
/// # Errors
/// The first file, folder or link that others can change, or that can't be looked at.
pub fn check_trusted(path: &Path) -> Result<(), FileError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    };
    let path = std::path::absolute(path).map_err(io_error(path))?;
    let mut reached = PathBuf::from("/");
    check_component(&reached, &fs::symlink_metadata(&reached).map_err(io_error(&reached))?)?;
    // The parts that are left, the next one last.
    let mut left = parts(&path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            // `reached` has no link in it, so its parent is the folder that was checked before.
            reached.pop();
            continue;
        }
        let next = reached.join(part);
        let metadata = fs::symlink_metadata(&next).map_err(io_error(&next))?;
        check_component(&next, &metadata)?;
        if !metadata.is_symlink() {
            reached = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(FileError::io(&path, rustix::io::Errno::LOOP));
        }
        let target = fs::read_link(&next).map_err(io_error(&next))?;
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        left.extend(parts(&target));
    }
    Ok(())
}

/// The parts of a path below its root, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let below_root = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(below_root).map(|part| part.as_os_str().to_owned()).collect()
}

fn check_component(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    let me = rustix::process::geteuid().as_raw();
    // Also of a link: in a sticky folder its owner can replace it.
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(FileError::WrongOwner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
    }
    let mode = metadata.mode();
    // A user private group has no other members, so group write access is that of the owner.
    let own_group = metadata.gid() == 0 || metadata.gid() == rustix::process::getegid().as_raw();
    let others_write = mode & 0o002 != 0 || (mode & 0o020 != 0 && !own_group);
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    // The mode of a link says nothing: it is always 0777 (symlink(7)).
    if others_write && !sticky && !metadata.is_symlink() {
        return Err(FileError::Writable { path: path.to_owned(), mode: mode & 0o7777 });
    }
    Ok(())
}

/// Makes a private folder with mode 0700 at `path`, or checks that it is one.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        // An existing file is checked below.
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(FileError::io(path, source));
        }
        _ => {}
    }
    // Not followed: in a folder of all users another one could have made a link to any folder of ours.
    let metadata = fs::symlink_metadata(path).map_err(|source| FileError::io(path, source))?;
    let me = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(FileError::io(path, source));
    }
    if metadata.uid() != me {
        return Err(FileError::WrongOwner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

/// Resolves the links in `path`, as far as it exists, and checks that it then lies in one of the `allowed` folders. The returned path
/// contains no link, so that a link that is changed later has no effect.
pub fn inside(path: &Path, allowed: &[PathBuf]) -> Result<PathBuf, FileError> {
    // `..` after a link does not lead to where the text says.
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(FileError::Relative { path: path.to_owned() });
    }
    let resolved = resolve(path)?;
    for folder in allowed {
        // The folder may be a link or lie behind one, such as below /var/run.
        if resolve(folder).is_ok_and(|folder| resolved.starts_with(folder)) {
            return Ok(resolved);
        }
    }
    let allowed: Vec<String> = allowed.iter().map(|folder| folder.display().to_string()).collect();
    Err(FileError::Outside { path: path.to_owned(), allowed: allowed.join(", ") })
}

/// Resolves the longest part of `path` that exists, and appends the rest. A dangling link is an error, because writing through it
/// would create its target.
fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut missing: Vec<&OsStr> = Vec::new();
    let mut existing = path;
    loop {
        match fs::canonicalize(existing) {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |path, part| path.join(part))),
            Err(source)
                if source.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(existing).is_err() =>
            {
                let (Some(folder), Some(part)) = (existing.parent(), existing.file_name()) else {
                    return Err(FileError::io(path, source));
                };
                missing.push(part);
                existing = folder;
            }
            Err(source) => return Err(FileError::io(existing, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    #[test]
    fn inside_resolves_links() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (allowed, other) = (root.join("allowed"), root.join("other"));
        fs::create_dir(&allowed).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&other, allowed.join("out")).unwrap();
        symlink(&allowed, root.join("alias")).unwrap();
        symlink("/nowhere/at/all", allowed.join("dangling")).unwrap();
        let check = |path: PathBuf| inside(&path, std::slice::from_ref(&allowed));
        assert_eq!(check(allowed.join("a/b.json")).unwrap(), allowed.join("a/b.json"));
        assert_eq!(check(root.join("alias/b.json")).unwrap(), allowed.join("b.json"));
        assert_eq!(check(allowed.clone()).unwrap(), allowed);
        assert!(matches!(check(allowed.join("out/b.json")), Err(FileError::Outside { .. })));
        assert!(matches!(check(root.join("allowed2/b")), Err(FileError::Outside { .. })));
        assert!(matches!(check(allowed.join("../other/b")), Err(FileError::Relative { .. })));
        assert!(matches!(check(PathBuf::from("b.json")), Err(FileError::Relative { .. })));
        assert!(matches!(check(allowed.join("dangling")), Err(FileError::Io { .. })));
        assert!(matches!(check(allowed.join("dangling/b")), Err(FileError::Io { .. })));
    }

    #[test]
    fn private_folder_checks_mode_and_owner() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        private_folder(&folder).unwrap();
        private_folder(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(private_folder(&folder), Err(FileError::NotPrivate { mode: 0o770, .. })));
        symlink(&folder, root.path().join("link")).unwrap();
        assert!(private_folder(&root.path().join("link")).is_err());
    }

    #[test]
    fn world_writable_file_is_not_trusted() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("template");
        fs::write(&file, "").unwrap();
        check_trusted(&file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(check_trusted(&file), Err(FileError::Writable { .. })));
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(check_trusted(&file), Err(FileError::Writable { .. })));
        let ours = tempfile::tempdir().unwrap();
        let link = ours.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(matches!(check_trusted(&link), Err(FileError::Writable { .. })));
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        check_trusted(&file).unwrap();
        check_trusted(&link).unwrap();
    }

    #[test]
    fn folders_above_and_behind_links_are_checked() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["open/own", "shut/own", "links"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("open/own/file"), "").unwrap();
        fs::write(path("shut/own/file"), "").unwrap();
        // To the file through a folder that others may write, to which nothing but the link in the middle points.
        symlink("../open/link", path("links/first")).unwrap();
        symlink("../shut/own", path("open/link")).unwrap();
        symlink("loop", path("links/loop")).unwrap();
        for file in ["open/own/file", "shut/own/file", "links/first/file"] {
            check_trusted(&path(file)).unwrap();
        }
        assert!(matches!(check_trusted(&path("links/loop")), Err(FileError::Io { .. })));
        assert!(check_trusted(&path("links/none")).unwrap_err().is_missing());
        fs::set_permissions(path("open"), Permissions::from_mode(0o777)).unwrap();
        for file in ["open/own/file", "links/first/file"] {
            let found = check_trusted(&path(file)).unwrap_err();
            assert!(
                matches!(&found, FileError::Writable { path: which, .. } if *which == path("open")),
                "{found}"
            );
        }
        check_trusted(&path("shut/own/file")).unwrap();
        fs::set_permissions(path("open"), Permissions::from_mode(0o1777)).unwrap();
        check_trusted(&path("links/first/file")).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(path("open/link"), Some(1), None).unwrap();
            let found = check_trusted(&path("links/first/file"));
            assert!(matches!(found, Err(FileError::WrongOwner { owner: 1, .. })));
            std::os::unix::fs::chown(path("shut"), Some(1), None).unwrap();
            let found = check_trusted(&path("shut/own/file"));
            assert!(matches!(found, Err(FileError::WrongOwner { owner: 1, .. })));
        }
    }
}
