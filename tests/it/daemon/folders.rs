//! Where its files are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, geteuid};

use crate::fixture::Builder;
use crate::output::run;

const PID_FILE: &str = "mojo_webqq_controller_process.pid";

/// The variables that have a say in where files are.
const VARIABLES: [&str; 3] = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"];

/// The command of a controller without `tmpdir`, in an environment with these variables alone.
fn command(builder: &Builder, variables: &[(&str, &str)]) -> Command {
    let mut command = builder.command(None);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

fn without_tmpdir() -> Builder {
    Builder::new().config("tmpdir = \"\"")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn without_tmpdir_the_environment_says_where_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (first, second) = (text("first"), text("second"));
    let both = format!("{first}:{second}");
    let (user, temporary) = (text("user"), text("temporary"));
    let all = [("RUNTIME_DIRECTORY", &*both), ("XDG_RUNTIME_DIR", &*user), ("TMPDIR", &*temporary)];
    let own = format!("wqcontroller-{}", geteuid().as_raw());
    for (variables, expected) in [
        (&all[..], PathBuf::from(&first)),
        (&all[1..], Path::new(&user).join("wqcontroller")),
        (&all[2..], Path::new(&temporary).join(own)),
    ] {
        let builder = without_tmpdir();
        let command = command(&builder, variables);
        let mut controller = builder.launch(command);
        controller.log.wait_for(&format!("ready; temporary files are in {}", expected.display()));
        assert_eq!(fs::metadata(&expected).unwrap().mode() & 0o7777, 0o700, "{expected:?}");
        controller.start_client_with("a", "sandbox_login_time=0");
        controller.wait_for_state("a", "running");
        let pid = fs::read_to_string(expected.join(PID_FILE)).unwrap();
        assert_eq!(pid, format!("{}\n", controller.pid()));
        assert!(expected.join("mojo_webqq_state_a.json").exists());
        assert!(expected.join("mojo_webqq_controller_template.pl").exists());
        assert_eq!(controller.end().code(), Some(0));
        assert!(!expected.join(PID_FILE).exists());
    }
    assert!(!Path::new(&second).exists(), "of a list the first is ours");
}

#[test]
fn a_folder_in_a_place_for_everybody_must_be_ours_alone() {
    let place = tempfile::tempdir().unwrap();
    let text = place.path().to_str().unwrap();
    let temporary = place.path().join(format!("wqcontroller-{}", geteuid().as_raw()));
    for (variable, folder) in [("XDG_RUNTIME_DIR", place.path().join("wqcontroller")), ("TMPDIR", temporary)]
    {
        let refused = |why: &str| {
            let builder = without_tmpdir();
            let (status, _, complaint) = run(&mut command(&builder, &[(variable, text)]));
            assert_eq!(status, Some(1), "{complaint}");
            let said = "wqcontroller: can't use the folder for temporary files; set tmpdir to another one";
            assert!(complaint.contains(&format!("{said}: {}: {why}", folder.display())), "{complaint}");
        };
        fs::create_dir(&folder).unwrap();
        for mode in [0o770, 0o720, 0o750, 0o707, 0o755] {
            set_mode(&folder, mode);
            refused(&format!("not private (mode {mode:04o}); run chmod go= on it"));
        }
        // As the message says.
        set_mode(&folder, 0o700);
        let builder = without_tmpdir();
        let command = command(&builder, &[(variable, text)]);
        assert_eq!(builder.launch(command).end().code(), Some(0));

        fs::remove_dir_all(&folder).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), &folder).unwrap();
        refused("not a directory");
        fs::remove_file(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        refused("not a directory");
        fs::remove_file(&folder).unwrap();

        if geteuid().is_root() {
            fs::create_dir(&folder).unwrap();
            set_mode(&folder, 0o700);
            chown(&folder, Some(12345), None).unwrap();
            refused("owned by user 12345, not by user 0");
        } else {
            println!("not tried: somebody else's folder, which only root can make");
        }
    }
}

#[test]
fn a_tmpdir_that_cannot_be_made_is_named() {
    let builder = Builder::new();
    let file = builder.write_file("file", "", 0o644);
    let folder = file.join("sub");
    let config = format!("tmpdir = {:?}", folder.to_str().unwrap());
    let (status, _, complaint) = run(&mut builder.config(&config).command(None));
    assert_eq!(status, Some(1));
    let why = format!("set tmpdir to another one: {}: Not a directory", folder.display());
    assert!(complaint.contains(&why), "{complaint}");
}

#[test]
fn a_tmpdir_that_is_missing_is_made_for_us_alone() {
    let builder = Builder::new();
    let folder = builder.path("a/b");
    let config = format!("tmpdir = {:?}", folder.to_str().unwrap());
    let controller = builder.config(&config).built_in();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    assert!(folder.join(PID_FILE).exists());
    drop(controller);
}

#[test]
fn the_pid_file_is_where_it_is_wanted_and_goes_with_its_controller() {
    let builder = Builder::new();
    let path = builder.path("our pid");
    // A killed controller left it, and meanwhile its number is another's.
    fs::write(&path, "1\n").unwrap();
    let mut controller = builder.config(&format!("pid_path = {:?}", path.to_str().unwrap())).start();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", controller.pid()));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    assert!(!controller.path(PID_FILE).exists(), "there is one, not two");
    assert_eq!(controller.end().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_pid_file_of_somebody_else_is_not_removed() {
    let mut controller = Builder::new().start();
    fs::write(controller.path(PID_FILE), "1\n").unwrap();
    controller.signal(Signal::TERM);
    assert_eq!(controller.wait().code(), Some(0));
    assert_eq!(fs::read_to_string(controller.path(PID_FILE)).unwrap(), "1\n");
}

#[test]
fn a_pid_file_that_cannot_be_written_is_named() {
    let builder = Builder::new().config("pid_path = \"/proc/no-such-folder/pid\"");
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(1));
    let why = "wqcontroller: can't write the pid file: /proc/no-such-folder/pid: No such file or directory";
    assert!(complaint.contains(why), "{complaint}");
}
