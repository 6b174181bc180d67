//! [`Machine`]: a machine with systemd as PID 1 for one test, gone with the test. `machine.sh` makes it.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::installed::{self, Installed};

/// Bounds a test that fails. On a machine of two throttled cores, with everything beside it, what takes 1 s on its own has taken 60.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where this test program is inside.
pub const TESTS: &str = "/usr/libexec/wqcontroller-tests";

/// A machine that runs. Dropped it is gone, also when the test fails or this program is killed: `machine.sh` ends it
/// when the other end of its standard input is closed.
pub struct Machine {
    /// What it is called; there is no other machine of that name.
    pub name: String,
    holder: Child,
    orders: Option<ChildStdin>,
    told: BufReader<ChildStdout>,
}

/// What a machine is to be like.
pub struct Plan {
    root: Option<PathBuf>,
    unified: bool,
    install: Vec<Installed>,
    bind: Vec<(PathBuf, PathBuf)>,
}

impl Plan {
    /// A machine on which the project is installed.
    pub fn new() -> Self {
        Self { install: installed::all(), ..Self::bare() }
    }

    /// A machine on which it is not.
    pub fn bare() -> Self {
        let bind = vec![(std::env::current_exe().unwrap(), TESTS.into())];
        Self { root: None, unified: false, install: vec![], bind }
    }

    /// Makes it of the system in this folder instead of the one that the tests run on.
    pub fn root(self, folder: impl Into<PathBuf>) -> Self {
        Self { root: Some(folder.into()), ..self }
    }

    /// Makes it one where units can be frozen, and where limits may do nothing.
    pub fn unified(self) -> Self {
        Self { unified: true, ..self }
    }

    /// Installs one more file before the machine boots.
    pub fn install(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, mode: u32) -> Self {
        self.install.push(Installed { source: source.into(), target: target.into(), mode });
        self
    }

    /// Makes a file or folder visible inside, for reading only.
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.bind.push((source.into(), target.into()));
        self
    }

    /// Boots it, and returns when systemd says that it is up. Where no machine can be booted, for a reason that is not
    /// the project's, that is said and the test has to end; with `CI=true` it fails.
    pub fn boot(self) -> Option<Machine> {
        if let Some(why) = missing() {
            not_run(why);
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = script();
        command.args(["hold", &name]);
        if let Some(folder) = self.root {
            command.arg("--root").arg(folder);
        }
        if self.unified {
            command.arg("--unified");
        }
        for Installed { source, target, mode } in self.install {
            command.arg("--install").arg(format!("{}:{}:{mode:o}", source.display(), target.display()));
        }
        for (source, target) in self.bind {
            command.arg("--bind").arg(format!("{}:{}", source.display(), target.display()));
        }
        // Not in our process group: what a terminal sends to that would hit it while it cleans up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let (orders, told) = (holder.stdin.take(), BufReader::new(holder.stdout.take().unwrap()));
        let mut machine = Machine { name, holder, orders, told };
        machine.wait_until_up();
        Some(machine)
    }
}

/// Says that the test does not run and why. With `CI=true` it fails.
pub fn not_run(why: &str) {
    say_not_run(why);
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "all tests have to run where CI=true");
}

/// Says that the test does not run and why.
pub fn say_not_run(why: &str) {
    // Not by a macro, whose words are shown only when a test fails.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr().lock(), "NOT RUN: {test}, on a machine with systemd: {why}").unwrap();
}

/// A call of `machine.sh`.
pub fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/machine.sh"))
}

/// Why no machine can be booted here.
pub fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        let checked = script().arg("check").output().unwrap();
        let why = String::from_utf8(checked.stdout).unwrap().trim().to_owned();
        assert_eq!(checked.status.success(), why.is_empty(), "{why}");
        (!why.is_empty()).then_some(why)
    };
    MISSING.get_or_init(look).as_deref()
}

impl Machine {
    /// Boots a machine on which the project is installed; see [`Plan::boot`].
    pub fn boot() -> Option<Self> {
        Plan::new().boot()
    }

    /// Shuts it down and boots it again.
    pub fn reboot(&mut self) {
        writeln!(self.orders.as_mut().unwrap(), "reboot").unwrap();
        self.wait_until_up();
    }

    fn wait_until_up(&mut self) {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "the machine {} does not boot; why is said above", self.name);
    }

    /// What runs a program as root inside, with a plain environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = script();
        command.args(["run", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a program inside that may fail.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }

    /// What was printed on its console since it was booted.
    pub fn console(&self) -> String {
        let printed = script().args(["console", &self.name]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&printed.stdout).into_owned()
    }

    /// Runs a program inside that must not fail: what it printed, without white space at its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.try_run(program, arguments);
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
        out.trim_end().to_owned()
    }

    /// Runs a script of the shell that must not fail: what it printed.
    pub fn shell(&self, script: &str) -> String {
        self.run("sh", &["-euc", script])
    }

    /// Runs `systemctl`, which must not fail: what it printed.
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.run("systemctl", arguments)
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "--value", "--property", name, unit])
    }

    /// What `journalctl` prints with these arguments.
    pub fn journal(&self, arguments: &[&str]) -> String {
        // What was said just now may be on its way.
        self.run("journalctl", &["--sync"]);
        self.run("journalctl", &[&["--no-pager", "--quiet"], arguments].concat())
    }

    /// Writes a file, and makes the folders above it.
    pub fn write(&self, path: &str, content: &str) {
        let mut writing = self
            .command("sh")
            .args(["-euc", r#"mkdir -p "$(dirname "$0")"; cat >"$0""#, path])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writing.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        assert!(writing.wait().unwrap().success(), "{path} can't be written");
    }

    /// Runs an ignored test of this program, by its full name, inside; it must succeed. It begins with [`assert_inside`].
    pub fn run_test(&self, name: &str) -> String {
        let printed = self.run(TESTS, &["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
        assert!(printed.contains("1 passed"), "there is no ignored test {name}:\n{printed}");
        printed
    }
}

/// To be called first by tests that [`Machine::run_test`] runs: they are not to run on anybody's own machine.
pub fn assert_inside() {
    assert!(
        std::env::var_os("WQ_MACHINE").is_some(),
        "this test runs only inside of a machine, see run_test"
    );
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.try_run("journalctl", &["--no-pager", "--lines=200", "--output=short-precise"]);
            eprintln!("---- the end of the machine's journal\n{}----", String::from_utf8_lossy(&log.stdout));
        }
        self.orders = None;
        let _ = self.holder.wait();
    }
}

/// Looks again and again until it is so; fails when it never is.
pub fn wait_until(what: impl Display, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        // Looking takes about 20 ms of a processor, which other machines want.
        std::thread::sleep(Duration::from_millis(50));
    }
}
