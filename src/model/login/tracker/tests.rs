use super::*;

const CLIENT: ClientState = ClientState::Running;

fn evidence(code_age: Option<u64>, client: &ClientState) -> Evidence<'_> {
    Evidence {
        code_age: code_age.map(Duration::from_secs),
        code_lifetime: Duration::from_secs(120),
        client,
        client_reason: Some("its heartbeats say offline"),
        client_put_out: false,
    }
}

/// What the tracker makes of an answer.
fn state(tracker: &mut LoginTracker, said: Said, code_age: Option<u64>, client: &ClientState) -> LoginState {
    let answer = LoginAnswer::of(said);
    tracker.conclude(1_000, ProcessSays::Up(Some(&answer)), &evidence(code_age, client));
    tracker.login().state
}

#[test]
fn missing_login_is_told_by_the_age_of_the_code() {
    let mut tracker = LoginTracker::new(0);
    for (code_age, expected) in [
        (None, LoginState::Starting),
        (Some(0), LoginState::Code),
        (Some(119), LoginState::Code),
        (Some(120), LoginState::Starting),
    ] {
        assert_eq!(state(&mut tracker, Said::NotLoggedIn, code_age, &CLIENT), expected, "{code_age:?}");
    }
    assert_eq!(tracker.login().reason.as_deref(), Some(EXPIRED));
    assert_eq!(state(&mut tracker, Said::Online, Some(500), &CLIENT), LoginState::Online);
    assert_eq!(state(&mut tracker, Said::NotLoggedIn, Some(505), &CLIENT), LoginState::Offline);
    // The code that was scanned just now, and one that came after the loss.
    let mut conclude = |now, code_age| {
        let answer = LoginAnswer::of(Said::NotLoggedIn);
        tracker.conclude(now, ProcessSays::Up(Some(&answer)), &evidence(Some(code_age), &CLIENT));
        tracker.login().state
    };
    assert_eq!(conclude(1_030, 31), LoginState::Offline);
    assert_eq!(conclude(1_035, 1), LoginState::Code);
}

#[test]
fn code_after_a_login_means_put_out() {
    let mut tracker = LoginTracker::new(0);
    let mut conclude = |said, now| {
        let answer = LoginAnswer::of(said);
        tracker.conclude(now, ProcessSays::Up(Some(&answer)), &evidence(None, &CLIENT))
    };
    let change = |from, to, put_out| Some(Transition { from, to, put_out });
    assert_eq!(conclude(Said::Code, 1), change(LoginState::Starting, LoginState::Code, false));
    assert_eq!(conclude(Said::Confirming, 2), change(LoginState::Code, LoginState::Confirming, false));
    assert_eq!(conclude(Said::Online, 3), change(LoginState::Confirming, LoginState::Online, false));
    assert_eq!(conclude(Said::Online, 4), None);
    assert_eq!(conclude(Said::Code, 5), change(LoginState::Online, LoginState::Code, true));
    assert_eq!(conclude(Said::Code, 6), None, "once");
    assert_eq!(tracker.login().since, 5);
}

#[test]
fn end_by_the_network_is_known_until_the_next_login() {
    let mut tracker = LoginTracker::new(0);
    let mut conclude = |answer: LoginAnswer, now| {
        tracker.conclude(now, ProcessSays::Up(Some(&answer)), &evidence(None, &CLIENT));
        tracker.login().put_out.clone()
    };
    let said = LoginAnswer::of;
    assert_eq!(conclude(said(Said::Online), 1), None);
    assert_eq!(conclude(said(Said::Offline).because("logged in elsewhere"), 2), None);
    let put_out = PutOut { at: 3, reason: Some("logged in elsewhere".into()) };
    assert_eq!(put_out.to_string(), "the network ended its login: logged in elsewhere");
    let ended = Some(put_out);
    assert_eq!(conclude(said(Said::Code), 3), ended);
    assert_eq!(conclude(said(Said::Starting), 4), ended, "it was started anew");
    assert_eq!(conclude(said(Said::Confirming), 5), ended);
    assert_eq!(conclude(said(Said::Online), 6), None);
    // What was said before that login is no reason for the end of this one.
    assert_eq!(conclude(said(Said::Code), 7), Some(PutOut { at: 7, reason: None }));
}

#[test]
fn client_that_was_put_out_counts_until_it_runs_again() {
    let mut tracker = LoginTracker::new(0);
    let online = LoginAnswer::of(Said::Online);
    let known = evidence(None, &CLIENT);
    tracker.conclude(1, ProcessSays::Up(Some(&online)), &known);
    let kicked = Evidence { client_put_out: true, client_reason: Some("logged in elsewhere"), ..known };
    let change = tracker.conclude(2, ProcessSays::Up(Some(&online)), &kicked);
    let expected = Transition { from: LoginState::Online, to: LoginState::PutOut, put_out: true };
    assert_eq!(change, Some(expected));
    assert_eq!(tracker.login().reason.as_deref(), Some("logged in elsewhere"));
    let change = tracker.conclude(3, ProcessSays::Up(Some(&LoginAnswer::of(Said::Code))), &known);
    assert_eq!(change.map(|change| (change.to, change.put_out)), Some((LoginState::Code, false)));
}

#[test]
fn implementation_that_says_online_is_offline_when_its_client_lost_it() {
    let mut tracker = LoginTracker::new(0);
    let mut online = |client| state(&mut tracker, Said::Online, None, &client);
    assert_eq!(online(ClientState::Loading), LoginState::Starting, "the client has not reached it yet");
    assert_eq!(online(ClientState::Running), LoginState::Online);
    assert_eq!(online(ClientState::Loading), LoginState::Offline);
    assert_eq!(online(ClientState::Stop), LoginState::Offline, "it ends");
    assert_eq!(online(ClientState::Running), LoginState::Online);
    assert_eq!(online(ClientState::Stop), LoginState::Online, "it crashed");
    tracker.client_changed();
    assert_eq!(
        state(&mut tracker, Said::Online, None, &ClientState::Loading),
        LoginState::Online,
        "a new one"
    );
    // Where the client alone knows, it says that it starts.
    assert_eq!(state(&mut tracker, Said::Starting, None, &ClientState::Loading), LoginState::Online);
    tracker.process_changed();
    assert_eq!(state(&mut tracker, Said::Online, None, &ClientState::Running), LoginState::Online);
}

#[test]
fn account_that_its_client_does_not_reach_within_a_minute_is_offline() {
    let mut tracker = LoginTracker::new(0);
    let online = LoginAnswer::of(Said::Online);
    let mut conclude = |now, client| {
        tracker.conclude(
            now,
            ProcessSays::Up(Some(&online)),
            &Evidence { client, ..evidence(None, &CLIENT) },
        );
        (tracker.login().state, tracker.login().reason.clone())
    };
    let offline = Some("its heartbeats say offline".into());
    let loading = &ClientState::Loading;
    assert_eq!(conclude(10, loading), (LoginState::Starting, offline.clone()));
    assert_eq!(conclude(69, loading), (LoginState::Starting, offline.clone()));
    assert_eq!(conclude(70, loading), (LoginState::Offline, offline.clone()));
    assert_eq!(conclude(75, &CLIENT), (LoginState::Online, None));
}

#[test]
fn process_counts_more_than_what_it_said() {
    let mut tracker = LoginTracker::new(0);
    let nothing = evidence(None, &CLIENT);
    tracker.conclude(1, ProcessSays::Up(None), &nothing);
    assert_eq!(tracker.login().state, LoginState::Starting, "it does not listen yet");
    let answer = LoginAnswer::of(Said::Online).named(Some("10001"), Some("小红"));
    tracker.conclude(2, ProcessSays::Up(Some(&answer)), &nothing);
    tracker.conclude(3, ProcessSays::Up(None), &nothing);
    assert_eq!((tracker.login().state, tracker.login().since), (LoginState::Offline, 3));
    assert_eq!(tracker.login().nickname.as_deref(), Some("小红"), "it stays known");
    tracker.conclude(4, ProcessSays::Gone(Some("out of memory")), &nothing);
    assert_eq!((tracker.login().since, tracker.login().reason.as_deref()), (3, Some("out of memory")));
    tracker.conclude(5, ProcessSays::Starting, &nothing);
    assert_eq!(tracker.login().state, LoginState::Starting);
}

#[test]
fn names_of_an_implementation_are_bounded() {
    let long = "界\u{7}".repeat(100);
    let answer = LoginAnswer::of(Said::Online).named(Some("1; DROP"), Some(&long)).because("a\nb ");
    assert_eq!((answer.uin, answer.reason.as_deref()), (None, Some("a b")));
    let name = answer.nickname.unwrap();
    assert!(name.len() <= LoginAnswer::NAME_MAX && !name.contains('\u{7}'), "{name}");
    assert_eq!(LoginAnswer::of(Said::Online).named(Some("0"), Some("")).uin, None);
}

#[test]
fn client_is_never_running_without_a_login() {
    use ClientState::{Confirming, Loading, Running, Scaning, Stop};
    for (login, client, shown) in [
        (LoginState::Online, Running, Running),
        (LoginState::Online, Loading, Loading),
        (LoginState::Offline, Running, Loading),
        (LoginState::PutOut, Running, Loading),
        (LoginState::Starting, Running, Loading),
        (LoginState::Code, Loading, Scaning),
        (LoginState::Confirming, Running, Confirming),
        (LoginState::Code, Stop, Stop),
        (LoginState::Unknown, Running, Running),
    ] {
        let login = Login { state: login, ..Login::starting(0) };
        assert_eq!(login.client_state(client.clone()), shown, "{login:?} {client:?}");
    }
}
