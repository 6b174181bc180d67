//! [`View`]: the world as one account sees it, and what it and the others do to it. Pure: no clock, no sockets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::diff::{self, Look};
use super::world::{DiscussOf, GroupOf, Person, World, number};
use crate::client::backend::{BackendError, Recipient};
use crate::client::events::{DiscussName, Event, GroupName, Message, Party, Scene, Way};
use crate::client::objects::{Discuss, DiscussMember, Friend, Group, GroupMember, Presence, Role, User};
use crate::model::name::ClientName;

/// The most kicks and mutes that are remembered.
const MAX_RULINGS: usize = 1000;

/// Where a message is said, by what is the same for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Place {
    Friend,
    Group(String),
    Discuss(String),
    GroupSession(String),
    DiscussSession(String),
}

/// What somebody decided about a member of a group. All by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ruling {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) by: String,
    /// Until when it says nothing, in Unix seconds. None: it is put out.
    pub(super) muted_until: Option<u64>,
}

/// How a message goes out.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) message: Message,
    pub(super) place: Place,
    /// The clients that get it, by uid.
    pub(super) to: Vec<String>,
    /// Who says it back, where nobody else is there to answer.
    pub(super) echo: Option<Message>,
}

/// The world as one account sees it.
pub(super) struct View {
    world: World,
    account: ClientName,
    me: Person,
    /// Accounts that are not in the world, by uid, once they were met.
    guests: BTreeMap<String, Person>,
    /// Who is a client now (true), or was one (false).
    clients: BTreeMap<String, bool>,
    /// Group and member.
    kicked: BTreeSet<(String, String)>,
    muted: BTreeMap<(String, String), u64>,
    spoke: BTreeMap<(String, String), u64>,
    rulings: Vec<Ruling>,
}

impl View {
    pub(super) fn new(world: World, account: &ClientName) -> Self {
        let me = world.person(account);
        Self {
            world,
            account: account.clone(),
            me,
            guests: BTreeMap::new(),
            clients: BTreeMap::new(),
            kicked: BTreeSet::new(),
            muted: BTreeMap::new(),
            spoke: BTreeMap::new(),
            rulings: Vec::new(),
        }
    }

    pub(super) fn rulings(&self) -> Vec<Ruling> {
        self.rulings.clone()
    }

    /// The uid of an account.
    pub(super) fn uid_of(&self, account: &ClientName) -> String {
        self.world.person(account).uid
    }

    pub(super) fn own_uid(&self) -> &str {
        &self.me.uid
    }

    // ---- what there is to see

    fn id(&self, uid: &str) -> String {
        // Not the uid: a program that takes one for the other shall find out here, not in the field.
        number(&[self.account.as_str(), uid])
    }

    fn group_id(&self, group: &GroupOf) -> String {
        number(&[self.account.as_str(), "group", &group.uid])
    }

    fn discuss_id(&self, discuss: &DiscussOf) -> String {
        number(&[self.account.as_str(), "discuss", &discuss.key])
    }

    fn person(&self, uid: &str) -> Option<&Person> {
        if uid == self.me.uid {
            return Some(&self.me);
        }
        self.guests.get(uid).or_else(|| self.world.people.iter().find(|person| person.uid == uid))
    }

    fn others(&self) -> impl Iterator<Item = &Person> {
        let people = self.world.people.iter().chain(self.guests.values());
        people.filter(|person| person.uid != self.me.uid)
    }

    fn presence(&self, person: &Person) -> Presence {
        match self.clients.get(&person.uid) {
            _ if person.uid == self.me.uid => Presence::Online,
            Some(true) => Presence::Online,
            Some(false) => Presence::Offline,
            None => person.state,
        }
    }

    fn is_guest(&self, uid: &str) -> bool {
        self.world.people.iter().all(|person| person.uid != uid)
    }

    /// The role of somebody in a group, where it is in it.
    fn role(&self, group: &GroupOf, uid: &str) -> Option<Role> {
        if self.kicked.contains(&(group.uid.clone(), uid.to_owned())) {
            return None;
        }
        if group.owner == uid {
            return Some(Role::Owner);
        }
        let is_in = |list: &[String]| list.iter().any(|member| member == uid);
        if is_in(&group.admins) {
            return Some(Role::Admin);
        }
        if is_in(&group.members) {
            return Some(Role::Member);
        }
        group.guests.filter(|_| self.is_guest(uid) && self.person(uid).is_some())
    }

    fn takes_part(&self, discuss: &DiscussOf, uid: &str) -> bool {
        discuss.owner == uid
            || discuss.members.iter().any(|member| member == uid)
            || (discuss.guests && self.is_guest(uid) && self.person(uid).is_some())
    }

    pub(super) fn look(&self) -> Look {
        Look {
            user: self.user(),
            friends: self.others().map(|person| self.friend(person)).collect(),
            groups: self.own_groups().map(|group| self.group(group)).collect(),
            discusses: self.own_discusses().map(|discuss| self.discuss(discuss)).collect(),
        }
    }

    fn own_groups(&self) -> impl Iterator<Item = &GroupOf> {
        self.world.groups.iter().filter(|group| self.role(group, &self.me.uid).is_some())
    }

    fn own_discusses(&self) -> impl Iterator<Item = &DiscussOf> {
        self.world.discusses.iter().filter(|discuss| self.takes_part(discuss, &self.me.uid))
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
            markname: person.markname.clone(),
            displayname: display_name(person),
            category: person.category.clone().unwrap_or_else(|| "我的好友".into()),
            state: self.presence(person),
            client_type: person.client_type,
            face: person.face,
            flag: person.flag,
            is_vip: person.is_vip,
            vip_level: person.vip_level,
        }
    }

    fn group(&self, group: &GroupOf) -> Group {
        let role = self.role(group, &self.me.uid).unwrap_or_default();
        let people = std::iter::once(&self.me).chain(self.others());
        let member = people.filter_map(|person| {
            let role = self.role(group, &person.uid)?;
            Some(self.group_member(group, person, role))
        });
        Group {
            id: self.group_id(group),
            uid: group.uid.clone(),
            name: group.name.clone(),
            markname: group.markname.clone(),
            displayname: group.markname.clone().unwrap_or_else(|| group.name.clone()),
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

    fn group_member(&self, group: &GroupOf, person: &Person, role: Role) -> GroupMember {
        let card = group.cards.get(&person.uid).cloned();
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

    fn discuss(&self, discuss: &DiscussOf) -> Discuss {
        let people = std::iter::once(&self.me).chain(self.others());
        let member =
            people.filter(|person| self.takes_part(discuss, &person.uid)).map(|person| DiscussMember {
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

    // ---- what changes

    fn change(&mut self, change: impl FnOnce(&mut Self)) -> Vec<Event> {
        let before = self.look();
        change(self);
        diff::between(&before, &self.look())
    }

    /// Somebody is a client now.
    pub(super) fn arrive(&mut self, account: &ClientName) -> Vec<Event> {
        self.change(|view| {
            let person = view.world.person(account);
            view.clients.insert(person.uid.clone(), true);
            if view.is_guest(&person.uid) {
                view.guests.insert(person.uid.clone(), person);
            }
        })
    }

    /// Somebody is no longer a client.
    pub(super) fn leave(&mut self, uid: &str) -> Vec<Event> {
        self.change(|view| {
            view.clients.insert(uid.to_owned(), false);
        })
    }

    /// We are offline ourselves and see nobody.
    pub(super) fn everybody_leaves(&mut self) {
        self.clients.values_mut().for_each(|is_there| *is_there = false);
    }

    /// The file of the world says something else now.
    pub(super) fn replace_world(&mut self, world: World) -> Vec<Event> {
        self.change(|view| {
            view.world = world;
            view.me = view.world.person(&view.account);
        })
    }

    /// Somebody, perhaps we, decided about a member of a group.
    pub(super) fn rule(&mut self, ruling: &Ruling) -> Result<Vec<Event>, BackendError> {
        let group = self.world.groups.iter().find(|group| group.uid == ruling.group);
        let group = group.ok_or(BackendError::Gone)?;
        let by = self.role(group, &ruling.by).ok_or(BackendError::NotAllowed)?;
        let member = self.role(group, &ruling.member).ok_or(BackendError::Gone)?;
        if by <= member {
            return Err(BackendError::NotAllowed);
        }
        if self.rulings.len() >= MAX_RULINGS {
            self.rulings.remove(0);
        }
        self.rulings.push(ruling.clone());
        let key = (ruling.group.clone(), ruling.member.clone());
        Ok(self.change(|view| match ruling.muted_until {
            Some(until) => {
                view.muted.insert(key, until);
            }
            None => {
                view.kicked.insert(key);
            }
        }))
    }

    /// Uids of a group and of one of its members, from ids.
    pub(super) fn resolve_member(&self, group: &str, member: &str) -> Result<(String, String), BackendError> {
        let group = self.own_groups().find(|own| self.group_id(own) == group).ok_or(BackendError::Gone)?;
        let everybody = std::iter::once(&self.me).chain(self.others());
        let mut members = everybody.filter(|person| self.role(group, &person.uid).is_some());
        let member = members.find(|person| self.id(&person.uid) == member).ok_or(BackendError::Gone)?;
        Ok((group.uid.clone(), member.uid.clone()))
    }

    // ---- what is said

    fn party(&self, place: &Place, person: &Person) -> Party {
        let card = match place {
            Place::Group(uid) | Place::GroupSession(uid) => {
                let group = self.world.groups.iter().find(|group| group.uid == *uid);
                Some(group.and_then(|group| group.cards.get(&person.uid)).unwrap_or(&person.name).clone())
            }
            Place::Discuss(_) | Place::DiscussSession(_) => Some(person.name.clone()),
            Place::Friend => None,
        };
        let name = if person.uid == self.me.uid { person.name.clone() } else { display_name(person) };
        Party { id: self.id(&person.uid), uid: person.uid.clone(), displayname: card.unwrap_or(name) }
    }

    fn scene(&self, place: &Place) -> Option<Scene> {
        let group = |uid: &str| {
            let group = self.own_groups().find(|group| group.uid == uid)?;
            let displayname = group.markname.clone().unwrap_or_else(|| group.name.clone());
            Some(GroupName { id: self.group_id(group), uid: group.uid.clone(), displayname })
        };
        let discuss = |key: &str| {
            let discuss = self.own_discusses().find(|discuss| discuss.key == key)?;
            Some(DiscussName { id: self.discuss_id(discuss), displayname: discuss.name.clone() })
        };
        Some(match place {
            Place::Friend => Scene::Friend,
            Place::Group(uid) => Scene::Group(group(uid)?),
            Place::GroupSession(uid) => Scene::GroupSession(group(uid)?),
            Place::Discuss(key) => Scene::Discuss(discuss(key)?),
            Place::DiscussSession(key) => Scene::DiscussSession(discuss(key)?),
        })
    }

    /// The others at a place.
    fn audience(&self, place: &Place) -> Vec<&Person> {
        let is_there = |person: &&Person| match place {
            Place::Friend => true,
            Place::Group(uid) | Place::GroupSession(uid) => {
                let group = self.world.groups.iter().find(|group| group.uid == *uid);
                group.is_some_and(|group| self.role(group, &person.uid).is_some())
            }
            Place::Discuss(key) | Place::DiscussSession(key) => {
                let discuss = self.world.discusses.iter().find(|discuss| discuss.key == *key);
                discuss.is_some_and(|discuss| self.takes_part(discuss, &person.uid))
            }
        };
        self.others().filter(is_there).collect()
    }

    fn muted_for(&self, group: &str, uid: &str, now: u64) -> Option<u64> {
        let until = self.muted.get(&(group.to_owned(), uid.to_owned()))?;
        until.checked_sub(now).filter(|left| *left > 0)
    }

    /// Finds out how a message of ours goes out; `ids` are for it and for an echo.
    pub(super) fn route(
        &mut self,
        to: &Recipient,
        content: &str,
        ids: [String; 2],
        now: u64,
    ) -> Result<Route, BackendError> {
        let group = |id: &str| self.own_groups().find(|group| self.group_id(group) == id);
        let discuss = |id: &str| self.own_discusses().find(|discuss| self.discuss_id(discuss) == id);
        let (place, one) = match to {
            Recipient::Friend(id) => (Some(Place::Friend), Some(id)),
            Recipient::Group(id) => (group(id).map(|group| Place::Group(group.uid.clone())), None),
            Recipient::Discuss(id) => (discuss(id).map(|discuss| Place::Discuss(discuss.key.clone())), None),
            Recipient::GroupMember { group: id, member } => {
                (group(id).map(|group| Place::GroupSession(group.uid.clone())), Some(member))
            }
            Recipient::DiscussMember { discuss: id, member } => {
                (discuss(id).map(|discuss| Place::DiscussSession(discuss.key.clone())), Some(member))
            }
        };
        let place = place.ok_or(BackendError::Gone)?;
        let scene = self.scene(&place).ok_or(BackendError::Gone)?;
        let mut audience = self.audience(&place);
        if let Some(id) = one {
            audience.retain(|person| self.id(&person.uid) == *id);
            let person = audience.first().ok_or(BackendError::Gone)?;
            if self.clients.get(&person.uid) == Some(&false) {
                return Err(BackendError::Refused("the recipient is offline".into()));
            }
        }
        if let Place::Group(uid) = &place
            && let Some(left) = self.muted_for(uid, &self.me.uid, now)
        {
            return Err(BackendError::Muted(left));
        }
        let own = self.party(&place, &self.me);
        let [id, echo_id] = ids;
        let message = Message {
            way: Way::Sent,
            scene: scene.clone(),
            id,
            time: now,
            content: content.to_owned(),
            sender: own.clone(),
            receiver: one.and(audience.first()).map(|person| self.party(&place, person)),
        };
        let is_client = |person: &&&Person| self.clients.get(&person.uid) == Some(&true);
        let clients: Vec<String> =
            audience.iter().filter(is_client).map(|person| person.uid.clone()).collect();
        // In company nobody needs an echo.
        let speaker = if clients.is_empty() {
            audience.iter().find(|person| !self.clients.contains_key(&person.uid))
        } else {
            None
        };
        let echo = speaker.map(|person| Message {
            way: Way::Received,
            scene,
            id: echo_id,
            sender: self.party(&place, person),
            receiver: Some(own),
            ..message.clone()
        });
        if let Place::Group(uid) = &place {
            self.spoke.insert((uid.clone(), self.me.uid.clone()), now);
        }
        Ok(Route { message, place, to: clients, echo })
    }

    /// What the client of `from` says to us; whether it may is judged here, for it is not trusted.
    pub(super) fn receive(
        &mut self,
        from: &str,
        place: &Place,
        content: String,
        id: String,
        now: u64,
    ) -> Result<Message, BackendError> {
        let scene = self.scene(place).ok_or(BackendError::Gone)?;
        let sender = self.audience(place).into_iter().find(|person| person.uid == from);
        let sender = self.party(place, sender.ok_or(BackendError::NotAllowed)?);
        if let Place::Group(uid) = place {
            if let Some(left) = self.muted_for(uid, from, now) {
                return Err(BackendError::Muted(left));
            }
            self.spoke.insert((uid.clone(), from.to_owned()), now);
        }
        let receiver = Some(self.party(place, &self.me));
        Ok(Message { way: Way::Received, scene, id, time: now, content, sender, receiver })
    }
}

fn display_name(person: &Person) -> String {
    person.markname.as_ref().unwrap_or(&person.name).clone()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
