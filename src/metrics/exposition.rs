//! [`encode`]: the text of a scrape, in the format of Prometheus or in that of OpenMetrics. Each metric stands here once, with
//! its name, its unit and what it means.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::facts::{Facts, PHASES};
use super::own_process::OwnProcess;
use super::requests::CLASSES;
use super::{EndCause, Metrics, ProcessKind};
use crate::model::login::LoginState;
use crate::model::state::ClientState;

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type`. Prometheus takes OpenMetrics by exactly this one.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes everything.
///
/// # Errors
/// Never: text grows as it must.
pub fn encode(metrics: Arc<Metrics>, facts: Facts, format: Format) -> Result<String, fmt::Error> {
    // 90 bytes for each of the ten lines of an account, so that the text need not grow by being copied.
    let mut written = String::with_capacity(16 * 1024 + facts.accounts.len() * 1024);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { metrics, facts }));
    match format {
        Format::Prometheus => prometheus_text::encode(&mut written, &registry)?,
        Format::OpenMetrics => text::encode(&mut written, &registry)?,
    }
    Ok(written)
}

/// One look at everything.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    facts: Facts,
}

/// The metric that lines are written of.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: &impl EncodeLabelSet, value: impl EncodeCounterValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn gauge(&mut self, labels: &impl EncodeLabelSet, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_gauge(&value)
    }
}

/// Begins a metric. `_total`, the suffix of a unit and `_info` are not part of `name`.
fn family<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    metric_type: MetricType,
    name: &'a str,
    unit: Option<&'a Unit>,
    help: &str,
) -> Result<Family<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, unit, metric_type).map(Family)
}

/// No labels.
const NONE: [(&str, &str); 0] = [];

/// The states that accounts are counted by. The words of other programs are one: each would be a series of its own for ever.
const OTHER: &str = "other";

impl Scrape {
    fn processes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "wqcontroller_process_starts";
        let help = "Processes that were started, since the controller started.";
        let mut starts = family(encoder, MetricType::Counter, name, None, help)?;
        for kind in ProcessKind::ALL {
            let count = self.metrics.starts[kind as usize].load(Ordering::Relaxed);
            starts.counter(&[("kind", kind.label())], count)?;
        }
        let name = "wqcontroller_process_ends";
        let help = "Processes that ended, and launches that failed, since the controller started.";
        let mut ends = family(encoder, MetricType::Counter, name, None, help)?;
        for kind in ProcessKind::ALL {
            for cause in EndCause::ALL {
                let count = self.metrics.ends[kind as usize][cause as usize].load(Ordering::Relaxed);
                ends.counter(&[("kind", kind.label()), ("cause", cause.label())], count)?;
            }
        }
        let help = "Processes of the accounts in the list, by what the controller knows of them.";
        let mut phases = family(encoder, MetricType::Gauge, "wqcontroller_processes", None, help)?;
        for kind in ProcessKind::ALL {
            for (phase, count) in PHASES.into_iter().zip(self.facts.processes(kind)) {
                phases.gauge(&[("kind", kind.label()), ("phase", phase)], *count)?;
            }
        }
        Ok(())
    }

    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        use ClientState::{Confirming, Init, Loading, Running, Scaning, Stop, Updating};
        let accounts = &self.facts.accounts;
        let help = "Accounts by state, as check_client shows it.";
        let mut states = family(encoder, MetricType::Gauge, "wqcontroller_accounts", None, help)?;
        let mut others = accounts.len();
        for state in [Init, Loading, Scaning, Confirming, Updating, Running, Stop] {
            let count = accounts.iter().filter(|account| account.state == state).count();
            others -= count;
            states.gauge(&[("state", state.as_str())], count)?;
        }
        states.gauge(&[("state", OTHER)], others)?;
        let help = "Accounts with an implementation, by the state of their login.";
        let mut logins = family(encoder, MetricType::Gauge, "wqcontroller_logins", None, help)?;
        use LoginState::{Code, Confirming as Pressing, Offline, Online, PutOut, Starting, Unknown};
        for state in [Starting, Code, Pressing, Online, Offline, PutOut, Unknown] {
            let count = accounts.iter().filter(|account| account.login == Some(state)).count();
            logins.gauge(&[("state", state.as_str())], count)?;
        }
        Ok(())
    }

    fn accounts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let accounts = &self.facts.accounts;
        let name = "wqcontroller_account_needs_person";
        let help = "Whether the account stays as it is until a person acts.";
        let mut needing = family(encoder, MetricType::Gauge, name, None, help)?;
        for account in accounts {
            needing.gauge(&[("client", account.name.as_str())], u32::from(account.needs_person))?;
        }
        let help = "Whether a process of the account is not started again without a call.";
        let mut held = family(encoder, MetricType::Gauge, "wqcontroller_account_held", None, help)?;
        for account in accounts {
            held.gauge(&[("client", account.name.as_str())], u32::from(account.held))?;
        }
        let help = "Whether the network ended the login of the account.";
        let mut put_out = family(encoder, MetricType::Gauge, "wqcontroller_account_put_out", None, help)?;
        for account in accounts {
            put_out.gauge(&[("client", account.name.as_str())], u32::from(account.put_out))?;
        }
        let help = "How often a process of the account ended unasked, since a caller started it.";
        let name = "wqcontroller_account_unasked_exits";
        let mut exits = family(encoder, MetricType::Counter, name, None, help)?;
        for account in accounts {
            for (kind, count) in ProcessKind::ALL.into_iter().zip(account.exits) {
                if let Some(count) = count {
                    let labels = [("client", account.name.as_str()), ("kind", kind.label())];
                    exits.counter(&labels, u64::from(count))?;
                }
            }
        }
        let help = "Reports that wait for their receiver, as the client says.";
        let name = "wqcontroller_account_reports_waiting";
        let mut waiting = family(encoder, MetricType::Gauge, name, None, help)?;
        for account in accounts {
            if let Some(count) = account.reports_waiting {
                waiting.gauge(&[("client", account.name.as_str())], count)?;
            }
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests to clients that were answered, by the class of the status.";
        let mut requests = family(encoder, MetricType::Counter, "wqcontroller_requests", None, help)?;
        // In the order of the list, and 0 for those that were not called: a rate needs something to begin at.
        for account in &self.facts.accounts {
            let counts = self.facts.requests.get(&account.name).map(|counts| counts.read());
            for (class, count) in CLASSES.into_iter().zip(counts.unwrap_or_default()) {
                requests.counter(&[("client", account.name.as_str()), ("class", class)], count)?;
            }
        }
        let (buckets, sum) = self.metrics.requests.times.read();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let help = "From the arrival of a request to a client to the head of its answer.";
        let name = "wqcontroller_request_duration";
        let mut times = family(encoder, MetricType::Histogram, name, Some(&Unit::Seconds), help)?;
        times.0.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn controller(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether a registry file can't be written, so that starts and stops are refused.";
        let mut failing =
            family(encoder, MetricType::Gauge, "wqcontroller_registry_write_failing", None, help)?;
        for (kind, fails) in ProcessKind::ALL.into_iter().zip(self.facts.write_fails) {
            failing.gauge(&[("kind", kind.label())], u32::from(fails))?;
        }
        let help = "Whether the controller of another machine can be reached.";
        let mut reachable = family(encoder, MetricType::Gauge, "wqcontroller_machine_reachable", None, help)?;
        for machine in &self.facts.machines {
            reachable.gauge(&[("machine", machine.name.as_str())], u32::from(machine.is_reachable))?;
        }
        let help = "Accounts of another machine, as far as is known.";
        let mut accounts = family(encoder, MetricType::Gauge, "wqcontroller_machine_accounts", None, help)?;
        for machine in &self.facts.machines {
            accounts.gauge(&[("machine", machine.name.as_str())], machine.accounts)?;
        }
        let help = "Since the registries answered the last time.";
        let name = "wqcontroller_watchdog_age";
        let mut age = family(encoder, MetricType::Gauge, name, Some(&Unit::Seconds), help)?;
        age.gauge(&NONE, self.metrics.watchdog_age().as_secs_f64())?;
        let help = "The version of the controller.";
        let mut build = family(encoder, MetricType::Info, "wqcontroller_build", None, help)?;
        build.0.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;

        let OwnProcess { cpu, resident_memory, open_fds, max_fds } = OwnProcess::now();
        let help = "Processor time of the controller.";
        let mut all = family(encoder, MetricType::Counter, "process_cpu", Some(&Unit::Seconds), help)?;
        all.counter(&NONE, cpu.as_secs_f64())?;
        let start = self.metrics.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "When the controller started, in Unix time.";
        let mut started =
            family(encoder, MetricType::Gauge, "process_start_time", Some(&Unit::Seconds), help)?;
        started.gauge(&NONE, start.as_secs_f64())?;
        for (name, unit, value, help) in [
            (
                "process_resident_memory",
                Some(Unit::Bytes),
                resident_memory,
                "Memory that the controller has just now.",
            ),
            ("process_open_fds", None, open_fds, "File descriptors that the controller has open."),
            ("process_max_fds", None, max_fds, "File descriptors that the controller may have open."),
        ] {
            let Some(value) = value else { continue };
            family(encoder, MetricType::Gauge, name, unit.as_ref(), help)?.gauge(&NONE, value)?;
        }
        Ok(())
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.controller(&mut encoder)?;
        self.processes(&mut encoder)?;
        self.states(&mut encoder)?;
        self.accounts(&mut encoder)?;
        self.requests(&mut encoder)
    }
}

#[cfg(test)]
mod tests;
