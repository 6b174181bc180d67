use super::*;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::message::Recipient;
use crate::client::settings::BackendSettings;

fn draft(friend: &str, content: &str) -> Draft {
    let to = Recipient::Friend(friend.into());
    Draft { id: "1".into(), to, content: content.into(), segments: Vec::new(), claim: Default::default() }
}

/// A sandbox for the account `test` that logs in in about 10 s, in a folder of its own.
pub(crate) fn sandbox() -> (Sandbox, SandboxDriver, mpsc::Receiver<BackendEvent>, tempfile::TempDir) {
    sandbox_in(None)
}

/// The same, logged in.
pub(crate) async fn logged_in() -> (Sandbox, mpsc::Receiver<BackendEvent>, tempfile::TempDir) {
    let (sandbox, driver, mut news, folder) = sandbox();
    tokio::spawn(driver.run());
    while !matches!(news.recv().await, Some(BackendEvent::Ready { .. })) {}
    tokio::task::yield_now().await;
    (sandbox, news, folder)
}

/// The same, with a file of its own as its world.
fn sandbox_in(
    world: Option<&str>,
) -> (Sandbox, SandboxDriver, mpsc::Receiver<BackendEvent>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("world.toml");
    if let Some(world) = world {
        std::fs::write(&file, world).unwrap();
    }
    let vars = [
        ("ACCOUNT", "test"),
        ("PLUGIN_OPENQQ_PORT", "5000"),
        ("SANDBOX_LOGIN_TIME", "10"),
        ("TMPDIR", folder.path().to_str().unwrap()),
        ("SANDBOX_WORLD", world.and(file.to_str()).unwrap_or_default()),
    ];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let (sender, news) = mpsc::channel(64);
    let settings = ClientSettings::from_vars(vars).unwrap();
    let BackendSettings::Sandbox(own) = &settings.backend else { panic!("it is the default") };
    let (sandbox, driver) =
        open(&settings, own, sender, crate::client::applications::hub::Hub::new(std::time::Duration::ZERO))
            .unwrap();
    (sandbox, driver, news, folder)
}

#[tokio::test(start_paused = true)]
async fn world_changed_during_a_login_is_reported_after_it() {
    let people = |names: &[&str]| -> String {
        let person = |(uid, name)| format!("[[people]]\nuid = \"{uid}\"\nname = \"{name}\"\n");
        names.iter().enumerate().map(person).collect()
    };
    let (sandbox, driver, mut news, folder) = sandbox_in(Some(&people(&["test"])));
    let change = |names: &[&str]| std::fs::write(folder.path().join("world.toml"), people(names)).unwrap();
    tokio::spawn(driver.run());
    // Time passes only while nothing else happens.
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(3600), news.recv()).await.unwrap().unwrap();
    let mut names = vec!["test"];
    for name in ["甲", "乙"] {
        while !matches!(next().await, BackendEvent::LoginCode(_)) {}
        names.push(name);
        change(&names);
        while !matches!(next().await, BackendEvent::Ready { .. }) {}
        let BackendEvent::Account(event) = next().await else { panic!("no event") };
        assert!(matches!(*event, AccountEvent::NewFriend(friend) if friend.name == name));
        sandbox.relogin();
    }
}

#[tokio::test(start_paused = true)]
async fn sandbox_logs_in_and_echoes() {
    let (sandbox, driver, mut news, _folder) = sandbox();
    let start = Instant::now();
    tokio::spawn(driver.run());
    assert!(matches!(news.recv().await, Some(BackendEvent::Loading)));
    assert!(
        matches!(news.recv().await, Some(BackendEvent::LoginCode(code)) if code.contains("/sandbox/login/"))
    );
    assert!(matches!(news.recv().await, Some(BackendEvent::Scanned)));
    assert!(matches!(news.recv().await, Some(BackendEvent::Confirmed)));
    assert!(matches!(news.recv().await, Some(BackendEvent::Ready { scanned: true })));
    assert_eq!((Instant::now() - start).as_secs(), 9);
    tokio::task::yield_now().await;

    let friend = sandbox.friends().await.unwrap()[0].clone();
    let sent = sandbox.send(&draft(&friend.id, "你好")).await.unwrap().message;
    assert_eq!(sent.receiver.as_ref().unwrap().uid, friend.uid);
    let Some(BackendEvent::Message(echo)) = news.recv().await else { panic!("no echo") };
    assert_eq!((echo.content.as_str(), Some(&echo.sender)), ("你好", sent.receiver.as_ref()));
    assert_ne!(echo.id, sent.id);
    let unknown = sandbox.send(&draft("7", "x")).await;
    assert_eq!(unknown, Err(BackendError::Gone));
}
