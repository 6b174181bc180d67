//! What packages are made of: everything is installed, completions and examples name what there is, and all agree on
//! the version and on the toolchain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::program;
use crate::output::run;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

/// All files and links below a folder, by their paths from there.
fn tree(folder: &Path) -> BTreeSet<String> {
    fn collect(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => collect(&entry.path(), root, found),
                false => {
                    found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(folder, folder, &mut found);
    found
}

/// Runs `make` with a target for the program under test.
fn make(target: &str, root: &Path, more: &[&str]) {
    let built = Path::new(program()).parent().unwrap();
    let mut command = Command::new("make");
    // Not the flags of a make that runs these tests.
    command.env_remove("MAKEFLAGS").current_dir(project(".")).arg(target).args(more);
    command.arg(format!("DESTDIR={}", root.display())).arg(format!("BUILT={}", built.display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn one_make_installs_everything_and_another_takes_it_away() {
    let root = tempfile::tempdir().unwrap();
    make("install", root.path(), &["PREFIX=/usr"]);
    let installed = tree(root.path());
    let names: BTreeSet<&str> = installed.iter().filter_map(|path| path.rsplit('/').next()).collect();
    let systemd = tree(&project("systemd"));
    for source in systemd.iter().chain(&tree(&project("man"))) {
        assert!(names.contains(source.rsplit('/').next().unwrap()), "{source} is not installed");
    }
    assert!(installed.contains("etc/wqcontroller/wqcontroller.toml"));
    // Where an administrator's own go.
    assert!(root.path().join("etc/wqcontroller/wqcontroller.toml.d").is_dir());
    for example in tree(&project("packaging/examples")) {
        assert!(installed.contains(&format!("usr/share/doc/wqcontroller/examples/{example}")), "{example}");
    }
    // The client is the same file.
    let client = root.path().join("usr/sbin/wqclient");
    let (status, _, complaint) = run(Command::new(client).env_clear());
    assert_eq!((status, complaint.contains("MOJO_WEBQQ_ACCOUNT is not set")), (Some(2), true), "{complaint}");

    // So is what people type, where every user finds it.
    let wqctl = root.path().join("usr/bin/wqctl");
    assert_eq!(fs::read_link(&wqctl).unwrap(), Path::new("../sbin/wqcontroller"));
    assert_eq!(run(Command::new(wqctl).arg("--version")).1, format!("wqctl {}\n", env!("CARGO_PKG_VERSION")));

    // What an administrator wrote is not overwritten.
    let configuration = root.path().join("etc/wqcontroller/wqcontroller.toml");
    fs::write(&configuration, "max_clients = 7\n").unwrap();
    make("install", root.path(), &["PREFIX=/usr"]);
    assert_eq!(fs::read_to_string(&configuration).unwrap(), "max_clients = 7\n");
    make("uninstall", root.path(), &["PREFIX=/usr"]);
    assert_eq!(tree(root.path()), BTreeSet::from(["etc/wqcontroller/wqcontroller.toml".to_owned()]));
}

#[test]
fn units_run_the_program_where_it_is_installed() {
    let root = tempfile::tempdir().unwrap();
    make("install", root.path(), &["SBINDIR=/opt/wq/bin", "UNITDIR=/units"]);
    for unit in tree(&root.path().join("units")) {
        let text = fs::read_to_string(root.path().join("units").join(&unit)).unwrap();
        for command in text.lines().filter(|line| line.starts_with("Exec") && line.contains("wqcontroller")) {
            assert!(command.contains("=/opt/wq/bin/wqcontroller"), "{unit}: {command}");
        }
    }
}

#[test]
fn the_spec_lists_what_is_installed() {
    let root = tempfile::tempdir().unwrap();
    let places = [
        "PREFIX=/usr",
        "UNITDIR=/U",
        "SYSUSERSDIR=/S",
        "TMPFILESDIR=/T",
        "CATALOGDIR=/C",
        "BASHDIR=/B",
        "ZSHDIR=/Z",
    ];
    make("install", root.path(), &places);
    let spec = read("packaging/rpm/wqcontroller.spec");
    let listed: BTreeSet<String> = spec
        .split_once("\n%files\n")
        .unwrap()
        .1
        .split("\n\n")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !["%license", "%doc", "%dir"].iter().any(|word| line.starts_with(word)))
        .map(|line| {
            line.trim_start_matches("%config(noreplace) ")
                .rsplit('/')
                .next()
                .unwrap()
                .trim_end_matches('*')
                .to_owned()
        })
        .collect();
    let names = tree(root.path()).into_iter().filter(|path| !path.contains("/examples/"));
    let mut names: BTreeSet<String> = names.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
    names.insert("examples".to_owned());
    assert_eq!(listed, names);
}

#[test]
fn packages_bring_what_clients_as_units_need() {
    let debian = read("packaging/debian/control");
    let depends = debian.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap();
    let spec = read("packaging/rpm/wqcontroller.spec");
    let arch = read("packaging/arch/PKGBUILD");
    let depends_arch = arch.lines().find_map(|line| line.strip_prefix("depends=")).unwrap();
    // The bus comes with systemd where packages are rpm's.
    for (packager, depends, needed) in [
        (
            "Debian",
            depends,
            &["polkitd", "default-dbus-system-bus | dbus-system-bus", "systemd (>= 252)"][..],
        ),
        ("rpm", &spec, &["Requires:       polkit\n", "Requires:       systemd >= 252\n"]),
        ("Arch", depends_arch, &["dbus", "polkit", "systemd"]),
    ] {
        for package in needed {
            assert!(depends.contains(package), "{packager}: {package} is missing in {depends}");
        }
    }
}

#[test]
fn packages_agree_on_version_toolchain_and_maintainer() {
    let (version, rust) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"));
    let control = read("packaging/debian/control");
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: ")).unwrap();
    for (file, said) in [
        ("packaging/debian/changelog", format!("wqcontroller ({version}) ")),
        ("packaging/rpm/wqcontroller.spec", format!("Version:        {version}\n")),
        ("packaging/rpm/wqcontroller.spec", format!("BuildRequires:  cargo >= {rust}\n")),
        ("packaging/rpm/wqcontroller.spec", format!("- {version}-1\n")),
        ("packaging/arch/PKGBUILD", format!("pkgver={version}\n")),
        ("packaging/arch/PKGBUILD", format!("'cargo>={rust}'")),
        ("packaging/debian/changelog", format!(" -- {maintainer}  ")),
        ("packaging/rpm/wqcontroller.spec", format!(" {maintainer} - ")),
        ("packaging/arch/PKGBUILD", format!("# Maintainer: {maintainer}\n")),
        ("packaging/debian/control", format!("Rust {rust} or newer")),
        ("packaging/debian/README.source", format!("Rust {rust} or newer")),
        ("README.md", format!("Rust {rust} or newer")),
        ("README.zh-CN.md", format!("Rust {rust}")),
    ] {
        assert!(read(file).contains(&said), "{file} does not say {said:?}");
    }
}

/// What `--help` names: long options with dashes, and commands.
fn command_line() -> BTreeSet<String> {
    let (_, help, _) = run(Command::new(program()).arg("--help"));
    let options = help.split_whitespace().filter(|word| word.starts_with("--")).map(str::to_owned);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands = commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    options.chain(commands).collect()
}

#[test]
fn bash_completes_what_there_is() {
    let complete = |words: &[&str]| -> BTreeSet<String> {
        let script = "source packaging/completions/wqcontroller.bash
            COMP_WORDS=(wqcontroller \"$@\") COMP_CWORD=$#; _wqcontroller; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let (status, printed, complaint) =
            run(Command::new("bash").current_dir(project(".")).args(["-uc", script, "bash"]).args(words));
        assert_eq!((status, complaint.as_str()), (Some(0), ""));
        printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(complete(&[""]), command_line());
    assert_eq!(complete(&["--ch"]), BTreeSet::from(["--check-config".to_owned()]));
    assert!(complete(&["--config", "Cargo.t"]).contains("Cargo.toml"));
    assert!(complete(&["client", ""]).is_empty());
}

#[test]
fn zsh_and_fish_complete_what_there_is() {
    let fish = read("packaging/completions/wqcontroller.fish");
    let words = |line: &str| -> Option<String> {
        let mut words = line.split(' ').skip_while(|word| !["-l", "-a"].contains(word));
        let kind = words.next()?;
        words.next().map(|word| if kind == "-l" { format!("--{word}") } else { word.to_owned() })
    };
    assert_eq!(fish.lines().filter_map(words).collect::<BTreeSet<_>>(), command_line());
    let zsh = read("packaging/completions/wqcontroller.zsh");
    let found =
        zsh.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("--"));
    let mut found: BTreeSet<String> = found.map(str::to_owned).collect();
    let commands = zsh.split_once("((").unwrap().1.split("\\:");
    found.extend(
        commands
            .filter_map(|part| part.split([' ', '(']).next_back())
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            .map(str::to_owned),
    );
    assert_eq!(found, command_line());
}

#[test]
fn every_configuration_that_is_delivered_is_in_order() {
    let mut seen = 0;
    for file in
        tree(&project("packaging")).iter().filter(|file| file.ends_with(".toml") && !file.contains("rpmlint"))
    {
        let path = project("packaging").join(file);
        // The sandbox's world is none; neither is it here.
        let (status, _, complaint) =
            run(Command::new(program()).arg("--check-config").arg("--config").arg(&path));
        // Those of implementations name programs that an operator installs.
        let is_missing = |line: &str| {
            line.starts_with("wqcontroller: implementations.") && line.contains("No such file or directory")
        };
        match fs::read_to_string(&path).unwrap().contains("\n[implementations.") && file.contains("examples/")
        {
            true => assert!(complaint.lines().all(is_missing), "{file}: {complaint}"),
            false => assert_eq!(status, Some(0), "{file}: {complaint}"),
        }
        seen += 1;
    }
    assert!(seen >= 5);
}
