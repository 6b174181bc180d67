use super::*;
use crate::metrics::AccountFacts;
use crate::model::client::{ClientRecord, ClientSpec, Exit, Generation, Phase, RestartHistory};
use std::time::Duration;

fn account(name: &str) -> AccountFacts {
    let phase = Phase::Gone(Exit::Code(1));
    let history = RestartHistory { exits: 2, held: true, ..RestartHistory::default() };
    let record = ClientRecord::new(ClientSpec::example(name, "/run/wq"), 5000, Generation(1), phase, history);
    AccountFacts::new(&record, None, None)
}

/// What is written after some counting, for accounts of these names.
fn written(names: &[&str], format: Format) -> String {
    let metrics = Arc::new(Metrics::default());
    metrics.started(ProcessKind::Client);
    metrics.started(ProcessKind::Client);
    metrics.ended(ProcessKind::Implementation, EndCause::OutOfMemory);
    let accounts: Vec<AccountFacts> = names.iter().map(|name| account(name)).collect();
    if let Some(first) = accounts.first() {
        let requests = metrics.requests_of(&first.name);
        requests.answered(200, Duration::from_millis(3));
        requests.answered(404, Duration::from_millis(3));
        requests.refused(503);
    }
    let ((), requests) = metrics.requests_in(|| (), |(), _| true);
    let mut facts = Facts::default();
    (facts.accounts, facts.requests, facts.write_fails) = (accounts, requests, [true, false]);
    facts.count(ProcessKind::Client, Phase::Gone(Exit::Code(1)));
    encode(metrics, facts, format).unwrap()
}

#[test]
fn lines_have_names_labels_and_values() {
    let text = written(&["a"], Format::Prometheus);
    for line in [
        "# TYPE wqcontroller_process_starts_total counter",
        "wqcontroller_process_starts_total{kind=\"client\"} 2",
        "wqcontroller_process_starts_total{kind=\"implementation\"} 0",
        "wqcontroller_process_ends_total{kind=\"implementation\",cause=\"out_of_memory\"} 1",
        "wqcontroller_process_ends_total{kind=\"client\",cause=\"put_out\"} 0",
        "wqcontroller_processes{kind=\"client\",phase=\"gone\"} 1",
        "wqcontroller_accounts{state=\"stop\"} 1",
        "wqcontroller_accounts{state=\"other\"} 0",
        "wqcontroller_logins{state=\"put_out\"} 0",
        "wqcontroller_account_needs_person{client=\"a\"} 1",
        "wqcontroller_account_held{client=\"a\"} 1",
        "wqcontroller_account_put_out{client=\"a\"} 0",
        "wqcontroller_account_unasked_exits_total{client=\"a\",kind=\"client\"} 2",
        "wqcontroller_requests_total{client=\"a\",class=\"2xx\"} 1",
        "wqcontroller_requests_total{client=\"a\",class=\"4xx\"} 1",
        "wqcontroller_requests_total{client=\"a\",class=\"5xx\"} 1",
        "wqcontroller_requests_total{client=\"a\",class=\"1xx\"} 0",
        "wqcontroller_request_duration_seconds_bucket{le=\"0.0025\"} 0",
        "wqcontroller_request_duration_seconds_bucket{le=\"0.005\"} 2",
        "wqcontroller_request_duration_seconds_bucket{le=\"+Inf\"} 2",
        "wqcontroller_request_duration_seconds_count 2",
        "wqcontroller_registry_write_failing{kind=\"client\"} 1",
        "wqcontroller_registry_write_failing{kind=\"implementation\"} 0",
        concat!("wqcontroller_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    for name in ["wqcontroller_watchdog_age_seconds ", "process_cpu_seconds_total ", "process_open_fds "] {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(value.parse::<f64>().unwrap() >= 0.0, "{name}{value}");
    }
    // The client does not say, and there is no implementation.
    assert!(!text.contains("reports_waiting{") && !text.contains("client=\"a\",kind=\"implementation\""));
}

#[test]
fn formats_differ_where_they_must() {
    let (prometheus, open) = (written(&["a"], Format::Prometheus), written(&["a"], Format::OpenMetrics));
    assert!(open.ends_with("\n# EOF\n") && !prometheus.contains("# EOF"));
    assert!(open.contains("# TYPE wqcontroller_requests counter\n"));
    assert!(prometheus.contains("# TYPE wqcontroller_requests_total counter\n"));
    assert!(open.contains("# UNIT wqcontroller_watchdog_age_seconds seconds\n"));
    assert!(!prometheus.contains("# UNIT"));
    for text in [prometheus, open] {
        assert!(text.contains("\nwqcontroller_requests_total{client=\"a\",class=\"2xx\"} 1\n"));
        assert!(text.contains("\nprocess_cpu_seconds_total "));
    }
}

#[test]
fn any_name_is_a_label() {
    // All that a name can't have is control characters and slashes.
    let names = ["小明", "a b", "say \"hi\"", "back\\slash", "{x=\"1\"} 2 #"];
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = written(&names, format);
        for label in ["小明", "a b", "say \\\"hi\\\"", "back\\\\slash", "{x=\\\"1\\\"} 2 #"] {
            let line = format!("\nwqcontroller_account_held{{client=\"{label}\"}} 1\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}

#[test]
fn names_are_those_of_prometheus() {
    let text = written(&["a"], Format::OpenMetrics);
    let mut seen = Vec::new();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(name.starts_with("wqcontroller_") || name.starts_with("process_"), "{name}");
        assert!(!name.ends_with("_total"), "the encoder adds it: {name}");
        assert!(!seen.contains(&name), "{name} stands there twice");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not explained");
        seen.push(name);
    }
    assert!(seen.len() >= 18, "{seen:?}");
}

#[test]
fn watchdog_age_begins_anew_with_each_beat() {
    let metrics = Metrics::default();
    std::thread::sleep(Duration::from_millis(30));
    let before = metrics.watchdog_age();
    metrics.beat();
    assert!(before >= Duration::from_millis(30) && metrics.watchdog_age() < before);
}
