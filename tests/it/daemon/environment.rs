//! What of its environment is passed on to clients.

use crate::fixture::Builder;

#[test]
fn what_the_service_manager_says_to_us_alone_does_not_reach_clients() {
    let private = [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "FDSTORE",
        "MAINPID",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "SYSTEMD_EXEC_PID",
        "CREDENTIALS_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new().env("MINE", "kept").env("LANG", "zh_CN.UTF-8");
    for name in private {
        // A real path, so that a program that uses it fails at nothing else.
        builder = builder.env(name, folder.path().join(name).to_str().unwrap());
    }
    let controller = builder.env("MOJO_WEBQQ_PWD", "stale").env("MOJO_WEBQQ_X", "stale").start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    let environment = controller.get("/openqq/env?client=a").text();
    let has = |name: &str| environment.lines().any(|line| line.split('=').next() == Some(name));
    for name in private.into_iter().chain(["MOJO_WEBQQ_PWD", "MOJO_WEBQQ_X"]) {
        assert!(!has(name), "{name} in {environment}");
    }
    assert!(
        environment.contains("\nMINE=kept\n") && environment.contains("LANG=zh_CN.UTF-8\n"),
        "{environment}"
    );
    assert!(has("PATH"));
}
