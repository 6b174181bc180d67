//! People, groups and discussions as objects of the API.

use serde_json::{Value, json};

use super::View;
use crate::client::backend::objects::{
    Discuss, DiscussMember, Friend, Group, GroupMember, GroupRole, Presence, User,
};
use crate::client::backend::snapshot::AccountSnapshot;
use crate::client::sandbox::notice;
use crate::client::sandbox::world::{Person, WorldDiscuss, WorldGroup, number};

impl View {
    pub(crate) fn snapshot(&self) -> AccountSnapshot {
        AccountSnapshot {
            user: self.user(),
            friends: self
                .others()
                .filter(|person| self.is_friend(person))
                .map(|person| self.friend(person))
                .collect(),
            groups: self.own_groups().map(|group| self.group(group)).collect(),
            discusses: self.own_discusses().map(|discuss| self.discuss(discuss)).collect(),
        }
    }

    /// The world as JSON, for whoever plays the people in it.
    pub(crate) fn shown(&self) -> Value {
        let person = |person: &Person| {
            let speaks = match self.clients.get(&person.uid) {
                Some(true) => "client",
                _ if self.is_guest(&person.uid) => "nobody",
                _ if self.played.contains(&person.uid) => "caller",
                Some(false) => "nobody",
                None => "echo",
            };
            json!({
                "uid": person.uid, "name": person.name, "remark": self.remark(person), "friend": self.is_friend(person),
                "state": self.presence(person), "speaks": speaks,
            })
        };
        let group = |group: &WorldGroup| {
            let everybody = std::iter::once(&self.me).chain(self.others());
            let member = |person: &Person| {
                let role = self.role(group, &person.uid)?;
                Some(json!({
                    "uid": person.uid, "name": person.name, "card": self.card(group, &person.uid), "role": role,
                    "title": self.title(&group.uid, &person.uid),
                    "muted_until": self.muted_until(&group.uid, &person.uid),
                }))
            };
            let members: Vec<Value> = everybody.filter_map(member).collect();
            json!({
                "uid": group.uid, "name": self.group_name(&group.uid), "members": members,
                "own_role": self.role(group, &self.me.uid),
            })
        };
        let dismissed =
            |group: &&WorldGroup| self.changed.get(&group.uid).is_some_and(|changed| changed.is_dismissed);
        json!({
            "self": { "uid": self.me.uid, "name": self.me.name },
            "people": self.others().map(person).collect::<Vec<_>>(),
            "groups": self.world.groups.iter().filter(|group| !dismissed(group)).map(group).collect::<Vec<_>>(),
            "requests": self.requests().iter().map(notice::request).collect::<Vec<_>>(),
        })
    }

    fn user(&self) -> User {
        let me = self.me.clone();
        User {
            id: self.id(&me.uid),
            uid: me.uid,
            account: self.account.to_string(),
            name: me.name,
            state: Presence::Online,
            client_type: me.client_type,
            sex: me.sex.unwrap_or_else(|| "unknown".into()),
            birthday: me.birthday,
            phone: me.phone,
            mobile: me.mobile,
            email: me.email,
            country: me.country,
            province: me.province,
            city: me.city,
            college: me.college,
            occupation: me.occupation,
            homepage: me.homepage,
            blood: me.blood,
            personal: me.personal,
            signature: me.signature,
            face: me.face,
        }
    }

    fn friend(&self, person: &Person) -> Friend {
        Friend {
            id: self.id(&person.uid),
            uid: person.uid.clone(),
            name: person.name.clone(),
            markname: self.remark(person),
            displayname: self.display_name(person),
            // The category that QQ itself puts friends into.
            category: person.category.clone().unwrap_or_else(|| "我的好友".into()),
            state: self.presence(person),
            client_type: person.client_type,
            face: person.face,
            flag: person.flag,
            is_vip: person.is_vip,
            vip_level: person.vip_level,
        }
    }

    fn group(&self, group: &WorldGroup) -> Group {
        let role = self.role(group, &self.me.uid).unwrap_or_default();
        // `others` leaves out the own account, which is a member, too.
        let people = std::iter::once(&self.me).chain(self.others());
        let member = people.filter_map(|person| {
            let role = self.role(group, &person.uid)?;
            Some(self.group_member(group, person, role))
        });
        let name = self.group_name(&group.uid).unwrap_or_default();
        Group {
            id: self.group_id(group),
            uid: group.uid.clone(),
            displayname: group.markname.clone().unwrap_or_else(|| name.clone()),
            name,
            markname: group.markname.clone(),
            code: number(&["code", &group.uid]),
            role: role.of_own_account(),
            createtime: group.createtime,
            owner_id: self.id(&group.owner),
            owner_uid: group.owner.clone(),
            memo: group.memo.clone(),
            level: group.level,
            max_member: group.max_member,
            max_admin: group.max_admin,
            member: member.collect(),
        }
    }

    fn group_member(&self, group: &WorldGroup, person: &Person, role: GroupRole) -> GroupMember {
        let card = self.card(group, &person.uid).map(str::to_owned);
        let spoke = self.spoke.get(&(group.uid.clone(), person.uid.clone()));
        GroupMember {
            id: self.id(&person.uid),
            uid: person.uid.clone(),
            name: person.name.clone(),
            displayname: card.clone().unwrap_or_else(|| person.name.clone()),
            card,
            role,
            sex: person.sex.clone().unwrap_or_else(|| "unknown".into()),
            state: self.presence(person),
            client_type: person.client_type,
            country: person.country.clone(),
            province: person.province.clone(),
            city: person.city.clone(),
            qage: person.qage,
            join_time: group.createtime,
            last_speak_time: spoke.copied().unwrap_or(0),
            level: 1,
            bad_record: 0,
        }
    }

    fn discuss(&self, discuss: &WorldDiscuss) -> Discuss {
        let people = std::iter::once(&self.me).chain(self.others());
        let member =
            people.filter(|person| self.is_participant(discuss, &person.uid)).map(|person| DiscussMember {
                id: self.id(&person.uid),
                uid: person.uid.clone(),
                name: person.name.clone(),
                state: self.presence(person),
                client_type: person.client_type,
            });
        Discuss {
            id: self.discuss_id(discuss),
            name: discuss.name.clone(),
            displayname: discuss.name.clone(),
            owner_id: self.id(&discuss.owner),
            member: member.collect(),
        }
    }
}
