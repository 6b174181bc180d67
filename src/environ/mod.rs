//! The contract with a client process: parameters of a start become `MOJO_WEBQQ_*` variables.

mod params;
mod report_url;

pub use params::{SpecError, client_spec, resettled};
pub use report_url::with_client;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::{OneBotClient, Settings};
use crate::homes::Homes;
use crate::model::client::ClientSpec;

/// What every variable of the contract begins with.
pub const PREFIX: &str = "MOJO_WEBQQ_";

/// Variables that systemd gives to one process and to nobody else (systemd.exec(5), sd_notify(3),
/// sd_listen_fds(3)): a client that got them would speak to systemd in the controller's name.
const OURS_ALONE: [&str; 17] = [
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

/// Where the original looks for programs when nobody says, as login(1) does.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The whole environment of a client: `inherited` without stale or private variables, then the contract.
///
/// `homes` says where its files are; what a unit has from systemd is added in the unit.
///
/// `controller_pid` is set only where the controller is the client's parent and the client shall end with it: a
/// Mojo::Webqq client stops itself as soon as its parent's pid is another.
pub fn environment(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    spec: &ClientSpec,
    port: u16,
    settings: &Settings,
    homes: &Homes,
    controller_pid: Option<u32>,
) -> Vec<(OsString, OsString)> {
    let private = |name: &OsStr| {
        name.as_bytes().starts_with(PREFIX.as_bytes())
            || OURS_ALONE.iter().any(|ours| name == OsStr::new(ours))
    };
    let mut all = Environment(inherited.into_iter().filter(|(name, _)| !private(name)).collect());
    all.0.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());

    // The controller's own settings first: those of the call win over them.
    all.set("LOG_LEVEL", settings.log_level.as_str());
    all.set("LOG_ENCODING", settings.log_encoding.as_deref().unwrap_or("utf8"));
    // A unit can't write to our log file, and what it prints goes to the journal.
    let log_path = settings.log_path.as_ref().filter(|_| matches!(homes, Homes::Shared { .. }));
    if let Some(path) = log_path {
        all.set("LOG_PATH", path);
    }
    // What a client prints comes into our log anyway; with a log file in common it writes its lines there itself.
    all.set("LOG_CONSOLE", if log_path.is_some() { "0" } else { "1" });
    all.set("DISABLE_COLOR", "1");
    all.set("HTTP_DEBUG", "0");
    for (name, value) in &spec.params {
        match &value.path {
            Some(path) => all.set(name, path),
            None => all.set(name, &value.text),
        }
    }
    for (name, endpoint) in [("POST_API", &settings.post_api), ("POLL_API", &settings.poll_api)] {
        // The template reads the longer name; a call may use either, and an empty one counts as none, as in Perl.
        let plugin = format!("PLUGIN_OPENQQ_{name}");
        let given =
            [name, &plugin].into_iter().find_map(|name| param(spec, name).filter(|url| !url.is_empty()));
        let url = given.or(endpoint.as_ref().map(|endpoint| endpoint.as_str()));
        all.unset(&plugin);
        // What a call gives was checked when it came, what the configuration gives when it was read.
        if let Some(url) = url.and_then(|url| with_client(url, &spec.name)) {
            all.set(&plugin, url);
        }
    }
    if let Some(known) = settings.onebot.of(&spec.name) {
        onebot(&mut all, known, spec, homes);
    }
    all.set("ACCOUNT", spec.name.as_str());
    all.set("CLIENT", spec.name.as_str());
    all.set("TMPDIR", &spec.files.tmpdir);
    match homes {
        // As systemd calls it, which gives it to a client that is a unit, under its own name.
        Homes::Shared { lasting, .. } => {
            all.set("STATE_DIRECTORY", lasting.join(spec.name.unit_id().as_str()));
        }
        Homes::Units { meeting, .. } if param(spec, "sandbox_network").is_none() => {
            all.set("SANDBOX_NETWORK", meeting);
        }
        Homes::Units { .. } => {}
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

/// What the operator says about the account's OneBot implementation. A unit can't read our files: it gets the token by its
/// launch file, and says itself where that is (`supervisor/systemd/launch.rs`).
fn onebot(all: &mut Environment, known: &OneBotClient, spec: &ClientSpec, homes: &Homes) {
    if let (Some(path), Homes::Shared { .. }) = (known.token_for(param(spec, "onebot_url")), homes) {
        all.set("ONEBOT_TOKEN_FILE", path);
    }
    if let Some(path) = &known.qrcode_path {
        all.set("ONEBOT_QRCODE_PATH", path);
    }
    if let Some(url) = &known.url {
        all.set("ONEBOT_URL", url);
    }
    if let Some(listen) = known.listen {
        all.set("ONEBOT_LISTEN", listen.to_string());
    }
}

/// The variable by which a launch file holds the token of an account's OneBot implementation. No process ever has it.
pub const TOKEN: &str = "MOJO_WEBQQ_ONEBOT_TOKEN";

/// The variable by which a client knows where that token is.
pub const TOKEN_FILE: &str = "MOJO_WEBQQ_ONEBOT_TOKEN_FILE";

/// The file of the token that the client of `spec` is to have.
pub fn token_file(spec: &ClientSpec, settings: &Settings) -> Option<PathBuf> {
    settings.onebot.of(&spec.name)?.token_for(param(spec, "onebot_url")).cloned()
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
    use crate::config::{Endpoint, LogLevel};
    use crate::model::client::{ClientFiles, ParamValue};
    use crate::model::name::ClientName;

    fn spec(params: &[(&str, &str)]) -> ClientSpec {
        let name = ClientName::new("小明").unwrap();
        let files = ClientFiles::in_folder(PathBuf::from("/run/wq"), &name);
        let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
        let params = params.iter().map(|(name, text)| ((*name).into(), value(text))).collect();
        ClientSpec { name, params, files }
    }

    fn variables(
        inherited: &[(&str, &str)],
        spec: &ClientSpec,
        settings: &Settings,
        pid: Option<u32>,
    ) -> BTreeMap<String, String> {
        let text = |text: OsString| text.into_string().unwrap();
        let inherited = inherited.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let homes = Homes::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() };
        let all = environment(inherited, spec, 5007, settings, &homes, pid);
        all.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn the_contract_is_complete_and_nothing_else() {
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
    fn the_operator_wins_over_the_call_and_a_unit_gets_no_file_of_ours() {
        let mut settings = Settings::default();
        settings.onebot.clients = vec![OneBotClient {
            client: "小明".into(),
            token_file: Some("/etc/wq/token".into()),
            qrcode_path: Some("/opt/qr.png".into()),
            url: None,
            listen: Some("127.0.0.1:6001".parse().unwrap()),
        }];
        let call =
            [("backend", "onebot"), ("onebot_url", "ws://127.0.0.1:3001/"), ("onebot_listen", "[::1]:1")];
        let got = variables(&[], &spec(&call), &settings, None);
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_TOKEN_FILE"], "/etc/wq/token");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_QRCODE_PATH"], "/opt/qr.png");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_URL"], "ws://127.0.0.1:3001/");
        assert_eq!(got["MOJO_WEBQQ_ONEBOT_LISTEN"], "127.0.0.1:6001");
        assert_eq!(token_file(&spec(&call), &settings), Some("/etc/wq/token".into()));
        let homes = Homes::of_units(crate::config::ManagerKind::System, std::path::Path::new("/"));
        let unit = environment([], &spec(&call), 5007, &settings, &homes, None);
        assert!(unit.iter().all(|(name, _)| name != TOKEN_FILE && name != TOKEN));
        // As an old registry may have it, from before the configuration had a token.
        let elsewhere = [("onebot_url", "ws://evil.example/")];
        assert!(!variables(&[], &spec(&elsewhere), &settings, None).contains_key(TOKEN_FILE));
        assert_eq!(token_file(&spec(&elsewhere), &settings), None);
        settings.onebot.clients[0].url = Some("ws://bots.example/".into());
        let got = variables(&[], &spec(&elsewhere), &settings, None);
        assert_eq!(
            (got[TOKEN_FILE].as_str(), got["MOJO_WEBQQ_ONEBOT_URL"].as_str()),
            ("/etc/wq/token", "ws://bots.example/")
        );
    }

    #[test]
    fn the_call_wins_over_the_controller() {
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
        assert_eq!(got["MOJO_WEBQQ_PLUGIN_OPENQQ_POLL_API"], format!("http://b/?{me}"));
        assert!(!got.contains_key("MOJO_WEBQQ_CONTROLLER_PID"));
        assert_eq!(got["PATH"], DEFAULT_PATH);

        let call =
            [("log_level", "debug"), ("post_api", "http://c/"), ("PLUGIN_OPENQQ_POLL_API", "http://d/")];
        let got = variables(&[], &spec(&call), &settings, None);
        let homes = Homes::of_units(crate::config::ManagerKind::System, std::path::Path::new("/"));
        let unit: BTreeMap<_, _> =
            environment([], &spec(&call), 5007, &settings, &homes, None).into_iter().collect();
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
