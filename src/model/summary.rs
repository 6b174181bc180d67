//! A fleet in one line, for people: `12 clients: 9 running, 2 scaning, 1 held`.

use super::client::{ClientRecord, Phase};
use super::state::ClientState;

/// The words, in the order in which they are said: first what is well, last what somebody has to look at.
const WORDS: [&str; 12] = [
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
    "held",
];

/// Sums the clients up.
pub fn summary<'a>(records: impl Iterator<Item = &'a ClientRecord>) -> String {
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
    match all {
        0 => "no clients".to_owned(),
        1 => format!("1 client: {}", parts.join(", ")),
        _ => format!("{all} clients: {}", parts.join(", ")),
    }
}

/// What one client is counted as. Its own word is one of ours or none: it may say anything.
fn word(record: &ClientRecord) -> &'static str {
    match record.phase {
        Phase::Reserved | Phase::Starting => "starting",
        Phase::Stopping => "stopping",
        Phase::Gone(_) if record.history.held => "held",
        Phase::Gone(_) => "to be started again",
        Phase::Up => match record.state() {
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
    use crate::model::client::{ClientFiles, ClientSpec, Exit, Generation, History};
    use crate::model::name::ClientName;
    use crate::model::state::StateReport;
    use std::sync::Arc;

    fn record(phase: Phase, says: Option<&str>, held: bool) -> ClientRecord {
        let name = ClientName::new("a").unwrap();
        let files = ClientFiles::in_folder("/tmp".into(), &name);
        let report = |word: &str| {
            let text = serde_json::json!({ "state": word }).to_string();
            Arc::new(StateReport::parse(text.as_bytes()).unwrap())
        };
        ClientRecord {
            spec: Arc::new(ClientSpec { name, params: Default::default(), files }),
            port: 5000,
            generation: Generation(1),
            phase,
            handle: None,
            frozen: false,
            report: says.map(report),
            history: History { held, ..History::default() },
        }
    }

    fn sum(records: &[ClientRecord]) -> String {
        summary(records.iter())
    }

    #[test]
    fn every_client_is_counted_once() {
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
        assert_eq!(
            sum(&records),
            "13 clients: 2 running, 1 updating, 1 confirming, 1 scaning, 1 loading, 1 init, 1 stop, 2 starting, \
             1 stopping, 1 to be started again, 1 held"
        );
    }

    #[test]
    fn a_clients_own_word_is_not_repeated() {
        let line = sum(&[record(Phase::Up, Some("x\nMAINPID=1"), false)]);
        assert_eq!(line, "1 client: 1 in another state");
    }
}
