//! The command line: what the executable says to somebody who types it.

use std::process::Command;

use crate::fixture::program;
use crate::output::run;

/// What one run gave: status, standard output, standard error.
fn called(arguments: &[&str]) -> (Option<i32>, String, String) {
    run(Command::new(program()).args(arguments))
}

/// A configuration file with this content.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wq.toml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
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
fn a_good_configuration_is_said_to_be_good_and_where_it_came_from() {
    let (_folder, path) = file("max_clients = 3\n[client]\nsecret_params = [\"key\"]\n");
    let expected = format!("The configuration is in order. It was read from:\n  {path}\n");
    assert_eq!(called(&["--check-config", "--config", &path]), (Some(0), expected, String::new()));
    // The one that is delivered, as it is.
    let delivered = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/wqcontroller.toml");
    assert_eq!(called(&["--check-config", "--config", delivered]).0, Some(0));
}

#[test]
fn every_mistake_is_told_by_file_and_line_with_status_78() {
    let (_folder, path) =
        file("max_client = 3\nlog_level = \"loud\"\npost_api = \"http//me:hunter2@h\"\n[http]\nport = 1\n");
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
    let (_folder, path) = file("max_clients = 3\nlog_level = \n");
    let (status, _, complaint) = called(&["--check-config", "--config", &path]);
    assert_eq!(status, Some(78));
    assert!(complaint.starts_with(&format!("{path}:2: not valid TOML: ")), "{complaint}");
}

#[test]
fn a_file_that_is_missing_is_named_with_status_78() {
    let (folder, path) = file("");
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

#[test]
fn a_client_says_what_is_missing() {
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
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let (_folder, bad) = file("bad = 1");
    for (arguments, status) in [(&["--check-config"][..], 0), (&["--config", &bad], 78), (&["--help"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program());
        command.args(arguments).stdout(writer.try_clone().unwrap()).stderr(writer);
        let ended = command.status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}
