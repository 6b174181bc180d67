//! [`Homes`]: where clients keep their files, as child processes and as units.

use std::path::{Path, PathBuf};

use crate::config::ManagerKind;
use crate::files::Owner;
use crate::model::name::ClientName;

/// Where clients keep their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Homes {
    /// All in one folder, as in the original.
    Shared {
        /// The folder.
        tmpdir: PathBuf,
        /// Below it each has a folder of its own for what must last.
        lasting: PathBuf,
    },
    /// Each in the folders that systemd makes for its unit. The one for what must last is known in the unit only.
    Units {
        /// The folder of those of all units.
        runtime: PathBuf,
        /// Where clients of the sandbox meet.
        meeting: PathBuf,
    },
}

impl Homes {
    /// Those of the units of a manager: `RuntimeDirectory=wqclient/ID` is made below `/run`, or what `XDG_RUNTIME_DIR` says
    /// (systemd.exec(5)).
    pub fn of_units(manager: ManagerKind, user_runtime: &Path) -> Self {
        let run = match manager {
            ManagerKind::System => Path::new("/run"),
            ManagerKind::User => user_runtime,
        };
        Self::Units { runtime: run.join("wqclient"), meeting: run.join("wqclient-world") }
    }

    /// The folder of a client's files, unless its start says otherwise.
    pub fn folder(&self, name: &ClientName) -> PathBuf {
        match self {
            Self::Shared { tmpdir, .. } => tmpdir.clone(),
            Self::Units { runtime, .. } => runtime.join(name.unit_id().as_str()),
        }
    }

    /// The folders in which a start may name files.
    pub fn allowed(&self, name: &ClientName) -> Vec<PathBuf> {
        match self {
            Self::Shared { tmpdir, .. } => vec![tmpdir.clone()],
            Self::Units { meeting, .. } => vec![self.folder(name), meeting.clone()],
        }
    }

    /// Whose a client's files are.
    pub fn owner(&self, name: &ClientName) -> Owner {
        match self {
            Self::Shared { .. } => Owner::me(),
            // It was given to the user of the unit by systemd, and lies in a folder that is root's or ours.
            Self::Units { .. } => Owner::OfFolder(self.folder(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_folder_by_its_id() {
        let name = ClientName::new("a-b").unwrap();
        let system = Homes::of_units(ManagerKind::System, Path::new("/run/user/7"));
        assert_eq!(system.folder(&name), Path::new("/run/wqclient/ab-d44362d67d921091"));
        assert_eq!(system.owner(&name), Owner::OfFolder(system.folder(&name)));
        assert_eq!(system.allowed(&name), [system.folder(&name), "/run/wqclient-world".into()]);
        let user = Homes::of_units(ManagerKind::User, Path::new("/run/user/7"));
        assert_eq!(user.folder(&name), Path::new("/run/user/7/wqclient/ab-d44362d67d921091"));
        let shared = Homes::Shared { tmpdir: "/t".into(), lasting: "/l".into() };
        assert_eq!((shared.folder(&name), shared.allowed(&name)), ("/t".into(), vec!["/t".into()]));
    }
}
