//! [`Settings`]: every option there is, with its default and its rule. How files are found, read and merged is
//! not known here.

use std::path::PathBuf;
use std::time::Duration;

use super::accounts;
use super::addresses::{addresses, opens_to_strangers};
use super::auth::AuthSettings;
use super::endpoint::Endpoint;
use super::error::OpenListener;
use super::http::HttpSettings;
use super::implementations;
use super::listen::ListenAddress;
use super::log_level::LogLevel;
use super::login::LoginSettings;
use super::machines::{self, Machines};
use super::onebot_server::OneBotServerSettings;
use super::options::Options;
use super::rules::{
    absolute_path, encoding, endpoint, list_of, log_level, optional, parameter_name, placement,
    restart_policy, seconds, seconds_or_zero, unprivileged_port, whole, yes_or_no,
};
use super::units::{LimitSettings, Mode, SystemdSettings, mode};
use crate::backends::Accounts;
use crate::implementations::Implementations;
use crate::model::machine::Placement;
use crate::model::restart::RestartPolicy;

/// The parameters of `start_client` that are secrets whatever the configuration says: the account's password, and what opens
/// the account to applications or the applications to it. Their URLs often have a token in the query.
const ALWAYS_SECRET: [&str; 5] =
    ["pwd", "onebot_server_token", "onebot_server_secret", "onebot_server_connect", "onebot_server_post"];

/// The whole configuration, checked. The default is what an empty file gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where callers reach the controller; at least one.
    pub listen: Vec<ListenAddress>,
    /// The first port that clients are given.
    pub backend_start_port: u16,
    /// The first port that implementations are given. Each has two.
    pub implementation_start_port: u16,
    /// Where clients report what they receive, unless their start names another place.
    pub post_api: Option<Endpoint>,
    /// What the controller calls regularly, so that a server outside can reach it.
    pub poll_api: Option<Endpoint>,
    /// The time between two calls of `poll_api`.
    pub poll_interval: Duration,
    /// How many clients there may be.
    pub max_clients: usize,
    /// The folder for everything that has no path of its own; absolute, as all paths here.
    pub tmpdir: Option<PathBuf>,
    /// The file with the controller's process ID.
    pub pid_path: Option<PathBuf>,
    /// The registry file.
    pub backend_path: Option<PathBuf>,
    /// The time between two checks of the clients.
    pub check_interval: Duration,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The log file; without one the log goes to the journal or the terminal.
    pub log_path: Option<PathBuf>,
    /// The encoding of the log, as clients get it.
    pub log_encoding: Option<String>,
    /// The program that starts a client.
    pub template_path: Option<PathBuf>,
    /// `[supervisor]`.
    pub supervisor: SupervisorSettings,
    /// `[systemd]`.
    pub systemd: SystemdSettings,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[client]`.
    pub client: StartSettings,
    /// The accounts of `[onebot]` and of every other network that has a table.
    pub accounts: Accounts,
    /// `[onebot_server]`.
    pub onebot_server: OneBotServerSettings,
    /// `[implementations]`: the programs that can hold an account.
    pub implementations: Implementations,
    /// `[machines]`: other machines with a controller, to which this one is the door.
    pub machines: Machines,
    /// Where an account starts that no machine is named for.
    pub placement: Placement,
    /// `[login]`.
    pub login: LoginSettings,
    /// `[auth]`.
    pub auth: AuthSettings,
    /// `[http]`.
    pub http: HttpSettings,
}

/// `[supervisor]`: starting and stopping processes.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorSettings {
    /// What clients are: child processes or units.
    pub mode: Mode,
    /// The time that a client has to stop before it is killed. None at all means SIGKILL at once.
    pub stop_timeout: Duration,
    /// Which ends of clients are followed by a new start.
    pub restart: RestartPolicy,
    /// After how many failures in a row no further start follows.
    pub restart_limit: u32,
    /// Whether clients that should run are started when the controller starts.
    pub restore: bool,
    /// The time between two of those starts.
    pub start_interval: Duration,
    /// Whether clients go on when the controller ends.
    pub clients_outlive_controller: bool,
}

/// `[client]`: what callers may ask for when they start a client.
#[derive(Clone, Debug, PartialEq)]
pub struct StartSettings {
    /// Folders, besides the client's own, in which start parameters may name files; absolute.
    pub allowed_dirs: Vec<PathBuf>,
    /// Start parameters whose values are secrets; see [`Settings::is_secret_param`].
    pub secret_params: Vec<String>,
}

impl Settings {
    /// Whether the value of the start parameter `name` must not be seen: [`ALWAYS_SECRET`] and what `client.secret_params`
    /// lists, in upper or lower case.
    pub fn is_secret_param(&self, name: &str) -> bool {
        let listed = self.client.secret_params.iter().map(String::as_str);
        listed.chain(ALWAYS_SECRET).any(|secret| secret.eq_ignore_ascii_case(name))
    }

    /// Reads every option.
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        let settings = Self {
            listen: options.get("listen", vec![ListenAddress::default()], addresses),
            backend_start_port: options.get("backend_start_port", 5000, unprivileged_port),
            implementation_start_port: options.get("implementation_start_port", 15_000, unprivileged_port),
            post_api: options.get("post_api", None, optional(endpoint)),
            poll_api: options.get("poll_api", None, optional(endpoint)),
            poll_interval: options.get("poll_interval", Duration::from_secs(5), seconds),
            max_clients: options.get("max_clients", 100, whole(1..=10_000)),
            tmpdir: options.get("tmpdir", None, optional(absolute_path)),
            pid_path: options.get("pid_path", None, optional(absolute_path)),
            backend_path: options.get("backend_path", None, optional(absolute_path)),
            check_interval: options.get("check_interval", Duration::from_secs(5), seconds),
            log_level: options.get("log_level", LogLevel::default(), log_level),
            log_path: options.get("log_path", None, optional(absolute_path)),
            log_encoding: options.get("log_encoding", None, optional(encoding)),
            template_path: options.get("template_path", None, optional(absolute_path)),
            supervisor: SupervisorSettings::read(options),
            systemd: SystemdSettings::read(options),
            limits: LimitSettings::read(options),
            client: StartSettings::read(options),
            accounts: accounts::read(options),
            onebot_server: OneBotServerSettings::read(options),
            implementations: implementations::read(options),
            machines: machines::read(options),
            placement: options.get("placement", Placement::default(), placement),
            login: LoginSettings::read(options),
            auth: AuthSettings::read(options),
            http: HttpSettings::read(options),
        };
        // What a host name means, and what systemd hands over, is judged when it is listened on.
        for address in &settings.listen {
            let name = address.to_string();
            let open = match address {
                ListenAddress::Tcp { host, .. } if opens_to_strangers(host) => OpenListener::Network(name),
                ListenAddress::Unix(socket) if socket.require_token => OpenListener::TokenRequired(name),
                _ => continue,
            };
            if settings.auth.refuses(&open) {
                options.object("listen", &open.to_string());
            }
        }
        // With `auto` it is known only at the start whether clients become units.
        if settings.supervisor.mode == Mode::Systemd && settings.tmpdir.is_some() {
            options
                .object("tmpdir", "must not be set with mode = \"systemd\": units have folders of their own");
        }
        settings
    }
}

impl SupervisorSettings {
    fn read(options: &mut Options<'_>) -> Self {
        Self {
            mode: options.get("supervisor.mode", Mode::default(), mode),
            stop_timeout: options.get("supervisor.stop_timeout", Duration::from_secs(10), seconds_or_zero),
            restart: options.get("supervisor.restart", RestartPolicy::default(), restart_policy),
            restart_limit: options.get("supervisor.restart_limit", 10, whole(1..=1000)),
            restore: options.get("supervisor.restore", true, yes_or_no),
            start_interval: options.get(
                "supervisor.start_interval",
                Duration::from_millis(100),
                seconds_or_zero,
            ),
            clients_outlive_controller: options.get(
                "supervisor.clients_outlive_controller",
                false,
                yes_or_no,
            ),
        }
    }
}

impl StartSettings {
    fn read(options: &mut Options<'_>) -> Self {
        Self {
            allowed_dirs: options.get("client.allowed_dirs", vec![], list_of(absolute_path)),
            secret_params: options.get("client.secret_params", vec![], list_of(parameter_name)),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        // Reading no file at all leaves every option at the default that stands beside its rule.
        Self::read(&mut Options::new(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    use crate::config::fragment::Fragment;

    /// The reference file: every option with its default or, where there is none, an example.
    const REFERENCE: &str = include_str!("../../packaging/wqcontroller.toml");

    fn read(text: &str) -> Result<Settings, String> {
        let fragments = [Fragment::parse(Path::new("f.toml"), text)];
        let mut options = Options::new(&fragments);
        let settings = Settings::read(&mut options);
        options.finish().map(|()| settings).map_err(|error| error.to_string())
    }

    /// The reference file with every option switched on: `#key` is an option, `# text` is prose.
    fn uncommented() -> String {
        let option =
            |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
        REFERENCE
            .lines()
            .map(|line| if option(&line) { &line[1..] } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn known() -> Vec<&'static str> {
        let mut options = Options::new(&[]);
        Settings::read(&mut options);
        options.known().to_vec()
    }

    #[test]
    fn the_reference_has_every_option_with_its_default() {
        assert_eq!(read(REFERENCE), Ok(Settings::default()), "as it is delivered");
        let fragment = Fragment::parse(Path::new("f.toml"), &uncommented());
        for name in known() {
            assert!(fragment.find(name).is_some(), "{name} is missing in packaging/wqcontroller.toml");
        }
        let with_examples = read(&uncommented()).unwrap();
        let without_examples = Settings {
            post_api: None,
            poll_api: None,
            tmpdir: None,
            pid_path: None,
            backend_path: None,
            log_path: None,
            log_encoding: None,
            template_path: None,
            onebot_server: OneBotServerSettings {
                token_file: None,
                secret_file: None,
                ..with_examples.onebot_server
            },
            limits: LimitSettings {
                memory_max: None,
                memory_high: None,
                cpu_quota: None,
                ..with_examples.limits
            },
            http: HttpSettings { public_url: None, ..with_examples.http },
            ..with_examples
        };
        assert_eq!(without_examples, Settings::default());
    }

    #[test]
    fn every_option_is_checked_and_all_mistakes_are_told() {
        let broken = "\
            listen = []\nbackend_start_port = 80\nimplementation_start_port = 80\npost_api = 'x'\npoll_api = 1\npoll_interval = 0\n\
            max_clients = 0\ntmpdir = 'tmp'\npid_path = 'x'\nbackend_path = 'x'\ncheck_interval = -1\n\
            log_level = 'loud'\nlog_path = 'x'\nlog_encoding = ' '\ntemplate_path = 'x'\nplacement = 'far'\n\
            supervisor.stop_timeout = 86401\nsupervisor.restart = 'maybe'\nsupervisor.restart_limit = 0\n\
            supervisor.restore = 1\nsupervisor.start_interval = -1\nsupervisor.mode = 'both'\n\
            systemd.manager = 'root'\nsystemd.unit = 'scope'\nsystemd.slice = 'a/b.slice'\n\
            limits.memory_max = 5\nlimits.memory_high = '5X'\nlimits.cpu_quota = '0%'\nlimits.tasks_max = 0\n\
            supervisor.clients_outlive_controller = 'true'\nclient.allowed_dirs = ['x']\nclient.secret_params = ['-']\n\
            http.connect_timeout = 0\nhttp.header_timeout = 0\nhttp.inactivity_timeout = 0\n\
            http.request_header_timeout = 0\nhttp.drain_timeout = '5s'\nhttp.max_connections = 65537\n\
            http.idle_timeout = -1\nhttp.max_inflight_per_client = 0\nhttp.max_request_header = 8191\n\
            http.worker_threads = 0\nhttp.max_form_body = 1023\nhttp.hosts = ['h:1']\nhttp.allowed_origins = ['*']\nhttp.public_url = 'h'\n\
            onebot_server.connect = ['x']\nonebot_server.post = ['x']\nonebot_server.hold = 3601\nonebot_server.heartbeat = -1\n\
            onebot_server.token_file = 'x'\nonebot_server.secret_file = 'x'\n\
            onebot.clients = [{}]\nmilky.clients = [{}]\nimplementations = 1\nmachines = 1\nlogin.offline_after = 0\nlogin.when_offline = 'x'\nlogin.when_put_out = 1\n\
            login.code_attempts = 0\nlogin.notify = ['x']\nauth.tokens = [{ name = 'a' }]\nauth.allow_unauthenticated = 1\nauth.doors = 1";
        let error = read(broken).unwrap_err();
        assert_eq!(error.lines().count(), broken.lines().count(), "{error}");
        for (line, (message, option)) in (1..).zip(error.lines().zip(broken.lines())) {
            let name = option.split(' ').next().unwrap();
            assert!(message.starts_with(&format!("f.toml:{line}: `{name}` ")), "{message}");
            assert!(message.contains("must "), "{message}");
        }
        assert_eq!(known().len(), broken.lines().count(), "an option is missing in this test");
    }

    #[test]
    fn empty_string_unsets_an_option() {
        let settings = read("post_api = ''\npoll_api = ''\ntmpdir = ''\nlog_encoding = ''").unwrap();
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let settings =
            read("post_api = 'http://me:hunter2@h/?t=hunter2'\n[client]\nsecret_params = ['Key']").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        for secret in ["pwd", "PWD", "key", "KEY", "onebot_server_token", "ONEBOT_SERVER_CONNECT"] {
            assert!(settings.is_secret_param(secret));
        }
        assert!(!settings.is_secret_param("keys") && !settings.is_secret_param(""));
    }

    const VALUE: &str = r#"(-?[0-9]{1,20}|[0-9]\.[0-9]e[0-9]{1,3}|"\PC{0,20}"|\[("\PC{0,5}",?){0,3}\]|\{ ?host ?= ?"\PC{0,9}" ?\}|nan|-inf|\PC{0,9})"#;

    proptest! {
        #[test]
        fn no_value_panics(value in VALUE) {
            for name in known() {
                if let Err(error) = read(&format!("{name} = {value}")) {
                    prop_assert!(error.starts_with("f.toml:1: "), "{error}");
                }
            }
        }
    }
}
