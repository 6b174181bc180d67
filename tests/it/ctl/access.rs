//! Where the controller is found, and what it is shown.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Played, assert_fails, printed, ran_at, wqctl};
use crate::fixture::{Builder, Controller, free_port, wait_until};
use crate::output::run;

/// Another user than root, where root runs the tests.
const OTHER: u32 = 65534;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT RUN as a whole: only root can be other users.");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "all tests have to run where CI=true");
    }
    root
}

fn with_tokens() -> Controller {
    let builder = Builder::new();
    let key = builder.write_file("key", "a-word-that-writes", 0o600);
    let eye = builder.write_file("eye", "a-word-that-reads", 0o600);
    builder.write_file("wrong", "a-word-that-is-wrong", 0o600);
    builder.write_file("open", "a-word-that-writes", 0o640);
    let tokens = format!(
        "[[auth.tokens]]\nname = 'key'\nfile = {key:?}\n[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"
    );
    builder.config(&tokens).built_in()
}

#[test]
fn token_comes_by_file_or_variable() {
    let controller = with_tokens();
    let url = controller.url("");
    let path = |name: &str| controller.path(name).to_str().unwrap().to_owned();
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let (_folder, mut command) = wqctl();
        run(command.args(["--url", &url]).args(arguments).envs(variables.iter().copied()))
    };
    let good = (Some(0), String::new(), String::new());
    let names = ["list", "--names"];
    assert_eq!(with(&[&["--token-file", &path("key")], &names[..]].concat(), &[]), good);
    assert_eq!(with(&names, &[("WQCTL_TOKEN", "a-word-that-writes")]), good);
    assert_eq!(with(&names, &[("WQCTL_TOKEN_FILE", &path("eye"))]), good);
    // What is named more plainly counts.
    let wrong = [("WQCTL_TOKEN", "a-word-that-is-wrong"), ("WQCTL_TOKEN_FILE", &path("key"))];
    assert_eq!(with(&[&names[..], &["--token-file", &path("key")]].concat(), &wrong), good);
    assert_fails(
        with(&names, &wrong),
        4,
        "does not know the token of the variable WQCTL_TOKEN",
        "--token-file",
    );
    let wrong = path("wrong");
    assert_fails(with(&["list", "--token-file", &wrong], &[]), 4, &wrong, "--token-file");
    assert_fails(
        with(&["list"], &[]),
        4,
        "wants a token",
        "wqctl --token-file FILE, or set WQCTL_TOKEN_FILE",
    );
    let eye = with(&["stop", "bot", "--token-file", &path("eye")], &[]);
    assert_fails(eye, 4, "does not open this", "--token-file");
    let open = path("open");
    let refused = with(&["list", "--token-file", &open], &[]);
    assert_fails(refused, 4, "not private (mode 0640)", &format!("chmod 600 {open}"));
    assert_fails(with(&["list", "--token-file", &path("none")], &[]), 4, "No such file", "--token-file");
}

#[test]
fn secrets_are_no_arguments() {
    for arguments in [
        &["--token", "a-word"][..],
        &["--url", "http://me:a-word@127.0.0.1:1/"],
        &["--url", "http://h/?token=a-word"],
    ] {
        let (_folder, mut command) = wqctl();
        let (status, _, complaint) = run(command.args(arguments));
        assert_eq!(status, Some(2), "{arguments:?}");
        assert!(complaint.starts_with("wqctl: ") && !complaint.contains("a-word@"), "{complaint}");
    }
}

#[test]
fn without_a_controller_it_says_how_to_start_one() {
    let (_folder, mut command) = wqctl();
    assert_fails(run(&mut command), 3, "no controller answers", "systemctl start wqcontroller");
    let port = free_port();
    let at = format!("http://127.0.0.1:{port}");
    assert_fails(
        ran_at(&at, &["list"]),
        3,
        &format!("127.0.0.1:{port}: Connection refused"),
        "systemctl start",
    );
    assert_fails(ran_at("unix:/nowhere/x", &["list"]), 3, "/nowhere/x: No such file", "systemctl start");
    // Names are completed in silence.
    let other = Played::always("<html>");
    assert_fails(ran_at(&other.url, &["list"]), 3, "is no controller", "--url");
    let away = Played::new(|_| {
        let said =
            r#"{"code":503,"status":"the controller can't start; systemctl status wqcontroller says why"}"#;
        (503, "application/json", said.to_owned())
    });
    assert_fails(ran_at(&away.url, &["list"]), 3, "the controller can't start", "wqctl check");
}

#[test]
fn socket_comes_first_and_the_port_where_there_is_none() {
    let (by_port, builder) = (Builder::new().built_in(), Builder::new());
    let socket = builder.path("door");
    let by_socket = builder.config(&format!("listen = 'unix:{}'", socket.display())).built_in();
    by_port.start_client("by-port");
    let start = super::wqctl();
    let (_folder, mut command) = start;
    let url = format!("unix:{}", socket.display());
    assert_eq!(run(command.args(["--url", &url, "start", "by-socket"])).0, Some(0));
    let names = |doors: String, user: Option<u32>| {
        let (folder, mut command) = wqctl();
        if let Some(user) = user {
            std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            command.uid(user).gid(user);
        }
        run(command.args(["list", "--names"]).env("WQCONTROLLER_TEST_DOORS", doors))
    };
    let (socket, port) = (socket.display(), by_port.address.port());
    let good = |name: &str| (Some(0), format!("{name}\n"), String::new());
    assert_eq!(names(format!("{socket} {port}"), None), good("by-socket"));
    assert_eq!(names(format!("{socket}.none {port}"), None), good("by-port"));
    if is_root() {
        // Where it is there and not for this user.
        for folder in [&by_socket.folder, &by_port.folder] {
            std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
        }
        assert_eq!(names(format!("{socket} {port}"), Some(OTHER)), good("by-port"));
        let closed = names(format!("{socket} {}", free_port()), Some(OTHER));
        assert_fails(closed, 4, &format!("{socket} is not open to you"), "usermod -aG wqctl $USER");
    }
}

#[test]
fn token_is_not_sent_to_a_stranger_at_the_usual_port() {
    if !is_root() {
        return;
    }
    let port = free_port();
    let script = format!(
        "use IO::Socket::INET; $l = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1:{port}') or die; print \"up\\n\"; \
         $| = 1; print ''; while ($c = $l->accept) {{ sysread $c, $b, 9999; print $b; print $c \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nxx\"; close $c }}"
    );
    let mut stranger = Command::new("perl");
    stranger.args(["-e", &format!("$| = 1; {script}")]).uid(OTHER).gid(OTHER).stdout(Stdio::piped());
    let mut stranger = stranger.spawn().unwrap();
    let heard = crate::output::Log::default();
    heard.follow(stranger.stdout.take().unwrap());
    heard.wait_for("up");
    let ask = |token: Option<&str>| {
        let (folder, mut command) = wqctl();
        command.env("WQCONTROLLER_TEST_DOORS", format!("{}/none {port}", folder.path().display()));
        run(command.arg("list").envs(token.map(|token| ("WQCTL_TOKEN", token))))
    };
    let refused = ask(Some("a-word-that-writes"));
    assert_fails(refused, 3, "a program of user 65534 listens there", "systemctl start");
    // Without a token there is nothing to be kept from it, which shows that it listens.
    assert_eq!(ask(None).0, Some(3));
    wait_until("it is asked", || heard.text().contains("GET /v1/clients"));
    assert!(!heard.text().contains("a-word-that-writes"), "{}", heard.text());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn version_and_help_are_its_own() {
    let controller = Builder::new().built_in();
    assert_eq!(printed(&controller, &["--version"]), format!("wqctl {}\n", env!("CARGO_PKG_VERSION")));
    let (status, _, complaint) = ran_at(&controller.url(""), &["lsit"]);
    assert_eq!(status, Some(2));
    assert!(complaint.starts_with("wqctl: ") && complaint.contains("list"), "{complaint}");
    for command in ["", "list", "start", "forget", "logs", "top", "bugreport"] {
        let help =
            printed(&controller, &[&["help"][..], &[command][..usize::from(!command.is_empty())]].concat());
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
