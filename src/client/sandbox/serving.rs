//! `/sandbox/…` on the client's port, besides the pages of the login: the files of messages, the world, what people do, and the frames
//! of applications. All but the files is for a page or a script by which a bot is tried.

use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::actions::Params;
use super::people::People;
use super::view::changes::{Change, GroupChange};
use super::{Sandbox, media};
use crate::client::backend::action::{Answer, Refusal};
use crate::http::body::{self, Body, empty, whole_body};
use crate::http::request::body::collect;

/// Below which path people act, and where the world and the frames are.
const PEOPLE: &str = "/sandbox/people/";
const WORLD: &str = "/sandbox/world";
const FRAMES: &str = "/sandbox/frames";

/// The longest body, in bytes: a message with an image in it.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Whether a path is answered here.
pub(super) fn serves(path: &str) -> bool {
    path.starts_with(media::PATH) || path.starts_with(PEOPLE) || path == WORLD || path == FRAMES
}

impl Sandbox {
    /// Answers a request for which [`serves`] is true.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        if let Some(name) = path.strip_prefix(media::PATH) {
            return if reads { self.file(name).await } else { wrong_method("GET") };
        }
        if path == WORLD {
            return if reads { shown(StatusCode::OK, &self.world()) } else { wrong_method("GET") };
        }
        if path == FRAMES {
            return if parts.method == Method::GET {
                self.frames(parts.uri.query())
            } else {
                wrong_method("GET")
            };
        }
        let Some((uid, what)) = path.strip_prefix(PEOPLE).and_then(|rest| rest.split_once('/')) else {
            return shown(
                StatusCode::NOT_FOUND,
                &failed("the path is /sandbox/people/UID/say, or another verb"),
            );
        };
        if parts.method != Method::POST {
            return wrong_method("POST");
        }
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // A page of another site could send anything else without being asked (the Fetch standard, "CORS-safelisted").
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return shown(StatusCode::UNSUPPORTED_MEDIA_TYPE, &failed("send application/json"));
        }
        let Ok(content) = collect(body, MAX_BODY, BODY_TIME).await else {
            return shown(StatusCode::BAD_REQUEST, &failed("the body did not come, or is too large"));
        };
        let Ok(params) = serde_json::from_slice::<Map<String, Value>>(&content) else {
            return shown(StatusCode::BAD_REQUEST, &failed("the body is no object of JSON"));
        };
        let done = self.acted(uid, what, &Params(params)).await;
        let answer = done.map_or_else(|instead| instead, Answer::Done);
        let status = match &answer {
            Answer::Failed { code, .. } if *code == Refusal::NotFound.code() => StatusCode::NOT_FOUND,
            Answer::Failed { code, .. } if *code == Refusal::NoSuchAction.code() => StatusCode::NOT_FOUND,
            Answer::Failed { code, .. } if *code == Refusal::BadParameter.code() => StatusCode::BAD_REQUEST,
            Answer::Failed { .. } => StatusCode::CONFLICT,
            _ => StatusCode::OK,
        };
        shown(status, &answer.to_json(None))
    }

    /// A person does something.
    async fn acted(&self, uid: &str, what: &str, params: &Params) -> Result<Value, Answer> {
        let person = People::find(self, uid)?;
        let group = params.optional_uid("group_id")?;
        let in_a_group = || params.uid("group_id");
        let (name, comment) = (params.text("name"), params.text("comment"));
        match what {
            "say" => {
                let number = person.say(group.as_deref(), params.parts()?).await?;
                return Ok(json!({ "message_id": number }));
            }
            "recall" => person.recall(params.message("message_id")?).await?,
            "react" => {
                let (emoji, on) = (params.needed("emoji_id")?, params.flag("set", true)?);
                person.react(params.message("message_id")?, emoji, on).await?;
            }
            "poke" => person.poke(group, params.optional_uid("target_id")?).await?,
            "request" => match params.text("type").as_str() {
                "friend" => person.request_friend(&name, &comment).await?,
                "join" => person.request_join(in_a_group()?, &name, &comment).await?,
                "invite" => person.invite(in_a_group()?, &comment).await?,
                _ => return Err(bad("type must be friend, join or invite")),
            },
            "change" => {
                let change = params.get("change").cloned().unwrap_or_default();
                let read = serde_json::from_value::<GroupChange>(change);
                let change = read.map_err(|error| bad(&format!("change: {error}")))?;
                person.change(Change::Group { group: in_a_group()?, change }).await?;
            }
            _ => {
                let why = "a person can say, recall, react, poke, request or change";
                return Err(Answer::refused(Refusal::NoSuchAction, why));
            }
        }
        Ok(Value::Null)
    }

    async fn file(&self, name: &str) -> Response<Body> {
        let Some((file, content)) = self.media.read(name).await else {
            return shown(StatusCode::NOT_FOUND, &failed("there is no such file"));
        };
        let kind = media::type_of(&file.name);
        let mut response = Response::new(whole_body(content));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
        // The name is the hash of the content.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        if !kind.starts_with("image/") && !kind.starts_with("audio/") && !kind.starts_with("video/") {
            headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        }
        response
    }

    /// With `kept=0` in the query those that come alone: a script has no use for what was before it.
    fn frames(&self, query: Option<&str>) -> Response<Body> {
        let with_kept = !query.unwrap_or_default().split('&').any(|pair| pair == "kept=0");
        let Some(frames) = self.frames.watch(with_kept) else {
            return shown(StatusCode::SERVICE_UNAVAILABLE, &failed("too many look at the frames already"));
        };
        let frames = futures_util::StreamExt::map(frames, |frame| match frame {
            Ok(frame) => Ok(frame),
            Err(never) => match never {},
        });
        let mut response = Response::new(Body::stream(StreamBody::new(frames)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// People, groups and requests, as the account knows them, and how many applications listen to it: where a bot does not answer,
    /// whether there is one is the first question.
    fn world(&self) -> Value {
        let is_online = self.logged_in().is_ok();
        let mut world = self.shared.view().shown();
        world["online"] = is_online.into();
        world["applications"] = self.told.listening().into();
        world
    }
}

fn bad(why: &str) -> Answer {
    Answer::refused(Refusal::BadParameter, why)
}

fn failed(why: &str) -> Value {
    Answer::refused(Refusal::BadRequest, why).to_json(None)
}

fn shown(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = body::json(status, value.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn wrong_method(allowed: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
