//! [`World`]: everybody there is in the sandbox and who is in which group, as a file says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::client::objects::{ClientType, Presence, Role};
use crate::model::name::ClientName;

/// The world that is there without any file.
const EMBEDDED: &str = include_str!("world.toml");

/// The largest file of a world that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    /// The file cannot be read.
    #[error("the sandbox's world {0:?} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// The file is too large.
    #[error("the sandbox's world {0:?} is larger than {MAX_BYTES} bytes")]
    TooLarge(PathBuf),
    /// It is no plain file, from which nothing might ever come.
    #[error("the sandbox's world {0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// It is not TOML, not of a world, or contradicts itself.
    #[error("the sandbox's world {0:?} is not valid: {1}")]
    Wrong(PathBuf, String),
}

/// Everybody there is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct World {
    #[serde(default)]
    pub(super) people: Vec<Person>,
    #[serde(default)]
    pub(super) groups: Vec<GroupOf>,
    #[serde(default)]
    pub(super) discusses: Vec<DiscussOf>,
}

/// A person, by the names of the wire; `account` only where it is not the name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Person {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) account: Option<String>,
    pub(super) markname: Option<String>,
    pub(super) category: Option<String>,
    pub(super) state: Presence,
    pub(super) client_type: ClientType,
    pub(super) sex: Option<String>,
    pub(super) birthday: String,
    pub(super) phone: String,
    pub(super) mobile: String,
    pub(super) email: String,
    pub(super) country: String,
    pub(super) province: String,
    pub(super) city: String,
    pub(super) college: String,
    pub(super) occupation: String,
    pub(super) homepage: String,
    pub(super) blood: String,
    pub(super) personal: String,
    pub(super) signature: String,
    pub(super) face: u32,
    pub(super) flag: u32,
    pub(super) is_vip: u8,
    pub(super) vip_level: u8,
    pub(super) qage: u32,
}

/// A group and its members, by uid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupOf {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) markname: Option<String>,
    #[serde(default)]
    pub(super) memo: String,
    #[serde(default)]
    pub(super) createtime: u64,
    #[serde(default)]
    pub(super) level: u32,
    #[serde(default = "most_members")]
    pub(super) max_member: u32,
    #[serde(default = "most_admins")]
    pub(super) max_admin: u32,
    pub(super) owner: String,
    #[serde(default)]
    pub(super) admins: Vec<String>,
    #[serde(default)]
    pub(super) members: Vec<String>,
    /// What members are called here.
    #[serde(default)]
    pub(super) cards: BTreeMap<String, String>,
    /// What accounts are here that are not in the world. None: nothing.
    pub(super) guests: Option<Role>,
}

/// A discussion and its members, by uid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscussOf {
    /// What tells it from others for good; its name may change.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) owner: String,
    #[serde(default)]
    pub(super) members: Vec<String>,
    /// Whether accounts that are not in the world are members.
    #[serde(default)]
    pub(super) guests: bool,
}

fn most_members() -> u32 {
    200
}

fn most_admins() -> u32 {
    10
}

impl World {
    /// The world of a file, or the one that is built in.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, WorldError> {
        let Some(path) = path else {
            return Self::parse(EMBEDDED).map_err(|why| WorldError::Wrong("world.toml".into(), why));
        };
        let failed = |error| WorldError::Read(path.to_owned(), error);
        // Opening a pipe would wait for its writer.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(WorldError::NotAFile(path.to_owned()));
        }
        let mut text = String::new();
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > MAX_BYTES {
            return Err(WorldError::TooLarge(path.to_owned()));
        }
        Self::parse(&text).map_err(|why| WorldError::Wrong(path.to_owned(), why))
    }

    /// Reads a description and checks that it holds together.
    ///
    /// # Errors
    /// It does not: why, in a line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let world: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            line.map_or(String::new(), |line| format!("line {line}: ")) + error.message()
        })?;
        let wrong = |what: String| Err(what);
        let mut uids = BTreeSet::new();
        for person in &world.people {
            if !is_number(&person.uid) || person.name.is_empty() {
                return wrong(format!("the person {:?} has no name or no uid of digits", person.name));
            }
            if !uids.insert(&person.uid) {
                return wrong(format!("two people have the uid {}", person.uid));
            }
        }
        let mut seen = BTreeSet::new();
        for group in &world.groups {
            if !is_number(&group.uid) || !seen.insert(&group.uid) {
                return wrong(format!("the group {:?} has no uid of digits of its own", group.name));
            }
            if group.guests == Some(Role::Owner) {
                return wrong(format!("the group {:?} cannot belong to every guest", group.name));
            }
        }
        let mut seen = BTreeSet::new();
        if let Some(discuss) = world.discusses.iter().find(|discuss| !seen.insert(&discuss.key)) {
            return wrong(format!("two discussions have the key {:?}", discuss.key));
        }
        let groups = world.groups.iter().flat_map(|group| {
            let all =
                group.admins.iter().chain(&group.members).chain([&group.owner]).chain(group.cards.keys());
            all.map(|uid| (&group.name, uid))
        });
        let discusses = world.discusses.iter().flat_map(|discuss| {
            discuss.members.iter().chain([&discuss.owner]).map(|uid| (&discuss.name, uid))
        });
        if let Some((name, uid)) = groups.chain(discusses).find(|(_, uid)| !uids.contains(uid)) {
            return wrong(format!("{name:?} has a member {uid}, whom there is not"));
        }
        Ok(world)
    }

    /// Who `account` is: a person of this world, or a guest, the same each time.
    pub(super) fn person(&self, account: &ClientName) -> Person {
        let name = account.as_str();
        let is_called = |person: &&Person| {
            person.account.as_deref() == Some(name) || person.name == name || person.uid == name
        };
        self.people.iter().find(is_called).cloned().unwrap_or_else(|| Person {
            uid: own_uid(name),
            name: name.to_owned(),
            client_type: ClientType::Web,
            country: "中国".into(),
            signature: "只在沙箱里".into(),
            ..Person::default()
        })
    }
}

fn is_number(uid: &str) -> bool {
    (1..=20).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_digit())
}

/// The QQ number of a guest: the name itself where it looks like one.
fn own_uid(name: &str) -> String {
    if (5..=12).contains(&name.len()) && !name.starts_with('0') && is_number(name) {
        return name.to_owned();
    }
    number(&[name])
}

/// A number of ten digits that depends on `parts` alone.
pub(super) fn number(parts: &[&str]) -> String {
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

    fn person(account: &str) -> Person {
        World::read(None).unwrap().person(&ClientName::new(account).unwrap())
    }

    #[test]
    fn who_is_who() {
        assert_eq!(person("小红").uid, "10001");
        assert_eq!(person("10001").name, "小红");
        assert_eq!(person("12345678").uid, "12345678");
        assert_eq!(person("小刚").uid, person("小刚").uid);
        assert_ne!(person("小刚").uid, person("小强").uid);
    }

    #[test]
    fn what_does_not_hold_together() {
        let said = |text: &str| World::parse(text).unwrap_err();
        let one = "[[people]]\nuid = \"1\"\nname = \"a\"\n";
        assert!(World::parse(one).is_ok());
        assert!(said(&format!("{one}{one}")).contains("two people have the uid 1"));
        assert!(said("[[people]]\nuid = \"x\"\nname = \"a\"\n").contains("no uid of digits"));
        let group = "[[groups]]\nuid = \"5\"\nname = \"g\"\n";
        assert!(said(&format!("{one}{group}owner = \"2\"\n")).contains("a member 2, whom there is not"));
        let owner = "owner = \"1\"\nguests = \"owner\"\n";
        assert!(said(&format!("{one}{group}{owner}")).contains("belong to every guest"));
        assert!(said("people = 1").starts_with("line 1: invalid type"));
        let nose = said(&format!("{one}nose = 1"));
        assert!(nose.starts_with("line 4: unknown field") && !nose.contains('\n'), "{nose}");
    }
}
