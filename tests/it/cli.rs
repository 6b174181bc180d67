//! The command line: what the executable says to a user.

use std::fs::Permissions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Builder, program};
use crate::output::{configuration, run};

/// What one run gave: status, standard output, standard error.
fn called(arguments: &[&str]) -> (Option<i32>, String, String) {
    run(Command::new(program()).args(arguments))
}

#[test]
fn help_names_every_option_and_command() {
    for arguments in [["--help"], ["-h"], ["help"]] {
        let (status, help, complaint) = called(&arguments);
        assert_eq!((status, complaint.as_str()), (Some(0), ""), "{arguments:?}");
        for what in ["Usage: wqcontroller", "--config <FILE>", "--check-config", "--version", "client"] {
            assert!(help.contains(what), "{what} in {help}");
        }
    }
}

#[test]
fn version_is_one_line() {
    let expected = format!("wqcontroller {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [["--version"], ["-V"]] {
        assert_eq!(called(&arguments), (Some(0), expected.clone(), String::new()));
    }
}

#[test]
fn what_is_no_option_is_refused_with_status_2() {
    for arguments in [&["--no-such-flag"][..], &["start"], &["--config"], &["--check-config=yes"]] {
        let (status, printed, complaint) = called(arguments);
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(complaint.starts_with("error: ") && complaint.contains("--help"), "{complaint}");
        assert!(complaint.contains(arguments[0].split('=').next().unwrap()), "{complaint}");
    }
}

#[test]
fn option_that_a_command_would_not_heed_is_refused() {
    let commands = [&["client"][..], &["launch", "a"], &["relay", "a", "1"], &["reload", "1"]];
    for command in commands.into_iter().chain([&["note-removal"][..], &["launch-implementation", "a"]]) {
        for option in [&["--check-config"][..], &["--config", "/x"]] {
            if option.len() == 2 && ["note-removal", "launch-implementation"].contains(&command[0]) {
                continue;
            }
            let (status, printed, complaint) = called(&[option, command].concat());
            assert_eq!((status, printed.as_str()), (Some(2), ""), "{option:?} {command:?}");
            assert!(complaint.starts_with("error: ") && complaint.contains(option[0]), "{complaint}");
        }
    }
}

#[test]
fn a_good_configuration_is_said_to_be_good_and_where_it_came_from() {
    let (_folder, path) = configuration("max_clients = 3\n[client]\nsecret_params = [\"key\"]\n");
    let expected = format!("The configuration is in order. It was read from:\n  {path}\n");
    assert_eq!(called(&["--check-config", "--config", &path]), (Some(0), expected, String::new()));
    // The one that is delivered, as it is.
    let delivered = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/wqcontroller.toml");
    assert_eq!(called(&["--check-config", "--config", delivered]).0, Some(0));
}

#[test]
fn every_mistake_is_told_by_file_and_line_with_status_78() {
    let (_folder, path) = configuration(
        "max_client = 3\nlog_level = \"loud\"\npost_api = \"http//me:hunter2@h\"\n[http]\nport = 1\n",
    );
    for arguments in [&["--check-config", "--config", &path][..], &["--config", &path]] {
        let (status, printed, complaint) = called(arguments);
        assert_eq!((status, printed.as_str()), (Some(78), ""));
        let lines: Vec<&str> = complaint.lines().collect();
        let beginnings = [
            format!("{path}:1: unknown key `max_client` (did you mean `max_clients`?)"),
            format!("{path}:2: `log_level` is \"loud\", must be one of debug, info"),
            format!("{path}:3: `post_api` must be a valid http:// or https:// URL"),
            format!("{path}:5: unknown key `http.port`, known in [http] are connect_timeout"),
        ];
        assert_eq!(lines.len(), beginnings.len(), "{complaint}");
        for (line, beginning) in lines.iter().zip(beginnings) {
            // Editors and people read FILE:LINE at the beginning of a line, so nothing stands before it.
            assert!(line.starts_with(&beginning), "{line}");
        }
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }
}

#[test]
fn what_is_no_toml_is_told_by_line_too() {
    let (_folder, path) = configuration("max_clients = 3\nlog_level = \n");
    let (status, _, complaint) = called(&["--check-config", "--config", &path]);
    assert_eq!(status, Some(78));
    assert!(complaint.starts_with(&format!("{path}:2: not valid TOML: ")), "{complaint}");
}

#[test]
fn a_file_that_is_missing_is_named_with_status_78() {
    let (folder, path) = configuration("");
    let missing = format!("{path}.missing");
    for arguments in [&["--check-config", "--config", &missing][..], &["--config", &missing]] {
        let (status, printed, complaint) = called(arguments);
        assert_eq!((status, printed.as_str()), (Some(78), ""));
        assert!(
            complaint.contains(&format!("cannot read the configuration file {missing}: No such file")),
            "{complaint}"
        );
    }
    let folder = folder.path().to_str().unwrap();
    let (status, _, complaint) = called(&["--check-config", "--config", folder]);
    assert_eq!(status, Some(78));
    assert!(complaint.contains(folder) && complaint.contains("directory"), "{complaint}");
}

#[test]
fn a_check_without_any_file_says_that_the_defaults_hold() {
    // On a machine where wqcontroller is installed there are files, and they must be good ones.
    let (status, printed, complaint) = called(&["--check-config"]);
    let installed = ["/usr/lib", "/run", "/etc"]
        .iter()
        .any(|folder| std::path::Path::new(&format!("{folder}/wqcontroller")).exists());
    if installed {
        assert!(printed.starts_with("The configuration is in order."), "{printed}{complaint}");
    } else {
        assert_eq!(printed, "There is no configuration file; the defaults hold.\n", "{complaint}");
    }
    assert_eq!(status, Some(0));
}

/// Makes a file in the folder of a configuration file.
fn beside(config: &str, name: &str, content: &str, mode: u32) -> String {
    let path = Path::new(config).with_file_name(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_config_names_all_that_a_start_would_fail_on() {
    let (folder, path) = configuration("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // It is asked who it is, and is no controller.
        let (mut stream, _) = taken.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let open = beside(&path, "open", "a-token-of-sixteen", 0o644);
    let plain = beside(&path, "plain", "exec true", 0o644);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let none = at("none");
    let content = format!(
        "listen = '127.0.0.1:{port}'\ntmpdir = {tmpdir:?}\nlog_path = {log:?}\ntemplate_path = {plain:?}\n\
         auth.tokens = [{{ name = 'bot', file = {none:?} }}, {{ name = 'eye', file = {open:?} }}]\n\
         [onebot.clients.'小红']\ntoken_file = {none:?}\n\
         [onebot.clients.b]\nurl = 'ws://127.0.0.1:1/'\nlisten = '127.0.0.1:2'\n\
         [onebot.clients.by_http]\nurl = 'http://127.0.0.1:1/'\n\
         [implementations.y]\nkind = 'yogurt'\nprogram = {none:?}\nsign_url = 'http://127.0.0.1:1/'\n\
         [implementations.z]\nkind = 'command'\ncommand = '/bin/true'\nurl = 'ws://127.0.0.1:{{port}}/'\n\
         file = 'f'\nfile_template = {none:?}\n",
        tmpdir = at("tmp"),
        log = at("no/log"),
    );
    std::fs::write(&path, content).unwrap();
    let (status, printed, complaint) = called(&["--check-config", "--config", &path]);
    server.join().unwrap();
    assert_eq!((status, printed.as_str()), (Some(78), ""), "{complaint}");
    let expected = [
        format!("wqcontroller: log_path: {}: No such file", at("no")),
        format!("wqcontroller: auth.tokens: can't use the file of token bot: {none}: No such file"),
        format!("wqcontroller: auth.tokens: can't use the file of token eye: {open}: "),
        format!("wqcontroller: listen: 127.0.0.1:{port}: Address already in use"),
        format!("wqcontroller: template_path: the template {plain} is not executable"),
        "wqcontroller: onebot.clients.\"b\": `url` of [onebot.clients.\"b\"] in the configuration must be"
            .to_owned(),
        format!("wqcontroller: onebot.clients.\"小红\".token_file: {none}: No such file"),
        format!("wqcontroller: implementations.y.program: {none}: No such file"),
        format!("wqcontroller: implementations.z.file_template: {none}: No such file"),
    ];
    let lines: Vec<&str> = complaint.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{complaint}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&expected), "{line}");
    }
    assert!(!folder.path().join("tmp").exists(), "a check changes nothing");
}

#[test]
fn check_config_tells_of_a_qrcode_path_that_units_cannot_read() {
    let (_folder, path) = configuration("");
    let told = "onebot.clients.\"bot\": qrcode_path in [onebot] of the configuration, /home/me/qr.png: a client that is a unit \
                sees nothing of the machine's /home (ProtectHome=yes in wqclient@.service)";
    for (mode, expected) in [
        ("systemd", (Some(78), false, true)),
        ("auto", (Some(0), true, false)),
        ("direct", (Some(0), false, false)),
    ] {
        let content = format!(
            "listen = '127.0.0.1:0'\nsupervisor.mode = {mode:?}\n[onebot.clients.bot]\nqrcode_path = '/home/me/qr.png'\n"
        );
        std::fs::write(&path, content).unwrap();
        let (status, printed, complaint) = called(&["--check-config", "--config", &path]);
        assert_eq!(
            (status, printed.contains(told), complaint.contains(told)),
            expected,
            "{mode}: {printed}{complaint}"
        );
    }
}

#[test]
fn check_config_tells_of_a_program_that_units_cannot_read() {
    let (_folder, path) = configuration("");
    // In a temporary folder of this user, which no other has.
    let program = beside(&path, "program", "#!/bin/sh\n", 0o700);
    let told = format!("implementations.own.command: {program}: ");
    for (mode, expected) in [("systemd", true), ("direct", false)] {
        let content = format!(
            "listen = '127.0.0.1:0'\nsupervisor.mode = {mode:?}\n[implementations.own]\nkind = 'command'\n\
             command = '{program} {{port}}'\nurl = 'ws://127.0.0.1:{{port}}/'\n"
        );
        std::fs::write(&path, content).unwrap();
        let (status, printed, complaint) = called(&["--check-config", "--config", &path]);
        assert_eq!((status, printed.contains(&told)), (Some(0), expected), "{mode}: {printed}{complaint}");
    }
}

#[test]
fn check_config_tells_of_a_qrcode_path_that_a_child_process_cannot_read() {
    let (folder, path) = configuration("");
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let image = closed.join("qr.png");
    let content = format!(
        "listen = '127.0.0.1:0'\nsupervisor.mode = 'direct'\n[onebot.clients.bot]\nqrcode_path = {image:?}\n"
    );
    std::fs::write(&path, content).unwrap();
    let (status, printed, complaint) = as_other_user(&folder, &closed, &path);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    let line = format!(
        "  onebot.clients.\"bot\".qrcode_path: {}: Permission denied (os error 13)\n",
        image.display()
    );
    assert!(printed.ends_with(&line), "{printed}");
}

/// What `--check-config` says to a user who may not enter the folder `closed`.
fn as_other_user(folder: &tempfile::TempDir, closed: &Path, config: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    // Root may read all.
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534);
    }
    std::fs::set_permissions(closed, Permissions::from_mode(0o000)).unwrap();
    let said = run(command.args(["--check-config", "--config", config]));
    std::fs::set_permissions(closed, Permissions::from_mode(0o700)).unwrap();
    said
}

#[test]
fn check_config_beside_a_running_controller_finds_no_mistake() {
    let controller = Builder::new().start();
    let config = controller.read_config().replace("127.0.0.1:0", &controller.address.to_string());
    controller.write_config(&config);
    let path = controller.path("wqcontroller.toml");
    let (status, printed, complaint) = called(&["--check-config", "--config", path.to_str().unwrap()]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    assert!(printed.starts_with("The configuration is in order."), "{printed}");
}

#[test]
fn check_config_lists_unreadable_files_as_unchecked() {
    let (folder, path) = configuration("");
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let (inside, log) = (closed.join("token"), closed.join("log"));
    std::fs::write(&inside, "a-token-of-sixteen").unwrap();
    let content = format!(
        "listen = '127.0.0.1:0'\nlog_path = {log:?}\nauth.tokens = [{{ name = 'bot', file = {inside:?} }}]"
    );
    std::fs::write(&path, content).unwrap();
    let (status, printed, complaint) = as_other_user(&folder, &closed, &path);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    let expected = format!(
        "No mistake was found, but not all could be checked. It was read from:\n  {path}\n\
         Not checked, or only as far as this user may:\n  log_path: {}: Permission denied (os error 13)\n  \
         auth.tokens: can't use the file of token bot: {}: Permission denied (os error 13)\n",
        log.display(),
        inside.display()
    );
    assert_eq!(printed, expected);
}

#[test]
fn client_names_the_missing_variable() {
    let client = |variables: &[(&str, &str)]| {
        run(Command::new(program()).arg("client").env_clear().envs(variables.iter().copied()))
    };
    let (status, printed, complaint) = client(&[]);
    assert_eq!((status, printed.as_str()), (Some(2), ""));
    assert_eq!(complaint, "<3>wqclient: the environment variable MOJO_WEBQQ_ACCOUNT is not set\n");
    let (status, _, complaint) = client(&[("MOJO_WEBQQ_ACCOUNT", "a")]);
    assert_eq!(status, Some(2));
    assert_eq!(complaint, "<3>wqclient: the environment variable MOJO_WEBQQ_PLUGIN_OPENQQ_PORT is not set\n");
}

#[test]
fn closed_standard_output_does_not_panic() {
    let (_folder, bad) = configuration("bad = 1");
    for (arguments, status) in [(&["--check-config"][..], 0), (&["--config", &bad], 78), (&["--help"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program());
        command.args(arguments).stdout(writer.try_clone().unwrap()).stderr(writer);
        let ended = command.status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}
