//! Friends, groups and members from the data of answers. `null` and `{}` are empty lists.

use std::collections::HashMap;

use serde_json::Value;

use super::value::{flag, id, number, small, text};
use crate::client::backend::objects::{ClientType, Friend, Group, GroupMember, GroupRole, Presence, User};

/// How many items of a list are read; more than the network has.
const MOST: usize = 100_000;

/// The category of friends without one.
const CATEGORY: &str = "我的好友";

/// A member of a group, kept small: there may be a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) uid: u64,
    pub(crate) name: Box<str>,
    pub(crate) card: Option<Box<str>>,
    pub(crate) role: GroupRole,
    sex: Sex,
    bad: bool,
    level: u32,
    qage: u32,
    joined: u32,
    pub(crate) spoke: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sex {
    Unknown,
    Male,
    Female,
}

impl Sex {
    fn read(value: &Value) -> Self {
        match text(value) {
            "male" => Self::Male,
            "female" => Self::Female,
            _ => Self::Unknown,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Male => "male",
            Self::Female => "female",
        }
    }
}

impl Member {
    /// A member known by its number alone.
    pub(crate) fn unknown(uid: u64, name: &str) -> Self {
        Self {
            uid,
            name: name.into(),
            card: None,
            role: GroupRole::Member,
            sex: Sex::Unknown,
            bad: false,
            level: 0,
            qage: 0,
            joined: 0,
            spoke: 0,
        }
    }

    /// Reads a member.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let uid = id(&value["user_id"])?;
        Some(Self {
            uid,
            name: text(&value["nickname"]).into(),
            card: filled(&value["card"]).map(Into::into),
            role: match text(&value["role"]) {
                "owner" => GroupRole::Owner,
                "admin" => GroupRole::Admin,
                _ => GroupRole::Member,
            },
            sex: Sex::read(&value["sex"]),
            bad: flag(&value["unfriendly"]).unwrap_or(false),
            level: small(&value["level"]),
            qage: small(&value["qage"]),
            joined: small(&value["join_time"]),
            spoke: small(&value["last_sent_time"]),
        })
    }

    /// The name in the group.
    pub(crate) fn displayname(&self) -> &str {
        self.card.as_deref().unwrap_or(&self.name)
    }

    /// The object of the API.
    pub(crate) fn object(&self) -> GroupMember {
        GroupMember {
            id: self.uid.to_string(),
            uid: self.uid.to_string(),
            name: self.name.to_string(),
            card: self.card.as_deref().map(str::to_owned),
            displayname: self.displayname().to_owned(),
            role: self.role,
            sex: self.sex.as_str().to_owned(),
            state: Presence::Offline,
            client_type: ClientType::Unknown,
            country: String::new(),
            province: String::new(),
            city: String::new(),
            qage: self.qage,
            join_time: self.joined.into(),
            last_speak_time: self.spoke.into(),
            level: self.level,
            bad_record: self.bad.into(),
        }
    }
}

fn filled(value: &Value) -> Option<&str> {
    Some(text(value)).filter(|text| !text.is_empty())
}

fn items(data: &Value) -> impl Iterator<Item = &Value> {
    data.as_array().into_iter().flatten().take(MOST)
}

/// The members of a group, each once, sorted by uid.
pub(crate) fn members(data: &Value) -> Vec<Member> {
    let mut members: Vec<_> = items(data).filter_map(Member::read).collect();
    members.sort_by_key(|member| member.uid);
    members.dedup_by_key(|member| member.uid);
    // The list is kept, and collecting may have reserved twice as much.
    members.shrink_to_fit();
    members
}

/// The category of each friend, from `get_friends_with_category`.
pub(crate) fn categories(data: &Value) -> HashMap<u64, String> {
    let mut of = HashMap::new();
    for category in items(data) {
        let Some(name) = filled(&category["categoryName"]) else { continue };
        for friend in items(&category["buddyList"]) {
            let uid = ["user_id", "uin"].into_iter().find_map(|key| id(&friend[key]));
            if let Some(uid) = uid {
                of.insert(uid, name.to_owned());
            }
        }
    }
    of
}

/// The friends, each once, in the order of the answer. Some implementations list the own account as well; it is
/// left out.
pub(crate) fn friends(data: &Value, of: &HashMap<u64, String>, own: u64) -> Vec<Friend> {
    let mut seen = std::collections::HashSet::new();
    let friend = |value: &Value| {
        let uid = id(&value["user_id"]).filter(|uid| *uid != own && seen.insert(*uid))?;
        let mut friend = unknown_friend(uid, text(&value["nickname"]));
        // Some repeat the name where there is no remark.
        friend.markname = filled(&value["remark"]).filter(|remark| *remark != friend.name).map(str::to_owned);
        if let Some(name) = &friend.markname {
            friend.displayname.clone_from(name);
        }
        if let Some(category) = of.get(&uid) {
            friend.category.clone_from(category);
        } else if let Some(category) = filled(&value["category"]["category_name"]) {
            category.clone_into(&mut friend.category);
        }
        Some(friend)
    };
    items(data).filter_map(friend).collect()
}

/// A friend known by its number alone.
pub(crate) fn unknown_friend(uid: u64, name: &str) -> Friend {
    Friend {
        id: uid.to_string(),
        uid: uid.to_string(),
        name: name.to_owned(),
        markname: None,
        displayname: name.to_owned(),
        category: CATEGORY.to_owned(),
        state: Presence::Offline,
        client_type: ClientType::Unknown,
        face: 0,
        flag: 0,
        is_vip: 0,
        vip_level: 0,
    }
}

/// The groups, each once, in the order of the answer, without members and own role.
pub(crate) fn groups(data: &Value) -> Vec<Group> {
    let mut seen = std::collections::HashSet::new();
    let group = |value: &Value| {
        let uid = id(&value["group_id"]).filter(|uid| seen.insert(*uid))?;
        let mut group = unknown_group(uid, text(&value["group_name"]));
        let remark = ["group_remark", "remark"].into_iter().find_map(|key| filled(&value[key]));
        group.markname = remark.filter(|remark| *remark != group.name).map(str::to_owned);
        if let Some(name) = &group.markname {
            group.displayname.clone_from(name);
        }
        let owner = ["owner_id", "owner_uin"].into_iter().find_map(|key| id(&value[key]));
        group.owner_uid = owner.map(|owner| owner.to_string()).unwrap_or_default();
        group.owner_id.clone_from(&group.owner_uid);
        group.max_member = small(&value["max_member_count"]);
        let memo = ["group_memo", "description"].into_iter().find_map(|key| filled(&value[key]));
        group.memo = memo.unwrap_or_default().to_owned();
        let made = ["group_create_time", "created_time"].into_iter().find_map(|key| number(&value[key]));
        group.createtime = made.unwrap_or(0);
        Some(group)
    };
    items(data).filter_map(group).collect()
}

/// A group known by its number alone.
pub(crate) fn unknown_group(uid: u64, name: &str) -> Group {
    let uid = uid.to_string();
    Group {
        id: uid.clone(),
        name: name.to_owned(),
        markname: None,
        displayname: name.to_owned(),
        code: uid.clone(),
        uid,
        role: GroupRole::Member.of_own_account(),
        createtime: 0,
        owner_id: String::new(),
        owner_uid: String::new(),
        memo: String::new(),
        level: 0,
        max_member: 0,
        max_admin: 0,
        member: Vec::new(),
    }
}

/// The own account, from the data of `get_login_info` and, if there is one, of its profile.
pub(crate) fn user(account: &str, uid: u64, login: &Value, profile: &Value) -> User {
    let uid = uid.to_string();
    let name = filled(&login["nickname"]).or_else(|| filled(&profile["nickname"])).unwrap_or_default();
    let empty = String::new;
    User {
        id: uid.clone(),
        uid,
        account: account.to_owned(),
        name: name.to_owned(),
        state: Presence::Online,
        client_type: ClientType::Web,
        sex: Sex::read(&profile["sex"]).as_str().to_owned(),
        // No protocol has these, but callers expect the keys.
        birthday: empty(),
        phone: empty(),
        mobile: empty(),
        email: empty(),
        country: empty(),
        province: empty(),
        city: empty(),
        college: empty(),
        occupation: empty(),
        homepage: empty(),
        blood: empty(),
        personal: empty(),
        signature: empty(),
        face: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn friend_lists_are_read_with_categories() {
        let data = json!([
            { "user_id": 7, "nickname": "a", "remark": "" },
            { "user_id": "8", "nickname": "b", "remark": "b" },
            { "user_id": 9, "nickname": "c", "remark": "C" },
            { "user_id": 9, "nickname": "again" },
            { "user_id": 1, "nickname": "me" },
            { "user_id": 0 },
            { "nickname": "nobody" },
            null,
            { "user_id": 10 },
        ]);
        let categories = categories(&json!([
            { "categoryName": "同学", "buddyList": [{ "user_id": "9" }, { "uin": "10" }, null] },
            { "categoryName": "", "buddyList": [{ "user_id": 7 }] },
            { "buddyList": null },
        ]));
        let friends = friends(&data, &categories, 1);
        let shown: Vec<_> = friends
            .iter()
            .map(|f| {
                (
                    f.uid.as_str(),
                    f.name.as_str(),
                    f.markname.as_deref(),
                    f.displayname.as_str(),
                    f.category.as_str(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("7", "a", None, "a", "我的好友"),
                ("8", "b", None, "b", "我的好友"),
                ("9", "c", Some("C"), "C", "同学"),
                ("10", "", None, "", "同学"),
            ]
        );
        assert_eq!(json!(friends[0])["state"], "offline");
        assert_eq!(json!(friends[0])["client_type"], "unknown");
        for nothing in [json!(null), json!({}), json!("x"), json!([])] {
            assert!(super::friends(&nothing, &categories, 1).is_empty() && groups(&nothing).is_empty());
            assert!(members(&nothing).is_empty());
        }
    }

    #[test]
    fn group_lists_are_read() {
        let groups = groups(&json!([
            { "group_id": 5, "group_name": "g", "group_remark": "", "max_member_count": "500" },
            { "group_id": "6", "group_name": "h", "group_remark": "H", "group_memo": "m", "group_create_time": 3, "owner_id": 7 },
            { "group_id": 6 },
        ]));
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].code.as_str(), groups[0].max_member, groups[0].markname.as_deref()),
            ("5", 500, None)
        );
        assert_eq!(
            (groups[1].displayname.as_str(), groups[1].memo.as_str(), groups[1].createtime),
            ("H", "m", 3)
        );
        assert_eq!((groups[1].owner_uid.as_str(), groups[1].owner_id.as_str()), ("7", "7"));
    }

    #[test]
    fn member_lists_are_sorted_and_small() {
        let members = members(&json!([
            { "user_id": 9, "nickname": "c", "card": "C", "role": "owner", "sex": "female", "level": "12",
              "join_time": 1, "last_sent_time": 2, "unfriendly": true, "qage": 4 },
            { "user_id": "8", "nickname": "b", "card": "" , "role": "admin", "level": "" },
            { "user_id": 8 },
        ]));
        assert_eq!(members.iter().map(|member| member.uid).collect::<Vec<_>>(), [8, 9]);
        let (b, c) = (json!(members[0].object()), json!(members[1].object()));
        assert_eq!((&b["card"], &b["displayname"], &b["role"]), (&json!(null), &json!("b"), &json!("admin")));
        assert_eq!((&c["displayname"], &c["sex"], &c["level"]), (&json!("C"), &json!("female"), &json!(12)));
        assert_eq!((&c["join_time"], &c["last_speak_time"]), (&json!(1), &json!(2)));
        assert_eq!((&c["bad_record"], &c["qage"], &c["country"]), (&json!(1), &json!(4), &json!("")));
        assert!(size_of::<Member>() <= 64);
    }

    #[test]
    fn own_account_is_read() {
        let user = user("小明", 1, &json!({ "nickname": "n" }), &json!({ "sex": "male" }));
        assert_eq!((user.uid.as_str(), user.name.as_str(), user.sex.as_str()), ("1", "n", "male"));
        assert_eq!(
            (json!(user)["state"].clone(), json!(user)["client_type"].clone()),
            (json!("online"), json!("web"))
        );
    }
}
