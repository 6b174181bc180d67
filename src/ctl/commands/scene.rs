//! `scene`: plays a file of scenes to the bot of an account in the sandbox, and says whether it answered as expected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Context, about, checked};
use crate::ctl::account::Account;
use crate::ctl::arguments::Scene as Arguments;
use crate::ctl::client::{Client, path_of};
use crate::ctl::events::Events;
use crate::ctl::failure::{Failure, Kind, Outcome, quoted};
use crate::ctl::scene::expectation::{Expected, Heard, Spot, Waiting};
use crate::ctl::scene::file::{Place, Scene, Scenes, What, Who};
use crate::ctl::scene::junit::{self, Played};
use crate::ctl::scene::people::People;
use crate::ctl::screen::{print, print_json_line, printable};

/// The largest file of scenes, and the largest image, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
const MAX_IMAGE: u64 = 8 * 1024 * 1024;

/// How long a stream is waited for at once: less than it may be silent for.
const LOOK: Duration = Duration::from_secs(30);

/// People, groups, and how many bots listen.
const WORLD: &str = "/sandbox/world";

/// The time between two looks whether a bot is connected.
const LOOK_FOR_BOT: Duration = Duration::from_millis(100);

/// Shows what the account does from now on, without what it did before.
const FRAMES: &str = "/sandbox/frames?kept=0";

pub(super) async fn scene(context: &Context, arguments: &Arguments) -> Outcome {
    let file = arguments.file.display().to_string();
    let next = "man 1 wqctl, SCENES";
    let text = read(&arguments.file, MAX_FILE)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
    let text = text.map_err(|why| Failure::usage(format!("the scenes can't be read: {file}: {why}")))?;
    let wrong = |mistake| Failure::usage(format!("{file}: {mistake}")).next(next);
    let scenes = Scenes::parse(&text).map_err(wrong)?;
    let named = arguments.account.clone().or(scenes.account).map(checked).transpose()?;
    let found = find(context, named.as_deref(), Duration::from_secs(arguments.wait)).await?;
    let Found { name, sandbox, people } = found;
    let folder = arguments.file.parent().unwrap_or(Path::new(""));
    let patience = Duration::from_secs(arguments.timeout);
    let mut all = Vec::with_capacity(scenes.scenes.len());
    for scene in &scenes.scenes {
        let since = Instant::now();
        let failure = play(&sandbox, &people, folder, patience, scene).await.err();
        let played = Played { name: scene.name.clone(), time: since.elapsed(), failure };
        show(context, &played)?;
        all.push(played);
    }
    if let Some(to) = &arguments.junit {
        let written = std::fs::write(to, junit::document(&file, &all));
        written.map_err(|error| {
            Failure::refused(format!("the outcome can't be written: {}: {error}", to.display()))
        })?;
    }
    match all.iter().filter(|played| played.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(Failure::refused(format!("{failed} of {} scenes failed", all.len()))
            .next(format!("wqctl logs {}, or its page with the frames", quoted(&name)))),
    }
}

fn show(context: &Context, Played { name, time, failure }: &Played) -> Outcome {
    let seconds = time.as_secs_f64();
    if context.json {
        let outcome =
            json!({ "scene": name, "passed": failure.is_none(), "seconds": seconds, "failure": failure });
        return print_json_line(&outcome);
    }
    let (word, why) = match failure {
        None => ("ok    ", String::new()),
        Some(why) => ("FAILED", format!(": {}", printable(why))),
    };
    print(&format!("{word}  {}{why}  ({seconds:.1} s)\n", printable(name)))
}

/// A file of at most so many bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(most + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    match content.len() as u64 > most {
        true => Err(format!("it has more than {most} bytes")),
        false => Ok(content),
    }
}

/// The account in the sandbox, if there is one alone.
async fn the_only_one(context: &Context) -> Outcome<String> {
    let list = context.client.get("/v1/clients?limit=1000").await?;
    let accounts = list["accounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    // One that just starts has not said yet where it is.
    let may_be = |backend: &Value| backend == "sandbox" || backend.is_null();
    let is_in_it = |account: &&Value| may_be(&account["backend"]) && account["desired"] != "stopped";
    let mut names = accounts.iter().filter(is_in_it).filter_map(|account| account["name"].as_str());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => Err(Failure::refused("no account runs in the sandbox").next("wqctl sandbox")),
        (Some(one), Some(other)) => {
            let why =
                format!("{one}, {other} and maybe others are in the sandbox: which of them is the bot?");
            Err(Failure::usage(why).next("wqctl scene --account NAME FILE"))
        }
    }
}

/// The client of an account, on its own port.
async fn client_of(context: &Context, name: &str) -> Outcome<Client> {
    let account = context.client.get(&path_of(name, "")).await.map_err(about(name))?;
    let account = Account::of(&account)?;
    let refused = |why: &str, next: &str| Err(Failure::refused(why).next(next).about(name));
    if account.backend.as_deref() != Some("sandbox") {
        return refused(
            "it is not in the sandbox, whose people scenes need",
            "wqctl start NAME-2 backend=sandbox",
        );
    }
    if !account.is_running() {
        return refused(&format!("it is {}", account.word()), "wqctl start NAME");
    }
    if !context.client.is_here() {
        let why = "the sandbox's people are on the machine of the controller alone";
        return refused(why, "run it on the machine of the controller");
    }
    let Some(port) = account.client.port else { return refused("it has no port", "wqctl explain NAME") };
    // No token: a client has none.
    Client::new(Some(&format!("http://127.0.0.1:{port}")), None)
}

/// What scenes are played with.
struct Found {
    name: String,
    sandbox: Client,
    people: People,
}

/// Finds the account. So long at most, a controller, an account and a bot that are not there yet are waited for.
async fn find(context: &Context, named: Option<&str>, patience: Duration) -> Outcome<Found> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look(context, named).await;
        let may_come = match &found {
            Ok((_, world)) => is_alone(world),
            Err(failure) => matches!(failure.kind, Kind::Refused | Kind::Unreachable | Kind::NoAccount),
        };
        if !may_come || Instant::now() >= deadline {
            let ((name, sandbox), world) = found?;
            return Ok(Found { name, sandbox, people: People::new(world) });
        }
        sleep(LOOK_FOR_BOT).await;
    }
}

/// The account as it is now, with its client and its world.
async fn look(context: &Context, named: Option<&str>) -> Outcome<((String, Client), Value)> {
    let name = match named {
        Some(name) => name.to_owned(),
        None => the_only_one(context).await?,
    };
    let sandbox = client_of(context, &name).await?;
    let world = sandbox.get(WORLD).await.map_err(about(&name))?;
    Ok(((name, sandbox), world))
}

/// Whether no bot is connected to the account of this world.
fn is_alone(world: &Value) -> bool {
    world["applications"] == 0
}

/// Plays a scene. An error says why it failed.
async fn play(
    sandbox: &Client,
    people: &People,
    folder: &Path,
    patience: Duration,
    scene: &Scene,
) -> Result<(), String> {
    let frames = Events::open(sandbox, FRAMES, None).await.map_err(|failure| failure.text)?;
    let mut playing =
        Playing { sandbox, people, folder, patience, frames, waiting: Waiting::default(), last: None };
    for step in &scene.steps {
        playing.step(&step.what).await.map_err(|why| format!("line {}: {why}", step.line))?;
    }
    Ok(())
}

/// A scene that goes on.
struct Playing<'a> {
    sandbox: &'a Client,
    people: &'a People,
    folder: &'a Path,
    patience: Duration,
    frames: Events,
    waiting: Waiting,
    /// What was said last: by whom, and its number.
    last: Option<(String, i64)>,
}

impl Playing<'_> {
    async fn step(&mut self, what: &What) -> Result<(), String> {
        match what {
            What::Say { by, group, message, image } => {
                let (by, mut body) = (self.people.person(by)?, self.body(group.as_ref())?);
                let mut message = message.clone();
                if let Some(image) = image {
                    let file = self.image(image)?;
                    message.push(json!({ "type": "image", "data": { "file": file } }));
                }
                body.insert("message", message.into());
                let said = self.act(&by, "say", body).await?;
                let number = said["data"]["message_id"].as_i64();
                self.last = Some((by, number.ok_or("the sandbox did not say which message it became")?));
            }
            What::Poke { by, group, target } => {
                let (by, mut body) = (self.people.person(by)?, self.body(group.as_ref())?);
                if let Some(target) = target {
                    body.insert("target_id", self.people.person(target)?.into());
                }
                self.act(&by, "poke", body).await?;
            }
            What::Recall => {
                let (by, number) = self.last.take().ok_or("it was taken back already")?;
                self.act(&by, "recall", BTreeMap::from([("message_id", number.into())])).await?;
            }
            What::Ask { by, kind, group, name, comment } => {
                let (by, mut body) = (self.people.person(by)?, self.body(group.as_ref())?);
                body.insert("type", (*kind).into());
                body.insert("name", name.as_str().into());
                body.insert("comment", comment.as_str().into());
                self.act(&by, "request", body).await?;
            }
            What::Expect { expected, place, within } => {
                let spot = match place {
                    Place::Group(group) => Spot::Group(self.people.group(group)?),
                    Place::Person(person) => Spot::Person(self.people.person(person)?),
                };
                self.expect(expected, &spot, within.unwrap_or(self.patience)).await?;
            }
        }
        Ok(())
    }

    /// The parameters of what happens in a group, if it does.
    fn body(&self, group: Option<&Who>) -> Result<BTreeMap<&'static str, Value>, String> {
        let group = group.map(|group| self.people.group(group)).transpose()?;
        Ok(group.map(|group| ("group_id", group.into())).into_iter().collect())
    }

    async fn act(&self, by: &str, verb: &str, body: BTreeMap<&str, Value>) -> Result<Value, String> {
        let path = format!("/sandbox/people/{by}/{verb}");
        let done = self.sandbox.act(Method::POST, &path, Some(json!(body))).await;
        done.map_err(|failure| failure.text)
    }

    /// An image as it is sent. A path is one beside the file of scenes.
    fn image(&self, image: &str) -> Result<String, String> {
        if ["http://", "https://", "base64://"].iter().any(|scheme| image.starts_with(scheme)) {
            return Ok(image.to_owned());
        }
        let path = self.folder.join(image);
        let content = read(&path, MAX_IMAGE).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(format!("base64://{}", BASE64_STANDARD.encode(content)))
    }

    async fn expect(&mut self, expected: &Expected, spot: &Spot, within: Duration) -> Result<(), String> {
        let (time, is_nothing) = match expected {
            Expected::Nothing(time) => (*time, true),
            _ => (within, false),
        };
        let deadline = Instant::now() + time;
        loop {
            let instead = self.waiting.instead(expected, spot);
            match (is_nothing, &instead) {
                (true, Some(said)) => {
                    return Err(format!("expected {expected} {spot}, but there came {said}"));
                }
                (false, _) if self.waiting.take(expected, spot) => return Ok(()),
                _ => {}
            }
            let now = Instant::now();
            if now >= deadline {
                if is_nothing {
                    return Ok(());
                }
                let place = match expected {
                    Expected::Action(_) => String::new(),
                    _ => format!(" {spot}"),
                };
                let instead = match instead {
                    Some(said) => format!("there came {said}"),
                    None if self.sandbox.get(WORLD).await.is_ok_and(|world| is_alone(&world)) => {
                        "nothing came, as no bot is connected".to_owned()
                    }
                    None => "nothing came".to_owned(),
                };
                let seconds = time.as_secs_f64();
                return Err(format!("expected {expected}{place} within {seconds} s, but {instead}"));
            }
            let Ok(event) = timeout_at(deadline.min(now + LOOK), self.frames.next()).await else { continue };
            match event.map_err(|failure| failure.text)? {
                Some(event) if event.kind == "missed" => {
                    return Err("the bot did more than could be followed".to_owned());
                }
                Some(event) => {
                    if let Some(heard) = Heard::of(&event.kind, &event.data) {
                        self.waiting.add(heard);
                    }
                }
                None => return Err("the account's client ended".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(read(&file, 4), Ok(b"four".to_vec()));
        assert_eq!(read(&file, 3), Err("it has more than 3 bytes".to_owned()));
        assert!(read(&folder.path().join("none"), 3).unwrap_err().contains("No such file"));
    }
}
