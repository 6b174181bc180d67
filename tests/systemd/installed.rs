//! Where the files of this project are on a machine.

use std::fs;
use std::path::{Path, PathBuf};

/// A file, and where it is installed.
#[derive(Clone, Debug)]
pub struct Installed {
    pub source: PathBuf,
    pub target: PathBuf,
    pub mode: u32,
}

/// The programs that were built for these tests, and all of `systemd/`.
pub fn all() -> Vec<Installed> {
    let mut found = vec![Installed {
        source: env!("CARGO_BIN_EXE_wqcontroller").into(),
        target: "/usr/sbin/wqcontroller".into(),
        mode: 0o755,
    }];
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd"), Path::new(""), &mut found);
    found
}

fn collect(folder: &Path, inside: &Path, found: &mut Vec<Installed>) {
    for entry in fs::read_dir(folder.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let path = inside.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(folder, &path, found);
        } else {
            let target = place(&path).unwrap_or_else(|| panic!("say in {} where {path:?} goes", file!()));
            found.push(Installed { source: folder.join(&path), target, mode: 0o644 });
        }
    }
}

/// Where a file of `systemd/` belongs.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.to_str()?;
    let extension = path.extension()?.to_str()?;
    let target = match (folder, extension) {
        ("", "service" | "socket" | "target" | "slice") => "/usr/lib/systemd/system",
        ("", "catalog") => "/usr/lib/systemd/catalog",
        ("", "rules") => "/usr/share/polkit-1/rules.d",
        ("system.d", "conf") => "/usr/share/dbus-1",
        ("sysusers.d" | "tmpfiles.d", "conf") => "/usr/lib",
        (drop_in, "conf") if drop_in.ends_with(".d") => "/usr/lib/systemd/system",
        _ => return None,
    };
    Some(Path::new(target).join(path))
}
