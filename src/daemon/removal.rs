//! `wqcontroller note-removal`: clients that run while the package is removed are started when it is back.
//!
//! To the next controller a unit that ended meanwhile looks like one that an operator stopped, so it would hold that client. The
//! package's scripts name the running units before they stop them, and the registry forgets their processes.

use std::collections::HashSet;
use std::io::{self, Read};

use anyhow::Context;

use crate::config::Settings;
use crate::model::client::Handle;
use crate::model::persisted::{PersistedState, VERSION};
use crate::paths::Paths;
use crate::store::Store;

/// The most that is read of unit names, in bytes: 10,000 clients with long names.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads the names of running units from standard input, one a line, and notes in the registry that no operator stops them. The
/// controller must have ended, or it would overwrite the file.
pub fn note_removal(settings: &Settings) -> anyhow::Result<()> {
    let mut units = String::new();
    io::stdin().take(MAX_BYTES).read_to_string(&mut units).context("can't read the names of units")?;
    let uid = rustix::process::geteuid().as_raw();
    let paths = Paths::choose(settings, |name| std::env::var_os(name), uid);
    let units = units.split_ascii_whitespace().collect();
    for registry in [&paths.registry, &paths.implementations] {
        // `Store::open` would make a lock file where there never was a registry.
        if !registry.exists() {
            continue;
        }
        let (store, mut saved) = Store::open(registry)?;
        forget_processes(&mut saved, &units);
        store
            .write(&saved)
            .with_context(|| format!("can't write the registry file {}", store.path().display()))?;
    }
    Ok(())
}

fn forget_processes(saved: &mut PersistedState, units: &HashSet<&str>) {
    // Whatever version was read, it is written in the present form.
    saved.version = VERSION;
    for client in &mut saved.clients {
        if matches!(&client.handle, Some(Handle::Unit { name, .. }) if units.contains(&**name)) {
            client.handle = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::ClientSpec;
    use crate::model::persisted::PersistedClient;

    #[test]
    fn forgets_only_processes_of_running_units() {
        let client = |name: &str, handle| {
            PersistedClient::example(ClientSpec::example(name, "/nonexistent"), Some(handle))
        };
        let unit = |name: &str| Handle::Unit { name: name.into(), invocation_id: "0".into(), pid: 1 };
        let child = Handle::Direct { pid: 1, start_ticks: 1, boot_id: "b".into() };
        let clients = vec![
            client("a", unit("wqclient@a.service")),
            client("b", unit("wqclient@b.service")),
            client("c", unit("wqclient-c.service")),
            client("d", child.clone()),
        ];
        let mut saved = PersistedState { clients, ..PersistedState::default() };
        forget_processes(&mut saved, &["wqclient@a.service", "wqclient-c.service", "other"].into());
        let handles: Vec<_> = saved.clients.into_iter().map(|client| client.handle).collect();
        assert_eq!(handles, [None, Some(unit("wqclient@b.service")), None, Some(child)]);
    }
}
