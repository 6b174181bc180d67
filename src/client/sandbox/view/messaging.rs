//! Messages: where they go, who receives them, and who may send them.

use serde_json::{Value, json};

use super::messages::{MessageKey, StoredMessage};
use super::{Delivery, PeerMessage, SandboxChat, View};
use crate::client::backend::BackendError;
use crate::client::backend::message::Recipient;
use crate::client::backend::message::{Chat, ChatMessage, Direction, DiscussRef, GroupRef, Party};
use crate::client::backend::objects::GroupRole;
use crate::client::backend::segment::{self, Segment};
use crate::client::sandbox::world::Person;

impl View {
    fn party(&self, place: &SandboxChat, person: &Person) -> Party {
        let card = match place {
            SandboxChat::Group(uid) | SandboxChat::GroupSession(uid) => {
                let group = self.world.groups.iter().find(|group| group.uid == *uid);
                Some(group.and_then(|group| self.card(group, &person.uid)).unwrap_or(&person.name).to_owned())
            }
            SandboxChat::Discuss(_) | SandboxChat::DiscussSession(_) => Some(person.name.clone()),
            SandboxChat::Friend => None,
        };
        // A markname is what this account calls others.
        let name = if person.uid == self.me.uid { person.name.clone() } else { self.display_name(person) };
        Party { id: self.id(&person.uid), uid: person.uid.clone(), displayname: card.unwrap_or(name) }
    }

    fn chat(&self, place: &SandboxChat) -> Option<Chat> {
        let group = |uid: &str| {
            let group = self.own_groups().find(|group| group.uid == uid)?;
            let displayname = group.markname.clone().or_else(|| self.group_name(uid)).unwrap_or_default();
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
            SandboxChat::Friend => self.is_friend(person),
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

    /// Why somebody may not speak in a group now, if so.
    fn silence(&self, group: &str, uid: &str, now: u64) -> Result<(), BackendError> {
        let Some(changed) = self.changed.get(group) else { return Ok(()) };
        if let Some(left) =
            changed.muted.get(uid).and_then(|until| until.checked_sub(now)).filter(|left| *left > 0)
        {
            return Err(BackendError::Muted(left));
        }
        let found = self.world.groups.iter().find(|found| found.uid == group);
        let role = found.and_then(|found| self.role(found, uid));
        if changed.all_muted && role < Some(GroupRole::Admin) {
            return Err(BackendError::Refused("all members of the group are muted".into()));
        }
        Ok(())
    }

    /// Where a message to this recipient goes: the chat, and the uid of the person if it is for one.
    pub(crate) fn resolve(&self, to: &Recipient) -> Result<(SandboxChat, Option<String>), BackendError> {
        let group = |id: &str| {
            let found = self.own_groups().find(|group| self.group_id(group) == id);
            found.map(|group| group.uid.clone()).ok_or(BackendError::Gone)
        };
        let discuss = |id: &str| {
            let found = self.own_discusses().find(|discuss| self.discuss_id(discuss) == id);
            found.map(|discuss| discuss.key.clone()).ok_or(BackendError::Gone)
        };
        let person = |id: &str| {
            let found = self.others().find(|person| self.id(&person.uid) == id);
            found.map(|person| Some(person.uid.clone())).ok_or(BackendError::Gone)
        };
        Ok(match to {
            Recipient::Friend(id) => (SandboxChat::Friend, person(id)?),
            Recipient::Group(id) => (SandboxChat::Group(group(id)?), None),
            Recipient::Discuss(id) => (SandboxChat::Discuss(discuss(id)?), None),
            Recipient::GroupMember { group: id, member } => {
                (SandboxChat::GroupSession(group(id)?), person(member)?)
            }
            Recipient::DiscussMember { discuss: id, member } => {
                (SandboxChat::DiscussSession(discuss(id)?), person(member)?)
            }
        })
    }

    /// Determines how a message of ours is delivered; `ids` are for it and for an echo.
    ///
    /// # Errors
    /// It can't be sent. Nothing of it is.
    pub(crate) fn route(
        &mut self,
        (place, one): (SandboxChat, Option<String>),
        segments: Vec<Segment>,
        [id, echo_id]: [String; 2],
        now: u64,
    ) -> Result<Delivery, BackendError> {
        let chat = self.chat(&place).ok_or(BackendError::Gone)?;
        let audience = self.audience(&place).into_iter();
        let audience: Vec<&Person> =
            audience.filter(|person| one.as_ref().is_none_or(|one| person.uid == *one)).collect();
        if one.is_some() {
            let person = audience.first().ok_or(BackendError::Gone)?;
            // A person that has had a client does not echo, so the message could only be lost.
            if self.clients.get(&person.uid) == Some(&false) {
                return Err(BackendError::Refused("the recipient is offline".into()));
            }
        }
        if let SandboxChat::Group(uid) = &place {
            self.silence(uid, &self.me.uid, now)?;
        }
        let on_the_wire = self.to_wire(&segments)?;
        let own = self.party(&place, &self.me);
        let receiver = one.as_ref().and(audience.first()).map(|person| self.party(&place, person));
        let is_client = |person: &&&Person| self.clients.get(&person.uid) == Some(&true);
        let clients: Vec<String> =
            audience.iter().filter(is_client).map(|person| person.uid.clone()).collect();
        // Echoes are only for chats without other clients.
        let speaker = if clients.is_empty() {
            let repeats = |person: &&&Person| {
                !self.clients.contains_key(&person.uid) && !self.played.contains(&person.uid)
            };
            // One for whom somebody speaks is among them: it is a conversation.
            let is_played = audience.iter().any(|person| self.played.contains(&person.uid));
            audience.iter().find(repeats).filter(|_| !is_played)
        } else {
            None
        };
        let speaker = speaker.map(|person| self.party(&place, person));
        let me = self.me.uid.clone();
        let number = self.keep(&me, None, &place, one.as_deref(), &segments, now);
        let message = ChatMessage {
            direction: Direction::Sent,
            chat: chat.clone(),
            id,
            time: now,
            content: self.text_of(&place, &segments),
            segments,
            number: Some(number),
            sender: own.clone(),
            receiver,
        };
        let echo = speaker.map(|sender| ChatMessage {
            direction: Direction::Received,
            chat,
            id: echo_id,
            number: Some(self.keep(&sender.uid, None, &place, one.as_deref(), &message.segments, now)),
            sender,
            receiver: Some(own),
            ..message.clone()
        });
        if let SandboxChat::Group(uid) = &place {
            self.spoke.insert((uid.clone(), me), now);
        }
        let wire = PeerMessage { place, by: None, number, segments: on_the_wire };
        Ok(Delivery { message, wire, to: clients, echo })
    }

    /// Accepts or refuses a message from the client of `from`. Peers are not trusted, so its right to send is
    /// checked here.
    ///
    /// # Errors
    /// It may not be sent.
    pub(crate) fn receive(
        &mut self,
        from: &str,
        said: PeerMessage,
        id: String,
        now: u64,
    ) -> Result<ChatMessage, BackendError> {
        let PeerMessage { place, by, number, segments } = said;
        let from = match by {
            None => from.to_owned(),
            // Only where many hear it, and nobody who could speak for himself.
            Some(by) if place.group().is_some() && self.has_no_client(&by) => by,
            Some(_) => return Err(BackendError::NotAllowed),
        };
        let key = MessageKey { author: from.clone(), number };
        let segments = self.of_wire(segments);
        self.hear(&from, Some(key), place, segments, id, now)
    }

    /// A person says something that this account hears; `key` is what other clients know it by, if they do already.
    ///
    /// # Errors
    /// The person may not say it, or is not there.
    pub(crate) fn hear(
        &mut self,
        from: &str,
        key: Option<MessageKey>,
        place: SandboxChat,
        segments: Vec<Segment>,
        id: String,
        now: u64,
    ) -> Result<ChatMessage, BackendError> {
        // None as well where this account is not in the chat itself.
        let chat = self.chat(&place).ok_or(BackendError::Gone)?;
        let sender = self.audience(&place).into_iter().find(|person| person.uid == from);
        let sender = self.party(&place, sender.ok_or(BackendError::NotAllowed)?);
        if let SandboxChat::Group(uid) = &place {
            self.silence(uid, from, now)?;
            self.spoke.insert((uid.clone(), from.to_owned()), now);
        }
        let receiver = Some(self.party(&place, &self.me));
        let content = self.text_of(&place, &segments);
        let is_for_all = matches!(place, SandboxChat::Group(_) | SandboxChat::Discuss(_));
        let with = if is_for_all { None } else { Some(from) };
        let number = Some(self.keep(from, key, &place, with, &segments, now));
        let direction = Direction::Received;
        Ok(ChatMessage { direction, chat, id, time: now, content, segments, number, sender, receiver })
    }

    /// Somebody speaks for this person from now on, who repeats nothing any more: a bot would answer itself.
    pub(crate) fn plays(&mut self, uid: &str) {
        // As many as there are people.
        self.played.insert(uid.to_owned());
    }

    /// The clients of others in a chat, by uid.
    pub(crate) fn clients_in(&self, place: &SandboxChat) -> Vec<String> {
        let there = self.audience(place).into_iter();
        there
            .filter(|person| self.clients.get(&person.uid) == Some(&true))
            .map(|person| person.uid.clone())
            .collect()
    }

    fn keep(
        &mut self,
        author: &str,
        key: Option<MessageKey>,
        place: &SandboxChat,
        with: Option<&str>,
        segments: &[Segment],
        time: u64,
    ) -> i32 {
        let number = self.messages.new_number();
        let key = key.unwrap_or_else(|| MessageKey { author: author.to_owned(), number });
        let (place, with, segments) = (place.clone(), with.map(str::to_owned), segments.to_vec());
        self.messages.add(StoredMessage { number, key, place, with, time, segments });
        number
    }

    /// The text of the old API.
    fn text_of(&self, place: &SandboxChat, segments: &[Segment]) -> String {
        segment::text_of(segments, |uid| {
            let person = self.person(&uid.to_string())?;
            Some(self.party(place, person).displayname)
        })
    }

    /// The parts with what other clients know a message by in place of its number here.
    pub(crate) fn to_wire(&self, segments: &[Segment]) -> Result<Vec<Segment>, BackendError> {
        let one = |part: &Segment| {
            if part.kind != "reply" {
                return Ok(part.clone());
            }
            let known = part.get("id").parse().ok().and_then(|number| self.messages.get(number));
            let missing = || BackendError::Refused("there is no message that the reply is to".into());
            let MessageKey { author, number } = &known.ok_or_else(missing)?.key;
            Ok(Segment::new("reply", &[("author", author), ("number", &number.to_string())]))
        };
        segments.iter().map(one).collect()
    }

    fn of_wire(&self, mut segments: Vec<Segment>) -> Vec<Segment> {
        for part in segments.iter_mut().filter(|part| part.kind == "reply") {
            let key = part.get("number").parse().ok();
            let key = key.map(|number| MessageKey { author: part.get("author").to_owned(), number });
            let known = key.and_then(|key| self.messages.find(&key));
            // 0: a message that is not known any more.
            let number = known.map_or(0, |known| known.number);
            *part = Segment::new("reply", &[("id", &number.to_string())]);
        }
        segments
    }

    /// The sender of a message, as the standard shows it.
    pub(crate) fn sender_of(&self, message: &ChatMessage) -> Value {
        let place = match &message.chat {
            Chat::Group(group) => SandboxChat::Group(group.uid.clone()),
            _ => SandboxChat::Friend,
        };
        self.sender(&message.sender.uid, &place)
    }

    /// A person who says something in a chat, as the standard shows it.
    pub(crate) fn sender(&self, uid: &str, place: &SandboxChat) -> Value {
        let number = crate::client::sandbox::notice::uid(uid);
        let Some(person) = self.person(uid) else { return json!({ "user_id": number, "nickname": uid }) };
        let mut sender = json!({
            "user_id": number, "nickname": person.name, "sex": person.sex.as_deref().unwrap_or("unknown"), "age": 0,
        });
        let group = place.group().and_then(|uid| self.world.groups.iter().find(|group| group.uid == uid));
        if let Some(group) = group {
            sender["card"] = self.card(group, uid).unwrap_or_default().into();
            sender["role"] = json!(self.role(group, uid).unwrap_or_default());
            sender["title"] = self.title(&group.uid, uid).into();
            sender["area"] = person.province.as_str().into();
            sender["level"] = "1".into();
        }
        sender
    }

    /// The title of a member; empty if it has none.
    pub(crate) fn title(&self, group: &str, uid: &str) -> &str {
        self.changed
            .get(group)
            .and_then(|changed| changed.titles.get(uid))
            .map(String::as_str)
            .unwrap_or_default()
    }
}
