use super::*;
use crate::config::LimitSettings;
use crate::model::client::{Exit, Generation};
use crate::model::fleet::Input;
use crate::model::name::ClientName;
use tokio::sync::mpsc;
use tokio::time::sleep;

#[tokio::test]
async fn shorter_grace_of_two_stops_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (ended, mut all_ended) = mpsc::channel(8);
    let direct = Direct::new(EventSender::new(ended)).unwrap();
    for (n, graces) in [[0, 3600], [3600, 0]].into_iter().enumerate() {
        let refuses = folder.path().join(n.to_string());
        let script = format!("trap '' TERM; : >'{}'; while :; do sleep 1; done", refuses.display());
        let handle = direct.start(plan(n as u64, script)).await.unwrap();
        while !refuses.exists() {
            sleep(Duration::from_millis(5)).await;
        }
        let [first, second] = graces.map(|seconds| direct.stop(&handle, Duration::from_secs(seconds)));
        // Both calls come before the watcher runs, which is on this thread.
        let both = timeout(Duration::from_secs(60), async { tokio::join!(first, second) });
        let (first, second) = both.await.expect("the time given up was waited for");
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(
            all_ended.recv().await,
            Some(Input::Process(ProcessEvent::Exited(_, Exit::Signal(9))))
        ));
    }
}

#[tokio::test]
async fn reused_pid_is_not_adopted() {
    let (ended, _all_ended) = mpsc::channel(8);
    let direct = Direct::new(EventSender::new(ended)).unwrap();
    // It exits with this test, at the end of its input.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let start_ticks = proc::stat(child.id()).unwrap().start_ticks;
    let client = PersistedClient::example(ClientSpec::example("a", "/nonexistent"), None);
    let found = |start_ticks| {
        let boot_id = direct.boot_id.clone();
        ProcessStatus::Running(Handle::Direct { pid: child.id(), start_ticks, boot_id })
    };
    let (client, gone) = direct.take_up(client, found(start_ticks - 1), None);
    assert_eq!(gone, ProcessStatus::Gone { rebooted: false });
    assert!(direct.shared.children.lock().unwrap().is_empty(), "nor can it be ended");
    let (_, running) = direct.take_up(client, found(start_ticks), None);
    assert_eq!(running, found(start_ticks));
    // Its input is closed before it is waited for.
    child.wait().unwrap();
}

/// A launch of a shell with this script.
fn plan(generation: u64, script: String) -> LaunchPlan {
    let name = ClientName::new("a").unwrap();
    LaunchPlan {
        id: crate::model::name::UnitId::of(&name),
        launch: Launch { name, generation: Generation(generation) },
        program: Program::Command(TemplateCommand {
            program: "/bin/sh".into(),
            arg0: None,
            args: ["-c".into(), script.into()].into(),
        }),
        env: std::env::vars_os().collect(),
        output: Output::Log,
        limits: LimitSettings::default(),
    }
}

#[tokio::test]
async fn watcher_leaves_the_next_child_with_its_pid_alone() {
    let (ended, mut all_ended) = mpsc::channel(8);
    let direct = Direct::new(EventSender::new(ended)).unwrap();
    let handle = direct.start(plan(1, "exit 3".into())).await.unwrap();
    let Handle::Direct { pid, start_ticks, .. } = handle else { panic!("{handle:?}") };
    // As if it had been reaped, and the kernel had given its number away already.
    let next = Child { start_ticks: start_ticks + 1, end: watch::channel(None).0 };
    locked(&direct.shared.children).insert(pid, next);
    let exited = all_ended.recv().await;
    assert!(matches!(exited, Some(Input::Process(ProcessEvent::Exited(_, Exit::Code(3))))), "{exited:?}");
    assert!(locked(&direct.shared.children).contains_key(&pid));
}

#[tokio::test]
async fn process_whose_watcher_panics_is_killed_and_reported() {
    let (ended, mut all_ended) = mpsc::channel(8);
    let direct = Direct::new(EventSender::new(ended)).unwrap();
    let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let start_ticks = proc::stat(child.id()).unwrap().start_ticks;
    let handle = Child { start_ticks, end: watch::channel(None).0 };
    locked(&direct.shared.children).insert(child.id(), handle);
    let launch = plan(1, String::new()).launch;
    direct.shared.run_watcher((launch, child.id(), start_ticks), async { panic!("a test") }).await;
    let exited = all_ended.recv().await;
    assert!(matches!(exited, Some(Input::Process(ProcessEvent::Exited(_, Exit::Unknown)))), "{exited:?}");
    assert!(locked(&direct.shared.children).is_empty());
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}
