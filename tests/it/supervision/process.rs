//! A client's process as it is when it begins.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{Process, pid, read_when_there, send};
use crate::fixture::{Builder, Controller, freeze, program, wait_until};

fn arguments(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    text.split(|b| *b == 0).map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

/// A controller whose client is a `sleep` that a script became.
fn sleeper() -> (Controller, u32) {
    let builder = Builder::new().template("#!/bin/sh\nexec sleep 3600\n");
    let template = builder.write_template();
    let mut command = builder.command(Some(&template));
    // Ours is not theirs.
    command.stdin(std::process::Stdio::piped());
    let controller = builder.launch(command);
    let pid = pid(&controller.start_client("a"));
    wait_until("the script is over", || arguments(pid)[0] == "sleep");
    (controller, pid)
}

#[test]
fn client_has_the_environment_of_the_contract() {
    let script = "#!/bin/sh\ncat /proc/$$/environ >\"$MOJO_WEBQQ_TMPDIR/new\"\n\
                  mv \"$MOJO_WEBQQ_TMPDIR/new\" \"$MOJO_WEBQQ_TMPDIR/environ\"\nexec sleep 3600\n";
    let ours = [("PERL5LIB", "/opt/perl"), ("HOME", "/home/x"), ("PATH", "/usr/local/bin:/usr/bin:/bin")];
    let not_to_pass = [
        ("MOJO_WEBQQ_PWD", "stale"),
        ("MOJO_WEBQQ_ACCOUNT", "stale"),
        ("MOJO_WEBQQ_LOG_PATH", "/stale"),
        ("INVOCATION_ID", "ours"),
        ("SYSTEMD_EXEC_PID", "1"),
    ];
    let builder = Builder::new().template(script).config("log_encoding = \"gbk\"");
    let builder = ours.iter().chain(&not_to_pass).fold(builder, |all, (name, value)| all.env(name, value));
    let controller = builder.start();
    controller.start_client_with("%E5%B0%8F", "log_level=debug&Extra=a+b%3D&post_api=http://127.0.0.1:9/x");

    let environment = read_when_there(&controller.path("environ"));
    let environment = String::from_utf8(environment).unwrap();
    let pairs = environment.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    let (mut contract, others): (BTreeMap<&str, &str>, BTreeMap<&str, &str>) =
        pairs.partition(|(name, _)| name.starts_with("MOJO_WEBQQ_"));
    let registration = contract.remove("MOJO_WEBQQ_REGISTRATION").unwrap();
    assert!(registration.starts_with("1-"), "{registration}");

    let folder = controller.folder.path().to_str().unwrap();
    let (port, controller_pid) = (controller.first_port.to_string(), controller.pid().to_string());
    let lasting = format!("{folder}/clients/-6a7339bb759788f3");
    let state = format!("{folder}/mojo_webqq_state_小.json");
    let qrcode = format!("{folder}/mojo_webqq_qrcode_小.jpg");
    let pid = format!("{folder}/mojo_webqq_pid_小.pid");
    let expected = [
        ("ACCOUNT", "小"),
        ("CLIENT", "小"),
        ("CONTROLLER_PID", &*controller_pid),
        ("DISABLE_COLOR", "1"),
        ("EXTRA", "a b="),
        ("HTTP_DEBUG", "0"),
        ("LOG_CONSOLE", "1"),
        ("LOG_ENCODING", "gbk"),
        ("LOG_LEVEL", "debug"),
        ("PID_PATH", &pid),
        ("PLUGIN_OPENQQ_PORT", &port),
        ("PLUGIN_OPENQQ_POST_API", "http://127.0.0.1:9/x?client=%E5%B0%8F"),
        ("POST_API", "http://127.0.0.1:9/x"),
        ("QRCODE_PATH", &qrcode),
        ("STATE_DIRECTORY", &lasting),
        ("STATE_PATH", &state),
        ("TMPDIR", folder),
    ]
    .map(|(name, value)| (format!("MOJO_WEBQQ_{name}"), value));
    assert_eq!(contract, expected.iter().map(|(name, value)| (&**name, *value)).collect());

    for (name, value) in ours {
        assert_eq!(others.get(name), Some(&value));
    }
    for (name, value) in others {
        assert!(not_to_pass.iter().all(|(private, _)| *private != name), "{name}");
        let inherited = ours.contains(&(name, value))
            || std::env::var(name).as_deref() == Ok(value)
            // The fixture's, for the registry.
            || name == "XDG_STATE_HOME";
        assert!(inherited, "{name}={value} comes from nowhere");
    }
}

#[test]
fn client_leads_its_own_group_and_inherits_nothing() {
    let (controller, pid) = sleeper();
    let process = Process::of(pid).unwrap();
    assert_eq!((process.group, process.parent), (pid, controller.pid()));
    let files = |of: &str| -> BTreeMap<u32, PathBuf> {
        let entries = fs::read_dir(format!("/proc/{of}/fd")).unwrap().map(|entry| entry.unwrap());
        let number = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
        entries.filter_map(|entry| Some((number(&entry), fs::read_link(entry.path()).ok()?))).collect()
    };
    // Files that were open when the tests began are inherited by all processes.
    let inherited = files("self");
    let mut open = files(&pid.to_string());
    open.retain(|number, path| *number < 3 || inherited.get(number) != Some(path));
    assert_eq!(open.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{open:?}");
    assert_eq!(open[&0], PathBuf::from("/dev/null"));
    assert!([1, 2].iter().all(|number| open[number].to_str().unwrap().starts_with("pipe:")), "{open:?}");
    assert_ne!(open[&1], open[&2], "one for each");

    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(signals("SigBlk:"), 0, "no signal is held back");
    let broken_pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_eq!(signals("SigIgn:") & broken_pipe, 0, "the client is not to go on where its output ends");
}

#[test]
fn client_process_has_its_title() {
    // The executable itself as the template: it is the client where it is called so.
    let controller = Builder::new().config(&format!("template_path = {:?}", program())).built_in();
    let started = pid(&controller.start_client_with("a%20%28b%29", ""));
    controller.wait_for_state("a (b)", "running");
    assert_eq!(arguments(started)[0], "wqclient(a (b))");
    // A script has the name of its shell, so the built-in client takes its own.
    let controller = Builder::new().built_in();
    let started = pid(&controller.start_client("b"));
    wait_until("it has its name", || arguments(started)[0] == "wqclient(b)");
}

#[test]
fn client_port_is_exclusive() {
    let builder = Builder::new();
    let port = |n: u16| builder.first_port() + n;
    let _everywhere = std::net::TcpListener::bind(("0.0.0.0", port(0))).unwrap();
    let _here = std::net::TcpListener::bind(("127.0.0.1", port(1))).unwrap();
    // A connection from a port is as good as a listener on it.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let outgoing =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&outgoing, &std::net::SocketAddr::from(([127, 0, 0, 1], port(2)))).unwrap();
    rustix::net::connect(&outgoing, &server.local_addr().unwrap()).unwrap();

    let (first, controller) = (port(0), builder.config("[supervisor]\nstop_timeout = 3600").start());
    // It never listens, so a probe could not tell that the port is its own.
    let started = controller.start_client_with("a", "fake_listen_delay=3600000");
    assert_eq!(started["port"], first + 3);
    assert_eq!(controller.start_client_with("b", "fake_listen_delay=3600000")["port"], first + 4);
    // Nor while it is being stopped.
    freeze(pid(&started));
    controller.get("/openqq/stop_client?client=a&async=1");
    assert_eq!(controller.start_client("c")["port"], first + 5);
    send(pid(&started), rustix::process::Signal::CONT);
    wait_until("a is gone", || controller.state("a").is_none());
    assert_eq!(controller.start_client("d")["port"], first + 3);
}
