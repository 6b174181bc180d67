//! What is said: where a message goes, who gets it, and who may say it.

use super::{Place, Route, View, display_name};
use crate::client::backend::{BackendError, Recipient};
use crate::client::events::{DiscussName, GroupName, Message, Party, Scene, Way};
use crate::client::sandbox::world::Person;

impl View {
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
    pub(in crate::client::sandbox) fn route(
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
    pub(in crate::client::sandbox) fn receive(
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
