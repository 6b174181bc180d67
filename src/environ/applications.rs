//! What `[onebot_server]` of the configuration gives to a client whose start leaves it out. By variables of their own: the client must
//! know which addresses are the operator's, since only those may get the operator's secrets.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Environment, LaunchSecret, PREFIX, param};
use crate::backends::{self, Secret};
use crate::client_dirs::ClientDirs;
use crate::config::{Endpoint, OneBotServerSettings, Settings, SocketUrl};
use crate::model::client::ClientSpec;

/// What the names of these variables begin with, in lower case. No caller may set one.
const RESERVED: &str = "onebot_server_default_";

/// The tokens of applications.
const TOKEN: Secret = Secret {
    key: "token_file",
    file_variable: "ONEBOT_SERVER_DEFAULT_TOKEN_FILE",
    launch_variable: "ONEBOT_SERVER_DEFAULT_TOKEN",
    file_name: "onebot_server_token",
};

/// What signs posts to applications.
const SECRET: Secret = Secret {
    key: "secret_file",
    file_variable: "ONEBOT_SERVER_DEFAULT_SECRET_FILE",
    launch_variable: "ONEBOT_SERVER_DEFAULT_SECRET",
    file_name: "onebot_server_secret",
};

/// All secrets that a client may have: that of its network, and those of its applications.
pub fn secrets() -> impl Iterator<Item = Secret> {
    backends::secrets().chain([TOKEN, SECRET])
}

/// Whether only the configuration may give this parameter, its name in lower case.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Sets what the start leaves out.
pub(super) fn set(all: &mut Environment, spec: &ClientSpec, settings: &Settings, client_dirs: &ClientDirs) {
    // An earlier version did not know these names, and its registry may have one as a parameter.
    let reserved = format!("{PREFIX}{}", RESERVED.to_ascii_uppercase());
    all.0.retain(|name, _| !name.as_bytes().starts_with(reserved.as_bytes()));
    let table = &settings.onebot_server;
    let mut usual = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|_| !gives(spec, key)) {
            all.set(&format!("{RESERVED}{key}"), value);
        }
    };
    usual("connect", list(table.connect.iter().map(SocketUrl::written)));
    usual("post", list(table.post.iter().map(|url| Endpoint::as_str(url).to_owned())));
    // Else the client has the same defaults.
    let time = |time: std::time::Duration, usual| (time != usual).then(|| time.as_secs_f64().to_string());
    usual("hold", time(table.hold, OneBotServerSettings::HOLD));
    usual("heartbeat", time(table.heartbeat, OneBotServerSettings::HEARTBEAT));
    // A unit can't read our files, and gets their content by its launch file.
    if matches!(client_dirs, ClientDirs::Shared { .. }) {
        for (secret, file) in files(spec, settings) {
            all.set(secret.file_variable, file);
        }
    }
}

/// The secrets of the configuration for this client, as its launch file has them.
pub(super) fn launch_secrets(spec: &ClientSpec, settings: &Settings) -> Vec<LaunchSecret> {
    let launch = |(secret, file): (Secret, &Path)| LaunchSecret {
        variable: format!("{PREFIX}{}", secret.launch_variable),
        file: file.to_owned(),
        copy_name: secret.file_name,
    };
    files(spec, settings).map(launch).collect()
}

/// The files of the secrets that the client has a use for. The tokens open the account as well, so they are for every start without
/// its own; what signs is for posts to addresses of the configuration alone.
fn files<'a>(spec: &ClientSpec, settings: &'a Settings) -> impl Iterator<Item = (Secret, &'a Path)> {
    let table = &settings.onebot_server;
    let token = table.token_file.as_deref().filter(|_| !gives(spec, "token"));
    let signs = !gives(spec, "secret") && !gives(spec, "post") && !table.post.is_empty();
    let secret = table.secret_file.as_deref().filter(|_| signs);
    [(TOKEN, token), (SECRET, secret)].into_iter().filter_map(|(secret, file)| Some((secret, file?)))
}

/// Whether the start itself says this. An empty text says nothing.
fn gives(spec: &ClientSpec, key: &str) -> bool {
    param(spec, &format!("onebot_server_{key}")).is_some_and(|value| !value.is_empty())
}

/// Texts as one variable has them; none if there are none.
fn list(all: impl Iterator<Item = String>) -> Option<String> {
    let all: Vec<_> = all.collect();
    (!all.is_empty()).then(|| all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environ::{environment, launch_secrets};
    use crate::model::client::{ClientFiles, ParamValue};
    use crate::model::name::{ClientName, UnitId};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn spec(params: &[(&str, &str)]) -> ClientSpec {
        let name = ClientName::new("a").unwrap();
        let value = |text: &str| ParamValue { text: text.into(), secret: true, path: None };
        let params = params.iter().map(|(name, text)| ((*name).into(), value(text))).collect();
        ClientSpec {
            id: UnitId::of(&name),
            files: ClientFiles::in_folder("/run/wq".into(), &name),
            name,
            params,
        }
    }

    fn table() -> Settings {
        let onebot_server = OneBotServerSettings {
            connect: vec![SocketUrl::read("ws://h/").unwrap(), SocketUrl::read("api+ws://h/").unwrap()],
            post: vec![Endpoint::new("http://h/").unwrap()],
            hold: Duration::ZERO,
            heartbeat: Duration::from_millis(1500),
            token_file: Some("/t".into()),
            secret_file: Some("/s".into()),
        };
        Settings { onebot_server, ..Settings::default() }
    }

    /// What a child process gets of the table, without the beginning of the names.
    fn given(params: &[(&str, &str)]) -> BTreeMap<String, String> {
        let dirs = ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() };
        let all = environment([], &spec(params), 5000, &table(), &dirs, None).into_iter();
        let all = all.map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()));
        all.filter_map(|(name, value)| {
            let name = name.strip_prefix("MOJO_WEBQQ_ONEBOT_SERVER_DEFAULT_")?;
            Some((name.to_lowercase(), value))
        })
        .collect()
    }

    #[test]
    fn client_gets_what_its_start_leaves_out() {
        let all = [
            ("connect", "ws://h/,api+ws://h/"),
            ("heartbeat", "1.5"),
            ("hold", "0"),
            ("post", "http://h/"),
            ("secret_file", "/s"),
            ("token_file", "/t"),
        ];
        let expected = |without: &[&str]| {
            let kept = all.into_iter().filter(|(key, _)| !without.contains(key));
            kept.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(given(&[]), expected(&[]));
        assert_eq!(given(&[("onebot_server_connect", ""), ("onebot_server_token", "")]), expected(&[]));
        for (own, without) in [
            ("onebot_server_connect", &["connect"][..]),
            ("ONEBOT_SERVER_TOKEN", &["token_file"]),
            ("onebot_server_post", &["post", "secret_file"]),
            ("onebot_server_secret", &["secret_file"]),
            ("onebot_server_hold", &["hold"]),
            ("onebot_server_heartbeat", &["heartbeat"]),
        ] {
            assert_eq!(given(&[(own, "1")]), expected(without), "{own}");
        }
    }

    #[test]
    fn parameter_of_an_old_registry_is_no_address_of_the_operator() {
        let dirs = ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() };
        let old =
            spec(&[("onebot_server_default_connect", "ws://caller/"), ("onebot_server_default_token", "x")]);
        let mut settings = table();
        settings.onebot_server.connect.clear();
        let env = environment([], &old, 5000, &settings, &dirs, None);
        let has = |part: &str| env.iter().any(|(name, _)| name.to_str().unwrap().ends_with(part));
        assert!(!has("DEFAULT_CONNECT") && !has("DEFAULT_TOKEN") && has("DEFAULT_TOKEN_FILE"));
    }

    #[test]
    fn secrets_of_units_are_in_launch_files_alone() {
        let dirs = ClientDirs::of_units(crate::config::ManagerKind::System, Path::new("/"), |_| None);
        let secrets = |params: &[(&str, &str)]| {
            let found = launch_secrets(&spec(params), &table(), &dirs);
            found.into_iter().map(|secret| (secret.variable, secret.copy_name)).collect::<Vec<_>>()
        };
        let token = ("MOJO_WEBQQ_ONEBOT_SERVER_DEFAULT_TOKEN".to_owned(), "onebot_server_token");
        let secret = ("MOJO_WEBQQ_ONEBOT_SERVER_DEFAULT_SECRET".to_owned(), "onebot_server_secret");
        assert_eq!(secrets(&[]), [token.clone(), secret]);
        assert_eq!(secrets(&[("onebot_server_post", "http://caller/")]), [token]);
        let env = environment([], &spec(&[]), 5000, &table(), &dirs, None);
        let names: Vec<_> = env.iter().filter_map(|(name, _)| name.to_str()).collect();
        assert!(names.contains(&"MOJO_WEBQQ_ONEBOT_SERVER_DEFAULT_CONNECT"), "{names:?}");
        assert!(!names.iter().any(|name| name.ends_with("_TOKEN_FILE") || name.ends_with("_SECRET_FILE")));
        assert!(super::secrets().any(|secret| secret.launch_variable == "ONEBOT_SERVER_DEFAULT_SECRET"));
    }
}
