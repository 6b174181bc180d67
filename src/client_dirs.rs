//! [`ClientDirs`]: the folders of clients, for child processes and for units.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tracing::info;

use crate::files::FileOwner;
use crate::model::client::ManagerKind;
use crate::model::name::{ClientName, UnitId};

/// The folders of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientDirs {
    /// Child processes: all in one folder, as in the original.
    Shared {
        /// The folder.
        tmpdir: PathBuf,
        /// The parent of the clients' state folders.
        lasting: PathBuf,
    },
    /// Units: each in the folders that systemd makes for it. Only the unit itself knows its state folder.
    Units {
        /// The parent of the units' runtime folders.
        runtime: PathBuf,
        /// The folder of the sandbox network, which all clients share.
        meeting: PathBuf,
        /// The folders that can be the parent of the units' state folders.
        lasting: Vec<PathBuf>,
    },
}

impl ClientDirs {
    /// The folders of units. systemd makes `RuntimeDirectory=wqclient/ID` below `/run`, or for a user below `$XDG_RUNTIME_DIR`
    /// (systemd.exec(5)).
    ///
    /// `StateDirectory=wqclient/ID` is below `/var/lib`, or for a user below `$XDG_STATE_HOME`; before systemd 254 it was below
    /// `$XDG_CONFIG_HOME`. `env` looks up an environment variable.
    pub fn of_units(
        manager: ManagerKind,
        user_runtime: &Path,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let (run, lasting) = match manager {
            ManagerKind::System => (Path::new("/run"), vec![PathBuf::from("/var/lib")]),
            ManagerKind::User => {
                // Relative paths are to be ignored (XDG Base Directory Specification, as systemd does).
                let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
                let homes = [("XDG_STATE_HOME", ".local/state"), ("XDG_CONFIG_HOME", ".config")];
                let home = |(name, usual)| absolute(name).or_else(|| Some(absolute("HOME")?.join(usual)));
                (user_runtime, homes.into_iter().filter_map(home).collect())
            }
        };
        let lasting = lasting.into_iter().map(|folder| folder.join("wqclient")).collect();
        Self::Units { runtime: run.join("wqclient"), meeting: run.join("wqclient-world"), lasting }
    }

    /// The ID for an account that is being registered. An account that version 0.1.0 knew by another ID, and that has a state folder
    /// under that ID only, keeps it, because its undelivered reports and its login are there. Blocks on the file system.
    pub fn new_id(&self, name: &ClientName) -> UnitId {
        let (id, earlier) = (UnitId::of(name), UnitId::of_version_0_1(name));
        let lasting = match self {
            Self::Shared { lasting, .. } => std::slice::from_ref(lasting),
            Self::Units { lasting, .. } => lasting,
        };
        // Links are not followed: with `DynamicUser=` the folder is a link to a place that only root can read.
        let has_state =
            |id: &UnitId| lasting.iter().any(|all| all.join(id.as_str()).symlink_metadata().is_ok());
        // With state under both, the account has begun anew since, and the newer state counts.
        if id != earlier && has_state(&earlier) && !has_state(&id) {
            info!(client = %name, id = %earlier, "keeps the ID {earlier}, under which version 0.1.0 has saved its state");
            return earlier;
        }
        id
    }

    /// Whether clients are units.
    pub fn are_units(&self) -> bool {
        matches!(self, Self::Units { .. })
    }

    /// The folder of a client's files, unless its start parameters name others.
    pub fn folder(&self, id: &UnitId) -> PathBuf {
        match self {
            Self::Shared { tmpdir, .. } => tmpdir.clone(),
            Self::Units { runtime, .. } => runtime.join(id.as_str()),
        }
    }

    /// The folders in which start parameters may name files.
    pub fn allowed(&self, id: &UnitId) -> Vec<PathBuf> {
        match self {
            Self::Shared { tmpdir, .. } => vec![tmpdir.clone()],
            Self::Units { meeting, .. } => vec![self.folder(id), meeting.clone()],
        }
    }

    /// Who must own a client's files.
    pub fn owner(&self, id: &UnitId) -> FileOwner {
        match self {
            Self::Shared { .. } => FileOwner::me(),
            // systemd gives the folder to the user of the unit. Its parent belongs to root or to the controller's user.
            Self::Units { .. } => FileOwner::SameAsFolder(self.folder(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_folder_is_named_by_id() {
        let id = UnitId::of(&ClientName::new("a-b").unwrap());
        let none = |_: &str| None;
        let system = ClientDirs::of_units(ManagerKind::System, Path::new("/run/user/7"), none);
        assert_eq!(system.folder(&id), Path::new("/run/wqclient/a-b"));
        assert_eq!(system.owner(&id), FileOwner::SameAsFolder(system.folder(&id)));
        assert_eq!(system.allowed(&id), [system.folder(&id), "/run/wqclient-world".into()]);
        let user = ClientDirs::of_units(ManagerKind::User, Path::new("/run/user/7"), none);
        assert_eq!(user.folder(&id), Path::new("/run/user/7/wqclient/a-b"));
        let shared = ClientDirs::Shared { tmpdir: "/t".into(), lasting: "/l".into() };
        assert_eq!((shared.folder(&id), shared.allowed(&id)), ("/t".into(), vec!["/t".into()]));
    }

    #[test]
    fn state_under_id_of_0_1_0_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let env = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
        let names = ["a-b", "小明"].map(|name| ClientName::new(name).unwrap());
        let [hyphen, chinese] = &names;
        for (client_dirs, lasting) in [
            (ClientDirs::Shared { tmpdir: "/t".into(), lasting: home.join("clients") }, "clients"),
            (ClientDirs::of_units(ManagerKind::User, Path::new("/r"), env), ".local/state/wqclient"),
            (ClientDirs::of_units(ManagerKind::User, Path::new("/r"), env), ".config/wqclient"),
        ] {
            let lasting = home.join(lasting);
            assert_eq!(client_dirs.new_id(hyphen).as_str(), "a-b");
            assert_eq!(client_dirs.new_id(chinese), UnitId::of(chinese));
            std::fs::create_dir_all(&lasting).unwrap();
            let old = lasting.join("ab-d44362d67d921091");
            std::os::unix::fs::symlink("../private/where/only/root/comes", &old).unwrap();
            assert_eq!(client_dirs.new_id(hyphen).as_str(), "ab-d44362d67d921091");
            std::fs::create_dir(lasting.join("a-b")).unwrap();
            assert_eq!(client_dirs.new_id(hyphen).as_str(), "a-b", "it has begun anew since");
            std::fs::remove_dir_all(&lasting).unwrap();
        }
    }
}
