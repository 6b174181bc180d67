//! [`Account`]: what the watch knows about one account, and what it concludes from that.

use std::time::Duration;

use tokio::time::Instant;

use super::probe::Found;
use crate::implementations::{ImplementationKind, LoginQuestion};
use crate::model::client::{ClientRecord, Exit, LOGGED_OUT_ELSEWHERE, Phase};
use crate::model::login::{Evidence, LoginAnswer, LoginPolicy, LoginTracker, ProcessSays, Said, Transition};
use crate::model::state::ClientState;
use crate::registry::ClientView;

/// What is known about one account.
pub(super) struct Account {
    pub(super) tracker: LoginTracker,
    pub(super) policy: LoginPolicy,
    /// The process that was asked last: its launch and its process ID.
    pub(super) process: Option<(u64, u32)>,
    /// The process of the client.
    pub(super) client: Option<(u64, u32)>,
    /// What the process said last.
    pub(super) found: Found,
    /// Whether the process was asked.
    pub(super) was_asked: bool,
    /// When it is asked next.
    pub(super) due: Instant,
    pub(super) is_busy: bool,
}

impl Account {
    pub(super) fn new(now: u64) -> Self {
        Self {
            tracker: LoginTracker::new(now),
            policy: LoginPolicy::default(),
            process: None,
            client: None,
            found: Found::default(),
            was_asked: false,
            due: Instant::now(),
            is_busy: false,
        }
    }

    /// Notices other processes of the implementation and of the client.
    pub(super) fn meet(&mut self, record: Option<&ClientRecord>, client: &ClientRecord) {
        let process_of = |record: &ClientRecord| Some((record.generation.0, record.pid()?));
        let client = process_of(client);
        if client.is_some() && client != self.client {
            self.client = client;
            self.tracker.client_changed();
        }
        let process = record.and_then(process_of);
        if process.is_some() && process != self.process {
            self.process = process;
            (self.found, self.was_asked) = (Found::default(), false);
            self.tracker.process_changed();
        }
    }

    pub(super) fn conclude(
        &mut self,
        now: u64,
        kind: Option<ImplementationKind>,
        client: &ClientView,
        record: Option<&ClientRecord>,
    ) -> Option<Transition> {
        let contract = kind.map(ImplementationKind::contract);
        let of_client = contract.is_none_or(|contract| contract.login_question() == LoginQuestion::OfClient);
        let client = &client.record;
        let state_of_client = client.state();
        let said_by_client = LoginAnswer::of(said_by(&state_of_client));
        let answer = if of_client { Some(&said_by_client) } else { self.found.answer.as_ref() };
        let process = match record {
            Some(record) => match record.phase {
                Phase::Up if of_client || self.was_asked => ProcessSays::Up(answer),
                Phase::Up | Phase::Reserved | Phase::Starting | Phase::Stopping => ProcessSays::Starting,
                Phase::Gone(_) => ProcessSays::Gone(record.history.reason.as_deref()),
            },
            None => ProcessSays::Starting,
        };
        let client_put_out = client.phase == Phase::Gone(Exit::Code(LOGGED_OUT_ELSEWHERE.into()));
        let of_report = client.report.as_ref().and_then(|report| report.reason());
        let reason = client.history.reason.as_deref().filter(|_| client_put_out);
        let evidence = Evidence {
            // One from the future is as good as new.
            code_age: self.found.code_written.map(|written| Duration::from_secs(now.saturating_sub(written))),
            code_lifetime: contract.map_or(Duration::ZERO, |contract| contract.code_lifetime()),
            client: &state_of_client,
            client_reason: reason.or(of_report.as_deref()),
            client_put_out,
        };
        self.tracker.conclude(now, process, &evidence)
    }
}

/// What the state of a client says about its account.
fn said_by(client: &ClientState) -> Said {
    match client {
        ClientState::Running | ClientState::Updating => Said::Online,
        ClientState::Scaning => Said::Code,
        ClientState::Confirming => Said::Confirming,
        ClientState::Init | ClientState::Loading => Said::Starting,
        ClientState::Stop | ClientState::Other(_) => Said::Unknown,
    }
}
