//! This machine, as a move sees it.

use std::sync::Arc;

use tokio::sync::watch;

use super::side::{LoginAfterwards, Seen, Side, SideError};
use crate::accounts::{Accounts, ForgetError, KeptError, KeptOf, KeptStream, SpecRefusal};
use crate::config::Settings;
use crate::model::client::ClientSpec;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::{REGISTRATION, RequestOutcome};
use crate::model::name::ClientName;
use crate::registry::CallError;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::requests::{DesiredState, Parameters};

/// This machine.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) accounts: Accounts,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
}

impl Here {
    fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    async fn spec(&self, name: &ClientName, parameters: Parameters) -> Result<ClientSpec, SideError> {
        let spec = self.accounts.spec(name.clone(), parameters, self.settings()).await;
        spec.map_err(|refusal| match refusal {
            SpecRefusal::Invalid(error) => SideError::Refused(ErrorChain(&error).to_string()),
            busy @ SpecRefusal::Busy => SideError::Unreachable(busy.to_string()),
        })
    }
}

fn done(asked: Result<RequestOutcome, CallError>) -> Result<(), SideError> {
    let outcome = asked.map_err(|error| SideError::Unreachable(error.to_string()))?;
    Problem::unless_done(&outcome).map_err(|problem| SideError::Refused(problem.detail))
}

fn of_kept(error: &KeptError) -> SideError {
    match error {
        KeptError::Running => SideError::Running,
        error => SideError::Refused(error.explain()),
    }
}

impl Side for Here {
    async fn look(&self, name: &ClientName) -> Result<Option<Seen>, SideError> {
        let Some(view) = self.accounts.clients.client(name) else { return Ok(None) };
        let account = self.accounts.account(&view, &self.settings());
        let implementation = account.implementation.as_ref().map(|one| one.kind.unwrap_or_default());
        let login = LoginAfterwards::of(implementation, account.backend.as_deref());
        Ok(Some(Seen { is_running: account.desired == DesiredState::Running, login }))
    }

    async fn keeps(&self, name: &ClientName, of: KeptOf) -> Result<bool, SideError> {
        self.accounts.keeps(name, of).await.map_err(|error| of_kept(&error))
    }

    async fn stop(&self, name: &ClientName) -> Result<(), SideError> {
        done(self.accounts.stop_and_keep(name.clone(), &self.settings()).await)
    }

    async fn parameters(&self, name: &ClientName) -> Result<Parameters, SideError> {
        self.accounts.parameters(name).ok_or(SideError::Missing)
    }

    async fn register(&self, name: &ClientName, parameters: Parameters) -> Result<(), SideError> {
        if self.accounts.clients.client(name).is_some() {
            return Err(SideError::Exists);
        }
        let mut parameters = parameters;
        let registration = parameters.remove(REGISTRATION);
        let spec = Accounts::with_registration(self.spec(name, parameters).await?, registration);
        done(self.accounts.register(spec, &self.settings()).await)
    }

    async fn take_out(&self, name: &ClientName, of: KeptOf) -> Result<Option<KeptStream>, SideError> {
        self.accounts.take_out(name, of).await.map_err(|error| of_kept(&error))
    }

    async fn put_in(&self, name: &ClientName, of: KeptOf, content: KeptStream) -> Result<(), SideError> {
        self.accounts.put_in(name, of, content).await.map(drop).map_err(|error| of_kept(&error))
    }

    async fn forget(&self, name: &ClientName) -> Result<(), SideError> {
        match self.accounts.forget(name, &self.settings()).await {
            Ok(()) | Err(ForgetError::Unknown) => Ok(()),
            Err(ForgetError::Running) => Err(SideError::Running),
            Err(error @ (ForgetError::Busy | ForgetError::Outage)) => {
                Err(SideError::Unreachable(error.explain()))
            }
            Err(error) => Err(SideError::Refused(error.explain())),
        }
    }

    async fn start(&self, name: &ClientName) -> Result<(), SideError> {
        let spec = self.spec(name, Parameters::new()).await?;
        done(self.accounts.start(spec).await)
    }
}
