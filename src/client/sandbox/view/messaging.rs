//! Messages: where they go, who receives them, and who may send them.

use super::{Delivery, SandboxChat, View, display_name};
use crate::client::backend::BackendError;
use crate::client::backend::message::Recipient;
use crate::client::backend::message::{Chat, ChatMessage, Direction, DiscussRef, GroupRef, Party};
use crate::client::backend::segment;
use crate::client::sandbox::world::Person;

impl View {
    fn party(&self, place: &SandboxChat, person: &Person) -> Party {
        let card = match place {
            SandboxChat::Group(uid) | SandboxChat::GroupSession(uid) => {
                let group = self.world.groups.iter().find(|group| group.uid == *uid);
                Some(group.and_then(|group| group.cards.get(&person.uid)).unwrap_or(&person.name).clone())
            }
            SandboxChat::Discuss(_) | SandboxChat::DiscussSession(_) => Some(person.name.clone()),
            SandboxChat::Friend => None,
        };
        // A markname is what this account calls others.
        let name = if person.uid == self.me.uid { person.name.clone() } else { display_name(person) };
        Party { id: self.id(&person.uid), uid: person.uid.clone(), displayname: card.unwrap_or(name) }
    }

    fn chat(&self, place: &SandboxChat) -> Option<Chat> {
        let group = |uid: &str| {
            let group = self.own_groups().find(|group| group.uid == uid)?;
            let displayname = group.markname.clone().unwrap_or_else(|| group.name.clone());
            Some(GroupRef { id: self.group_id(group), uid: group.uid.clone(), displayname })
        };
        let discuss = |key: &str| {
            let discuss = self.own_discusses().find(|discuss| discuss.key == key)?;
            Some(DiscussRef { id: self.discuss_id(discuss), displayname: discuss.name.clone() })
        };
        Some(match place {
            SandboxChat::Friend => Chat::Friend,
            SandboxChat::Group(uid) => Chat::Group(group(uid)?),
            SandboxChat::GroupSession(uid) => Chat::GroupSession(group(uid)?),
            SandboxChat::Discuss(key) => Chat::Discuss(discuss(key)?),
            SandboxChat::DiscussSession(key) => Chat::DiscussSession(discuss(key)?),
        })
    }

    /// The other people in a chat.
    fn audience(&self, place: &SandboxChat) -> Vec<&Person> {
        let is_there = |person: &&Person| match place {
            SandboxChat::Friend => true,
            SandboxChat::Group(uid) | SandboxChat::GroupSession(uid) => {
                let group = self.world.groups.iter().find(|group| group.uid == *uid);
                group.is_some_and(|group| self.role(group, &person.uid).is_some())
            }
            SandboxChat::Discuss(key) | SandboxChat::DiscussSession(key) => {
                let discuss = self.world.discusses.iter().find(|discuss| discuss.key == *key);
                discuss.is_some_and(|discuss| self.is_participant(discuss, &person.uid))
            }
        };
        self.others().filter(is_there).collect()
    }

    fn muted_for(&self, group: &str, uid: &str, now: u64) -> Option<u64> {
        let until = self.muted.get(&(group.to_owned(), uid.to_owned()))?;
        until.checked_sub(now).filter(|left| *left > 0)
    }

    /// Determines how a message of ours is delivered; `ids` are for it and for an echo.
    pub(crate) fn route(
        &mut self,
        to: &Recipient,
        content: &str,
        ids: [String; 2],
        now: u64,
    ) -> Result<Delivery, BackendError> {
        let group = |id: &str| self.own_groups().find(|group| self.group_id(group) == id);
        let discuss = |id: &str| self.own_discusses().find(|discuss| self.discuss_id(discuss) == id);
        let (place, one) = match to {
            Recipient::Friend(id) => (Some(SandboxChat::Friend), Some(id)),
            Recipient::Group(id) => (group(id).map(|group| SandboxChat::Group(group.uid.clone())), None),
            Recipient::Discuss(id) => {
                (discuss(id).map(|discuss| SandboxChat::Discuss(discuss.key.clone())), None)
            }
            Recipient::GroupMember { group: id, member } => {
                (group(id).map(|group| SandboxChat::GroupSession(group.uid.clone())), Some(member))
            }
            Recipient::DiscussMember { discuss: id, member } => {
                (discuss(id).map(|discuss| SandboxChat::DiscussSession(discuss.key.clone())), Some(member))
            }
        };
        let place = place.ok_or(BackendError::Gone)?;
        let chat = self.chat(&place).ok_or(BackendError::Gone)?;
        let mut audience = self.audience(&place);
        if let Some(id) = one {
            audience.retain(|person| self.id(&person.uid) == *id);
            let person = audience.first().ok_or(BackendError::Gone)?;
            // A person that has had a client does not echo, so the message could only be lost.
            if self.clients.get(&person.uid) == Some(&false) {
                return Err(BackendError::Refused("the recipient is offline".into()));
            }
        }
        if let SandboxChat::Group(uid) = &place
            && let Some(left) = self.muted_for(uid, &self.me.uid, now)
        {
            return Err(BackendError::Muted(left));
        }
        let own = self.party(&place, &self.me);
        let [id, echo_id] = ids;
        let message = ChatMessage {
            direction: Direction::Sent,
            chat: chat.clone(),
            id,
            time: now,
            content: content.to_owned(),
            segments: segment::of_text(content),
            number: None,
            sender: own.clone(),
            receiver: one.and(audience.first()).map(|person| self.party(&place, person)),
        };
        let is_client = |person: &&&Person| self.clients.get(&person.uid) == Some(&true);
        let clients: Vec<String> =
            audience.iter().filter(is_client).map(|person| person.uid.clone()).collect();
        // Echoes are only for chats without other clients.
        let speaker = if clients.is_empty() {
            audience.iter().find(|person| !self.clients.contains_key(&person.uid))
        } else {
            None
        };
        let echo = speaker.map(|person| ChatMessage {
            direction: Direction::Received,
            chat,
            id: echo_id,
            sender: self.party(&place, person),
            receiver: Some(own),
            ..message.clone()
        });
        if let SandboxChat::Group(uid) = &place {
            self.spoke.insert((uid.clone(), self.me.uid.clone()), now);
        }
        Ok(Delivery { message, place, to: clients, echo })
    }

    /// Accepts or refuses a message from the client of `from`. Peers are not trusted, so its right to send is
    /// checked here.
    pub(crate) fn receive(
        &mut self,
        from: &str,
        place: &SandboxChat,
        content: String,
        id: String,
        now: u64,
    ) -> Result<ChatMessage, BackendError> {
        // None as well where this account is not in the chat itself.
        let chat = self.chat(place).ok_or(BackendError::Gone)?;
        let sender = self.audience(place).into_iter().find(|person| person.uid == from);
        let sender = self.party(place, sender.ok_or(BackendError::NotAllowed)?);
        if let SandboxChat::Group(uid) = place {
            if let Some(left) = self.muted_for(uid, from, now) {
                return Err(BackendError::Muted(left));
            }
            self.spoke.insert((uid.clone(), from.to_owned()), now);
        }
        let receiver = Some(self.party(place, &self.me));
        let (direction, segments) = (Direction::Received, segment::of_text(&content));
        Ok(ChatMessage { direction, chat, id, time: now, content, segments, number: None, sender, receiver })
    }
}
