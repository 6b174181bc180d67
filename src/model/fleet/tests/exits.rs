//! How a process ended, and what follows: nothing but a stop that was asked for makes the controller forget an account.

use super::*;
use crate::model::client::{ParamValue, STOP_ASKED};
use crate::model::fleet::launching::REGISTRATION;

/// The process of `launch` ends like this.
fn end(bench: &mut Bench, launch: &Launch, exit: Exit) {
    assert_eq!(words(bench.apply(ProcessEvent::Exited(launch.clone(), exit))), [""; 0]);
}

fn report(text: &str) -> Arc<StateReport> {
    Arc::new(StateReport::parse(text.as_bytes()).unwrap())
}

fn reason(bench: &Bench, client: &str) -> Option<String> {
    bench.get(client).history.reason.as_deref().map(str::to_owned)
}

#[test]
fn foreign_signal_counts_as_failure() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Signal(15));
    assert_eq!(bench.get("a").history.last_exit, Some(Exit::Signal(15)));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe a#2 5000"]);
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)]);
}

#[test]
fn unasked_exit_with_status_0_is_held() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(0));
    let record = bench.get("a");
    assert_eq!((record.phase, record.history.held), (Phase::Gone(Exit::Code(0)), true));
    assert_eq!((record.history.exits, record.history.last_exit), (1, Some(Exit::Code(0))));
    assert!(bench.wait(Duration::from_secs(86_400)).is_empty());
    assert_eq!(bench.saved(), [("a".to_owned(), Desired::Running)]);
    assert_eq!(words(bench.apply(start(1, "a"))), ["probe a#2 5000"]);
}

#[test]
fn stop_by_client_api_removes_the_client() {
    for restart in RestartPolicy::ALL {
        let mut bench = Bench::new(Rules { restart, ..RULES });
        let a = bring_up(&mut bench, "a", 7);
        end(&mut bench, &a, Exit::Code(STOP_ASKED.into()));
        assert!(bench.is_empty() && bench.saved().is_empty());
    }
}

#[test]
fn refused_settings_and_login_elsewhere_are_held_at_once() {
    for exit in [Exit::Unusable, Exit::Code(77)] {
        let mut bench = Bench::new(Rules { restart: RestartPolicy::Always, ..RULES });
        let a = bring_up(&mut bench, "a", 7);
        end(&mut bench, &a, exit);
        assert_eq!((bench.get("a").history.held, bench.get("a").history.exits), (true, 1), "{exit}");
    }
    // Any other program may end with status 2 for a passing cause.
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(2));
    assert_eq!(bench.wait(Duration::from_secs(2)), ["probe a#2 5000"]);
}

#[test]
fn exit_reported_before_its_stop_request_removes_the_client() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(0));
    bench.apply(Input::StopAccepted(a));
    assert!(bench.is_empty() && bench.saved().is_empty());
}

#[test]
fn held_client_takes_no_place_until_started() {
    let mut bench = Bench::new(Rules { max_clients: 1, ..RULES });
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(0));
    let b = bring_up(&mut bench, "b", 8);
    assert_eq!(words(bench.apply(start(1, "a"))), ["1: too many"]);
    assert!(bench.get("a").history.held, "it is as it was");
    // One that waits for its next start has its place still.
    end(&mut bench, &b, Exit::Code(1));
    assert_eq!(words(bench.apply(start(2, "a"))), ["2: too many"]);
    bench.apply(stop(3, "b"));
    assert_eq!(words(bench.apply(start(4, "a"))), ["probe a#3 5000"]);
}

#[test]
fn reboot_respects_max_clients() {
    let rules = Rules { max_clients: 1, ..RULES };
    let mut bench = Bench::new(rules);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(0));
    bring_up(&mut bench, "b", 8);
    let mut next = Bench::new(rules);
    for client in bench.fleet.image().1.clients {
        next.apply(Input::Restored(Box::new(client), ProcessStatus::Gone { rebooted: true }));
    }
    assert_eq!(next.wait(Duration::from_secs(60)), ["probe b#3 5000"]);
    assert!(next.get("a").history.held && reason(&next, "a").unwrap().contains("max_clients"));
}

#[test]
fn exit_during_shutdown_request_is_no_failure() {
    for exit in [Exit::Signal(15), Exit::Code(0)] {
        let mut bench = Bench::new(Rules { restart: RestartPolicy::Never, ..RULES });
        let (a, b) = (bring_up(&mut bench, "a", 7), bring_up(&mut bench, "b", 8));
        end(&mut bench, &b, exit);
        bench.apply(Input::ShutdownRequested);
        end(&mut bench, &a, exit);
        bench.apply(Input::Shutdown(Shutdown::EndClients));
        let saved = bench.fleet.image().1.clients;
        assert_eq!((saved[0].history.held, saved[0].history.exits), (false, 0), "a {exit}");
        assert_eq!((saved[1].history.held, saved[1].history.exits), (true, 1), "b {exit}");
    }
}

#[test]
fn start_without_parameters_repeats_the_last() {
    let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
    let with = |params: &[(&str, &str)]| {
        let params = params.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        Arc::new(ClientSpec { params, ..(*spec("a")).clone() })
    };
    // The registration is ours: no call asks for it.
    let asked_for = |bench: &Bench| {
        let mut params = bench.get("a").spec.params.clone();
        assert!(params.remove(REGISTRATION).is_some());
        params
    };
    let mut bench = Bench::new(RULES);
    let first = with(&[("backend", "onebot"), ("onebot_url", "ws://127.0.0.1:3001/")]);
    bench.apply(Input::Start(RequestId(0), first.clone()));
    let mut generation = 1;
    let up = |bench: &mut Bench, generation| {
        bench.apply(Input::Probed(launch_of("a", generation), PortState::Free));
        bench.apply(Input::Launched(launch_of("a", generation), handle(7)));
        launch_of("a", generation)
    };
    // Held, or waiting for its next start.
    for exit in [Exit::Code(0), Exit::Code(1), Exit::Stopped] {
        let a = up(&mut bench, generation);
        end(&mut bench, &a, exit);
        bench.apply(start(1, "a"));
        assert_eq!(asked_for(&bench), first.params, "{exit}");
        generation += 1;
    }
    let a = up(&mut bench, generation);
    end(&mut bench, &a, Exit::Code(0));
    let second = with(&[("log_level", "debug")]);
    bench.apply(Input::Start(RequestId(2), second.clone()));
    assert_eq!(asked_for(&bench), second.params);
    let a = up(&mut bench, generation + 1);
    bench.apply(stop(3, "a"));
    bench.apply(start(4, "a"));
    bench.apply(ProcessEvent::Exited(a, Exit::Signal(15)));
    assert_eq!(asked_for(&bench), spec("a").params, "after a stop nothing is kept");
}

#[test]
fn last_words_are_the_reason_unless_the_state_file_has_one() {
    let mut bench = Bench::new(Rules { restart: RestartPolicy::Never, ..RULES });
    let ends = |words: Option<&str>, says: &str, exit| {
        let mut bench = Bench::new(Rules { restart: RestartPolicy::Never, ..RULES });
        let a = bring_up(&mut bench, "a", 7);
        bench.apply(Input::Report(a.clone(), report(says)));
        words.map(|words| bench.apply(ProcessEvent::LastWords(a.clone(), words.into())));
        end(&mut bench, &a, exit);
        reason(&bench, "a")
    };
    let (plain, stopping) = (r#"{"state":"running"}"#, r#"{"state":"stop","reason":"put out"}"#);
    let stuck = r#"{"state":"loading","reason":"no token"}"#;
    assert_eq!(ends(Some("no module"), plain, Exit::Code(255)).as_deref(), Some("no module"));
    assert_eq!(ends(Some("bye"), stopping, Exit::Code(77)).as_deref(), Some("put out"));
    assert_eq!(ends(Some("no module"), stuck, Exit::Code(1)).as_deref(), Some("no module"));
    assert_eq!(ends(None, stuck, Exit::Code(1)).as_deref(), Some("no token"));
    assert_eq!(ends(Some("a message came"), plain, Exit::Signal(9)), None, "it had no say");
    assert_eq!(ends(Some("assertion failed"), plain, Exit::Signal(6)).as_deref(), Some("assertion failed"));
    // What was told of an earlier end comes after it.
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(1));
    bench.apply(ProcessEvent::LastWords(a, "found later".into()));
    assert_eq!(reason(&bench, "a").as_deref(), Some("found later"));
    let saved = bench.fleet.image().1.clients;
    assert_eq!(saved[0].history.reason.as_deref(), Some("found later"));
}

#[test]
fn reason_is_short_plain_and_without_secrets() {
    let mut bench = Bench::new(RULES);
    let pwd = ParamValue { text: "geheim".into(), secret: true, path: None };
    let params = [("pwd".to_owned(), pwd)].into();
    bench.apply(Input::Start(RequestId(0), Arc::new(ClientSpec { params, ..(*spec("a")).clone() })));
    let a = launch_of("a", 1);
    bench.apply(Input::Probed(a.clone(), PortState::Free));
    bench.apply(Input::Launched(a.clone(), handle(7)));
    let words = format!("login with geheim\n{}", "界".repeat(1000));
    bench.apply(ProcessEvent::LastWords(a.clone(), words.into()));
    end(&mut bench, &a, Exit::Code(1));
    let reason = reason(&bench, "a").unwrap();
    assert!(reason.starts_with("login with *** 界") && reason.ends_with("界…"), "{reason}");
    assert!(reason.len() <= RestartHistory::REASON_MAX);
}

#[test]
fn failed_launch_has_a_reason() {
    let mut bench = Bench::new(RULES);
    let a = bring_up(&mut bench, "a", 7);
    end(&mut bench, &a, Exit::Code(1));
    bench.wait(Duration::from_secs(2));
    bench.apply(Input::Probed(launch_of("a", 2), PortState::Free));
    bench.apply(Input::LaunchFailed(launch_of("a", 2), "no perl".into()));
    assert_eq!(reason(&bench, "a").as_deref(), Some("no perl"));
}

#[test]
fn exit_is_counted_by_one_controller_only() {
    let mut bench = Bench::new(RULES);
    let (a, b) = (bring_up(&mut bench, "a", 7), bring_up(&mut bench, "b", 8));
    bench.apply(ProcessEvent::LastWords(a.clone(), "no module".into()));
    end(&mut bench, &a, Exit::Code(0));
    end(&mut bench, &b, Exit::Code(1));
    for _ in 0..3 {
        let mut next = Bench::new(RULES);
        for client in bench.fleet.image().1.clients {
            let exit = if client.spec.name == name("a") { Exit::Clean } else { Exit::Code(1) };
            next.apply(Input::Restored(Box::new(client), ProcessStatus::Ended(exit)));
        }
        bench = next;
        let (a, b) = (&bench.get("a").history, &bench.get("b").history);
        assert_eq!((a.exits, a.held, a.last_exit), (1, true, Some(Exit::Code(0))));
        assert_eq!(a.reason.as_deref(), Some("no module"));
        assert_eq!((b.exits, b.held, b.last_exit), (1, false, Some(Exit::Code(1))));
        assert!(b.next_start.is_some());
    }
}

#[test]
fn unseen_stop_by_client_api_removes_the_client() {
    let mut bench = Bench::new(RULES);
    bring_up(&mut bench, "a", 7);
    let saved = bench.fleet.image().1.clients.remove(0);
    let mut next = Bench::new(RULES);
    next.apply(Input::Restored(Box::new(saved), ProcessStatus::Ended(Exit::Code(STOP_ASKED.into()))));
    assert!(next.is_empty() && next.saved().is_empty());
}

#[test]
fn reason_masks_secrets_but_not_the_registration() {
    let secret = |text: &str| ParamValue { text: text.into(), secret: true, path: None };
    let params = [
        (REGISTRATION.to_owned(), secret("3001")),
        ("pwd".to_owned(), secret("ge\theim")),
        ("token".to_owned(), secret("ge\theim-long")),
    ];
    let spec = ClientSpec { params: params.into(), ..(*spec("a")).clone() };
    assert_eq!(&*shown("no answer from 127.0.0.1:3001", &spec), "no answer from 127.0.0.1:3001");
    assert_eq!(&*shown("ge\theim, ge heim and ge\theim-long", &spec), "***, *** and ***");
}

#[test]
fn reason_of_failed_launch_has_no_secrets() {
    let pwd = ParamValue { text: "geheim".into(), secret: true, path: None };
    let spec = ClientSpec { params: [("pwd".to_owned(), pwd)].into(), ..(*spec("a")).clone() };
    let inputs: [fn(Launch, String) -> Input; 3] =
        [Input::LaunchFailed, Input::LaunchPostponed, Input::LaunchRefused];
    for (input, says) in inputs.into_iter().zip(["failed", "failed", "invalid"]) {
        let mut bench = Bench::new(RULES);
        bench.apply(Input::Start(RequestId(1), Arc::new(spec.clone())));
        bench.apply(Input::Probed(launch_of("a", 1), PortState::Free));
        let told = words(bench.apply(input(launch_of("a", 1), "it said: geheim".into())));
        assert_eq!(told, [format!("1: {says}: it said: ***")]);
    }
}

#[test]
fn last_words_of_a_killed_process_are_no_reason() {
    let mut bench = Bench::new(RULES);
    for (pid, exit) in [(7, Exit::Signal(9)), (8, Exit::Stopped)] {
        let a = bring_up(&mut bench, "a", pid);
        end(&mut bench, &a, exit);
        bench.apply(ProcessEvent::LastWords(a, "a message came".into()));
        assert_eq!(reason(&bench, "a"), None, "{exit}");
    }
}
