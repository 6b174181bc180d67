use super::*;

/// A sandbox for the account `test` that logs in in about 10 s, in a folder of its own.
pub(in crate::client) fn sandbox() -> (Sandbox, Driver, mpsc::Receiver<News>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let vars = [
        ("ACCOUNT", "test"),
        ("PLUGIN_OPENQQ_PORT", "5000"),
        ("SANDBOX_LOGIN_TIME", "10"),
        ("TMPDIR", folder.path().to_str().unwrap()),
    ];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let (sender, news) = mpsc::channel(8);
    let (sandbox, driver) = open(&Settings::from_vars(vars).unwrap(), sender).unwrap();
    (sandbox, driver, news, folder)
}

#[tokio::test(start_paused = true)]
async fn logs_in_and_echoes() {
    let (sandbox, driver, mut news, _folder) = sandbox();
    let start = Instant::now();
    tokio::spawn(driver.run());
    assert!(matches!(news.recv().await, Some(News::Loading)));
    assert!(matches!(news.recv().await, Some(News::Code(code)) if code.contains("/sandbox/login/")));
    assert!(matches!(news.recv().await, Some(News::Scanned)));
    assert!(matches!(news.recv().await, Some(News::Confirmed)));
    assert!(matches!(news.recv().await, Some(News::Ready { scanned: true })));
    assert_eq!((Instant::now() - start).as_secs(), 9);
    tokio::task::yield_now().await;

    let friend = sandbox.friends().await.unwrap()[0].clone();
    let sent = sandbox.send(&Recipient::Friend(friend.id.clone()), "你好").await.unwrap().message;
    assert_eq!(sent.receiver.as_ref().unwrap().uid, friend.uid);
    let Some(News::Received(echo)) = news.recv().await else { panic!("no echo") };
    assert_eq!((echo.content.as_str(), Some(&echo.sender)), ("你好", sent.receiver.as_ref()));
    assert_ne!(echo.id, sent.id);
    let unknown = sandbox.send(&Recipient::Friend("7".into()), "x").await;
    assert_eq!(unknown, Err(BackendError::Gone));
}
