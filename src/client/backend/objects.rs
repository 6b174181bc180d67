//! The objects of the API ([`User`], [`Friend`], [`Group`], [`Discuss`] and their members) with the wire's
//! names.
//!
//! An `id` is valid for this login, a `uid` is the lasting number. Both are decimal strings.

// The documentation of the API explains the fields.
#![allow(missing_docs)]

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The presence of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Presence {
    #[default]
    Online,
    Away,
    Busy,
    Callme,
    Silent,
    Hidden,
    Offline,
}

/// The kind of client that a person is logged in with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientType {
    Pc,
    Mobile,
    Iphone,
    Web,
    #[default]
    Unknown,
}

/// The role of a group member. Each role outranks the ones before it; equals cannot moderate each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GroupRole {
    #[default]
    Member,
    Admin,
    Owner,
}

impl GroupRole {
    /// The role of the own account, in the words that the API has for it.
    pub(crate) fn of_own_account(self) -> &'static str {
        match self {
            Self::Owner => "create",
            Self::Admin => "manage",
            Self::Member => "attend",
        }
    }
}

/// The own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    pub id: String,
    pub uid: String,
    pub account: String,
    pub name: String,
    pub state: Presence,
    pub client_type: ClientType,
    pub sex: String,
    pub birthday: String,
    pub phone: String,
    pub mobile: String,
    pub email: String,
    pub country: String,
    pub province: String,
    pub city: String,
    pub college: String,
    pub occupation: String,
    pub homepage: String,
    pub blood: String,
    pub personal: String,
    pub signature: String,
    pub face: u32,
}

/// A friend of the own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Friend {
    pub id: String,
    pub uid: String,
    pub name: String,
    /// The name that the own account gave it.
    pub markname: Option<String>,
    /// The markname if there is one, else the name.
    pub displayname: String,
    pub category: String,
    pub state: Presence,
    pub client_type: ClientType,
    pub face: u32,
    pub flag: u32,
    pub is_vip: u8,
    pub vip_level: u8,
}

/// A group that the own account is a member of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    pub id: String,
    pub uid: String,
    pub name: String,
    pub markname: Option<String>,
    pub displayname: String,
    pub code: String,
    /// The own account's, see [`GroupRole::of_own_account`].
    pub role: &'static str,
    /// Unix seconds.
    pub createtime: u64,
    pub owner_id: String,
    pub owner_uid: String,
    pub memo: String,
    pub level: u32,
    pub max_member: u32,
    pub max_admin: u32,
    pub member: Vec<GroupMember>,
}

impl Group {
    /// The group without its members.
    pub(crate) fn basic(&self) -> Value {
        without_members(json!(self))
    }
}

/// A member of a group, the own account among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GroupMember {
    pub id: String,
    pub uid: String,
    pub name: String,
    /// The name in this group.
    pub card: Option<String>,
    pub displayname: String,
    pub role: GroupRole,
    pub sex: String,
    pub state: Presence,
    pub client_type: ClientType,
    pub country: String,
    pub province: String,
    pub city: String,
    /// Years with the network.
    pub qage: u32,
    /// Unix seconds.
    pub join_time: u64,
    /// Unix seconds; 0 if not known.
    pub last_speak_time: u64,
    pub level: u32,
    pub bad_record: u32,
}

/// A discussion: a group without number, roles and rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Discuss {
    pub id: String,
    pub name: String,
    pub displayname: String,
    pub owner_id: String,
    pub member: Vec<DiscussMember>,
}

impl Discuss {
    /// The discussion without its members.
    pub(crate) fn basic(&self) -> Value {
        without_members(json!(self))
    }
}

/// A member of a discussion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DiscussMember {
    pub id: String,
    pub uid: String,
    pub name: String,
    pub state: Presence,
    pub client_type: ClientType,
}

fn without_members(mut object: Value) -> Value {
    // A struct with named fields always serializes to an object.
    if let Some(object) = object.as_object_mut() {
        object.remove("member");
    }
    object
}
