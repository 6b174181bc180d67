//! [`World`]: the people of the sandbox, and their numbers.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::client::backend::{Friend, User};
use crate::model::name::ClientName;

/// The world that is there without any file.
const EMBEDDED: &str = include_str!("world.json");

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    /// A description is not JSON, or not of a world.
    #[error("the sandbox's world cannot be read")]
    Parse(#[source] serde_json::Error),
}

/// Everybody an account of the sandbox knows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct World {
    pub(super) user: User,
    pub(super) friends: Vec<Friend>,
}

impl World {
    /// The world as `account` sees it. The same account gets the same numbers each time.
    pub(super) fn of(account: &ClientName) -> Result<Self, WorldError> {
        let mut world: Self = serde_json::from_str(EMBEDDED).map_err(WorldError::Parse)?;
        let uid = own_uid(account);
        world.user.id = number(&[account.as_str(), &uid]);
        world.user.uid = uid;
        world.user.account = account.as_str().to_owned();
        for friend in &mut world.friends {
            // Not the uid: a program that takes one for the other shall find out here, not in the field.
            friend.id = number(&[account.as_str(), &friend.uid]);
            friend.displayname = friend.markname.as_ref().unwrap_or(&friend.name).clone();
        }
        Ok(world)
    }
}

/// The QQ number of `account`: the name itself where it looks like one.
fn own_uid(account: &ClientName) -> String {
    let name = account.as_str();
    if (5..=12).contains(&name.len()) && !name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit()) {
        return name.to_owned();
    }
    number(&[name])
}

/// A number of ten digits that depends on `parts` alone.
fn number(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        // No name contains it, so ["ab", "c"] and ["a", "bc"] differ.
        hash.update([0]);
    }
    let bytes = hash.finalize();
    let hash = bytes.iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    (1_000_000_000 + hash % 3_000_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn world(account: &str) -> World {
        World::of(&ClientName::new(account).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_stable_and_distinct() {
        let here = world("小明");
        assert_eq!(here.user.uid, world("小明").user.uid);
        assert_ne!(here.user.uid, world("小刚").user.uid);
        assert_eq!(world("12345678").user.uid, "12345678");
        let numbers: BTreeSet<_> = here
            .friends
            .iter()
            .flat_map(|friend| [&friend.id, &friend.uid])
            .chain([&here.user.id, &here.user.uid])
            .collect();
        assert_eq!(numbers.len(), 2 * here.friends.len() + 2);
        assert!(numbers.iter().all(|number| number.parse::<u64>().is_ok()));
        assert_ne!(here.friends[0].id, world("小刚").friends[0].id);
    }

    #[test]
    fn friends_go_by_their_marknames() {
        let friends = world("a").friends;
        assert_eq!(friends[0].displayname, "红红");
        assert_eq!(friends[1].displayname, "李雷");
    }
}
