use super::*;
use crate::client::backend::BackendEvent;
use crate::client::sandbox::tests::sandbox;
use futures_util::FutureExt;
use std::path::Path;

fn settings(folder: &Path, seconds: u64) -> OutboxSettings {
    OutboxSettings {
        max_messages: 100,
        interval: Duration::from_secs(seconds),
        folder: folder.join("outbox"),
    }
}

fn waiting_files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("outbox")).map_or(0, Iterator::count)
}

#[tokio::test(start_paused = true)]
async fn messages_are_sent_in_order_and_at_the_interval() {
    let (backend, driver, mut news, folder) = sandbox();
    tokio::spawn(driver.run());
    while !matches!(news.recv().await, Some(BackendEvent::Ready { .. })) {}
    tokio::task::yield_now().await;
    let friend = Recipient::Friend(backend.friends().await.unwrap()[0].id.clone());
    let (outbox, dispatcher) = open(&settings(folder.path(), 3), Reporter::disconnected());
    let start = Instant::now();
    let dispatch = dispatcher.run(Arc::new(backend), CancellationToken::new());
    let check = futures_util::future::join_all((0..3_u64).map(|n| {
        let sent = outbox.send(n.to_string(), friend.clone(), n.to_string().into());
        async move {
            let message = sent.await.unwrap().message;
            assert_eq!((message.content, message.id), (n.to_string(), n.to_string()));
            assert_eq!((Instant::now() - start).as_secs(), 3 * n);
        }
    }));
    tokio::select! { () = dispatch => panic!("the dispatcher ended"), _ = check => {} }
}

#[tokio::test(start_paused = true)]
async fn dropped_send_frees_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _dispatcher) = open(&settings(folder.path(), 3), Reporter::disconnected());
    let to = || Recipient::Friend("1".into());
    let mut waiting = Box::pin(outbox.send("1".into(), to(), "x".into()));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(outbox.shared.backlog().due().is_some());
    drop(waiting);
    assert!(outbox.shared.backlog().due().is_none());
}

#[tokio::test(start_paused = true)]
async fn send_without_a_turn_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _dispatcher) = open(&settings(folder.path(), 3), Reporter::disconnected());
    let start = Instant::now();
    let outcome = outbox.send("1".into(), Recipient::Friend("1".into()), "x".into()).await;
    assert_eq!((outcome, start.elapsed()), (Err(SendError::Withdrawn), WITHDRAW_AFTER));
    assert!(outbox.shared.backlog().due().is_none());
}

#[tokio::test(start_paused = true)]
async fn send_under_way_at_the_end_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let tmpdir = folder.path().to_str().unwrap();
    let vars = [
        ("ACCOUNT", "test"),
        ("PLUGIN_OPENQQ_PORT", "5000"),
        ("SANDBOX_FAULT_DELAY", "3600"),
        ("TMPDIR", tmpdir),
    ];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let all = crate::client_settings::ClientSettings::from_vars(vars).unwrap();
    let crate::client_settings::BackendSettings::Sandbox(own) = &all.backend else {
        panic!("it is the default")
    };
    let (news, _heard) = tokio::sync::mpsc::channel(8);
    let (backend, _driver) = crate::client::sandbox::open(
        &all,
        own,
        news,
        crate::client::applications::hub::Hub::new(std::time::Duration::ZERO),
    )
    .unwrap();
    let (outbox, dispatcher) = open(&settings(folder.path(), 0), Reporter::disconnected());
    outbox.queue("1".into(), Recipient::Friend("1".into()), "x".into()).unwrap();
    let ending = CancellationToken::new();
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(waiting_files(folder.path()), 1);
        ending.cancel();
    };
    tokio::join!(dispatcher.run(Arc::new(backend), ending.clone()), end);
    assert_eq!(waiting_files(folder.path()), 0, "it was reported");
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_callers_and_removes_files() {
    let (backend, _driver, _news, folder) = sandbox();
    let (outbox, dispatcher) = open(&settings(folder.path(), 3), Reporter::disconnected());
    let to = || Recipient::Friend("1".into());
    outbox.queue("1".into(), to(), "x".into()).unwrap();
    assert_eq!(waiting_files(folder.path()), 1);
    let ending = CancellationToken::new();
    ending.cancel();
    let end = dispatcher.run(Arc::new(backend), ending);
    let (outcome, ()) = tokio::join!(outbox.send("2".into(), to(), "x".into()), end);
    assert_eq!(outcome, Err(SendError::Stopped));
    assert_eq!(waiting_files(folder.path()), 0, "it was reported");
    assert_eq!(outbox.queue("3".into(), to(), "x".into()), Err(SendError::Stopped));
    assert_eq!(waiting_files(folder.path()), 0);
}
