use super::*;

const RULES: LoginRules = LoginRules {
    offline_after: Duration::from_secs(60),
    when_offline: WhenOffline::Restart,
    when_put_out: WhenPutOut::Code,
    code_attempts: 2,
};

/// An account whose network is there.
struct Account {
    rules: LoginRules,
    policy: LoginPolicy,
    login: Login,
    code_written: Option<u64>,
    renews_codes: bool,
    may_start: bool,
    is_up: bool,
    network_since: Option<u64>,
    held: bool,
    failures: u32,
}

impl Account {
    fn new(rules: LoginRules) -> Self {
        Self {
            rules,
            policy: LoginPolicy::default(),
            login: Login::starting(0),
            code_written: None,
            renews_codes: true,
            may_start: true,
            is_up: true,
            network_since: Some(0),
            held: false,
            failures: 0,
        }
    }

    fn look(&mut self, now: u64) -> (Option<LoginAction>, Vec<LoginEvent>) {
        self.decide(now, None)
    }

    fn become_(
        &mut self,
        now: u64,
        state: LoginState,
        put_out: bool,
    ) -> (Option<LoginAction>, Vec<LoginEvent>) {
        let from = std::mem::replace(&mut self.login.state, state);
        self.login.since = now;
        self.decide(now, Some(Transition { from, to: state, put_out }))
    }

    fn decide(&mut self, now: u64, change: Option<Transition>) -> (Option<LoginAction>, Vec<LoginEvent>) {
        let facts = Facts {
            now,
            login: &self.login,
            change,
            code_written: self.code_written,
            renews_codes: self.renews_codes,
            is_up: self.is_up,
            held: self.held,
            failures: self.failures,
            network_since: self.network_since,
            may_start: self.may_start,
        };
        self.policy.decide(&self.rules, &facts)
    }

    fn show_code(&mut self, now: u64) -> (Option<LoginAction>, Vec<LoginEvent>) {
        self.code_written = Some(now);
        match self.login.state {
            LoginState::Code => self.look(now),
            _ => self.become_(now, LoginState::Code, false),
        }
    }
}

const NOTHING: (Option<LoginAction>, Vec<LoginEvent>) = (None, Vec::new());

#[test]
fn account_that_stays_offline_is_started_anew_with_growing_pauses() {
    let mut account = Account::new(RULES);
    assert_eq!(account.become_(100, LoginState::Online, false), NOTHING, "a first login is no news");
    assert_eq!(account.become_(200, LoginState::Offline, false), (None, vec![LoginEvent::Offline]));
    assert_eq!(account.look(259), NOTHING);
    let mut starts = Vec::new();
    for now in 260..5_000 {
        if account.look(now).0 == Some(LoginAction::Relaunch) {
            starts.push(now);
        }
    }
    assert_eq!(starts, [260, 320, 440, 680, 1_160, 2_060, 2_960, 3_860, 4_760]);
    assert_eq!(account.become_(5_000, LoginState::Online, false), (None, vec![LoginEvent::Online]));
    // A loss soon after is no first one.
    account.become_(5_010, LoginState::Offline, false);
    assert_eq!(account.look(5_100).0, None);
    account.become_(5_200, LoginState::Online, false);
    assert_eq!(account.look(5_800), NOTHING);
    account.become_(5_801, LoginState::Offline, false);
    assert_eq!(account.look(5_861).0, Some(LoginAction::Relaunch));
}

#[test]
fn nothing_is_started_without_network_or_place_or_while_a_code_waits() {
    let mut account = Account::new(RULES);
    account.become_(100, LoginState::Online, false);
    account.become_(200, LoginState::Offline, false);
    account.network_since = None;
    assert_eq!(account.look(1_000), NOTHING);
    account.network_since = Some(1_000);
    assert_eq!(account.look(1_059), NOTHING, "it may come back by itself");
    account.may_start = false;
    assert_eq!(account.look(1_060), NOTHING);
    account.may_start = true;
    assert_eq!(account.look(1_061).0, Some(LoginAction::Relaunch));
    account.show_code(1_070);
    for now in 1_071..2_000 {
        assert_eq!(account.look(now).0, None);
    }
}

#[test]
fn account_that_is_started_after_it_was_put_out_is_not_held_again() {
    let mut account = Account::new(LoginRules { when_put_out: WhenPutOut::Hold, ..RULES });
    account.become_(100, LoginState::Online, false);
    assert!(matches!(account.become_(200, LoginState::PutOut, true).0, Some(LoginAction::Hold(_))));
    (account.held, account.is_up) = (true, false);
    assert_eq!(account.look(201), NOTHING);
    // A call starts its implementation; its client, which says that it was put out, follows.
    (account.held, account.is_up) = (false, true);
    assert_eq!(account.look(300), NOTHING);
    account.become_(301, LoginState::Starting, false);
    account.show_code(310);
    account.become_(320, LoginState::Online, false);
    let again = account.become_(400, LoginState::PutOut, true);
    assert!(matches!(again.0, Some(LoginAction::Hold(_))), "another end of the login");
}

#[test]
fn other_rules_wait_or_hold() {
    let mut account = Account::new(LoginRules { when_offline: WhenOffline::Wait, ..RULES });
    account.become_(100, LoginState::Online, false);
    account.become_(200, LoginState::Offline, false);
    assert_eq!(account.look(9_000), NOTHING);
    account.rules.when_offline = WhenOffline::Hold;
    account.login.reason = Some("no connection".into());
    let held = (Some(LoginAction::Hold("no connection".into())), vec![LoginEvent::Held]);
    assert_eq!(account.look(9_001), held);
    assert_eq!(account.look(9_002), NOTHING, "it ends");
    account.held = true;
    assert_eq!(account.look(9_002), NOTHING, "it was told");
}

#[test]
fn login_that_the_network_ended_is_put_right_by_a_scan() {
    let mut account = Account::new(RULES);
    account.become_(100, LoginState::Online, false);
    account.may_start = false;
    assert_eq!(account.become_(200, LoginState::PutOut, true), (None, vec![LoginEvent::PutOut]));
    account.may_start = true;
    assert_eq!(account.look(201), (Some(LoginAction::AskForScan), vec![]));
    assert_eq!(account.look(202), NOTHING, "once");
    assert_eq!(account.become_(203, LoginState::Starting, false), NOTHING);
    assert_eq!(account.show_code(210), (None, vec![LoginEvent::CodeWaits]));
    assert_eq!(account.become_(220, LoginState::Online, false), (None, vec![LoginEvent::Online]));

    // One that shows a code by itself.
    assert_eq!(
        account.become_(300, LoginState::Code, true),
        (None, vec![LoginEvent::PutOut, LoginEvent::CodeWaits])
    );
    account.rules.when_put_out = WhenPutOut::Hold;
    account.become_(310, LoginState::Online, false);
    account.login.reason = Some("logged in elsewhere".into());
    let hold = Some(LoginAction::Hold("logged in elsewhere".into()));
    let told = vec![LoginEvent::PutOut, LoginEvent::CodeWaits, LoginEvent::Held];
    assert_eq!(account.become_(320, LoginState::Code, true), (hold, told));
}

#[test]
fn codes_that_were_not_scanned_are_counted() {
    // New ones come by themselves.
    let mut account = Account::new(RULES);
    assert_eq!(account.show_code(100), (None, vec![LoginEvent::CodeWaits]));
    assert_eq!(account.show_code(200), NOTHING);
    let why = "nobody scanned any of its 3 login codes";
    assert_eq!(account.show_code(300), (Some(LoginAction::Hold(why.into())), vec![LoginEvent::NotScanned]));
    account.held = true;
    assert_eq!(account.look(310), NOTHING);
    // Somebody calls for a new login.
    account.held = false;
    account.login.state = LoginState::Starting;
    assert_eq!(account.look(400), NOTHING);
    assert_eq!(account.show_code(410), (None, vec![LoginEvent::CodeWaits]));

    // Each new one takes a new start.
    let mut account = Account { renews_codes: false, ..Account::new(RULES) };
    account.show_code(100);
    assert_eq!(account.become_(220, LoginState::Starting, false), (Some(LoginAction::Relaunch), vec![]));
    account.show_code(230);
    let why = "nobody scanned any of its 2 login codes";
    assert_eq!(
        account.become_(350, LoginState::Starting, false),
        (Some(LoginAction::Hold(why.into())), vec![LoginEvent::NotScanned])
    );
}

#[test]
fn crash_loop_and_hold_are_told_once() {
    let mut account = Account::new(RULES);
    account.become_(100, LoginState::Online, false);
    account.failures = 2;
    assert_eq!(account.become_(110, LoginState::Offline, false), (None, vec![LoginEvent::Offline]));
    account.failures = 3;
    assert_eq!(account.look(111), (None, vec![LoginEvent::CrashLoop]));
    account.failures = 4;
    assert_eq!(account.look(112), NOTHING);
    account.held = true;
    assert_eq!(account.look(113), (None, vec![LoginEvent::Held]));
    assert_eq!(account.look(114), NOTHING);
}

#[test]
fn new_start_is_under_way_until_it_leads_somewhere() {
    let mut account = Account::new(RULES);
    account.become_(100, LoginState::Online, false);
    account.become_(200, LoginState::Offline, false);
    account.look(260);
    assert!(account.policy.is_starting(289) && !account.policy.is_starting(290));
    // A slow one counts from when its process is there, but not for ever.
    account.is_up = false;
    account.look(285);
    assert!(account.policy.is_starting(314) && !account.policy.is_starting(315));
    account.look(379);
    assert!(account.policy.is_starting(379) && !account.policy.is_starting(380));
    account.is_up = true;
    account.become_(300, LoginState::Online, false);
    assert!(!account.policy.is_starting(301));
}
