//! Checks whether a client that is a unit can read the image of a login code that its network's program writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Group;

use crate::client_dirs::ClientDirs;
use crate::model::name::UnitId;

/// The group of all clients that are units.
const GROUP: &str = "wqclients";

/// What systemd/wqclient@.service hides, and by which of its settings. `DynamicUser=` implies the private `/tmp`.
const HIDDEN: [(&str, &str); 8] = [
    ("/home", "ProtectHome=yes"),
    ("/root", "ProtectHome=yes"),
    ("/run/user", "ProtectHome=yes"),
    ("/tmp", "PrivateTmp=yes"),
    ("/var/tmp", "PrivateTmp=yes"),
    ("/run/wqclient", "TemporaryFileSystem="),
    ("/run/wqcontroller", "InaccessiblePaths="),
    ("/var/lib/private/wqclient", "TemporaryFileSystem="),
];

/// Settings by which an administrator's drop-in may let the unit read more than usual.
const OPENINGS: [&str; 7] = [
    "ProtectHome",
    "PrivateTmp",
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "User",
    "SupplementaryGroups",
];

/// Where an administrator changes units.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"];

/// The advice in the message.
const INSTEAD: &str = "have the implementation write it to a folder such as /var/lib/qqlogin that the group wqclients may read, \
                       or open this one with a drop-in (systemctl edit wqclient@.service: BindReadOnlyPaths=)";

/// Why the client with this ID will not be able to read the image at `path`, as far as that is certain before its start. Blocks
/// on the file system.
pub(super) fn hidden(path: &Path, id: &UnitId, client_dirs: &ClientDirs) -> Option<String> {
    // A unit of a user's own manager runs as that user and sees the same files.
    let ClientDirs::Units { runtime, .. } = client_dirs else { return None };
    if !runtime.starts_with("/run/wqclient") || is_opened(Path::new("/"), id.as_str()) {
        return None;
    }
    // Where there is no such group, only the rights of all others count.
    let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw());
    hidden_by(path).or_else(|| unreadable(path, group)).map(|why| format!("{why}; {INSTEAD}"))
}

/// The setting of the unit that hides `path`.
fn hidden_by(path: &Path) -> Option<String> {
    // Of the folder and not of the file, as the program may not have written the image yet. A folder that the controller may
    // not enter is judged by its name alone.
    let real = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    // Both count: the mounts of the unit hide the name, and also what a link leads to.
    let places = [Some(path.to_owned()), real];
    let is_in = |folder: &str| places.iter().flatten().any(|place: &PathBuf| place.starts_with(folder));
    let (folder, setting) = HIDDEN.into_iter().find(|(folder, _)| is_in(folder))?;
    Some(format!(
        "a client that is a unit sees nothing of the machine's {folder} ({setting} in wqclient@.service)"
    ))
}

/// The first folder or file on the way to `path` that neither others nor the clients' group may use.
fn unreadable(path: &Path, group: Option<u32>) -> Option<String> {
    for place in path.ancestors() {
        // A file that does not exist yet may become readable.
        let Ok(found) = fs::metadata(place) else { continue };
        // The owner's bits do not count: a unit has a user of its own, which owns none of these.
        let (others, group_bits, right) =
            if found.is_dir() { (0o001, 0o010, "enter") } else { (0o004, 0o040, "read") };
        let may =
            found.mode() & others != 0 || (group == Some(found.gid()) && found.mode() & group_bits != 0);
        if !may && !has_acl(place) {
            let mode = found.mode() & 0o7777;
            return Some(format!(
                "clients run as users of their own, who may not {right} {} (mode {mode:04o})",
                place.display()
            ));
        }
    }
    None
}

/// Whether the file has an ACL, which may grant more than the mode.
fn has_acl(path: &Path) -> bool {
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 4096]).is_ok()
}

/// Whether an administrator's drop-in changed what the unit may see. Then nothing is certain here.
fn is_opened(root: &Path, id: &str) -> bool {
    UNITS.iter().any(|folder| {
        let folder = root.join(folder.trim_start_matches('/'));
        // A unit file here replaces the package's as a whole (systemd.unit(5)), and HIDDEN says nothing about it.
        if folder.join("wqclient@.service").exists() {
            return true;
        }
        let drop_ins = ["wqclient@.service.d".to_owned(), format!("wqclient@{id}.service.d")];
        drop_ins.iter().filter_map(|drop_in| fs::read_dir(folder.join(drop_in)).ok()).flatten().flatten().any(
            |file| {
                let text = fs::read_to_string(file.path()).unwrap_or_default();
                // Keys that only begin like one of these count, too. A wrong guess leaves out a check and refuses nothing.
                let opens = |line: &str| OPENINGS.iter().any(|key| line.trim_start().starts_with(key));
                text.lines().any(opens)
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::ManagerKind;
    use crate::model::name::ClientName;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn image_below_a_home_is_hidden_from_units_of_the_system() {
        let id = UnitId::of(&ClientName::new("bot").unwrap());
        let system = ClientDirs::of_units(ManagerKind::System, Path::new("/run/user/7"), |_| None);
        for (path, setting) in [
            ("/root/napcat/qrcode.png", "ProtectHome=yes"),
            ("/home/me/qrcode.png", "ProtectHome=yes"),
            ("/tmp/qrcode.png", "PrivateTmp=yes"),
        ] {
            let why = hidden(Path::new(path), &id, &system).unwrap();
            assert!(why.contains(setting) && why.contains("/var/lib/qqlogin"), "{why}");
        }
        let mine = ClientDirs::of_units(ManagerKind::User, Path::new("/run/user/7"), |_| None);
        let shared = ClientDirs::Shared { tmpdir: "/t".into(), lasting: "/l".into() };
        for client_dirs in [mine, shared] {
            assert_eq!(hidden(Path::new("/root/qrcode.png"), &id, &client_dirs), None);
        }
        assert_eq!(hidden_by(Path::new("/var/lib/qqlogin/qrcode.png")), None);
        assert_eq!(hidden_by(Path::new("/homework/qrcode.png")), None);
    }

    #[test]
    fn image_that_another_user_may_not_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/qrcode.png"));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(&inner).unwrap();
        mode(folder.path(), 0o755);
        mode(&inner, 0o755);
        assert_eq!(unreadable(&file, None), None, "it is not there yet");
        fs::write(&file, "").unwrap();
        mode(&file, 0o640);
        let group = fs::metadata(&file).unwrap().gid();
        assert!(
            unreadable(&file, None)
                .unwrap()
                .ends_with("may not read {} (mode 0640)".replace("{}", file.to_str().unwrap()).as_str())
        );
        assert_eq!(unreadable(&file, Some(group)), None);
        mode(&inner, 0o700);
        assert!(unreadable(&file, Some(group)).unwrap().contains("may not enter"));
    }

    #[test]
    fn drop_in_that_opens_more_is_the_administrators_word() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/systemd/system/wqclient@bot.service.d");
        fs::create_dir_all(&folder).unwrap();
        assert!(!is_opened(root.path(), "bot"));
        fs::write(folder.join("more.conf"), "[Service]\nCPUQuota=20%\n").unwrap();
        assert!(!is_opened(root.path(), "bot"));
        fs::write(folder.join("more.conf"), "[Service]\nBindReadOnlyPaths=/home/me/qr\n").unwrap();
        assert!(is_opened(root.path(), "bot") && !is_opened(root.path(), "other"));
    }
}
