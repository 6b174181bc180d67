//! `start_client`, `stop_client`, `relogin_client`, `check_client`, and how the controller's calls read their parameters.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::elsewhere::{Place, Start};
use super::{ApiService, response_of};
use crate::accounts::{AnewError, SpecRefusal};
use crate::http::body::{self, Body};
use crate::http::request::body::read_form;
use crate::http::request::form::FormKind;
use crate::http::request::params::{ParamError, Params};
use crate::http::server::Downstream;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::{ClientInfo, RequestOutcome, StopMode};
use crate::model::name::ClientName;
use crate::registry::{CallError, ClientView};
use crate::wire::Reply;
use crate::wire::client_list::client_list;
use crate::wire::door::DOOR;

/// The paths of calls that go to another machine.
const START: &str = "/openqq/start_client";
const STOP: &str = "/openqq/stop_client";
const RELOGIN: &str = "/openqq/relogin_client";
pub(super) const QRCODE: &str = "/openqq/get_qrcode";

/// A response, or a reply of the controller.
pub(super) type HandlerResult = Result<Response<Body>, Reply>;

/// Starts a client. Answers when its process runs.
pub(super) async fn start_client(call: CallContext) -> HandlerResult {
    let by_door = call.is_by_door();
    let (service, (name, mut params)) = call.read().await?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let Start { place, reserved } = service.start_place(name, &mut params, by_door)?;
    let name = match place {
        Place::Here(name) => name,
        Place::On(machine, name) => {
            let (answer, code) = service.call_machine((&machine, &name), START, params).await?;
            if let Some(reserved) = reserved {
                reserved.settle(&machine, code == Some(0));
            }
            return Ok(answer);
        }
    };
    let settings = service.proxy.settings.borrow().clone();
    let spec = service.accounts.spec(name, params, settings).await.map_err(|refusal| match refusal {
        SpecRefusal::Invalid(error) => Reply::invalid(ErrorChain(&error).to_string()),
        SpecRefusal::Busy => Reply::busy(),
    })?;
    let outcome = service.accounts.start(spec).await.map_err(no_outcome)?;
    Ok(response_of(&Reply::outcome(&outcome)))
}

/// Stops a client. Answers when its process is gone, or at once with `async=1`.
pub(super) async fn stop_client(call: CallContext) -> HandlerResult {
    let by_door = call.is_by_door();
    let (service, (name, params)) = call.read().await?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let name = match service.place(name, by_door)? {
        Place::Here(name) => name,
        Place::On(machine, name) => {
            return Ok(service.call_machine((&machine, &name), STOP, params).await?.0);
        }
    };
    let mode = if params.get("async") == Some("1") { StopMode::NoWait } else { StopMode::Wait };
    service.proxy.upstreams.close_idle_for(&name);
    let settings = service.proxy.settings.borrow().clone();
    let outcome = service.accounts.stop(name, mode, &settings).await.map_err(no_outcome)?;
    Ok(response_of(&Reply::outcome(&outcome)))
}

/// Logs an account in anew, with `forget=1` without the login that was saved. Answers when its implementation runs again.
pub(super) async fn relogin_client(call: CallContext) -> HandlerResult {
    let by_door = call.is_by_door();
    let (service, (name, params)) = call.read().await?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let name = match service.place(name, by_door)? {
        Place::Here(name) => name,
        Place::On(machine, name) => {
            return Ok(service.call_machine((&machine, &name), RELOGIN, params).await?.0);
        }
    };
    let settings = service.proxy.settings.borrow().clone();
    let again = service.accounts.relogin(&name, params.get("forget") == Some("1"), &settings).await;
    let view = again.map_err(|error| match error {
        AnewError::Unknown => Reply::no_such_client(),
        AnewError::NoImplementation => Reply::no_implementation(&name),
        AnewError::Busy => Reply::busy(),
        AnewError::Failed(spec, why) => Reply::outcome(&RequestOutcome::Failed(spec, why.to_string())),
    })?;
    let record = &view.record;
    let info = ClientInfo { spec: record.spec.clone(), port: record.port, pid: record.pid() };
    Ok(response_of(&Reply::outcome(&RequestOutcome::Started(info))))
}

fn no_outcome(error: CallError) -> Reply {
    match error {
        CallError::RegistryGone(_) => Reply::busy(),
        CallError::Outage => Reply::outage(),
    }
}

/// Lists all clients, or one. A door lists those of other machines with its own.
pub(super) async fn check_client(call: CallContext) -> HandlerResult {
    let by_door = call.is_by_door();
    let (service, (name, params)) = call.read().await?;
    // An empty name matches no client. As in the original, only a call without the parameter lists all.
    if name.is_none() && params.get("client").is_some() {
        return Err(Reply::no_such_client());
    }
    let (snapshot, settings) = (service.proxy.registry.snapshot(), service.proxy.settings.borrow().clone());
    let machines = &service.proxy.machines;
    let text = match name.map(|name| service.place(name, by_door)).transpose()? {
        Some(Place::Here(name)) => {
            let view = snapshot.get(&name).ok_or_else(Reply::no_such_client)?;
            client_list([service.accounts.object(view, &settings)])
        }
        Some(Place::On(machine, name)) => {
            let found = machines.look(|table| table.checked(&machine, &name));
            client_list([found.ok_or_else(Reply::no_such_client)?])
        }
        None => {
            let is_shown = |view: &&Arc<ClientView>| by_door || !machines.hides_own(&view.record.spec.name);
            let own = snapshot.iter().filter(is_shown).map(|view| service.accounts.object(view, &settings));
            let elsewhere = match by_door {
                true => String::new(),
                false => machines.look(|table| table.all_checked(snapshot.named().map(|(name, _)| name))),
            };
            // All of them are one piece of the list.
            let elsewhere = Some(Bytes::from(elsewhere)).filter(|all| !all.is_empty());
            client_list(own.chain(elsewhere))
        }
    };
    Ok(body::json(StatusCode::OK, text))
}

/// A call of the controller.
pub(super) struct CallContext {
    pub(super) service: Arc<ApiService>,
    pub(super) request: Parts,
    pub(super) body: Incoming,
    pub(super) downstream: Arc<Downstream>,
}

impl CallContext {
    /// Whether another controller makes it. Such a call goes no further.
    pub(super) fn is_by_door(&self) -> bool {
        self.request.headers.contains_key(DOOR)
    }

    /// Reads the parameters of the query and of a form in the body; the query wins. As in the original, other
    /// bodies are ignored. `client` is taken out, unless it is empty.
    pub(super) async fn read(self) -> Result<(Arc<ApiService>, (Option<ClientName>, Params)), Reply> {
        let Self { service, request, body, downstream } = self;
        let invalid = |error: ParamError| Reply::invalid(error.to_string());
        let query = request.uri.query().unwrap_or_default();
        let mut params = Params::parse(query.as_bytes()).map_err(invalid)?;
        if !body.is_end_stream()
            && let Some(kind) = FormKind::of(&request.headers)
        {
            let settings = service.proxy.settings.borrow().clone();
            let form = read_form(body, &downstream, &settings.http).await?;
            params.fill_from(kind.parse(&form).map_err(invalid)?);
        }
        // jQuery adds it to bypass caches.
        params.remove("_");
        let name = match params.get("client") {
            Some(name) if !name.is_empty() => params.remove("client"),
            _ => None,
        };
        Ok((service, (name.map(Reply::client_name).transpose()?, params)))
    }
}
