//! The reports and log lines of a client that is not logged in.

use super::waiting::LOOK;
use super::*;
use crate::client::account::binding::AccountBinding;
use crate::client::remote::transport::calls::Calls;
use crate::client::remote::transport::inbox;
use tokio::time::{Instant, timeout};

/// Sessions with these ways, and what they tell.
fn sessions(
    token: Option<PathBuf>,
    code: Option<&std::path::Path>,
    transport: impl FnOnce(Arc<inbox::Inbox>) -> Transport,
) -> (Sessions, mpsc::Receiver<BackendEvent>) {
    let calls = Arc::new(Calls::new(Duration::from_secs(30)));
    let binding =
        Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None));
    let inbox = Arc::new(inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding.clone()).0);
    let hour = Duration::from_secs(3600);
    let transport = transport(inbox.clone());
    let state = Arc::new(RemoteState::new("x".into(), calls, inbox, binding, hour, false, 1));
    let (events, told) = mpsc::channel(64);
    let sessions = Sessions {
        state,
        events,
        transport,
        token,
        code: LoginCodeFile::new(code),
        policy: None,
        call_time: Duration::from_secs(30),
        progress: LoginProgress::default(),
    };
    (sessions, told)
}

/// Sessions that fail for want of a token, and what they tell.
fn without_token(token: PathBuf) -> (Sessions, mpsc::Receiver<BackendEvent>) {
    let transport =
        |_| Transport::Forward { url: "ws://127.0.0.1:1/".into(), host: "127.0.0.1".into(), port: 1 };
    sessions(Some(token), None, transport)
}

/// The implementation is to come to us.
fn reverse(inbox: Arc<inbox::Inbox>) -> Transport {
    let address = "127.0.0.1:1".parse().unwrap();
    let (acceptor, sockets) =
        Acceptor::new(crate::client::remote::transport::listener::AcceptorMode::Reverse, address, inbox);
    Transport::Reverse { acceptor, sockets, next: None }
}

fn write_token(path: &std::path::Path, token: &str) {
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn new_token_or_relogin_ends_the_wait_for_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write_token(&path, "old");
    let (sessions, mut told) = sessions(Some(path.clone()), None, reverse);
    let state = sessions.state.clone();
    let hear = async {
        assert!(matches!(told.recv().await, Some(BackendEvent::Loading)));
        let waits = async |told: &mut mpsc::Receiver<BackendEvent>| {
            let event = timeout(LOOK * 2, told.recv()).await;
            assert!(
                matches!(&event, Ok(Some(BackendEvent::Delayed(why))) if why.starts_with("waiting for")),
                "{event:?}"
            );
        };
        waits(&mut told).await;
        state.relogin.notify_one();
        waits(&mut told).await;
        write_token(&path, "another");
        waits(&mut told).await;
        write_token(&path, "two words");
        let event = timeout(LOOK * 2, told.recv()).await;
        assert!(matches!(event, Ok(Some(BackendEvent::Blocked(_)))), "the file is read again");
    };
    tokio::select! {
        _ = sessions.run() => panic!("it gave up"),
        () = hear => {}
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_connection_keeps_the_login_code() {
    let folder = tempfile::tempdir().unwrap();
    let code = folder.path().join("code.png");
    let (sessions, mut told) = sessions(None, Some(&code), reverse);
    let state = sessions.state.clone();
    let hear = async {
        assert!(matches!(told.recv().await, Some(BackendEvent::Loading)));
        assert!(matches!(told.recv().await, Some(BackendEvent::Delayed(_))));
        std::fs::write(&code, b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82").unwrap();
        assert!(matches!(told.recv().await, Some(BackendEvent::LoginImage(_))));
        // The wait begins anew.
        state.relogin.notify_one();
        let event = timeout(LOOK * 5, told.recv()).await;
        assert!(event.is_err(), "{event:?}");
        // Once it is gone, it is said again what is waited for.
        std::fs::remove_file(&code).unwrap();
        let event = told.recv().await;
        assert!(
            matches!(&event, Some(BackendEvent::Delayed(why)) if why.starts_with("waiting for")),
            "{event:?}"
        );
    };
    tokio::select! {
        _ = sessions.run() => panic!("it gave up"),
        () = hear => {}
    }
}

#[tokio::test(start_paused = true)]
async fn unusable_token_is_reported_once_and_retried_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let (sessions, mut told) = without_token(path.clone());
    let mut sessions = std::pin::pin!(sessions.run());
    let hear = async {
        assert!(matches!(told.recv().await, Some(BackendEvent::Loading)));
        let Some(BackendEvent::Blocked(missing)) = told.recv().await else { panic!() };
        assert!(missing.contains("the file of the token cannot be used"), "{missing}");
        assert!(timeout(Duration::from_secs(600), told.recv()).await.is_err(), "it is the same");
        // Another reason is news, and is seen with the next try.
        std::fs::write(&path, "two words").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let tried = Instant::now();
        let Some(BackendEvent::Blocked(wrong)) = told.recv().await else { panic!() };
        assert!(wrong.contains("must hold the token"), "{wrong}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(told.recv().await, Some(BackendEvent::Blocked(again)) if again == missing));
        tried.elapsed()
    };
    tokio::select! {
        _ = &mut sessions => panic!("it gave up"),
        elapsed = hear => assert!(elapsed <= LOOK * 2, "{elapsed:?}: a changed file ends the pause"),
    }
}
