//! [`Users`]: the names of users, above all of those that systemd allocates for units (`DynamicUser=`).
//!
//! systemd keeps a link for each, `/run/systemd/dynamic-uid/direct:UID`, which every user may read. (It is there for dbus-daemon,
//! which cannot ask systemd over D-Bus.) Reading it takes a microsecond and is never outdated, because systemd reuses a UID only
//! after it has removed the link. `LookupDynamicUserByUID` would be a round trip over D-Bus for each connection, or need a cache
//! of UIDs that are reused.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::time::timeout;

use crate::blocking::BlockingTurns;

/// Where the links are.
const LINKS: &str = "/run/systemd/dynamic-uid";

/// The UIDs that systemd gives to such users (systemd.io/UIDS-GIDS). On some systems other users have some of them, too.
const DYNAMIC: RangeInclusive<u32> = 61184..=65519;

/// How long the user database may take, with the wait for a turn. It may be on the network.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many look-ups in the user database run at a time.
const MAX_LOOK_UPS: usize = 8;

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserName {
    /// Its name.
    Known(String),
    /// Its UID is not a dynamic one, so it is no client. The name does not matter.
    NotDynamic,
    /// It was allocated for a unit that is gone, and so is its name.
    Gone,
}

/// Looks up the names of users.
#[derive(Debug)]
pub(super) struct Users {
    links: PathBuf,
    /// The turns of the look-ups in the user database.
    turns: BlockingTurns,
}

impl Default for Users {
    fn default() -> Self {
        Self { links: LINKS.into(), turns: BlockingTurns::new(MAX_LOOK_UPS) }
    }
}

impl Users {
    /// Reads the links in another folder.
    #[cfg(test)]
    pub(super) fn in_folder(links: &std::path::Path) -> Self {
        Self { links: links.to_owned(), ..Self::default() }
    }

    /// Looks a user up in the links. None where the user database has to be asked.
    fn by_link(&self, uid: u32) -> Option<UserName> {
        match std::fs::read_link(self.links.join(format!("direct:{uid}"))) {
            Ok(name) => Some(UserName::Known(name.to_string_lossy().into_owned())),
            // Without a link and outside of systemd's range it is no user of a unit, and no look-up in a slow database is
            // needed.
            Err(_) if !DYNAMIC.contains(&uid) => Some(UserName::NotDynamic),
            Err(_) => None,
        }
    }

    /// Whether the links can be read, so that every dynamic user that exists has a name.
    pub(super) fn are_readable(&self) -> bool {
        std::fs::read_dir(&self.links).is_ok()
    }

    /// As [`Users::name`], without a limit of time. Blocks on the user database.
    pub(super) fn name_blocking(&self, uid: u32) -> UserName {
        self.by_link(uid).unwrap_or_else(|| in_database(uid))
    }

    /// What is known of a user.
    pub(super) async fn name(&self, uid: u32) -> UserName {
        if let Some(name) = self.by_link(uid) {
            return name;
        }
        let look_up = self.turns.run(move || in_database(uid));
        // A user whose name does not come in time counts as nameless, which `PeerPolicy::check` refuses.
        match timeout(DATABASE_TIMEOUT, look_up).await {
            Ok(Ok(name)) => name,
            _ => UserName::Gone,
        }
    }
}

/// Looks a dynamic UID up in the user database. A few systems have users of their own with such UIDs, and where the links cannot be
/// read it knows those of systemd, through nss-systemd(8).
fn in_database(uid: u32) -> UserName {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => UserName::Known(user.name),
        Ok(None) | Err(_) => UserName::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn user_names_come_from_systemd_links() {
        let folder = tempfile::tempdir().unwrap();
        symlink("wqc-alice", folder.path().join("direct:61234")).unwrap();
        symlink("61234", folder.path().join("direct:wqc-alice")).unwrap();
        symlink("bot", folder.path().join("direct:63000")).unwrap();
        let users = Users::in_folder(folder.path());
        assert_eq!(users.name(61234).await, UserName::Known("wqc-alice".into()));
        assert_eq!(users.name(63000).await, UserName::Known("bot".into()));
        assert_eq!(users.name(1000).await, UserName::NotDynamic);
        assert_eq!(users.name(65432).await, UserName::Gone);
        assert_eq!(users.name_blocking(61234), UserName::Known("wqc-alice".into()));
        assert_eq!(users.name_blocking(65432), UserName::Gone);
    }
}
