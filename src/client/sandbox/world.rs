//! [`SandboxWorld`]: the people, groups and discussions of the sandbox, from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::digest;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::client::backend::objects::{ClientType, GroupRole, Presence};
use crate::model::name::ClientName;

/// The built-in world.
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
    /// It is not a regular file.
    #[error("the sandbox's world {0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// It is not TOML, has unknown keys, or contradicts itself.
    #[error("the sandbox's world {0:?} is not valid: {1}")]
    Wrong(PathBuf, String),
}

/// A world.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxWorld {
    #[serde(default)]
    pub(crate) people: Vec<Person>,
    #[serde(default)]
    pub(crate) groups: Vec<WorldGroup>,
    #[serde(default)]
    pub(crate) discusses: Vec<WorldDiscuss>,
}

/// A person, with the wire's names; `account` only if it differs from the name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Person {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) account: Option<String>,
    pub(crate) markname: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) state: Presence,
    pub(crate) client_type: ClientType,
    pub(crate) sex: Option<String>,
    pub(crate) birthday: String,
    pub(crate) phone: String,
    pub(crate) mobile: String,
    pub(crate) email: String,
    pub(crate) country: String,
    pub(crate) province: String,
    pub(crate) city: String,
    pub(crate) college: String,
    pub(crate) occupation: String,
    pub(crate) homepage: String,
    pub(crate) blood: String,
    pub(crate) personal: String,
    pub(crate) signature: String,
    pub(crate) face: u32,
    pub(crate) flag: u32,
    pub(crate) is_vip: u8,
    pub(crate) vip_level: u8,
    pub(crate) qage: u32,
    /// Whether the others are no friends of this person.
    pub(crate) stranger: bool,
}

/// A group and its members, by uid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorldGroup {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) markname: Option<String>,
    #[serde(default)]
    pub(crate) memo: String,
    #[serde(default)]
    pub(crate) createtime: u64,
    #[serde(default)]
    pub(crate) level: u32,
    #[serde(default = "most_members")]
    pub(crate) max_member: u32,
    #[serde(default = "most_admins")]
    pub(crate) max_admin: u32,
    pub(crate) owner: String,
    #[serde(default)]
    pub(crate) admins: Vec<String>,
    #[serde(default)]
    pub(crate) members: Vec<String>,
    /// The names of members in this group.
    #[serde(default)]
    pub(crate) cards: BTreeMap<String, String>,
    /// The role of accounts that are not in the world. None: they are not members.
    pub(crate) guests: Option<GroupRole>,
}

/// A discussion and its members, by uid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorldDiscuss {
    /// Identifies it permanently; its name may change.
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) owner: String,
    #[serde(default)]
    pub(crate) members: Vec<String>,
    /// Whether accounts that are not in the world are members.
    #[serde(default)]
    pub(crate) guests: bool,
}

fn most_members() -> u32 {
    200
}

fn most_admins() -> u32 {
    10
}

impl SandboxWorld {
    /// Reads the world from a file, or the built-in one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, WorldError> {
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
        // One byte more than allowed tells a file that is too large. Its size is no proof, as it may grow meanwhile.
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > MAX_BYTES {
            return Err(WorldError::TooLarge(path.to_owned()));
        }
        Self::parse(&text).map_err(|why| WorldError::Wrong(path.to_owned(), why))
    }

    /// Parses a description, and checks that it is consistent.
    ///
    /// # Errors
    /// It is not: why, in a line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let world: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            // Not by `Display`, which quotes the file over several lines.
            line.map_or(String::new(), |line| format!("line {line}: ")) + error.message()
        })?;
        let wrong = |what: String| Err(what);
        // Groups, discussions and clients refer to people by uid alone, so it has to be unique.
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
            if group.guests == Some(GroupRole::Owner) {
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

    /// The person of `account`: one of this world, or a guest, the same each time.
    pub(crate) fn person(&self, account: &ClientName) -> Person {
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

/// The QQ number of a guest: the name itself if it looks like one.
fn own_uid(name: &str) -> String {
    // As QQ numbers are: at least five digits, without a leading zero.
    if (5..=12).contains(&name.len()) && !name.starts_with('0') && is_number(name) {
        return name.to_owned();
    }
    number(&[name])
}

/// The id of a person in the client of this name.
pub(crate) fn person_id(account: &str, uid: &str) -> String {
    number(&[account, uid])
}

/// The id of a group in the client of this name.
pub(crate) fn group_id(account: &str, uid: &str) -> String {
    number(&[account, "group", uid])
}

/// A number of ten digits that depends only on `parts`.
pub(crate) fn number(parts: &[&str]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(part.as_bytes());
        // No name contains the zero byte, so ["ab", "c"] and ["a", "bc"] differ.
        hash.update(&[0]);
    }
    let bytes = hash.finish();
    let hash = bytes.as_ref().iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    (1_000_000_000 + hash % 3_000_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(account: &str) -> Person {
        SandboxWorld::read(None).unwrap().person(&ClientName::new(account).unwrap())
    }

    #[test]
    fn accounts_map_to_people() {
        assert_eq!(person("小红").uid, "10001");
        assert_eq!(person("10001").name, "小红");
        assert_eq!(person("12345678").uid, "12345678");
        assert_eq!(person("小刚").uid, person("小刚").uid);
        assert_ne!(person("小刚").uid, person("小强").uid);
    }

    #[test]
    fn inconsistent_worlds_are_refused() {
        let said = |text: &str| SandboxWorld::parse(text).unwrap_err();
        let one = "[[people]]\nuid = \"1\"\nname = \"a\"\n";
        assert!(SandboxWorld::parse(one).is_ok());
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
