//! What the specification says of the world to try bots in. The client of the account answers below these paths, and the controller
//! passes requests on: so there are descriptions here, and no handlers.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::refusals::{Changing, OneAccount, Reading};
use crate::wire::v1::problem::Problem;

/// How the client answers what it refuses, and what a person has done, in the words of OneBot v11.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the client writes it")]
pub(super) struct SandboxAnswer {
    /// `ok`, `async` or `failed`.
    #[schema(example = "ok")]
    status: String,
    /// 0, or why it failed.
    retcode: i64,
    /// What came of it: `message_id` of what was said.
    data: Option<Map<String, Value>>,
    /// Why it failed, for people.
    message: Option<String>,
}

/// The world, as the account sees it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the client writes it")]
pub(super) struct World {
    /// Whether the account is logged in.
    online: bool,
    /// The account: `uid` and `name`.
    #[schema(rename = "self")]
    own: Map<String, Value>,
    /// The other people: `uid`, `name`, `remark`, `friend`, `state`, and who `speaks` for each.
    people: Vec<Map<String, Value>>,
    /// Groups: `uid`, `name`, `own_role` and `members`.
    groups: Vec<Map<String, Value>>,
    /// Requests that wait for an answer.
    requests: Vec<Map<String, Value>>,
}

/// What a person does.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the client reads it")]
pub(super) enum Verb {
    Say,
    Recall,
    React,
    Poke,
    Request,
    Change,
}

/// Shows the world of an account in the sandbox.
///
/// Its people, groups and requests, as the account knows them.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/sandbox/world",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The world", body = World),
        (status = 400, description = "This is no name of an account", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The client can't be reached", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The client does not listen yet", body = Problem, content_type = "application/problem+json"),
        Reading,
        OneAccount,
    )
)]
#[expect(dead_code, reason = "the client answers")]
fn world() {}

/// Sends the frames between an account in the sandbox and its applications.
///
/// Server-Sent Events: `event`, `action`, `answer` and `sent`, each with its `time` and the `frame`, whose secrets and long texts are
/// left out; those that are kept first. `missed` says how many came too fast.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/sandbox/frames",
    params(
        ("name" = String, Path, description = "Its name", example = "bot"),
        ("kept" = Option<u8>, Query, description = "0: those that come alone"),
    ),
    responses(
        (status = 200, description = "The frames, without an end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "This is no name of an account", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The client can't be reached", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The client does not listen yet, or too many look already", content(
            (Problem = "application/problem+json"), (SandboxAnswer = "application/json"),
        )),
        Reading,
        OneAccount,
    )
)]
#[expect(dead_code, reason = "the client answers")]
fn frames() {}

/// Hands out a file of a message in the sandbox.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/sandbox/file/{file}",
    params(
        ("name" = String, Path, description = "Its name", example = "bot"),
        ("file" = String, Path, description = "The file, as `url` of a segment ends"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "There is no such account or file", content(
            (Problem = "application/problem+json"), (SandboxAnswer = "application/json"),
        )),
        (status = 400, description = "This is no name of an account", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "The client can't be reached", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The client does not listen yet", body = Problem, content_type = "application/problem+json"),
        Reading,
    )
)]
#[expect(dead_code, reason = "the client answers")]
fn file() {}

/// Has a person of the world do something.
///
/// The body is an object of JSON: `message` of what is said, `group_id` where it is not said to the account itself, `message_id` of
/// what is recalled or reacted to, and so on; wqclient(8) lists them.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/sandbox/people/{uid}/{verb}",
    params(
        ("name" = String, Path, description = "The account's name", example = "bot"),
        ("uid" = String, Path, description = "The person", example = "10002"),
        ("verb" = inline(Verb), Path, description = "What the person does"),
    ),
    request_body = Map<String, Value>,
    responses(
        (status = 200, description = "It is done", body = SandboxAnswer),
        (status = 400, description = "A parameter or the body can't be used", content(
            (Problem = "application/problem+json"), (SandboxAnswer = "application/json"),
        )),
        (status = 404, description = "There is no such account, person, group or message", content(
            (Problem = "application/problem+json"), (SandboxAnswer = "application/json"),
        )),
        (status = 409, description = "The person may not do that, or the account is not logged in", body = SandboxAnswer),
        (status = 415, description = "The body is no JSON", body = SandboxAnswer),
        (status = 502, description = "The client can't be reached", body = Problem, content_type = "application/problem+json"),
        Changing,
    )
)]
#[expect(dead_code, reason = "the client answers")]
fn people() {}
