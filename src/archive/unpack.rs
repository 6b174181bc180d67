//! From the stream to a folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

use rustix::fs::syncfs;
use tar::{Archive, EntryType};

use super::{Amount, ArchiveError, END, MAX_BYTES, MAX_ENTRIES};

/// How much may follow the last entry, in bytes.
const MAX_REST: u64 = 1024 * 1024;

/// Unpacks a whole archive into a folder, which is empty or not there. Returns when all is on disk.
///
/// # Errors
/// See [`ArchiveError`]. The folder is empty then, unless it was not so before.
pub fn unpack(mut input: impl Read, folder: &Path) -> Result<Amount, ArchiveError> {
    let failed = |error| ArchiveError::File(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    if fs::read_dir(folder).map_err(failed)?.next().is_some() {
        return Err(ArchiveError::NotEmpty(folder.to_owned()));
    }
    let unpacked = entries(&mut input, folder).and_then(|amount| {
        // Blocks of zeros. A connection that is closed with something unread loses what was answered.
        io::copy(&mut input.take(MAX_REST), &mut io::sink()).map_err(ArchiveError::Stream)?;
        let opened = File::open(folder).map_err(failed)?;
        syncfs(opened).map_err(|error| failed(error.into()))?;
        Ok(amount)
    });
    if unpacked.is_err() {
        clear(folder).map_err(failed)?;
    }
    unpacked
}

fn entries(input: impl Read, folder: &Path) -> Result<Amount, ArchiveError> {
    let mut archive = Archive::new(input);
    archive.set_preserve_mtime(true);
    // Neither the owner nor bits like setuid.
    archive.set_preserve_permissions(false);
    archive.set_overwrite(false);
    let mut amount = Amount::default();
    for entry in archive.entries().map_err(ArchiveError::Stream)? {
        let mut entry = entry.map_err(cut_off)?;
        let path = entry.path().map_err(ArchiveError::Stream)?.into_owned();
        let kind = entry.header().entry_type();
        if path == Path::new(END) {
            let mut said = String::new();
            (&mut entry).take(32).read_to_string(&mut said).map_err(cut_off)?;
            return match said.parse::<u64>() {
                Ok(entries) if amount.entries == entries => Ok(amount),
                _ => Err(ArchiveError::CutOff),
            };
        }
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let is_known = matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink);
        if !is_inside || !is_known {
            return Err(ArchiveError::Refused(path));
        }
        amount.entries += 1;
        amount.bytes = amount.bytes.saturating_add(entry.size());
        if amount.entries > MAX_ENTRIES || amount.bytes > MAX_BYTES {
            return Err(ArchiveError::TooLarge);
        }
        // It follows no link out of the folder.
        match entry.unpack_in(folder) {
            Ok(true) => {}
            Ok(false) => return Err(ArchiveError::Refused(path)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ArchiveError::CutOff),
            Err(error) => return Err(ArchiveError::File(folder.join(path), error)),
        }
    }
    Err(ArchiveError::CutOff)
}

fn cut_off(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::CutOff,
        _ => ArchiveError::Stream(error),
    }
}

/// Removes what is in a folder.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::pack;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use tar::{Builder, Header};

    fn archive_of(folder: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(folder, &mut bytes).unwrap();
        bytes
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn folder_is_the_same_elsewhere() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
        for (path, content, mode) in
            [("a", "one", 0o600), ("in/b", "", 0o640), ("in/deep/小明", "two", 0o755), (&long, "long", 0o600)]
        {
            let path = from.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(from.path().join("in"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("/nowhere/at/all", from.path().join("link")).unwrap();
        let _socket = UnixListener::bind(from.path().join("socket")).unwrap();
        let amount = unpack(&archive_of(from.path())[..], to.path()).unwrap();
        assert_eq!(amount, Amount { entries: 8, bytes: 10 });
        for (path, content, mode) in
            [("a", "one", 0o600), ("in/b", "", 0o640), ("in/deep/小明", "two", 0o755), (&long, "long", 0o600)]
        {
            let path = to.path().join(path);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode, "{path:?}");
        }
        assert_eq!(to.path().join("in").metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_link(to.path().join("link")).unwrap(), Path::new("/nowhere/at/all"));
        assert!(!to.path().join("socket").exists() && !to.path().join(END).exists());
    }

    #[test]
    fn archive_that_is_cut_off_leaves_nothing() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a", "b", "c"] {
            fs::write(from.path().join(name), name.repeat(1000)).unwrap();
        }
        let whole = archive_of(from.path());
        // After the last entry there are only blocks of zeros.
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for length in [0, 1, 511, 512, 513, 1200, 1536, 3000, end - 600, end] {
            let cut = unpack(&whole[..length], to.path());
            assert!(cut.is_err(), "{length} of {}: {cut:?}", whole.len());
            assert!(is_empty(to.path()), "{length}");
        }
        unpack(&whole[..], to.path()).unwrap();
        assert!(matches!(unpack(&whole[..], to.path()), Err(ArchiveError::NotEmpty(_))));
        assert_eq!(fs::read_to_string(to.path().join("a")).unwrap(), "a".repeat(1000));
    }

    #[test]
    fn archives_that_lead_out_of_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (to, other) = (folder.path().join("to"), folder.path().join("other"));
        fs::create_dir(&to).unwrap();
        fs::create_dir(&other).unwrap();
        let entry = |builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &[u8], target: &Path| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(if kind == EntryType::Regular { 1 } else { 0 });
            // As it stands: `set_path` would refuse some.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
            if kind != EntryType::Regular {
                header.set_link_name(target).unwrap();
            }
            header.set_cksum();
            builder.append(&header, if kind == EntryType::Regular { &b"x"[..] } else { &b""[..] }).unwrap();
        };
        type Entries<'a> = &'a [(EntryType, &'a [u8])];
        let hostile: [Entries; 7] = [
            &[(EntryType::Regular, b"../other/x")],
            &[(EntryType::Regular, b"/tmp/wqcontroller-test-x")],
            &[(EntryType::Symlink, b"link"), (EntryType::Regular, b"link/x")],
            &[(EntryType::Symlink, b"link"), (EntryType::Directory, b"link/x")],
            &[(EntryType::Link, b"hard")],
            &[(EntryType::Fifo, b"pipe")],
            &[(EntryType::Char, b"device")],
        ];
        for entries in hostile {
            let mut builder = Builder::new(Vec::new());
            for (kind, path) in entries {
                entry(&mut builder, *kind, path, &other);
            }
            let archive = builder.into_inner().unwrap();
            let refused = unpack(&archive[..], &to).unwrap_err();
            assert!(
                matches!(refused, ArchiveError::Refused(_) | ArchiveError::File(..)),
                "{entries:?}: {refused:?}"
            );
            assert!(is_empty(&to) && is_empty(&other), "{entries:?}");
        }
    }
}
