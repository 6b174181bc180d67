//! The controller's own calls where an account lives on another machine, or is to.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{Method, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::ApiService;
use crate::http::body::{Body, whole_body};
use crate::http::request::params::Params;
use crate::machines::{CallFailure, Location, Moving, NameTaken, Reservation, Target};
use crate::model::machine::{LOCAL, MachineName, Placement};
use crate::model::name::ClientName;
use crate::wire::Reply;
use crate::wire::calls::{self, CONTROLLER_CALLS, ControllerCall};
use crate::wire::door::DOOR;
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::routes;

/// Where a call goes.
pub(super) enum Place {
    /// To this machine, where the account is called so.
    Here(ClientName),
    /// To another one.
    On(MachineName, ClientName),
}

/// Where an account is to be started.
pub(super) struct Start {
    pub(super) place: Place,
    /// Keeps the name of a new account.
    pub(super) reserved: Option<Reservation>,
}

/// What becomes of a request about an account that is named by its full name, or lives on another machine.
pub(super) enum PassedOn {
    /// It is one of this machine: its path.
    Here(String),
    /// It is answered by this JSON.
    Known(String),
    /// It goes to another machine. `reserved` keeps the name of a new account.
    On {
        machine: MachineName,
        target: Arc<Target>,
        name: ClientName,
        path: String,
        reserved: Option<Reservation>,
    },
    /// It makes an account of this machine.
    New(Reservation),
    /// It makes a link for scanning, which leads here.
    Link { machine: MachineName, target: Arc<Target>, name: ClientName },
}

/// The machine that a request below `/v1` names for a new account.
fn wanted(request: &Parts) -> Option<String> {
    let query = request.uri.query().filter(|_| request.method == Method::PUT)?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == MACHINE).map(|(_, value)| value.into_owned())
}

fn lives_as_wanted(name: &ClientName, lives: &str, wanted: Option<&str>) -> Result<(), MachineRefusal> {
    match wanted {
        Some(wanted) if wanted != lives => {
            let why = format!("{name} lives on the machine {lives}: stop and forget it there first");
            Err(MachineRefusal::Taken(why))
        }
        _ => Ok(()),
    }
}

/// The parameter that names a machine.
const MACHINE: &str = "machine";

/// The path of an account at which links for scanning are made.
const SCAN_LINK: &str = "/scan-link";

impl ApiService {
    /// What a request has to wait for before it is known where it goes; nearly always nothing.
    pub(super) fn first_answer(&self, request: &Parts) -> Option<impl Future<Output = ()> + Send + use<>> {
        let machines = &self.proxy.machines;
        if machines.are_known() || request.headers.contains_key(DOOR) {
            return None;
        }
        let path = request.uri.path();
        let named = match routes::of_account(path) {
            // What is known of it is answered, as it is in lists.
            Some((_, "")) if request.method == Method::GET => return None,
            Some((encoded, _)) => percent_decode_str(encoded).decode_utf8().ok()?.into_owned(),
            None => {
                let call = calls::find(&CONTROLLER_CALLS, &request.method, path);
                if matches!(call, Some(ControllerCall::CheckClient)) {
                    return None;
                }
                let mut pairs = url::form_urlencoded::parse(request.uri.query()?.as_bytes());
                pairs.find(|(key, _)| key == "client")?.1.into_owned()
            }
        };
        let named = ClientName::new(named).ok()?;
        match machines.locate(&named, |name| self.is_here(name)) {
            Location::On(machine, _) => Some(machines.first_answer(Some(machine))),
            Location::Here if !self.is_here(&named) => Some(machines.first_answer(None)),
            _ => None,
        }
    }

    /// Where the account lives that a call names. One that is not known counts as being here.
    pub(super) fn place(&self, named: ClientName, by_door: bool) -> Result<Place, Reply> {
        let machines = &self.proxy.machines;
        if by_door || machines.is_empty() {
            return Ok(Place::Here(named));
        }
        match machines.locate(&named, |name| self.is_here(name)) {
            Location::Here => Ok(Place::Here(named)),
            Location::HereAs(name) => Ok(Place::Here(name)),
            Location::On(machine, name) => Ok(Place::On(machine, name)),
            Location::Ambiguous(names) => Err(Reply::from(&MachineRefusal::Ambiguous(names))),
            Location::Moving(moving) => Err(Reply::from(&moving.refusal())),
        }
    }

    /// Where a request below `/v1` goes, if it is about an account of another machine. What the table has is answered here.
    ///
    /// # Errors
    /// The machine can't be reached, or several have such an account.
    pub(super) fn elsewhere(&self, request: &Parts) -> Result<Option<PassedOn>, MachineRefusal> {
        let machines = &self.proxy.machines;
        let found = routes::of_account(request.uri.path()).filter(|_| !request.headers.contains_key(DOOR));
        let Some((encoded, rest)) = found.filter(|_| !machines.is_empty()) else { return Ok(None) };
        // The door does that itself.
        if rest == "/move" {
            return Ok(None);
        }
        let decoded = percent_decode_str(encoded).decode_utf8().ok();
        let Some(named) = decoded.and_then(|name| ClientName::new(name).ok()) else { return Ok(None) };
        match machines.locate(&named, |name| self.is_here(name)) {
            Location::Here if request.method == Method::PUT && rest.is_empty() && !self.is_here(&named) => {
                let (machine, reserved) = self.reserve(&named, wanted(request).as_deref())?;
                let Some(machine) = machine else { return Ok(Some(PassedOn::New(reserved))) };
                let (target, path) = (machines.target(&machine)?, routes::path_of(&named, ""));
                Ok(Some(PassedOn::On { machine, target, name: named, path, reserved: Some(reserved) }))
            }
            Location::Here => {
                lives_as_wanted(&named, LOCAL, wanted(request).as_deref())?;
                Ok(None)
            }
            // The route reads the path.
            Location::HereAs(name) => Ok(Some(PassedOn::Here(routes::path_of(&name, rest)))),
            Location::Ambiguous(names) => Err(MachineRefusal::Ambiguous(names)),
            // It can be looked at.
            Location::Moving(Moving { from: Some(machine), .. })
                if rest.is_empty() && request.method == Method::GET =>
            {
                Ok(machines.look(|table| table.shown(&machine, &named)).map(PassedOn::Known))
            }
            Location::Moving(Moving { from: None, .. }) if request.method == Method::GET => Ok(None),
            Location::Moving(moving) => Err(moving.refusal()),
            Location::On(machine, name) if rest.is_empty() && request.method == Method::GET => {
                Ok(machines.look(|table| table.shown(&machine, &name)).map(PassedOn::Known))
            }
            Location::On(machine, name) => {
                lives_as_wanted(&name, machine.as_str(), wanted(request).as_deref())?;
                let target = machines.target(&machine)?;
                if rest == SCAN_LINK && request.method == Method::POST {
                    return Ok(Some(PassedOn::Link { machine, target, name }));
                }
                let path = routes::path_of(&name, rest);
                Ok(Some(PassedOn::On { machine, target, name, path, reserved: None }))
            }
        }
    }

    fn is_here(&self, name: &ClientName) -> bool {
        self.proxy.registry.client(name).is_some()
    }

    /// Where an account starts: where it lives, or, if it is new, on the machine that the parameter `machine` names, or that the
    /// configuration chooses. Takes that parameter out.
    pub(super) fn start_place(
        &self,
        named: ClientName,
        params: &mut Params,
        by_door: bool,
    ) -> Result<Start, Reply> {
        if by_door || self.proxy.machines.is_empty() {
            return Ok(Start { place: Place::Here(named), reserved: None });
        }
        let wanted = params.remove(MACHINE).filter(|machine| !machine.is_empty());
        let place = self.place(named, by_door)?;
        let started = match &place {
            Place::Here(name) if !self.is_here(name) => return self.new_place(name, wanted.as_deref()),
            Place::Here(name) => lives_as_wanted(name, LOCAL, wanted.as_deref()),
            Place::On(machine, name) => lives_as_wanted(name, machine.as_str(), wanted.as_deref()),
        };
        started.map_err(|refusal| Reply::from(&refusal))?;
        Ok(Start { place, reserved: None })
    }

    /// Where an account starts that is new.
    fn new_place(&self, name: &ClientName, wanted: Option<&str>) -> Result<Start, Reply> {
        let (machine, reserved) = self.reserve(name, wanted).map_err(|refusal| Reply::from(&refusal))?;
        let place = match machine {
            Some(machine) => Place::On(machine, name.clone()),
            None => Place::Here(name.clone()),
        };
        Ok(Start { place, reserved: Some(reserved) })
    }

    /// Takes the name of a new account. None: it is to be one of this machine.
    fn reserve(
        &self,
        name: &ClientName,
        wanted: Option<&str>,
    ) -> Result<(Option<MachineName>, Reservation), MachineRefusal> {
        let machine = match wanted {
            Some(LOCAL) => None,
            Some(wanted) => Some(self.machine(wanted)?),
            None => self.chosen(),
        };
        // It would look like one of that machine.
        if let Some((bare, place)) = name.as_str().rsplit_once('@')
            && (place == LOCAL || self.machine(place).is_ok())
        {
            return Err(MachineRefusal::Taken(format!(
                "{name} would be the account {bare} of the machine {place}, which has none of that name: to start it there call it {bare}, with \
                 machine={place}"
            )));
        }
        let reserved = self.proxy.machines.reserve(name, machine.as_ref()).map_err(|taken| {
            MachineRefusal::Taken(match taken {
                NameTaken::Lives(other) => format!("{name} lives on the machine {other}"),
                NameTaken::IsStarting(place) => format!("{name} is being started on the machine {place}"),
                NameTaken::MayLive(other) => format!(
                    "the machine {other} can't be reached, and may have an account {name}: a name is one in all machines"
                ),
            })
        })?;
        Ok((machine, reserved))
    }

    fn machine(&self, named: &str) -> Result<MachineName, MachineRefusal> {
        let unknown = || MachineRefusal::NoSuchMachine(named.to_owned());
        let name = MachineName::new(named).map_err(|_| unknown())?;
        let is_known = self.proxy.machines.look(|table| table.machines().contains_key(&name));
        if is_known { Ok(name) } else { Err(unknown()) }
    }

    /// The machine for a new account, by the configuration. None: this one.
    fn chosen(&self) -> Option<MachineName> {
        let (placement, max_clients) = {
            let settings = self.proxy.settings.borrow();
            (settings.placement, settings.max_clients)
        };
        match placement {
            Placement::Local => None,
            Placement::Spread => {
                let own = self.proxy.registry.snapshot();
                let has_place = own.has_place(max_clients);
                let free = crate::machines::free_memory().filter(|_| has_place);
                self.proxy.machines.look(|table| table.most_room(free, own.iter().count()).cloned())
            }
        }
    }

    /// Makes a call of the controller on the machine where the account lives. Returns what that answers, and its code if it has one.
    pub(super) async fn call_machine(
        &self,
        (machine, name): (&MachineName, &ClientName),
        path: &str,
        params: Params,
    ) -> Result<(Response<Body>, Option<i64>), Reply> {
        let target = self.proxy.machines.target(machine).map_err(|refusal| Reply::from(&refusal))?;
        // As a form: parameters may be secrets, which are no part of a URL, and long. A call without any has no body: with one it counts
        // as one that may change something.
        let form = form_of(params.iter());
        let path = format!("{path}?{}", form_of([("client", name.as_str())]));
        let answered = target.call(Method::GET, &path, form).await;
        let answer = answered.map_err(|failure| match failure {
            CallFailure::NoConnection => Reply::unreachable(name, "the controller of its machine can't be reached"),
            failure => Reply::unreachable(
                name,
                &format!("the controller of its machine broke off ({failure}); check_client tells what became of it"),
            ),
        })?;
        let (head, body) = answer.into_parts();
        if let Some(refused) = MachineRefusal::of_answer(machine, &head.headers) {
            return Err(Reply::from(&refused));
        }
        let code = serde_json::from_slice(&body).ok().map(|Answered { code }| code);
        let mut response = Response::new(whole_body(body));
        *response.status_mut() = head.status;
        for header in [CONTENT_TYPE, CACHE_CONTROL, ETAG] {
            response.headers_mut().extend(head.headers.get(&header).cloned().map(|value| (header, value)));
        }
        Ok((response, code))
    }
}

/// Parameters, url-encoded.
fn form_of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answered {
    code: i64,
}
