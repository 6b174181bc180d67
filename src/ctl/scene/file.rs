//! [`Scenes`]: a file of scenes, read whole before anything is said.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Spanned;

use super::expectation::Expected;
pub(in crate::ctl) use super::raw::Who;
use super::raw::{self, Poked, RawFile, RawScene, RawStep};

/// The most scenes of a file, and steps of a scene.
const MAX_SCENES: usize = 1000;
const MAX_STEPS: usize = 1000;

/// A file.
#[derive(Debug, PartialEq)]
pub(in crate::ctl) struct Scenes {
    /// The account that plays the bot, if the file says it.
    pub(in crate::ctl) account: Option<String>,
    pub(in crate::ctl) scenes: Vec<Scene>,
}

/// A scene.
#[derive(Debug, PartialEq)]
pub(in crate::ctl) struct Scene {
    pub(in crate::ctl) name: String,
    pub(in crate::ctl) steps: Vec<Step>,
}

/// A step.
#[derive(Debug, PartialEq)]
pub(in crate::ctl) struct Step {
    /// Where it stands.
    pub(in crate::ctl) line: usize,
    pub(in crate::ctl) what: What,
}

/// What happens in a step.
#[derive(Debug, PartialEq)]
pub(in crate::ctl) enum What {
    /// A person says something, in a group or to the account. An image is the last part of the message.
    Say { by: Who, group: Option<Who>, message: Vec<Value>, image: Option<String> },
    /// A person pokes another, or the account.
    Poke { by: Who, group: Option<Who>, target: Option<Who> },
    /// What was said last is taken back.
    Recall,
    /// A person asks for something; `kind` as `/sandbox/people/UID/request` has it.
    Ask { by: Who, kind: &'static str, group: Option<Who>, name: String, comment: String },
    /// The account is expected to do something.
    Expect { expected: Expected, place: Place, within: Option<Duration> },
}

/// Where a message is expected.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ctl) enum Place {
    Group(Who),
    Person(Who),
}

/// What is wrong with a file.
#[derive(Debug, PartialEq)]
pub(in crate::ctl) struct Mistake {
    pub(in crate::ctl) line: Option<usize>,
    pub(in crate::ctl) why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// The line in which a byte of the text is.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

impl Scenes {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(in crate::ctl) fn parse(text: &str) -> Result<Self, Mistake> {
        let raw: RawFile = toml::from_str(text).map_err(|error| Mistake {
            line: error.span().map(|span| line_of(text, span.start)),
            // Not by `Display`, which quotes the file over several lines.
            why: error.message().to_owned(),
        })?;
        let wrong = |line: Option<usize>, why: String| Err(Mistake { line, why });
        if raw.scene.is_empty() {
            return wrong(None, "there is no [[scene]] in it".to_owned());
        }
        if raw.scene.len() > MAX_SCENES {
            return wrong(None, format!("at most {MAX_SCENES} scenes can be in a file"));
        }
        let mut names = BTreeSet::new();
        let mut scenes = Vec::with_capacity(raw.scene.len());
        for raw in raw.scene {
            let line = line_of(text, raw.span().start);
            let raw = raw.into_inner();
            if raw.name.trim().is_empty() {
                return wrong(Some(line), "the scene has no name".to_owned());
            }
            if !names.insert(raw.name.clone()) {
                return wrong(Some(line), format!("there is another scene {:?}", raw.name));
            }
            if raw.steps.is_empty() || raw.steps.len() > MAX_STEPS {
                return wrong(Some(line), format!("a scene has 1 to {MAX_STEPS} steps"));
            }
            scenes.push(scene(raw, text)?);
        }
        Ok(Self { account: raw.account, scenes })
    }
}

/// What the steps before say of one that does not say it.
struct Before {
    by: Option<Who>,
    group: Option<Who>,
    /// Where an answer is expected.
    place: Option<Place>,
    was_said: bool,
}

fn scene(raw: RawScene, text: &str) -> Result<Scene, Mistake> {
    let place = match (&raw.group, &raw.by) {
        (Some(group), _) => Some(Place::Group(group.clone())),
        (None, by) => by.clone().map(Place::Person),
    };
    let mut before = Before { by: raw.by, group: raw.group, place, was_said: false };
    let read = |step: Spanned<RawStep>| {
        let line = line_of(text, step.span().start);
        let what = before.step(step.into_inner()).map_err(|why| Mistake { line: Some(line), why })?;
        Ok(Step { line, what })
    };
    let steps = raw.steps.into_iter().map(read).collect::<Result<_, Mistake>>()?;
    Ok(Scene { name: raw.name, steps })
}

impl Before {
    fn step(&mut self, step: RawStep) -> Result<What, String> {
        let asks = [("friend", step.request_friend), ("join", step.request_join), ("invite", step.invite)];
        let verbs = [
            step.say.is_some() || step.image.is_some(),
            step.poke.is_some(),
            step.recall.is_some(),
            step.expect.is_some(),
        ];
        let count = verbs.iter().filter(|is_there| **is_there).count()
            + asks.iter().filter(|(_, comment)| comment.is_some()).count();
        if count != 1 {
            return Err(
                "a step has one of say (with or without image), image, poke, recall, request_friend, \
                        request_join, invite and expect"
                    .to_owned(),
            );
        }
        let only = |is_there: bool, key: &str, verb: &str| match is_there {
            true => Err(format!("{key} is of use with {verb} only")),
            false => Ok(()),
        };
        let asked = asks.iter().any(|(_, comment)| comment.is_some());
        only(step.within.is_some() && step.expect.is_none(), "within", "expect")?;
        only(step.to.is_some() && step.expect.is_none(), "to", "expect")?;
        only(step.name.is_some() && !asked, "name", "a request")?;
        if let Some(expect) = step.expect {
            only(step.by.is_some(), "as", "what people do; here to names the person, and")?;
            let expected = raw::expected(&expect)?;
            let within = step.within.map(raw::time).transpose()?;
            if within.is_some() && matches!(expected, Expected::Nothing(_)) {
                return Err("nothing has its own time: within says it twice".to_owned());
            }
            let place = match (step.group, step.to) {
                (Some(_), Some(_)) => {
                    return Err("a message is in a group or to a person: in or to".to_owned());
                }
                (Some(group), None) => Some(Place::Group(group)),
                (None, Some(person)) => Some(Place::Person(person)),
                (None, None) => self.place.clone(),
            };
            // An action has no place.
            let nowhere = || matches!(expected, Expected::Action(_)).then_some(Place::Person(Who::Uid(0)));
            let place = place
                .or_else(nowhere)
                .ok_or("nobody has said anything yet: in or to says where it is expected")?;
            return Ok(What::Expect { expected, place, within });
        }
        if let Some(recall) = step.recall {
            only(step.by.is_some() || step.group.is_some(), "as or in", "what says something; it")?;
            return match (recall, self.was_said) {
                (true, true) => Ok(What::Recall),
                (false, _) => Err("recall is true, or not there".to_owned()),
                (true, false) => Err("nothing was said that could be taken back".to_owned()),
            };
        }
        let by = step.by.or_else(|| self.by.clone()).ok_or("as is missing: who does it")?;
        let group = step.group.or_else(|| self.group.clone());
        let what = match (step.poke, asks.into_iter().find_map(|(kind, comment)| Some((kind, comment?)))) {
            (Some(Poked::Account(false)), _) => return Err("poke is true, or names a person".to_owned()),
            (Some(Poked::Account(true)), _) => What::Poke { by, group, target: None },
            (Some(Poked::Person(who)), _) => What::Poke { by, group, target: Some(who) },
            (None, Some((kind, comment))) => {
                let group = group.filter(|_| kind != "friend");
                if group.is_none() && kind != "friend" {
                    return Err("in is missing: which group it is about".to_owned());
                }
                let name = step.name.unwrap_or_default();
                // Answers to a request are given to who asks.
                self.place = Some(Place::Person(by.clone()));
                return Ok(What::Ask { by, kind, group, name, comment });
            }
            (None, None) => {
                let message = step.say.map(message).transpose()?.unwrap_or_default();
                self.was_said = true;
                What::Say { by, group, message, image: step.image }
            }
        };
        if let What::Say { by, group, .. } | What::Poke { by, group, .. } = &what {
            self.place = Some(group.clone().map_or_else(|| Place::Person(by.clone()), Place::Group));
        }
        Ok(what)
    }
}

/// A message, from a text or a list of segments.
fn message(said: Value) -> Result<Vec<Value>, String> {
    match said {
        Value::String(text) if !text.is_empty() => {
            Ok(vec![json!({ "type": "text", "data": { "text": text } })])
        }
        Value::Array(segments) if !segments.is_empty() => {
            let is_one = |segment: &Value| {
                segment["type"].is_string() && segment.get("data").is_none_or(Value::is_object)
            };
            match segments.iter().all(is_one) {
                true => Ok(segments),
                false => Err("a segment of say is { type = \"at\", data = { qq = \"10001\" } }".to_owned()),
            }
        }
        _ => Err("say is a text, or a list of segments, and not empty".to_owned()),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
