//! What a reload can't change: the options that are read once, when the daemon starts.

use super::settings::Settings;

impl Settings {
    /// The names of options that differ in `new` and take effect only at a restart: sockets that are open,
    /// files that are held and limits that are built in. Every other option applies as soon as it is read.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (http, new_http) = (&self.http, &new.http);
        [
            ("listen", self.listen != new.listen),
            ("tmpdir", self.tmpdir != new.tmpdir),
            ("pid_path", self.pid_path != new.pid_path),
            ("backend_path", self.backend_path != new.backend_path),
            ("log_path", self.log_path != new.log_path),
            ("supervisor.mode", self.supervisor.mode != new.supervisor.mode),
            (
                "supervisor.clients_outlive_controller",
                self.supervisor.clients_outlive_controller != new.supervisor.clients_outlive_controller,
            ),
            ("systemd.manager", self.systemd.manager != new.systemd.manager),
            ("systemd.unit", self.systemd.unit != new.systemd.unit),
            ("systemd.slice", self.systemd.slice != new.systemd.slice),
            ("http.max_connections", http.max_connections != new_http.max_connections),
            ("http.max_request_header", http.max_request_header != new_http.max_request_header),
            ("http.worker_threads", http.worker_threads != new_http.worker_threads),
            ("http.request_header_timeout", http.request_header_timeout != new_http.request_header_timeout),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
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
        old.needs_restart(&new)
    }

    #[test]
    fn unchanged_settings_need_no_restart() {
        assert!(Settings::default().needs_restart(&Settings::default()).is_empty());
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
        });
        assert!(live.is_empty(), "{live:?}");
    }
}
