//! What the account did, as the frames of its sandbox tell it, and whether that is what was expected.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// How many things that the account did wait to be looked at, and how many of them a complaint names.
const MAX_HEARD: usize = 1000;
const MAX_NAMED: usize = 3;

/// A text with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ctl) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether all of the text is as the pattern says.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut place) = (0, 0);
        // After the last star, and how much of the text that star takes: one more with each failure, so that no text takes long.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(place) {
                Some('*') => {
                    place += 1;
                    star = Some((place, at));
                }
                Some(c) if *c == '?' || *c == text[at] => {
                    place += 1;
                    at += 1;
                }
                _ => match star {
                    Some((after, taken)) => {
                        star = Some((after, taken + 1));
                        (place, at) = (after, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        self.0.iter().skip(place).all(|c| *c == '*')
    }
}

/// Where a message goes, by uid.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ctl) enum Spot {
    Group(String),
    Person(String),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(uid) => write!(f, "in group {uid}"),
            Self::Person(uid) => write!(f, "to {uid}"),
        }
    }
}

/// What a message has to be: all of what is said here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::ctl) struct Sought {
    pub(super) equals: Option<String>,
    pub(super) contains: Option<String>,
    pub(super) matches: Option<Pattern>,
    pub(super) segment: Option<String>,
}

/// What is expected.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ctl) enum Expected {
    /// A message.
    Message(Sought),
    /// That the bot calls this action.
    Action(String),
    /// No message for this time.
    Nothing(Duration),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sought = match self {
            Self::Action(name) => return write!(f, "the action {name}"),
            Self::Nothing(_) => return f.write_str("no message"),
            Self::Message(sought) => sought,
        };
        f.write_str("a message")?;
        for (how, what) in [("is", &sought.equals), ("contains", &sought.contains)] {
            if let Some(what) = what {
                write!(f, " that {how} {what:?}")?;
            }
        }
        if let Some(Pattern(pattern)) = &sought.matches {
            write!(f, " that matches {:?}", pattern.iter().collect::<String>())?;
        }
        match &sought.segment {
            Some(kind) => write!(f, " with a segment {kind}"),
            None => Ok(()),
        }
    }
}

/// Something that the account did.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ctl) enum Heard {
    Message { spot: Spot, text: String, kinds: Vec<String>, raw: String },
    Action(String),
}

impl Heard {
    /// What a frame tells; none where it tells of others.
    pub(in crate::ctl) fn of(kind: &str, data: &Value) -> Option<Self> {
        let frame = &data["frame"];
        if kind == "action" {
            return frame["action"].as_str().map(|name| Self::Action(name.to_owned()));
        }
        if kind != "sent" {
            return None;
        }
        let uid = |name: &str| frame[name].as_u64().map(|uid| uid.to_string());
        // A message to a member of a group who is no friend has the number of that group as well.
        let spot = match uid("target_id") {
            Some(person) => Spot::Person(person),
            None => Spot::Group(uid("group_id")?),
        };
        let segments = frame["message"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kind_of = |segment: &Value| segment["type"].as_str().unwrap_or_default().to_owned();
        let kinds: Vec<String> = segments.iter().map(kind_of).collect();
        let texts = segments.iter().filter(|segment| segment["type"] == "text");
        let text: String = texts.filter_map(|segment| segment["data"]["text"].as_str()).collect();
        let raw = frame["raw_message"].as_str().unwrap_or_default().to_owned();
        Some(Self::Message { spot, text: text.trim().to_owned(), kinds, raw })
    }

    /// Whether it is a message there.
    fn is_said(&self, there: &Spot) -> bool {
        matches!(self, Self::Message { spot, .. } if spot == there)
    }

    fn is(&self, expected: &Expected, there: &Spot) -> bool {
        match (self, expected) {
            (Self::Action(name), Expected::Action(expected)) => name == expected,
            (Self::Message { text, kinds, .. }, Expected::Message(sought)) => {
                self.is_said(there)
                    && sought.equals.as_ref().is_none_or(|equal| text == equal.trim())
                    && sought.contains.as_ref().is_none_or(|part| text.contains(part.as_str()))
                    && sought.matches.as_ref().is_none_or(|pattern| pattern.matches(text))
                    && sought.segment.as_ref().is_none_or(|kind| kinds.contains(kind))
            }
            _ => false,
        }
    }
}

/// What the account did and no expectation was about so far.
#[derive(Debug, Default)]
pub(in crate::ctl) struct Waiting(VecDeque<Heard>);

impl Waiting {
    /// Adds something. A bot that does too much loses what was first.
    pub(in crate::ctl) fn add(&mut self, heard: Heard) {
        self.0.push_back(heard);
        if self.0.len() > MAX_HEARD {
            self.0.pop_front();
        }
    }

    /// Takes what is expected, with what came before it at the same spot. False: it is not there yet.
    pub(in crate::ctl) fn take(&mut self, expected: &Expected, there: &Spot) -> bool {
        let Some(place) = self.0.iter().position(|heard| heard.is(expected, there)) else { return false };
        let of_actions = matches!(expected, Expected::Action(_));
        let mut at = 0;
        self.0.retain(|heard| {
            at += 1;
            let is_passed = match of_actions {
                true => matches!(heard, Heard::Action(_)),
                false => heard.is_said(there),
            };
            at > place + 1 || !is_passed
        });
        true
    }

    /// What was said there, or done, in place of what is expected, for a complaint; none where nothing was.
    pub(in crate::ctl) fn instead(&self, expected: &Expected, there: &Spot) -> Option<String> {
        let of_actions = matches!(expected, Expected::Action(_));
        let mut named: Vec<String> = Vec::new();
        let mut count = 0_usize;
        for heard in &self.0 {
            let text = match heard {
                Heard::Action(name) if of_actions => name.clone(),
                Heard::Message { raw, .. } if !of_actions && heard.is_said(there) => format!("{raw:?}"),
                _ => continue,
            };
            count += 1;
            if named.len() < MAX_NAMED {
                named.push(text);
            }
        }
        match (count, count.checked_sub(named.len())) {
            (0, _) => None,
            (_, Some(more @ 1..)) => Some(format!("{} and {more} more", named.join(", "))),
            _ => Some(named.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn there() -> Spot {
        Spot::Group("7".to_owned())
    }

    fn said(text: &str) -> Heard {
        let message =
            json!([{ "type": "reply", "data": { "id": "1" } }, { "type": "text", "data": { "text": text } }]);
        let frame = json!({ "frame": { "group_id": 7, "message": message, "raw_message": text } });
        Heard::of("sent", &frame).unwrap()
    }

    #[test]
    fn patterns_match_whole_texts() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).matches(text);
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("a*c", "abbc"),
            ("?明*", "小明说"),
            ("*ab", "aab"),
            ("a*b*c", "a-b-b-c"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*c", "abcd"), ("a", "A"), ("*a*b", "ba")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)), "in a moment");
    }

    #[test]
    fn messages_are_heard_with_their_place() {
        let frame = json!({ "frame": { "group_id": 7, "target_id": 8, "message": [], "raw_message": "" } });
        let Some(Heard::Message { spot, .. }) = Heard::of("sent", &frame) else { panic!() };
        assert_eq!(spot, Spot::Person("8".to_owned()));
        assert_eq!(Heard::of("event", &frame), None);
        assert_eq!(Heard::of("sent", &json!({ "frame": null, "too_long": 40_000 })), None);
        let action = json!({ "frame": { "action": "get_msg", "params": {} } });
        assert_eq!(Heard::of("action", &action), Some(Heard::Action("get_msg".to_owned())));
    }

    #[test]
    fn expectation_takes_what_came_before_it() {
        let mut waiting = Waiting::default();
        waiting.add(said("a"));
        waiting.add(Heard::Action("x".to_owned()));
        waiting.add(said(" pong 1 "));
        waiting.add(said("z"));
        let sought =
            |equals: &str| Expected::Message(Sought { equals: Some(equals.to_owned()), ..Sought::default() });
        assert!(!waiting.take(&sought("pong"), &there()));
        assert!(!waiting.take(&sought("pong 1"), &Spot::Person("7".to_owned())));
        assert_eq!(waiting.instead(&sought("q"), &there()).unwrap(), r#""a", " pong 1 ", "z""#);
        let both = Sought {
            matches: Some(Pattern::new("p*1")),
            segment: Some("reply".to_owned()),
            contains: Some("ong".to_owned()),
            equals: None,
        };
        let with_image = Sought { segment: Some("image".to_owned()), ..both.clone() };
        assert!(!waiting.take(&Expected::Message(with_image), &there()));
        assert!(waiting.take(&Expected::Message(both), &there()));
        assert!(!waiting.take(&sought("a"), &there()), "it came before");
        assert_eq!(waiting.instead(&sought("q"), &there()).unwrap(), r#""z""#);
        assert!(waiting.take(&Expected::Action("x".to_owned()), &there()));
        assert!(!waiting.take(&Expected::Action("x".to_owned()), &there()), "it is taken");
        for _ in 0..4 {
            waiting.add(said("y"));
        }
        assert!(waiting.instead(&sought("q"), &there()).unwrap().ends_with("and 2 more"));
    }
}
