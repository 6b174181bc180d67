//! [`Facts`]: what is read off the lists of accounts at a scrape. States are no counters: they are looked at, never kept.

use super::requests::RequestCounts;
use super::{EndCause, ProcessKind};
use crate::model::client::{ClientRecord, Phase};
use crate::model::login::{Login, LoginState};
use crate::model::name::ClientName;
use crate::model::state::ClientState;

/// The phases of a process, as [`Phase::as_str`] names them.
pub(super) const PHASES: [&str; 5] = ["reserved", "starting", "up", "stopping", "gone"];

/// One account.
#[derive(Clone, Debug)]
pub struct AccountFacts {
    pub(super) name: ClientName,
    /// As `check_client` shows it.
    pub(super) state: ClientState,
    /// None without an implementation.
    pub(super) login: Option<LoginState>,
    pub(super) needs_person: bool,
    pub(super) held: bool,
    pub(super) put_out: bool,
    /// None where its client does not say.
    pub(super) reports_waiting: Option<u64>,
    /// How often its client and its implementation ended unasked.
    pub(super) exits: [Option<u32>; ProcessKind::ALL.len()],
}

impl AccountFacts {
    /// What its processes and its login say.
    pub fn new(client: &ClientRecord, implementation: Option<&ClientRecord>, login: Option<&Login>) -> Self {
        let own_state = client.state();
        // What a caller stopped is as it should be.
        let client_held = client.history.held && !client.history.stopped;
        let held = client_held || implementation.is_some_and(|record| record.history.held);
        let is_put_out = |record: &ClientRecord| matches!(record.phase, Phase::Gone(exit) if EndCause::of(exit, false) == EndCause::PutOut);
        let login_state = login.map(|login| login.state);
        let put_out = login.is_some_and(|login| login.put_out.is_some())
            || login_state == Some(LoginState::PutOut)
            || is_put_out(client) && !client.history.stopped;
        let waits = matches!(own_state, ClientState::Scaning | ClientState::Confirming)
            || login_state.is_some_and(LoginState::waits_for_a_person);
        let report = client.report.as_ref().filter(|_| !matches!(client.phase, Phase::Gone(_)));
        Self {
            name: client.spec.name.clone(),
            needs_person: held || waits || login_state == Some(LoginState::PutOut),
            held,
            put_out,
            reports_waiting: report.and_then(|report| report.queues.reports),
            exits: [Some(client.history.exits), implementation.map(|record| record.history.exits)],
            login: login_state,
            state: match login {
                Some(login) => login.client_state(own_state),
                None => own_state,
            },
        }
    }
}

/// Another machine, to which this one is the door.
#[derive(Clone, Debug)]
pub struct MachineFacts {
    /// Its name.
    pub name: String,
    /// Whether its controller can be reached.
    pub is_reachable: bool,
    /// How many accounts it has, as far as is known.
    pub accounts: u64,
}

/// All that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The accounts in the list.
    pub accounts: Vec<AccountFacts>,
    /// The requests of those that were called.
    pub requests: RequestCounts,
    /// Whether the registry file of clients can't be written now, and that of implementations.
    pub write_fails: [bool; ProcessKind::ALL.len()],
    /// The other machines.
    pub machines: Vec<MachineFacts>,
    /// How many processes are in each phase.
    processes: [[u64; PHASES.len()]; ProcessKind::ALL.len()],
}

impl Facts {
    /// Adds a process.
    pub fn count(&mut self, kind: ProcessKind, phase: Phase) {
        let place = PHASES.iter().position(|word| *word == phase.as_str());
        if let Some(count) = place.and_then(|place| self.processes[kind as usize].get_mut(place)) {
            *count += 1;
        }
    }

    /// How many processes of this kind are in each of the [`PHASES`].
    pub(super) fn processes(&self, kind: ProcessKind) -> &[u64; PHASES.len()] {
        &self.processes[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientSpec, Exit, Generation, LOGGED_OUT_ELSEWHERE, RestartHistory};
    use crate::model::state::StateReport;
    use crate::wire::v1::account::{Account, Recorded};
    use std::sync::Arc;

    fn record(phase: Phase, state: &str, held: bool) -> ClientRecord {
        stopped_record(phase, state, held, false)
    }

    fn stopped_record(phase: Phase, state: &str, held: bool, stopped: bool) -> ClientRecord {
        let spec = ClientSpec::example("小明", "/run/wq");
        let history = RestartHistory { exits: 3, held, stopped, ..RestartHistory::default() };
        let report = StateReport::parse(format!(r#"{{"state":"{state}","reports_waiting":7}}"#).as_bytes());
        ClientRecord {
            report: Some(Arc::new(report.unwrap())),
            ..ClientRecord::new(spec, 5000, Generation(1), phase, history)
        }
    }

    fn login(state: LoginState) -> Login {
        Login { state, since: 1, reason: None, uin: None, nickname: None, put_out: None }
    }

    fn recorded(record: &ClientRecord) -> Recorded<'_> {
        Recorded { record, since: None, next_start: None, unit: None }
    }

    #[test]
    fn account_needs_a_person_exactly_where_v1_says_so() {
        let put_out = Phase::Gone(Exit::Code(LOGGED_OUT_ELSEWHERE.into()));
        let mut needed = 0;
        for phase in [Phase::Up, Phase::Gone(Exit::Code(1)), put_out] {
            for (state, held) in
                [("running", false), ("scaning", false), ("confirming", false), ("init", true)]
            {
                let client = record(phase, state, held);
                let alone = AccountFacts::new(&client, None, None);
                let account = Account::new(recorded(&client));
                assert_eq!(
                    (alone.needs_person, alone.state.as_str()),
                    (account.needs_person, &*account.state)
                );
                for held in [false, true] {
                    let implementation = record(Phase::Up, "init", held);
                    use LoginState::{Code, Confirming, Offline, Online, PutOut, Starting, Unknown};
                    for state in [Starting, Code, Confirming, Online, Offline, PutOut, Unknown] {
                        let login = login(state);
                        let facts = AccountFacts::new(&client, Some(&implementation), Some(&login));
                        let account = Account::new(recorded(&client))
                            .with_implementation(("x", None), Some(recorded(&implementation)))
                            .with_login(&login, client.state());
                        assert_eq!(
                            (facts.needs_person, facts.state.as_str()),
                            (account.needs_person, &*account.state)
                        );
                        assert_eq!(facts.put_out, state == PutOut || phase == put_out);
                        needed += u32::from(facts.needs_person);
                    }
                }
            }
        }
        assert!(needed > 10 && needed < 3 * 4 * 2 * 7, "{needed}");
    }

    #[test]
    fn stopped_account_needs_no_person() {
        let client = stopped_record(Phase::Gone(Exit::Code(LOGGED_OUT_ELSEWHERE.into())), "stop", true, true);
        let facts = AccountFacts::new(&client, None, None);
        assert!(!facts.needs_person && !facts.held && !facts.put_out);
        assert!(!Account::new(recorded(&client)).needs_person);
    }

    #[test]
    fn reports_of_a_client_that_is_gone_are_not_told() {
        let told = |phase| AccountFacts::new(&record(phase, "running", false), None, None).reports_waiting;
        assert_eq!((told(Phase::Up), told(Phase::Gone(Exit::Code(1)))), (Some(7), None));
    }

    #[test]
    fn every_phase_has_its_place() {
        let mut facts = Facts::default();
        for phase in
            [Phase::Reserved, Phase::Starting, Phase::Up, Phase::Stopping, Phase::Gone(Exit::Unknown)]
        {
            facts.count(ProcessKind::Implementation, phase);
        }
        assert_eq!(
            (facts.processes(ProcessKind::Implementation), facts.processes(ProcessKind::Client)),
            (&[1; 5], &[0; 5])
        );
    }
}
