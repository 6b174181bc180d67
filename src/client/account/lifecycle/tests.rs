use super::*;
use crate::client::backend::message::Recipient;
use crate::client::outbox;
use crate::client::reports::{self, RecentEvents};
use crate::model::state::StateReport;
use crate::peers::PeerPolicy;

/// Nothing is sent: the dispatcher of the outbox does not run.
fn begin(settings: &ClientSettings, start_time: u64, reporter: Reporter) -> (Lifecycle, Outbox) {
    let (outbox, _) = outbox::open(&settings.outbox, reporter.clone());
    let parts = (reporter, outbox.clone());
    (Lifecycle::begin(settings, start_time, parts, Notifier::default()).unwrap(), outbox)
}

#[test]
fn state_file_and_login_code_follow_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let vars =
        [("ACCOUNT", "小明"), ("PLUGIN_OPENQQ_PORT", "5000"), ("TMPDIR", folder.path().to_str().unwrap())];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let settings = ClientSettings::from_vars(vars).unwrap();
    std::fs::write(&settings.files.qrcode, "left behind").unwrap();
    let report = || StateReport::parse(&std::fs::read(&settings.files.state).unwrap()).unwrap();

    let mut lifecycle = begin(&settings, 1_477_273_654, Reporter::disconnected()).0;
    assert!(!settings.files.qrcode.exists());
    assert_eq!((report().state, report().since), (ClientState::Init, Some(1_477_273_654)));
    let fields = report().fields();
    assert_eq!(fields["account"], "小明");
    assert_eq!(fields["start_time"], "1477273654");
    assert_eq!(fields["http_debug"], "0");
    assert!(fields["pid"].is_u64() && fields["log_path"].is_null() && fields["previous_state"].is_null());

    let seen = lifecycle.state();
    for (event, state, image) in [
        (BackendEvent::Loading, ClientState::Loading, false),
        (BackendEvent::LoginCode("code".into()), ClientState::Scaning, true),
        (BackendEvent::Scanned, ClientState::Confirming, true),
        (BackendEvent::Confirmed, ClientState::Updating, false),
        (BackendEvent::Ready { scanned: true }, ClientState::Running, false),
        (BackendEvent::Loading, ClientState::Loading, false),
        (BackendEvent::LoginCode("again".into()), ClientState::Scaning, true),
    ] {
        let before = report().state;
        assert_eq!(lifecycle.handle(event), None);
        assert_eq!((report().state, &*seen.borrow()), (state.clone(), &state));
        assert!(report().since > Some(1_477_273_654));
        assert_eq!(report().fields()["previous_state"], before.as_str());
        assert_eq!(settings.files.qrcode.exists(), image, "{state}");
    }
    let reason = || report().fields().get("reason").cloned();
    assert_eq!(lifecycle.handle(BackendEvent::Blocked("no token".into())), None);
    assert_eq!((report().state, reason()), (ClientState::Loading, Some("no token".into())));
    assert_eq!(lifecycle.handle(BackendEvent::Blocked("another".into())), None);
    assert_eq!(reason(), Some("another".into()));
    assert_eq!(report().fields()["previous_state"], "scaning", "a new reason is no new state");
    assert_eq!(lifecycle.handle(BackendEvent::Loading), None);
    assert_eq!((report().state, reason()), (ClientState::Loading, None));
    assert_eq!(lifecycle.handle(BackendEvent::LoginCode("again".into())), None);
    // One was shown above.
    for _ in 1..10 {
        assert_eq!(lifecycle.handle(BackendEvent::LoginCode("fresh".into())), None);
    }
    assert_eq!(
        lifecycle.handle(BackendEvent::LoginCode("too many".into())),
        Some(ShutdownReason::NotScanned)
    );
    assert_eq!(lifecycle.handle(BackendEvent::Loading), None);
    assert!(!settings.files.qrcode.exists());
    assert_eq!(lifecycle.handle(BackendEvent::LoginCode("anew".into())), None);
    lifecycle.end(Some("nobody came".into()));
    assert_eq!((report().state, reason()), (ClientState::Stop, Some("nobody came".into())));
    assert!(!settings.files.qrcode.exists());
}

#[tokio::test(start_paused = true)]
async fn failed_writes_are_retried() {
    let folder = tempfile::tempdir().unwrap();
    let (there, away) = (folder.path().join("there"), folder.path().join("away"));
    std::fs::create_dir(&there).unwrap();
    let vars = [("ACCOUNT", "a"), ("PLUGIN_OPENQQ_PORT", "5000"), ("TMPDIR", there.to_str().unwrap())];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let settings = ClientSettings::from_vars(vars).unwrap();
    let mut lifecycle = begin(&settings, 1, Reporter::disconnected()).0;
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(&there, "in its place").unwrap();
    assert_eq!(lifecycle.handle(BackendEvent::Loading), None);
    // These cannot be seen, so they do not count.
    for _ in 0..20 {
        assert_eq!(lifecycle.handle(BackendEvent::LoginCode("unseen".into())), None);
    }
    lifecycle.retry_due().await;
    lifecycle.retry_writes();
    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    lifecycle.retry_due().await;
    lifecycle.retry_writes();
    let report = StateReport::parse(&std::fs::read(&settings.files.state).unwrap()).unwrap();
    assert_eq!(report.state, ClientState::Scaning);
    assert_eq!(report.fields()["previous_state"], "loading");
    assert!(settings.files.qrcode.exists());
    let due = tokio::time::timeout(Duration::from_secs(3600), lifecycle.retry_due());
    assert!(due.await.is_err(), "all is written");
    lifecycle.clear_image();
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(&there, "in its place").unwrap();
    assert_eq!(lifecycle.handle(BackendEvent::LoginCode("unseen".into())), None);
    assert_eq!(lifecycle.handle(BackendEvent::Confirmed), None);
    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    lifecycle.retry_due().await;
    lifecycle.retry_writes();
    assert!(!settings.files.qrcode.exists(), "it is no longer valid");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_counted_now_and_then() {
    let folder = tempfile::tempdir().unwrap();
    let vars = [
        ("ACCOUNT", "a"),
        ("PLUGIN_OPENQQ_PORT", "5000"),
        ("TMPDIR", folder.path().to_str().unwrap()),
        ("PLUGIN_OPENQQ_POST_API", "http://127.0.0.1:1/"),
    ];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let settings = ClientSettings::from_vars(vars).unwrap();
    // Nothing is delivered: its deliverer does not run.
    let (reporter, _deliverer) =
        reports::open(&settings.reports, None, RecentEvents::new(1), PeerPolicy::of_client).unwrap();
    let waiting = || {
        let report = StateReport::parse(&std::fs::read(&settings.files.state).unwrap()).unwrap();
        report.queues
    };
    let (mut lifecycle, outbox) = begin(&settings, 1, reporter.clone());
    assert_eq!(waiting(), Queues { reports: Some(0), messages: Some(0) });
    assert_eq!(lifecycle.handle(BackendEvent::Loading), None);
    reporter.text("{}".to_owned());
    outbox.queue("1".to_owned(), Recipient::Friend("2".into()), "hello".into()).unwrap();
    let all = Queues { reports: reporter.waiting().map(|all| all as u64), messages: Some(1) };
    lifecycle.count_queues();
    assert!(waiting().reports < all.reports && waiting().messages == Some(0), "not at each: {all:?}");
    tokio::time::advance(COUNT_INTERVAL).await;
    lifecycle.count_queues();
    assert_eq!(waiting(), all);
    // The same number is not written again.
    let written = || {
        std::fs::metadata(&settings.files.state)
            .map(|file| std::os::unix::fs::MetadataExt::ino(&file))
            .unwrap()
    };
    let before = written();
    tokio::time::advance(COUNT_INTERVAL).await;
    lifecycle.count_queues();
    assert_eq!(written(), before);
}
