//! A fleet in one line, for people: `12 clients: 9 running, 2 scaning, 1 held`.

use super::client::{ClientRecord, Phase};
use super::state::ClientState;

/// The words in their order: first what is well, last what a person has to look at.
const WORDS: [&str; 14] = [
    "running",
    "updating",
    "confirming",
    "scaning",
    "loading",
    "init",
    "stop",
    "in another state",
    "starting",
    "stopping",
    "to be started again",
    "frozen",
    "stopped",
    "held",
];

/// Sums the clients up. `state` is that of their accounts.
pub fn summary<'a>(
    records: impl Iterator<Item = &'a ClientRecord>,
    state: impl Fn(&ClientRecord) -> ClientState,
) -> String {
    let word = |record: &ClientRecord| word(record, || state(record));
    counted(records, "client", word).unwrap_or_else(|| "no clients".to_owned())
}

/// Sums the implementations up. None where there is none.
pub fn implementations<'a>(records: impl Iterator<Item = &'a ClientRecord>) -> Option<String> {
    // They say nothing about themselves.
    counted(records, "implementation", |record| match word(record, || record.state()) {
        "init" => "running",
        word => word,
    })
}

fn counted<'a>(
    records: impl Iterator<Item = &'a ClientRecord>,
    noun: &str,
    word: impl Fn(&ClientRecord) -> &'static str,
) -> Option<String> {
    let mut counts = [0_usize; WORDS.len()];
    let mut all = 0;
    for record in records {
        all += 1;
        let said = word(record);
        for (count, _) in counts.iter_mut().zip(WORDS).filter(|(_, word)| *word == said) {
            *count += 1;
        }
    }
    let parts = counts.iter().zip(WORDS).filter(|(count, _)| **count > 0);
    let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
    let plural = if all == 1 { "" } else { "s" };
    (all > 0).then(|| format!("{all} {noun}{plural}: {}", parts.join(", ")))
}

/// The word for one client. Its state counts only if the contract knows it.
fn word(record: &ClientRecord, state: impl FnOnce() -> ClientState) -> &'static str {
    match record.phase {
        Phase::Reserved | Phase::Starting => "starting",
        Phase::Stopping => "stopping",
        // Its state may be `running`, but it answers no calls.
        Phase::Up if record.frozen => "frozen",
        Phase::Gone(_) if record.is_kept_stopped() => "stopped",
        Phase::Gone(_) if record.history.held => "held",
        Phase::Gone(_) => "to be started again",
        Phase::Up => match state() {
            ClientState::Init => "init",
            ClientState::Loading => "loading",
            ClientState::Scaning => "scaning",
            ClientState::Confirming => "confirming",
            ClientState::Updating => "updating",
            ClientState::Running => "running",
            ClientState::Stop => "stop",
            ClientState::Other(_) => "in another state",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientSpec, Exit, Generation, RestartHistory};
    use crate::model::state::StateReport;
    use std::sync::Arc;

    fn record(phase: Phase, says: Option<&str>, held: bool) -> ClientRecord {
        let report = |word: &str| {
            let text = serde_json::json!({ "state": word }).to_string();
            Arc::new(StateReport::parse(text.as_bytes()).unwrap())
        };
        let spec = ClientSpec::example("a", "/tmp");
        let history = RestartHistory { held, ..RestartHistory::default() };
        ClientRecord {
            report: says.map(report),
            ..ClientRecord::new(spec, 5000, Generation(1), phase, history)
        }
    }

    fn sum(records: &[ClientRecord]) -> String {
        summary(records.iter(), ClientRecord::state)
    }

    #[test]
    fn implementations_are_running_unless_something_else_is_known() {
        let records = [record(Phase::Up, None, false), record(Phase::Gone(Exit::Code(1)), None, true)];
        assert_eq!(implementations(records.iter()).unwrap(), "2 implementations: 1 running, 1 held");
        assert_eq!(implementations([].iter()), None);
    }

    #[test]
    fn summary_counts_every_client_once() {
        assert_eq!(sum(&[]), "no clients");
        assert_eq!(sum(&[record(Phase::Up, None, false)]), "1 client: 1 init");
        let gone = Phase::Gone(Exit::Code(1));
        let mut records = vec![
            record(gone, Some("running"), true),
            record(gone, Some("running"), false),
            record(Phase::Reserved, None, false),
            record(Phase::Starting, None, false),
            record(Phase::Stopping, Some("running"), false),
        ];
        for word in ["init", "loading", "scaning", "confirming", "updating", "running", "running", "stop"] {
            records.push(record(Phase::Up, Some(word), false));
        }
        records.push(ClientRecord { frozen: true, ..record(Phase::Up, Some("running"), false) });
        assert_eq!(
            sum(&records),
            "14 clients: 2 running, 1 updating, 1 confirming, 1 scaning, 1 loading, 1 init, 1 stop, 2 starting, \
             1 stopping, 1 to be started again, 1 frozen, 1 held"
        );
    }

    #[test]
    fn summary_does_not_repeat_unknown_states() {
        let line = sum(&[record(Phase::Up, Some("x\nMAINPID=1"), false)]);
        assert_eq!(line, "1 client: 1 in another state");
    }
}
