//! [`Explanation`]: why an account is as it is, in words: what happened, what comes next, and what a person can do.

use serde::Serialize;
use utoipa::ToSchema;

use super::account::{Account, Process, ProcessPhase};
use super::requests::DesiredState;
use crate::model::login::LoginState;

/// Why an account is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Explanation {
    /// What it is, in one sentence.
    #[schema(example = "It waits for its login code to be scanned.")]
    pub summary: String,
    /// What comes next without anyone doing something, if anything does.
    pub next: Option<NextStep>,
    /// What a person can do, the best first.
    pub advice: Vec<String>,
    /// What happened to it since the controller started, the oldest first; at most 20.
    pub events: Vec<Happening>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NextStep {
    /// When, in Unix seconds, if that is known.
    pub at: Option<u64>,
    /// What.
    #[schema(example = "Its client is started again.")]
    pub text: String,
}

/// Something that happened to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Happening {
    /// When, in Unix seconds.
    pub time: u64,
    /// What kind of event it is, for programs.
    #[schema(example = "client_ended")]
    pub code: &'static str,
    /// What happened, for people.
    #[schema(example = "Its client was ended by signal 9.")]
    pub text: String,
    /// The part of the text that the code does not say, such as a reason.
    #[schema(example = "was ended by signal 9")]
    pub detail: Option<String>,
}

/// How many events of an account are kept.
pub const MOST_EVENTS: usize = 20;

/// The first event of an account that was there when the controller was started.
pub fn controller_started(time: u64) -> Happening {
    let text = "The controller was started; what happened before is in the log.".to_owned();
    Happening { time, code: "controller_started", text, detail: None }
}

/// What happened to an account between two looks at it. `before` is none for one that is new.
pub fn happenings(before: Option<&Account>, now: &Account, time: u64) -> Vec<Happening> {
    let mut found = Vec::new();
    let mut add = |code, text: String, detail: Option<String>| {
        found.push(Happening { time, code, text, detail });
    };
    let Some(before) = before else {
        add("registered", "It is in the list.".to_owned(), None);
        return found;
    };
    // Once it is done: a stop that can't be written to disk is refused, and it runs on.
    match (is_stopped(before), is_stopped(now)) {
        (false, true) => add("stop_asked", "A call stopped it.".to_owned(), None),
        (true, false) => add("start_asked", "It is to run again.".to_owned(), None),
        _ => {}
    }
    // One that a caller stopped is held as well, which is no news.
    let held_by_stop = now.desired == DesiredState::Stopped;
    let client = Process { held: now.client.held && !held_by_stop, ..now.client.clone() };
    process("client", "Its client", Some(&before.client), Some(&client), now.reason.as_deref(), &mut add);
    let implementation = |account: &Account| {
        account.implementation.as_ref().map(|found| (found.process.clone(), found.reason.clone()))
    };
    let (was, is) = (implementation(before), implementation(now));
    let reason = is.as_ref().and_then(|(_, reason)| reason.clone());
    let (was, is) = (was.and_then(|(process, _)| process), is.and_then(|(process, _)| process));
    process("implementation", "Its implementation", was.as_ref(), is.as_ref(), reason.as_deref(), &mut add);
    match (&before.login, &now.login) {
        (was, Some(login)) if was.as_ref().map(|was| was.state) != Some(login.state) => {
            let known = was.as_ref().and_then(|was| was.put_out.as_ref());
            if let Some(ended) = login.put_out.as_ref().filter(|ended| Some(*ended) != known)
                && login.state != LoginState::PutOut
            {
                let why = ended.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
                let (code, words) = login_words(LoginState::PutOut);
                add(code, format!("{words}{why}."), ended.reason.clone());
            }
            let why = login.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let (code, words) = login_words(login.state);
            add(code, format!("{words}{why}."), login.reason.clone());
        }
        // Of an account without an implementation its client's word is all there is.
        (_, None) if before.state != now.state && now.implementation.is_none() => {
            if let Some((code, words)) = state_words(&now.state, before.state == "running") {
                add(code, format!("{words}."), None);
            }
        }
        _ => {}
    }
    found
}

/// Whether a caller stopped it, and it has ended.
fn is_stopped(account: &Account) -> bool {
    account.desired == DesiredState::Stopped && account.client.phase == ProcessPhase::Gone
}

/// What happened to a process.
fn process(
    kind: &str,
    who: &str,
    before: Option<&Process>,
    now: Option<&Process>,
    reason: Option<&str>,
    add: &mut impl FnMut(&'static str, String, Option<String>),
) {
    let codes = match kind {
        "client" => ["client_started", "client_ended", "client_held", "client_frozen"],
        _ => {
            ["implementation_started", "implementation_ended", "implementation_held", "implementation_frozen"]
        }
    };
    let Some(now) = now else { return };
    let before_pid = before.and_then(|before| before.pid);
    let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    if before.map_or(0, |before| before.exits) < now.exits
        && let Some(exit) = &now.last_exit
    {
        add(codes[1], format!("{who} {exit}{why}."), Some(format!("{exit}{why}")));
    } else if before_pid.is_some() && now.pid.is_none() {
        add(codes[1], format!("{who} has ended."), None);
    }
    if let Some(pid) = now.pid.filter(|pid| now.phase == ProcessPhase::Up && Some(*pid) != before_pid) {
        add(codes[0], format!("{who} runs (pid {pid})."), Some(format!("pid {pid}")));
    }
    if now.held && !before.is_some_and(|before| before.held) {
        add(codes[2], format!("{who} is held{why}."), reason.map(str::to_owned));
    }
    if now.frozen && !before.is_some_and(|before| before.frozen) {
        add(codes[3], format!("{who} was frozen."), None);
    }
}

/// The code and the words for a login.
fn login_words(state: LoginState) -> (&'static str, &'static str) {
    match state {
        LoginState::Starting => ("login_starting", "It logs in"),
        LoginState::Code => ("needs_scan", "It waits for its login code to be scanned"),
        LoginState::Confirming => {
            ("needs_confirmation", "Its code was scanned, and waits for a confirmation on the phone")
        }
        LoginState::Online => ("online", "It is logged in"),
        LoginState::Offline => ("offline", "It is offline"),
        LoginState::PutOut => ("put_out", "The network ended its login"),
        LoginState::Unknown => ("login_unknown", "Its implementation does not say whether it is logged in"),
    }
}

/// The same for what a client says of itself, where that is worth a line.
fn state_words(state: &str, was_running: bool) -> Option<(&'static str, &'static str)> {
    match state {
        "running" => Some(login_words(LoginState::Online)),
        "scaning" => Some(login_words(LoginState::Code)),
        "confirming" => Some(login_words(LoginState::Confirming)),
        "stop" => None,
        _ => was_running.then_some(("offline", "It is offline, and logs in again")),
    }
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.@+".contains(c);
    match name.chars().all(is_plain) && !name.starts_with('-') {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

/// Explains an account; `events` are what happened to it.
pub fn explain(account: &Account, events: Vec<Happening>) -> Explanation {
    let name = quoted(&account.name);
    let (summary, advice) = conclusion(account, &name);
    let mut advice: Vec<String> = advice.into_iter().map(|line| line.replace("{name}", &name)).collect();
    if !account.unused_parameters.is_empty() {
        let unused = account.unused_parameters.join(", ");
        advice.push(format!("Parameters without an effect: {unused}; wqclient(8) has those that there are"));
    }
    if account.needs_person {
        advice.push(format!("See its last log lines: wqctl logs {name}"));
    }
    Explanation { summary, next: next(account), advice, events }
}

/// What to do about a login that another one ended.
const ONE_LOGIN: &str =
    "If it is logged in elsewhere, end that login first: the two would put each other out";

/// What is the matter, and what can be done about it. The first that applies explains the rest.
fn conclusion(account: &Account, name: &str) -> (String, Vec<String>) {
    let client = &account.client;
    let login = account.login.as_ref();
    let because = |reason: Option<&String>| reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let one = |text: &str| vec![text.to_owned()];
    if account.desired == DesiredState::Stopped {
        return (
            "It is stopped, and stays so until it is started.".into(),
            one("Start it: wqctl start {name}"),
        );
    }
    if let Some(unit) = client.unit.as_ref().filter(|_| client.frozen) {
        return ("Its client is frozen.".into(), vec![format!("Let it go on: systemctl thaw {unit}")]);
    }
    let put_out = login.and_then(|login| login.put_out.as_ref());
    match login.map(|login| (login.state, login.reason.as_ref())) {
        Some((LoginState::Code, _)) => {
            let (summary, mut advice) = scan();
            let Some(ended) = put_out else { return (summary, advice) };
            advice.push(ONE_LOGIN.to_owned());
            return (
                format!("The network ended its login{}. {summary}", because(ended.reason.as_ref())),
                advice,
            );
        }
        Some((LoginState::Confirming, _)) => return confirm(),
        Some((LoginState::PutOut, reason)) => {
            let advice = vec![
                "Log it in again, with a new code: wqctl relogin {name}, then wqctl qr {name}".to_owned(),
                ONE_LOGIN.to_owned(),
            ];
            return (format!("The network ended its login{}.", because(reason)), advice);
        }
        _ => {}
    }
    if let Some(implementation) = &account.implementation {
        let process = implementation.process.as_ref();
        if implementation.kind.is_none() {
            let text = format!("The configuration has no implementation {:?}.", implementation.name);
            let advice = format!(
                "Add [implementations.{}] to the configuration, then: systemctl reload wqcontroller; wqctl start {name}",
                implementation.name
            );
            return (text, vec![advice]);
        }
        if process.is_some_and(|process| process.held) {
            let exit = process.and_then(|process| process.last_exit.as_ref());
            let why = implementation.reason.as_ref().or(exit);
            return (
                format!("Its implementation is held{}.", because(why)),
                one("Mend what the reason names, then start it again: wqctl start {name}"),
            );
        }
    }
    if client.held {
        let why = account.reason.as_ref().or(client.last_exit.as_ref());
        return (
            format!("Its client is held{}.", because(why)),
            one("Mend what the reason names, then start it again: wqctl start {name}"),
        );
    }
    match account.state.as_str() {
        "scaning" if is_sandbox(account) => return sandbox_code(account, scan().0),
        "confirming" if is_sandbox(account) => return sandbox_code(account, confirm().0),
        "scaning" => return scan(),
        "confirming" => return confirm(),
        _ => {}
    }
    match client.phase {
        ProcessPhase::Gone => {
            let exit = client.last_exit.as_deref().unwrap_or("has ended");
            return (format!("Its client {exit}{}.", because(account.reason.as_ref())), vec![]);
        }
        ProcessPhase::Stopping => return ("Its client is being stopped.".into(), vec![]),
        ProcessPhase::Reserved | ProcessPhase::Starting => {
            return ("Its client is being started.".into(), vec![]);
        }
        ProcessPhase::Up => {}
    }
    match (login.map(|login| login.state), account.state.as_str()) {
        (Some(LoginState::Offline), _) => {
            let reason = login.and_then(|login| login.reason.as_ref());
            (
                format!("It is offline{}.", because(reason)),
                one("If it stays so, log it in again: wqctl relogin {name}"),
            )
        }
        (_, "running") if is_sandbox(account) => {
            ("It runs in the sandbox, a made-up world without a chat network.".into(), vec![])
        }
        (_, "running") => ("It runs, and is logged in.".into(), vec![]),
        _ => (format!("It logs in{}.", because(account.reason.as_ref())), vec![]),
    }
}

fn is_sandbox(account: &Account) -> bool {
    account.backend.as_deref() == Some("sandbox")
}

/// What can be done about a code of the sandbox, which no phone can scan.
fn sandbox_code(account: &Account, summary: String) -> (String, Vec<String>) {
    let advice = format!(
        "It is in the sandbox, whose codes no phone can scan: open http://127.0.0.1:{}/sandbox/login on the machine of the controller",
        account.client.port
    );
    (summary, vec![advice])
}

fn scan() -> (String, Vec<String>) {
    let advice = "Scan its code with the phone on which the account is logged in: wqctl qr {name}";
    ("It waits for its login code to be scanned.".into(), vec![advice.into()])
}

fn confirm() -> (String, Vec<String>) {
    let text = "Its code was scanned, and waits for a confirmation on the phone.";
    (text.into(), vec!["Press the button on the phone".into()])
}

/// What comes next by itself.
fn next(account: &Account) -> Option<NextStep> {
    let process = account.implementation.as_ref().and_then(|found| found.process.as_ref());
    let starts = [
        ("Its client is started again.", Some(&account.client)),
        ("Its implementation is started again.", process),
    ];
    let starts = starts.into_iter().filter_map(|(text, process)| Some((process?.next_start?, text)));
    starts.min().map(|(at, text)| NextStep { at: Some(at), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Queues;
    use crate::wire::v1::account::{Implementation, LoginStatus, PutOut};

    fn process() -> Process {
        Process {
            phase: ProcessPhase::Up,
            since: None,
            pid: Some(7),
            port: 5000,
            unit: Some("wqclient@a.service".into()),
            frozen: false,
            held: false,
            exits: 0,
            last_exit: None,
            next_start: None,
        }
    }

    fn account() -> Account {
        Account {
            name: "a".into(),
            id: "a".into(),
            state: "running".into(),
            since: None,
            desired: DesiredState::Running,
            reason: None,
            needs_person: false,
            client: process(),
            implementation: None,
            login: None,
            parameters: [].into(),
            unused_parameters: vec![],
            queues: Queues::default(),
            backend: None,
            limits: None,
            usage: None,
        }
    }

    fn with_login(state: LoginState) -> Account {
        let login = LoginStatus {
            state,
            since: 1,
            reason: Some("why".into()),
            uin: None,
            nickname: None,
            put_out: None,
        };
        let implementation = Implementation {
            name: "yogurt".into(),
            kind: Some("yogurt"),
            process: Some(process()),
            reason: None,
        };
        Account { login: Some(login), implementation: Some(implementation), needs_person: true, ..account() }
    }

    fn put_out(state: LoginState) -> Account {
        let mut account = with_login(state);
        let ended = PutOut { at: 1, reason: Some("elsewhere".into()) };
        account.login.as_mut().unwrap().put_out = Some(ended);
        account
    }

    #[test]
    fn account_is_explained_with_what_to_do() {
        let gone = Process { phase: ProcessPhase::Gone, pid: None, ..process() };
        let held = Process { held: true, last_exit: Some("exited with status 2".into()), ..gone.clone() };
        let waits =
            Process { last_exit: Some("was ended by signal 9".into()), next_start: Some(9), ..gone.clone() };
        let mut unknown = with_login(LoginState::Starting);
        unknown.implementation.as_mut().unwrap().kind = None;
        let mut held_too = with_login(LoginState::Starting);
        held_too.implementation.as_mut().unwrap().process = Some(held.clone());
        for (account, summary, advice) in [
            (account(), "It runs, and is logged in.", ""),
            (
                Account { desired: DesiredState::Stopped, client: held.clone(), ..account() },
                "It is stopped",
                "wqctl start a",
            ),
            (Account { state: "scaning".into(), ..account() }, "waits for its login code", "wqctl qr a"),
            (
                Account { client: held, needs_person: true, ..account() },
                "held: exited with status 2.",
                "wqctl start a",
            ),
            (Account { client: waits, ..account() }, "Its client was ended by signal 9.", ""),
            (
                Account { client: Process { frozen: true, ..process() }, ..account() },
                "frozen",
                "systemctl thaw wqclient@a.service",
            ),
            (with_login(LoginState::Code), "waits for its login code", "wqctl qr a"),
            (
                put_out(LoginState::Code),
                "The network ended its login: elsewhere. It waits for its login code to be scanned.",
                "wqctl qr a",
            ),
            (with_login(LoginState::PutOut), "The network ended its login: why.", "wqctl relogin a"),
            (with_login(LoginState::Offline), "It is offline: why.", "wqctl relogin a"),
            (held_too, "Its implementation is held: exited with status 2.", "wqctl start a"),
            (unknown, "no implementation \"yogurt\"", "systemctl reload wqcontroller"),
            (Account { state: "loading".into(), ..account() }, "It logs in.", ""),
        ] {
            let explained = explain(&account, vec![]);
            assert!(explained.summary.contains(summary), "{explained:?}");
            let first = explained.advice.first().map(String::as_str).unwrap_or_default();
            assert!(first.contains(advice) && (advice.is_empty() == first.is_empty()), "{explained:?}");
            assert!(!explained.advice.iter().any(|line| line.contains('{')), "{explained:?}");
        }
    }

    #[test]
    fn next_start_is_named() {
        let waits = Process { next_start: Some(9), phase: ProcessPhase::Gone, ..process() };
        let explained = explain(&Account { client: waits, ..account() }, vec![]);
        assert_eq!(
            explained.next,
            Some(NextStep { at: Some(9), text: "Its client is started again.".into() })
        );
        assert_eq!(explain(&account(), vec![]).next, None);
    }

    #[test]
    fn what_happened_is_what_changed() {
        let codes = |before: &Account, now: &Account| -> Vec<&'static str> {
            happenings(Some(before), now, 1).iter().map(|event| event.code).collect()
        };
        assert_eq!(happenings(None, &account(), 1)[0].code, "registered");
        assert!(codes(&account(), &account()).is_empty());
        let exit = Some("was ended by signal 9".to_owned());
        let ended = Process { phase: ProcessPhase::Gone, pid: None, exits: 1, last_exit: exit, ..process() };
        let ended = Account { client: ended, state: "stop".into(), ..account() };
        assert_eq!(codes(&account(), &ended), ["client_ended"]);
        let again = Process { pid: Some(8), exits: 1, ..process() };
        assert_eq!(codes(&ended, &Account { client: again, ..account() }), ["client_started", "online"]);
        // A stop that is refused, as by a full disk, is seen while it is tried.
        let stopping = Process { phase: ProcessPhase::Stopping, held: true, ..process() };
        let stopping = Account { desired: DesiredState::Stopped, client: stopping, ..account() };
        assert_eq!((codes(&account(), &stopping), codes(&stopping, &account())), (vec![], vec![]));
        let gone = Process { phase: ProcessPhase::Gone, pid: None, held: true, ..process() };
        let stopped = Account { client: gone, state: "stop".into(), ..stopping.clone() };
        assert_eq!(codes(&stopping, &stopped), ["stop_asked", "client_ended"]);
        assert_eq!(codes(&stopped, &account()), ["start_asked", "client_started", "online"]);
        let codes_of = |state| codes(&with_login(LoginState::Online), &put_out(state));
        assert_eq!(codes_of(LoginState::Code), ["put_out", "needs_scan"]);
        assert_eq!(codes(&with_login(LoginState::Online), &with_login(LoginState::PutOut)), ["put_out"]);
        let offline = Account { state: "loading".into(), ..account() };
        assert_eq!(happenings(Some(&account()), &offline, 1)[0].text, "It is offline, and logs in again.");
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        for (name, shown) in
            [("小明", "小明"), ("a b", "'a b'"), ("a'b", "'a'\\''b'"), ("-a", "'-a'"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(name), shown);
        }
    }
}
