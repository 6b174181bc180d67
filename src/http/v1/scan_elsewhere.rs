//! Links for scanning of accounts on other machines. A phone may not reach the machine, so the link leads to this controller, which asks
//! the machine by a link of its own. So the machine ends it, with a new login there as any other.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::scan::{Shown, answer, now, root, wrong_method};
use super::{V1, response_of, text};
use crate::accounts::ElsewhereLink;
use crate::http::body::{self, Body};
use crate::machines::Target;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::routes;

/// How long the machine may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What images a machine may have shown: those that login codes are. The page may load nothing else either.
const IMAGES: [&str; 2] = ["data:image/png;base64,", "data:image/jpeg;base64,"];

/// What a machine answers that has made a link.
#[derive(Deserialize)]
struct Made {
    url: String,
}

/// What it says of the account of a link.
#[derive(Serialize, Deserialize)]
struct Introduced {
    name: ClientName,
}

impl V1 {
    /// Makes a link for scanning of an account of another machine. The request was let in.
    pub async fn link_elsewhere(
        self: Arc<Self>,
        request: Parts,
        (machine, target, name): (MachineName, Arc<Target>, ClientName),
    ) -> Response<Body> {
        let made = self.made_elsewhere(&request, (machine, &target, &name)).await;
        made.unwrap_or_else(|problem| response_of(&problem))
    }

    async fn made_elsewhere(
        &self,
        request: &Parts,
        (machine, target, name): (MachineName, &Target, &ClientName),
    ) -> Result<Response<Body>, Problem> {
        let settings = self.settings.borrow().clone();
        let root = root(&settings, &request.headers)?;
        let now = now();
        let told = ask(&machine, target, Method::POST, &routes::path_of(name, "/scan-link")).await?;
        if told.status() != StatusCode::OK {
            return Ok(passed_on(told));
        }
        let made: Option<Made> = serde_json::from_slice(told.body()).ok();
        let token =
            made.and_then(|made| made.url.rsplit_once(routes::SCAN).map(|(_, token)| token.to_owned()));
        let link = token.and_then(|token| {
            let link = ElsewhereLink { machine: machine.clone(), token };
            self.accounts.scan_link_elsewhere(&link, now)
        });
        let link = link.ok_or_else(|| Problem::machine_unclear(&machine))?;
        Ok(answer(&root, &link))
    }

    /// Answers at a link whose account lives on another machine.
    pub(super) async fn scanned_elsewhere(
        &self,
        link: &ElsewhereLink,
        method: &Method,
    ) -> Result<Response<Body>, Problem> {
        let asked = match *method {
            Method::GET | Method::HEAD => Method::GET,
            Method::POST => Method::POST,
            _ => return Ok(wrong_method()),
        };
        let ElsewhereLink { machine, token } = link;
        let target = self.machines.target(machine).map_err(|refusal| match refusal {
            MachineRefusal::NoSuchMachine(_) => Problem::link_ended(),
            refusal => Problem::from(&refusal),
        })?;
        let told = ask(machine, &target, asked.clone(), &format!("{}{token}", routes::SCAN)).await?;
        match told.status() {
            StatusCode::OK => {}
            // Also where its controller was started anew.
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Problem::link_ended()),
            _ => return Err(Problem::machine_unclear(machine)),
        }
        // Written anew, so that nothing else of a machine comes to a page of ours.
        let shown = match asked {
            Method::GET => {
                serde_json::from_slice::<Introduced>(told.body()).map(|introduced| text(&introduced))
            }
            _ => serde_json::from_slice::<Shown>(told.body()).map(|mut shown| {
                shown.image = shown.image.filter(|image| IMAGES.iter().any(|kind| image.starts_with(kind)));
                text(&shown)
            }),
        };
        Ok(body::json(StatusCode::OK, shown.map_err(|_| Problem::machine_unclear(machine))?))
    }
}

/// Asks the controller of a machine.
async fn ask(
    machine: &MachineName,
    target: &Target,
    method: Method,
    path: &str,
) -> Result<Response<bytes::Bytes>, Problem> {
    let late = || Problem::machine_unclear(machine);
    let told = timeout(ANSWER, target.call(method, path, String::new())).await.map_err(|_| late())?;
    let told = told.map_err(|_| late())?;
    match MachineRefusal::of_answer(machine, told.headers()) {
        Some(refused) => Err(Problem::from(&refused)),
        None => Ok(told),
    }
}

/// A refusal of the machine in its own words, which are those of this API.
fn passed_on(told: Response<bytes::Bytes>) -> Response<Body> {
    let (head, content) = told.into_parts();
    let mut response = body::json(head.status, content);
    response.headers_mut().insert(CONTENT_TYPE, super::PROBLEM);
    response
}
