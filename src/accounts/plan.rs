//! What follows for the implementation of one account from what is registered.

use std::path::Path;

use crate::environ::{implementation_of, uin_of};
use crate::model::client::{ClientFiles, ClientRecord, ClientSpec, Phase};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is as it should be, or something is under way.
    Nothing,
    /// It is started.
    Start,
    /// It is stopped, and leaves its list.
    Stop,
}

/// Decides for one account, given its registered client and its registered implementation.
pub(super) fn step(client: Option<&ClientRecord>, implementation: Option<&ClientRecord>) -> Step {
    // Of an account that is being stopped it stays until the client has ended.
    let wanted = client.filter(|client| implementation_of(&client.spec).is_some() && !has_ended(client));
    match (wanted, implementation) {
        (None, None) => Step::Nothing,
        (Some(_), None) => Step::Start,
        // Also while the controller stops it to start it again: only this stop says that it is not to come back.
        (None, Some(_)) => Step::Stop,
        // It is started with the new parameters when it is gone.
        (Some(client), Some(running)) if !is_same(&client.spec, &running.spec) => match running.phase {
            Phase::Stopping => Step::Nothing,
            _ => Step::Stop,
        },
        // Also one that is held or waits for its next start: the restart policy of its own registry decides about that.
        (Some(_), Some(_)) => Step::Nothing,
    }
}

/// Whether a caller has stopped a client, and it has no process any more. One that leaves the list is being stopped once more: with
/// its implementation started for that moment the account would log in.
fn has_ended(client: &ClientRecord) -> bool {
    let is_leaving = client.phase == Phase::Stopping && client.history.stopped && client.handle.is_none();
    client.is_kept_stopped() || is_leaving
}

/// Whether the implementation was started with what the client asks for.
fn is_same(client: &ClientSpec, implementation: &ClientSpec) -> bool {
    // The other parameters are the client's alone. A new value of one of them must not cost the account its login.
    implementation_of(client) == implementation_of(implementation) && uin_of(client) == uin_of(implementation)
}

/// The parameters of an implementation, from those of its account. Its files are below `runtime`.
pub(super) fn spec_of(client: &ClientSpec, runtime: &Path) -> ClientSpec {
    let is_its_own = |name: &str| ["implementation", "uin"].iter().any(|own| own.eq_ignore_ascii_case(name));
    let params = client.params.iter().filter(|(name, _)| is_its_own(name));
    ClientSpec {
        name: client.name.clone(),
        id: client.id.clone(),
        params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        files: ClientFiles::in_folder(runtime.join(client.id.as_str()), &client.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{Exit, Generation, ParamValue, RestartHistory};
    use crate::model::name::{ClientName, UnitId};
    use std::sync::Arc;

    fn record(params: &[(&str, &str)], phase: Phase) -> ClientRecord {
        let name = ClientName::new("a").unwrap();
        let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
        let params = params.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        let files = ClientFiles::in_folder("/run/wq".into(), &name);
        ClientRecord {
            spec: Arc::new(ClientSpec { id: UnitId::of(&name), name, params, files }),
            port: 5000,
            generation: Generation(1),
            phase,
            handle: None,
            report: None,
            frozen: false,
            history: RestartHistory::default(),
        }
    }

    #[test]
    fn implementation_follows_from_the_list_of_clients() {
        let asked = [("implementation", "yogurt"), ("uin", "1"), ("log_level", "debug")];
        let client = record(&asked, Phase::Up);
        let implementation = |params: &[(&str, &str)]| {
            let spec = spec_of(&record(params, Phase::Up).spec, Path::new("/run/wqimpl"));
            ClientRecord { spec: Arc::new(spec), ..record(&[], Phase::Up) }
        };
        let same = implementation(&asked);
        assert_eq!(same.spec.params.keys().collect::<Vec<_>>(), ["implementation", "uin"]);
        assert_eq!(same.spec.files.tmpdir, Path::new("/run/wqimpl/a"));
        assert_eq!(step(Some(&client), None), Step::Start);
        assert_eq!(step(Some(&client), Some(&same)), Step::Nothing);
        assert_eq!(step(None, Some(&same)), Step::Stop);
        let plain = record(&[("implementation", "")], Phase::Up);
        assert_eq!(step(Some(&plain), None), Step::Nothing);
        assert_eq!(step(Some(&plain), Some(&same)), Step::Stop);
        let mut other = implementation(&[("implementation", "yogurt"), ("uin", "2")]);
        assert_eq!(step(Some(&client), Some(&other)), Step::Stop);
        other.phase = Phase::Stopping;
        assert_eq!(step(Some(&client), Some(&other)), Step::Nothing);
        assert_eq!(step(None, None), Step::Nothing);
        let mut stopped = record(&asked, Phase::Gone(Exit::Clean));
        stopped.history.stopped = true;
        assert_eq!(
            (step(Some(&stopped), None), step(Some(&stopped), Some(&same))),
            (Step::Nothing, Step::Stop)
        );
        // It leaves the list.
        stopped.phase = Phase::Stopping;
        assert_eq!(step(Some(&stopped), None), Step::Nothing);
    }
}
