//! What a reload can't change: the options that are read once, when the daemon starts.

use super::settings::Settings;

impl Settings {
    /// Gives the options that take effect only at a restart the values of `in_force`: sockets that are open, files that are held,
    /// limits that are built in, and how clients were launched. Returns the names of those that differed. Every other option
    /// applies as soon as it is read.
    pub fn keep_until_restart(&mut self, in_force: &Self) -> Vec<&'static str> {
        let mut kept = Kept::default();
        kept.keep("listen", &mut self.listen, &in_force.listen);
        kept.keep("tmpdir", &mut self.tmpdir, &in_force.tmpdir);
        kept.keep("pid_path", &mut self.pid_path, &in_force.pid_path);
        kept.keep("backend_path", &mut self.backend_path, &in_force.backend_path);
        kept.keep("log_path", &mut self.log_path, &in_force.log_path);
        let (supervisor, old) = (&mut self.supervisor, &in_force.supervisor);
        kept.keep("supervisor.mode", &mut supervisor.mode, &old.mode);
        kept.keep(
            "supervisor.clients_outlive_controller",
            // Clients that were launched with a pipe end with the controller whatever the configuration says by then.
            &mut supervisor.clients_outlive_controller,
            &old.clients_outlive_controller,
        );
        let (systemd, old) = (&mut self.systemd, &in_force.systemd);
        kept.keep("systemd.manager", &mut systemd.manager, &old.manager);
        kept.keep("systemd.unit", &mut systemd.unit, &old.unit);
        kept.keep("systemd.slice", &mut systemd.slice, &old.slice);
        let (http, old) = (&mut self.http, &in_force.http);
        kept.keep("http.max_connections", &mut http.max_connections, &old.max_connections);
        kept.keep("http.max_request_header", &mut http.max_request_header, &old.max_request_header);
        kept.keep("http.worker_threads", &mut http.worker_threads, &old.worker_threads);
        kept.keep(
            "http.request_header_timeout",
            &mut http.request_header_timeout,
            &old.request_header_timeout,
        );
        kept.0
    }
}

/// The names of options that keep their value.
#[derive(Default)]
struct Kept(Vec<&'static str>);

impl Kept {
    fn keep<T: Clone + PartialEq>(&mut self, name: &'static str, new: &mut T, in_force: &T) {
        if new != in_force {
            new.clone_from(in_force);
            self.0.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ManagerKind, Mode, UnitKind};
    use std::path::PathBuf;
    use std::time::Duration;

    fn changed(change: impl FnOnce(&mut Settings)) -> Vec<&'static str> {
        let old = Settings::default();
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(old, new);
        let changed = new.keep_until_restart(&old);
        assert_eq!(new == old, !changed.is_empty(), "what needs a restart keeps its value");
        changed
    }

    #[test]
    fn unchanged_settings_need_no_restart() {
        assert!(Settings::default().keep_until_restart(&Settings::default()).is_empty());
    }

    #[test]
    fn options_read_once_need_a_restart() {
        let path = || Some(PathBuf::from("/x"));
        assert_eq!(changed(|new| new.listen.clear()), ["listen"]);
        assert_eq!(changed(|new| new.tmpdir = path()), ["tmpdir"]);
        assert_eq!(changed(|new| new.pid_path = path()), ["pid_path"]);
        assert_eq!(changed(|new| new.backend_path = path()), ["backend_path"]);
        assert_eq!(changed(|new| new.log_path = path()), ["log_path"]);
        assert_eq!(changed(|new| new.supervisor.mode = Mode::Direct), ["supervisor.mode"]);
        assert_eq!(changed(|new| new.systemd.manager = ManagerKind::User), ["systemd.manager"]);
        assert_eq!(changed(|new| new.systemd.unit = UnitKind::Transient), ["systemd.unit"]);
        assert_eq!(changed(|new| new.systemd.slice.clear()), ["systemd.slice"]);
        let outlive = changed(|new| new.supervisor.clients_outlive_controller = true);
        assert_eq!(outlive, ["supervisor.clients_outlive_controller"]);
        assert_eq!(changed(|new| new.http.max_connections = 1), ["http.max_connections"]);
        assert_eq!(changed(|new| new.http.max_request_header = 1), ["http.max_request_header"]);
        assert_eq!(changed(|new| new.http.worker_threads = 1), ["http.worker_threads"]);
        let header_timeout = changed(|new| new.http.request_header_timeout = Duration::ZERO);
        assert_eq!(header_timeout, ["http.request_header_timeout"]);
    }

    /// The options that a paragraph of the reference file marks as `(restart)`.
    #[test]
    fn reference_marks_options_that_need_a_restart() {
        let reference = include_str!("../../packaging/wqcontroller.toml");
        let marked = reference.split("\n\n").filter(|paragraph| paragraph.contains("(restart)"));
        let keys =
            marked.filter_map(|paragraph| paragraph.lines().last()?.strip_prefix('#')?.split_once(" = "));
        let keys: Vec<_> = keys.map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "listen",
                "tmpdir",
                "pid_path",
                "backend_path",
                "log_path",
                "mode",
                "clients_outlive_controller",
                "manager",
                "unit",
                "slice",
                "request_header_timeout",
                "max_connections",
                "max_request_header",
                "worker_threads"
            ]
        );
    }

    #[test]
    fn other_options_apply_on_reload() {
        let live = changed(|new| {
            new.template_path = Some(PathBuf::from("/x"));
            new.max_clients = 1;
            new.supervisor.stop_timeout = Duration::ZERO;
            new.client.secret_params = vec!["token".into()];
            new.limits.tasks_max = None;
            new.http.connect_timeout = Duration::ZERO;
            new.http.drain_timeout = Duration::ZERO;
            new.http.inactivity_timeout = Duration::ZERO;
        });
        assert!(live.is_empty(), "{live:?}");
    }
}
