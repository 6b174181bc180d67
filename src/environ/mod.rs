//! The contract with a client process: parameters of a start become `MOJO_WEBQQ_*` variables.

mod applications;
mod implementation;
mod params;
mod report_url;
mod rules;

pub use crate::client_settings::PREFIX;
pub use applications::secrets;
pub use implementation::{IMPLEMENTATION, implementation_of, uin_of, with_implementation};
pub use params::{SpecError, client_spec, resettled};
pub use report_url::with_client;
pub use rules::check_start;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::backends::{BackendContract, BackendKind, ListenParameter, Start};
use crate::client_dirs::ClientDirs;
use crate::config::{Endpoint, Settings};
use crate::model::client::ClientSpec;

/// Variables that systemd sets for the controller alone (systemd.exec(5), sd_notify(3), sd_listen_fds(3)). A client that
/// inherited them would speak to systemd in the controller's name.
const CONTROLLER_ONLY: [&str; 17] = [
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LOGS_DIRECTORY",
    "MAINPID",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The `PATH` of clients where the controller has none, as in the original and in login(1).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The whole environment of a client: `inherited` without stale or private variables, then the contract.
///
/// `client_dirs` says where its files are; what a unit has from systemd is added in the unit.
///
/// `controller_pid` is set only where the controller is the client's parent and the client is to end with it: a
/// Mojo::Webqq client stops as soon as its parent has another pid.
pub fn environment(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    spec: &ClientSpec,
    port: u16,
    settings: &Settings,
    client_dirs: &ClientDirs,
    controller_pid: Option<u32>,
) -> Vec<(OsString, OsString)> {
    let mut all = Environment(without_private(inherited));
    // The controller's own settings first: those of the call win over them.
    all.set("LOG_LEVEL", settings.log_level.as_str());
    all.set("LOG_ENCODING", settings.log_encoding.as_deref().unwrap_or("utf8"));
    // A unit can't write to our log file, and what it prints goes to the journal.
    let log_path = settings.log_path.as_ref().filter(|_| matches!(client_dirs, ClientDirs::Shared { .. }));
    if let Some(path) = log_path {
        all.set("LOG_PATH", path);
    }
    // What a client prints comes into our log anyway; with a log file in common it writes its lines there itself.
    all.set("LOG_CONSOLE", if log_path.is_some() { "0" } else { "1" });
    // The output goes into a log, which escape sequences would garble.
    all.set("DISABLE_COLOR", "1");
    all.set("HTTP_DEBUG", "0");
    for (name, value) in &spec.params {
        match &value.path {
            // As it was resolved for the check: a link that is changed since then must not lead elsewhere.
            Some(path) => all.set(name, path),
            None => all.set(name, &value.text),
        }
    }
    // `poll_api` of the configuration is the controller's alone: with it in each client as well, a command that answers
    // a poll would be carried out once by every client.
    for (name, endpoint) in [("POST_API", settings.post_api.as_ref()), ("POLL_API", None)] {
        // The template reads the longer name; a call may use either, and an empty one counts as none, as in Perl.
        let plugin = format!("PLUGIN_OPENQQ_{name}");
        let given =
            [name, &plugin].into_iter().find_map(|name| param(spec, name).filter(|url| !url.is_empty()));
        let url = given.or(endpoint.map(Endpoint::as_str));
        all.unset(&plugin);
        // What a call gives was checked when it came, what the configuration gives when it was read.
        if let Some(url) = url.and_then(|url| with_client(url, &spec.name)) {
            all.set(&plugin, url);
        }
    }
    // An operator who puts an account in a network's table never means the made-up world.
    if let Some(kind) = settings.accounts.kind_of(&spec.name) {
        all.set("BACKEND", kind.name());
    }
    for (contract, start) in Start::of_each(spec, &settings.accounts, client_dirs) {
        for (name, value) in contract.variables(&start) {
            all.set(&name, value);
        }
        // A unit can't read our files. Its launch file holds the secret, and its launcher says where it wrote it.
        if let (Some(secret), ClientDirs::Shared { .. }) = (contract.secret(), client_dirs)
            && let Some(file) = contract.secret_file(&start)
        {
            all.set(secret.file_variable, file);
        }
    }
    applications::set(&mut all, spec, settings, client_dirs);
    // After the parameters, so that no caller can set any of these.
    all.set("ACCOUNT", spec.name.as_str());
    all.set("CLIENT", spec.name.as_str());
    all.set("TMPDIR", &spec.files.tmpdir);
    // A unit has it from systemd, under systemd's own name.
    if let ClientDirs::Shared { lasting, .. } = client_dirs {
        all.set("STATE_DIRECTORY", lasting.join(spec.id.as_str()));
    }
    all.set("STATE_PATH", &spec.files.state);
    all.set("QRCODE_PATH", &spec.files.qrcode);
    all.set("PID_PATH", &spec.files.pid);
    all.set("PLUGIN_OPENQQ_PORT", port.to_string());
    if let Some(pid) = controller_pid {
        all.set("CONTROLLER_PID", pid.to_string());
    }
    all.0.into_iter().collect()
}

/// A secret that the launch file of a unit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchSecret {
    /// The variable by which it holds it.
    pub variable: String,
    /// The operator's file with the secret.
    pub file: PathBuf,
    /// The name of the unit's copy, in its runtime directory.
    pub copy_name: &'static str,
}

/// The secrets that the client of `spec` is to have. A unit can't read their files: those are the controller's.
pub fn launch_secrets(spec: &ClientSpec, settings: &Settings, client_dirs: &ClientDirs) -> Vec<LaunchSecret> {
    let secret = |(contract, start): (&'static dyn BackendContract, Start<'_>)| {
        let secret = contract.secret()?;
        let variable = format!("{PREFIX}{}", secret.launch_variable);
        let file = contract.secret_file(&start)?.to_owned();
        Some(LaunchSecret { variable, file, copy_name: secret.file_name })
    };
    let of_networks = Start::of_each(spec, &settings.accounts, client_dirs).filter_map(secret);
    of_networks.chain(applications::launch_secrets(spec, settings)).collect()
}

/// The address on which the client of `spec` will wait for its network, if it does.
pub fn listen_address(
    spec: &ClientSpec,
    settings: &Settings,
    client_dirs: &ClientDirs,
) -> Option<ListenParameter> {
    // The operator's table wins over the call, as it does in the environment.
    let given = || BackendKind::from_name(param(spec, "backend")?);
    let kind = settings.accounts.kind_of(&spec.name).or_else(given)?;
    kind.contract().listen_address(&Start::of(kind, spec, &settings.accounts, client_dirs))
}

/// The variables that a child process inherits: all but the controller's own.
pub fn without_private(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let is_private = |name: &OsStr| {
        // The controller's own settings have this prefix, too, and a client would take them for its own.
        name.as_bytes().starts_with(PREFIX.as_bytes())
            || CONTROLLER_ONLY.iter().any(|ours| name == OsStr::new(ours))
    };
    let mut all: BTreeMap<_, _> = inherited.into_iter().filter(|(name, _)| !is_private(name)).collect();
    all.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    all
}

struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.insert(format!("{PREFIX}{}", name.to_ascii_uppercase()).into(), value.as_ref().to_owned());
    }

    fn unset(&mut self, name: &str) {
        self.0.remove(OsStr::new(&format!("{PREFIX}{name}")));
    }
}

fn param<'a>(spec: &'a ClientSpec, name: &str) -> Option<&'a str> {
    let found = spec.params.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;
    use crate::model::client::{ClientFiles, ParamValue};
    use crate::model::name::{ClientName, UnitId};

    const TOKEN: &str = "MOJO_WEBQQ_ONEBOT_TOKEN";
    const TOKEN_FILE: &str = "MOJO_WEBQQ_ONEBOT_TOKEN_FILE";

    fn spec(params: &[(&str, &str)]) -> ClientSpec {
        let name = ClientName::new("小明").unwrap();
        let files = ClientFiles::in_folder(PathBuf::from("/run/wq"), &name);
        let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
        let params = params.iter().map(|(name, text)| ((*name).into(), value(text))).collect();
        ClientSpec { id: UnitId::of(&name), name, params, files }
    }

    fn variables(
        inherited: &[(&str, &str)],
        spec: &ClientSpec,
        settings: &Settings,
        pid: Option<u32>,
    ) -> BTreeMap<String, String> {
        let text = |text: OsString| text.into_string().unwrap();
        let inherited = inherited.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let client_dirs = ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() };
        let all = environment(inherited, spec, 5007, settings, &client_dirs, pid);
        all.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn environment_is_the_contract_and_nothing_else() {
        let inherited = [
            ("HOME", "/root"),
            ("PERL5LIB", "/opt/perl"),
            ("PATH", "/bin"),
            ("MOJO_WEBQQ_PWD", "stale"),
            ("MOJO_WEBQQ_ACCOUNT", "stale"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("LISTEN_FDS", "1"),
        ];
        let got = variables(&inherited, &spec(&[]), &Settings::default(), Some(77));
        let expected = [
            ("HOME", "/root"),
            ("MOJO_WEBQQ_ACCOUNT", "小明"),
            ("MOJO_WEBQQ_CLIENT", "小明"),
            ("MOJO_WEBQQ_CONTROLLER_PID", "77"),
            ("MOJO_WEBQQ_DISABLE_COLOR", "1"),
            ("MOJO_WEBQQ_HTTP_DEBUG", "0"),
            ("MOJO_WEBQQ_LOG_CONSOLE", "1"),
            ("MOJO_WEBQQ_LOG_ENCODING", "utf8"),
            ("MOJO_WEBQQ_LOG_LEVEL", "info"),
            ("MOJO_WEBQQ_PID_PATH", "/run/wq/mojo_webqq_pid_小明.pid"),
            ("MOJO_WEBQQ_PLUGIN_OPENQQ_PORT", "5007"),
            ("MOJO_WEBQQ_QRCODE_PATH", "/run/wq/mojo_webqq_qrcode_小明.jpg"),
            ("MOJO_WEBQQ_STATE_DIRECTORY", "/var/lib/wq/-df3ea25a4369305a"),
            ("MOJO_WEBQQ_STATE_PATH", "/run/wq/mojo_webqq_state_小明.json"),
            ("MOJO_WEBQQ_TMPDIR", "/run/wq"),
            ("PATH", "/bin"),
            ("PERL5LIB", "/opt/perl"),
        ];
        assert_eq!(got, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn account_keys_win_over_parameters_and_units_get_no_token_file() {
        let account = |url: Option<&str>| {
            let mut account = vec![
                ("token_file", "/etc/wq/token".to_owned()),
                ("qrcode_path", "/opt/qr.png".to_owned()),
                ("listen", "127.0.0.1:6001".to_owned()),
            ];
            account.extend(url.map(|url| ("url", url.to_owned())));
            let mut settings = Settings::default();
            settings.accounts.add("小明".into(), BackendKind::OneBot, account.into_iter().collect());
            settings
        };
        let settings = account(None);
        let call =
            [("backend", "onebot"), ("onebot_url", "ws://127.0.0.1:3001/"), ("onebot_listen", "[::1]:1")];
        let got = variables(&[], &spec(&call), &settings, None);
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_TOKEN_FILE"], "/etc/wq/token");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_QRCODE_PATH"], "/opt/qr.png");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_URL"], "ws://127.0.0.1:3001/");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_LISTEN"], "127.0.0.1:6001");
        let client_dirs =
            ClientDirs::of_units(crate::config::ManagerKind::System, std::path::Path::new("/"), |_| None);
        let secrets = |call: &[(&str, &str)]| launch_secrets(&spec(call), &settings, &client_dirs);
        let secret =
            LaunchSecret { variable: TOKEN.into(), file: "/etc/wq/token".into(), copy_name: "onebot_token" };
        assert_eq!(secrets(&call), [secret]);
        let unit = environment([], &spec(&call), 5007, &settings, &client_dirs, None);
        assert!(unit.iter().all(|(name, _)| name != TOKEN_FILE && name != TOKEN));
        // As an old registry may have it, from before the configuration had a token.
        let elsewhere = [("onebot_url", "ws://evil.example/")];
        assert!(!variables(&[], &spec(&elsewhere), &settings, None).contains_key(TOKEN_FILE));
        assert_eq!(secrets(&elsewhere), []);
        let settings = account(Some("ws://bots.example/"));
        let got = variables(&[], &spec(&elsewhere), &settings, None);
        assert_eq!(
            (got[TOKEN_FILE].as_str(), got["MOJO_WEBQQ_ONEBOT_URL"].as_str()),
            ("/etc/wq/token", "ws://bots.example/")
        );
    }

    #[test]
    fn parameters_win_over_the_controllers_settings() {
        let settings = Settings {
            log_level: LogLevel::Warn,
            log_path: Some("/var/log/wq.log".into()),
            log_encoding: Some("gbk".into()),
            post_api: Endpoint::new("http://a/x?client=nobody&k=v"),
            poll_api: Endpoint::new("http://b/"),
            ..Settings::default()
        };
        let got = variables(&[], &spec(&[]), &settings, None);
        assert_eq!(got["MOJO_WEBQQ_LOG_LEVEL"], "warn");
        assert_eq!(got["MOJO_WEBQQ_LOG_PATH"], "/var/log/wq.log");
        assert_eq!(got["MOJO_WEBQQ_LOG_CONSOLE"], "0");
        assert_eq!(got["MOJO_WEBQQ_LOG_ENCODING"], "gbk");
        let me = "client=%E5%B0%8F%E6%98%8E";
        assert_eq!(got["MOJO_WEBQQ_PLUGIN_OPENQQ_POST_API"], format!("http://a/x?{me}&k=v"));
        assert!(!got.contains_key("MOJO_WEBQQ_PLUGIN_OPENQQ_POLL_API"), "it is the controller's alone");
        assert!(!got.contains_key("MOJO_WEBQQ_CONTROLLER_PID"));
        assert_eq!(got["PATH"], DEFAULT_PATH);

        let call =
            [("log_level", "debug"), ("post_api", "http://c/"), ("PLUGIN_OPENQQ_POLL_API", "http://d/")];
        let got = variables(&[], &spec(&call), &settings, None);
        let client_dirs =
            ClientDirs::of_units(crate::config::ManagerKind::System, std::path::Path::new("/"), |_| None);
        let unit: BTreeMap<_, _> =
            environment([], &spec(&call), 5007, &settings, &client_dirs, None).into_iter().collect();
        let of_unit = |name: &str| unit.get(OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!(of_unit("MOJO_WEBQQ_LOG_PATH"), None, "it is ours");
        assert_eq!(of_unit("MOJO_WEBQQ_LOG_CONSOLE"), Some("1"));
        assert_eq!(of_unit("MOJO_WEBQQ_SANDBOX_NETWORK"), Some("/run/wqclient-world"));
        assert_eq!(of_unit("MOJO_WEBQQ_STATE_DIRECTORY"), None, "the unit knows it");
        assert_eq!(got["MOJO_WEBQQ_LOG_LEVEL"], "debug");
        assert_eq!(got["MOJO_WEBQQ_POST_API"], "http://c/");
        assert_eq!(got["MOJO_WEBQQ_PLUGIN_OPENQQ_POST_API"], format!("http://c/?{me}"));
        assert_eq!(got["MOJO_WEBQQ_PLUGIN_OPENQQ_POLL_API"], format!("http://d/?{me}"));
    }
}
