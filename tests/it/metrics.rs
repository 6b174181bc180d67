//! `/metrics`: the numbers are right, they go with their accounts, and Prometheus's own program takes them and the example's
//! rules.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{Answer, Builder, Controller, wait_until};

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn ask(controller: &Controller, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::http::Request::get(controller.url("/metrics"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    controller.send(request.body(()).unwrap())
}

/// All series, with their labels as they are written, and their values.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(controller: &Controller) -> Self {
        let answer = ask(controller, &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        let name = format!("wqcontroller_{series}");
        *self.0.get(&name).unwrap_or_else(|| panic!("there is no {name} in {:#?}", self.0))
    }

    /// How often a client was called, by the classes from 1xx to 5xx.
    fn requests(&self, client: &str) -> [f64; 5] {
        let class = |class| format!("requests_total{{client=\"{client}\",class=\"{class}xx\"}}");
        [1, 2, 3, 4, 5].map(|number| self.get(&class(number)))
    }

    /// The series of a client.
    fn of_client(&self, client: &str) -> Vec<&String> {
        let label = format!("client=\"{client}\"");
        self.0.keys().filter(|series| series.contains(&label)).collect()
    }
}

#[test]
fn requests_starts_and_ends_are_counted_exactly() {
    let controller = Builder::new().config("[supervisor]\nrestart = 'no'").start();
    let clients = [("a", "a"), ("小明", "%E5%B0%8F%E6%98%8E"), ("say \\\"hi\\\"", "say%20%22hi%22")];
    for (_, encoded) in clients {
        controller.start_client(encoded);
        controller.wait_for_listening(encoded);
    }
    let before = Scrape::of(&controller);
    let call = |what: &str, client: &str| controller.get(&format!("/openqq/{what}?client={client}")).status;
    for (_, encoded) in clients {
        for _ in 0..3 {
            assert_eq!(call("ping", encoded), 200);
        }
        assert_eq!(call("nothing", encoded), 403);
    }
    assert_eq!(
        controller.get("/openqq/ping?client=unknown").status,
        200,
        "the answer is the controller's own"
    );
    let after = Scrape::of(&controller);
    for (name, _) in clients {
        let (before, after) = (before.requests(name), after.requests(name));
        let grown: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(grown, [0.0, 3.0, 0.0, 1.0, 0.0], "{name}");
    }
    let count = "request_duration_seconds_count";
    assert_eq!(after.get(count) - before.get(count), 12.0);
    let sum = "request_duration_seconds_sum";
    assert!(after.get(sum) > before.get(sum));
    assert_eq!(after.get("request_duration_seconds_bucket{le=\"+Inf\"}"), after.get(count));
    assert_eq!(after.get("process_starts_total{kind=\"client\"}"), 3.0);
    assert_eq!(after.get("processes{kind=\"client\",phase=\"up\"}"), 3.0);
    assert_eq!(after.of_client("unknown"), [""; 0], "callers name what they like");

    // One is killed, one ends by itself, one is stopped.
    let pid = controller.clients()[0]["pid"].as_u64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("a is gone", || controller.is_gone("a"));
    assert_eq!(call("ping", "a"), 502);
    call("die", clients[1].1);
    wait_until("it is gone", || controller.is_gone("小明"));
    controller.stop_client(clients[2].1);
    let last = Scrape::of(&controller);
    let ends = |cause: &str| last.get(&format!("process_ends_total{{kind=\"client\",cause=\"{cause}\"}}"));
    let causes = ["signal", "exited", "stopped", "timeout", "put_out", "not_launched", "unknown"];
    assert_eq!(causes.map(ends), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(last.get("process_starts_total{kind=\"client\"}"), 3.0);
    assert_eq!(last.requests("a")[4] - after.requests("a")[4], 1.0);
    for (series, value) in [
        ("account_held{client=\"a\"}", 1.0),
        ("account_needs_person{client=\"a\"}", 1.0),
        ("account_put_out{client=\"a\"}", 0.0),
        ("account_unasked_exits_total{client=\"a\",kind=\"client\"}", 1.0),
        ("accounts{state=\"stop\"}", 2.0),
        ("processes{kind=\"client\",phase=\"gone\"}", 2.0),
        ("registry_write_failing{kind=\"client\"}", 0.0),
    ] {
        assert_eq!(last.get(series), value, "{series}");
    }
    // What left the list has no series any more.
    assert_eq!(last.of_client(clients[2].0), [""; 0]);
    assert!(!last.of_client("小明").is_empty());
    controller.stop_client("a");
    assert_eq!(Scrape::of(&controller).of_client("a"), [""; 0]);
    controller.start_client("a");
    assert_eq!(Scrape::of(&controller).requests("a"), [0.0; 5], "it is another account");
}

#[test]
fn launch_that_fails_is_no_start() {
    let controller = Builder::new().template("no program\n").start();
    controller.get("/openqq/start_client?client=a");
    let scrape = Scrape::of(&controller);
    assert_eq!(scrape.get("process_ends_total{kind=\"client\",cause=\"not_launched\"}"), 1.0);
    assert_eq!(scrape.get("process_starts_total{kind=\"client\"}"), 0.0);
}

#[test]
fn requests_are_counted_over_restarts_of_the_client() {
    let controller = Controller::new();
    controller.start_client("a");
    controller.wait_for_listening("a");
    let before = Scrape::of(&controller).requests("a")[1];
    controller.get("/openqq/die?client=a");
    controller.wait_for_listening("a");
    assert_eq!(Scrape::of(&controller).requests("a")[1], before + 1.0);
    assert_eq!(Scrape::of(&controller).get("process_starts_total{kind=\"client\"}"), 2.0);
}

#[test]
fn reports_that_wait_are_told() {
    // Refuses all connections: who holds it does not listen.
    let port = crate::fixture::free_port();
    let controller = Builder::new().built_in();
    let api = format!("sandbox_login_time=0&post_api=http://127.0.0.1:{port}/");
    controller.start_client_with("posts", &api);
    controller.start_client_with("silent", "sandbox_login_time=0");
    for name in ["posts", "silent"] {
        controller.wait_for_state(name, "running");
    }
    // Its changes of state are reports.
    wait_until("reports wait", || {
        let scrape = Scrape::of(&controller);
        scrape
            .0
            .get("wqcontroller_account_reports_waiting{client=\"posts\"}")
            .is_some_and(|count| *count > 0.0)
    });
    let queues = |name: &str| controller.get(&format!("/v1/clients/{name}")).json()["queues"].clone();
    assert!(queues("posts")["reports"].as_u64() > Some(0));
    assert_eq!(queues("silent")["reports"], serde_json::Value::Null);
    let scrape = Scrape::of(&controller);
    assert!(scrape.of_client("silent").iter().all(|series| !series.contains("reports_waiting")));
}

#[test]
fn metrics_need_a_token_that_reads() {
    let builder = Builder::new();
    let eye = builder.write_file("eye", "a-word-that-reads", 0o600);
    let controller = builder
        .config(&format!("[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"))
        .start();
    let refused = ask(&controller, &[]);
    assert_eq!(refused.status, 401);
    assert!(!refused.text().contains("wqcontroller_"));
    assert_eq!(ask(&controller, &[("authorization", "Bearer another-word")]).status, 401);
    assert_eq!(ask(&controller, &[("authorization", "Bearer a-word-that-reads")]).status, 200);
    let foreign = [("authorization", "Bearer a-word-that-reads"), ("host", "evil.example")];
    assert_eq!(ask(&controller, &foreign).status, 421);
}

#[test]
fn format_is_the_one_that_is_asked_for() {
    let controller = Controller::new();
    let text = ask(&controller, &[]);
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!text.text().contains("# EOF"));
    let open = ask(&controller, &[("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")]);
    assert_eq!(open.header("content-type"), Some(OPEN));
    assert!(open.text().ends_with("\n# EOF\n"));
    let posted = ureq::http::Request::post(controller.url("/metrics")).body(()).unwrap();
    assert!(!controller.send(posted).text().contains("wqcontroller_"));
    let head = ureq::http::Request::head(controller.url("/metrics")).body(()).unwrap();
    let head = controller.send(head);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn registry_that_hangs_is_seen_by_its_age() {
    // A beat each 0.1 s.
    let builder = Builder::new().env("WQCONTROLLER_TEST_HANG", "stuck").env("WATCHDOG_USEC", "200000");
    let mut controller = builder.start();
    let age = |controller: &_| Scrape::of(controller).get("watchdog_age_seconds");
    let mut before = age(&controller);
    wait_until("it begins anew", || std::mem::replace(&mut before, age(&controller)) > before);
    let mut caller = controller.connect();
    caller.write_all(b"GET /openqq/start_client?client=stuck HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_until("it grows", || age(&controller) > 5.0);
    controller.kill();
}

/// Prometheus's own program. None where it is not installed.
fn promtool() -> Option<Command> {
    if Command::new("promtool").arg("--version").output().is_ok() {
        return Some(Command::new("promtool"));
    }
    eprintln!("NOT RUN: promtool is not installed.");
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "all tests have to run where CI=true");
    None
}

#[test]
fn promtool_takes_the_metrics() {
    let Some(mut promtool) = promtool() else { return };
    let controller = Controller::new();
    for encoded in ["a", "%E5%B0%8F%E6%98%8E", "say%20%22hi%22%5C"] {
        controller.start_client(encoded);
    }
    let mut checking = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    checking = checking.stderr(Stdio::piped());
    let mut checking = checking.spawn().unwrap();
    checking.stdin.take().unwrap().write_all(&ask(&controller, &[]).body).unwrap();
    let output = checking.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{complaint}");
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/prometheus/etc/prometheus").join(file)
}

#[test]
fn promtool_takes_the_example() {
    let Some(_) = promtool() else { return };
    // In the place of the files that it names.
    let folder = tempfile::tempdir().unwrap();
    for file in ["prometheus.yml", "wqcontroller.rules.yml"] {
        let text = fs::read_to_string(example(file)).unwrap();
        let text = text.replace("/etc/prometheus/", &format!("{}/", folder.path().display()));
        fs::write(folder.path().join(file), text).unwrap();
    }
    fs::write(folder.path().join("wqcontroller.token"), "a-word").unwrap();
    for (what, file) in [("rules", "wqcontroller.rules.yml"), ("config", "prometheus.yml")] {
        let (status, said, complaint) =
            crate::output::run(Command::new("promtool").args(["check", what]).arg(folder.path().join(file)));
        assert_eq!(status, Some(0), "{said}{complaint}");
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

/// The cases that the rules have to decide on.
#[test]
fn rules_of_the_example_fire_when_they_must() {
    let Some(_) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        (example("wqcontroller.rules.yml"), "wqcontroller.rules.yml"),
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/metrics.cases.yml"), "cases.yml"),
    ] {
        fs::copy(from, folder.path().join(to)).unwrap();
    }
    let (status, said, complaint) = crate::output::run(
        Command::new("promtool").args(["test", "rules"]).arg(folder.path().join("cases.yml")),
    );
    assert_eq!(status, Some(0), "{said}{complaint}");
}

/// What the rules and the manual name is there.
#[test]
fn every_metric_that_is_named_elsewhere_exists() {
    let other = Builder::new().built_in();
    let machine = format!("[machines.tokyo]\nurl = '{}'", other.url(""));
    let controller = Builder::new().config(&machine).built_in();
    controller.log.wait_for("tokyo: its controller is reached");
    controller.start_client_with("a", "sandbox_login_time=0&post_api=http://127.0.0.1:1/");
    wait_until("it says how many reports wait", || {
        Scrape::of(&controller).of_client("a").iter().any(|series| series.contains("reports_waiting"))
    });
    let scrape = Scrape::of(&controller);
    let there = |name: &str| scrape.0.keys().any(|series| series.split('{').next() == Some(name));
    let rules = fs::read_to_string(example("wqcontroller.rules.yml")).unwrap();
    let manual =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wqcontroller-api.7")).unwrap();
    let names = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_name = |word: &&str| word.starts_with("wqcontroller_") || word.starts_with("process_");
        words.filter(is_name).map(str::to_owned).collect()
    };
    for name in names(&rules).iter().chain(&names(&manual)) {
        // Of a histogram the manual names what its parts begin with.
        assert!(there(name) || there(&format!("{name}_count")), "there is no {name}");
    }
    let told = names(&manual);
    for series in scrape.0.keys() {
        let name = series.split('{').next().unwrap();
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(told.iter().any(|told| told == name), "the manual does not name {name}");
    }
}
