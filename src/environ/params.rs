//! What a call may give to a client: the rules for start parameters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::info;

use super::with_client;
use crate::config::{Settings, opens_to_network};
use crate::files::{FileError, inside};
use crate::homes::Homes;
use crate::model::client::{ClientFiles, ClientSpec, ParamValue};
use crate::model::name::ClientName;

/// The most bytes in the value of a parameter.
const MAX_VALUE: usize = 4096;
/// The most characters in the name of a parameter.
const MAX_NAME: usize = 64;

/// Names that the controller gives a value to itself. Giving one is no error, as it was none in the original.
const RESERVED: [&str; 8] = [
    "account",
    "client",
    "controller_pid",
    "onebot_qrcode_path",
    "onebot_token_file",
    "plugin_openqq_port",
    "port",
    "state_directory",
];

/// Why a client cannot be started with these parameters.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A name that is no identifier, or too long.
    #[error("parameter {0:?}: a name is a letter and then letters, digits or _, at most {MAX_NAME} in all")]
    Name(String),
    /// Two names that become one variable.
    #[error("parameter {0:?} is given twice, in upper and lower case")]
    Twice(String),
    /// A value too long, or with a character that no variable should hold.
    #[error("parameter {0:?}: a value is at most {MAX_VALUE} bytes, without line breaks and NUL")]
    Value(String),
    /// A URL that is none.
    #[error("parameter {0:?}: not an http or https URL")]
    Url(String),
    /// Somewhere that the token is not to be sent to, or nobody else is to come to.
    #[error("parameter {0:?}: {1}")]
    OneBot(&'static str, &'static str),
    /// A path that is not allowed.
    #[error("parameter {0:?}")]
    Path(String, #[source] FileError),
}

/// Checks the parameters of a start. `homes` is where clients keep their files unless told otherwise; what names a
/// file must lie there or in one of the configured `allowed_dirs`. Asks the file system about links.
pub fn client_spec(
    name: ClientName,
    given: impl IntoIterator<Item = (String, String)>,
    homes: &Homes,
    settings: &Settings,
) -> Result<ClientSpec, SpecError> {
    let mut allowed = homes.allowed(&name);
    allowed.extend_from_slice(&settings.client.allowed_dirs);

    let mut params = BTreeMap::new();
    for (param, text) in given {
        let mut letters = param.bytes();
        let is_name = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || param.len() > MAX_NAME {
            return Err(SpecError::Name(param.chars().take(MAX_NAME).collect()));
        }
        let lower = param.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) {
            info!(client = %name, param, "this parameter is set by the controller; the one given has no effect");
            continue;
        }
        if params.keys().any(|there: &String| there.eq_ignore_ascii_case(&param)) {
            return Err(SpecError::Twice(param));
        }
        if text.len() > MAX_VALUE || text.bytes().any(|b| matches!(b, b'\0' | b'\n' | b'\r')) {
            return Err(SpecError::Value(param));
        }
        let is_url = ["post_api", "poll_api"].iter().any(|name| lower.ends_with(name));
        if is_url && !text.is_empty() && with_client(&text, &name).is_none() {
            return Err(SpecError::Url(param));
        }
        let path = (names_a_file(&lower) && !text.is_empty()).then(|| inside(Path::new(&text), &allowed));
        let path = path.transpose().map_err(|error| SpecError::Path(param.clone(), error))?;
        let secret = settings.is_secret_param(&param);
        params.insert(param, ParamValue { text, secret, path });
    }
    onebot(&name, &params, settings)?;
    Ok(ClientSpec { files: files(&name, &homes.folder(&name), &params), name, params })
}

/// Whether where a start wants its OneBot implementation is what the operator allows.
fn onebot(
    name: &ClientName,
    params: &BTreeMap<String, ParamValue>,
    settings: &Settings,
) -> Result<(), SpecError> {
    let param = |wanted: &str| {
        let found = params.iter().find(|(given, _)| given.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.text.as_str()).filter(|text| !text.is_empty())
    };
    let known = settings.onebot.of(name);
    let url = param("onebot_url");
    if known.is_some_and(|known| known.token_file.is_some() && known.token_for(url).is_none()) {
        let why = "its token goes to another machine only where [onebot] of the configuration has its url";
        return Err(SpecError::OneBot("onebot_url", why));
    }
    let listen = param("onebot_listen").filter(|_| known.is_none_or(|known| known.listen.is_none()));
    // What is no address is the client's to complain of.
    if listen.and_then(|listen| listen.parse().ok()).as_ref().is_some_and(opens_to_network) {
        let why = "other machines come to it only where [onebot] of the configuration has its listen";
        return Err(SpecError::OneBot("onebot_listen", why));
    }
    Ok(())
}

/// What was asked for under a controller that kept its clients elsewhere, with its files where they belong now.
pub fn resettled(spec: &ClientSpec, homes: &Homes) -> ClientSpec {
    ClientSpec { files: files(&spec.name, &homes.folder(&spec.name), &spec.params), ..spec.clone() }
}

/// Whether the value of a parameter, its name in lower case, is a file or folder that the client reads or writes.
fn names_a_file(name: &str) -> bool {
    ["dir", "path", "file", "world", "network"].iter().any(|ending| name.ends_with(ending))
}

/// Where the client keeps its files, after the parameters that say so.
fn files(name: &ClientName, tmpdir: &Path, params: &BTreeMap<String, ParamValue>) -> ClientFiles {
    let path = |wanted: &str| -> Option<PathBuf> {
        let found = params.iter().find(|(given, _)| given.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value.path.clone())
    };
    let usual = ClientFiles::in_folder(path("tmpdir").unwrap_or_else(|| tmpdir.to_owned()), name);
    ClientFiles {
        state: path("state_path").unwrap_or(usual.state),
        qrcode: path("qrcode_path").unwrap_or(usual.qrcode),
        pid: path("pid_path").unwrap_or(usual.pid),
        tmpdir: usual.tmpdir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chain::Chain;
    use std::os::unix::fs::symlink;

    struct Bench {
        root: tempfile::TempDir,
        settings: Settings,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for folder in ["tmp", "allowed", "other"] {
                std::fs::create_dir(root.path().join(folder)).unwrap();
            }
            let mut settings = Settings::default();
            settings.client.allowed_dirs = vec![root.path().join("allowed")];
            settings.client.secret_params = vec!["Cookie".into()];
            settings.onebot.clients = vec![crate::config::OneBotClient {
                client: "小明".into(),
                token_file: Some("/token".into()),
                qrcode_path: None,
                url: None,
                listen: None,
            }];
            Self { root, settings }
        }

        fn path(&self, path: &str) -> PathBuf {
            std::fs::canonicalize(self.root.path()).unwrap().join(path)
        }

        fn check(&self, given: &[(&str, &str)]) -> Result<ClientSpec, String> {
            let name = ClientName::new("小明").unwrap();
            let given = given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            let homes = Homes::Shared { tmpdir: self.path("tmp"), lasting: self.path("tmp") };
            client_spec(name, given, &homes, &self.settings).map_err(|error| Chain(&error).to_string())
        }
    }

    #[test]
    fn what_is_in_order() {
        let bench = Bench::new();
        let spec = bench
            .check(&[("log_level", "debug"), ("pwd", "geheim"), ("cookie", "x"), ("post_api", "")])
            .unwrap();
        assert_eq!(spec.files, ClientFiles::in_folder(bench.path("tmp"), &spec.name));
        assert!(
            !spec.params["log_level"].secret && spec.params["pwd"].secret && spec.params["cookie"].secret
        );
        assert!(!format!("{spec:?}").contains("geheim"));
    }

    #[test]
    fn what_the_controller_sets_is_not_overridden() {
        let bench = Bench::new();
        let given = [
            ("port", "1"),
            ("CONTROLLER_PID", "1"),
            ("account", "root"),
            ("plugin_openqq_port", "1"),
            ("onebot_token_file", "/etc/shadow"),
            ("onebot_qrcode_path", "/etc/shadow"),
        ];
        assert!(bench.check(&given).unwrap().params.is_empty());
    }

    #[test]
    fn what_is_not() {
        let bench = Bench::new();
        for (given, why) in [
            (&[("", "x")][..], "parameter \"\": a name is a letter"),
            (&[("1a", "x")], "parameter \"1a\": a name is a letter"),
            (&[("a-b", "x")], "parameter \"a-b\": a name"),
            (&[("a=b", "x")], "parameter \"a=b\": a name"),
            (&[("名", "x")], "parameter \"名\": a name"),
            (&[(&"a".repeat(65), "x")], "a name is a letter"),
            (&[("a", "x"), ("A", "y")], "parameter \"A\" is given twice"),
            (&[("a", "x\ny")], "parameter \"a\": a value"),
            (&[("a", "x\0y")], "parameter \"a\": a value"),
            (&[("a", &"x".repeat(4097))], "parameter \"a\": a value"),
            (&[("post_api", "ftp://x")], "parameter \"post_api\": not an http or https URL"),
            (&[("plugin_openqq_poll_api", "x")], "parameter \"plugin_openqq_poll_api\": not an http"),
            (&[("state_path", "/etc/passwd")], "parameter \"state_path\": /etc/passwd: outside of"),
            (&[("TMPDIR", "relative")], "parameter \"TMPDIR\": \"relative\": must be an absolute path"),
            (
                &[("log_path", &format!("{}/../other/x", bench.path("tmp").display()))],
                "must be an absolute path",
            ),
            (&[("sandbox_world", "/etc/passwd")], "outside of"),
            (
                &[("onebot_url", "ws://10.0.0.1/")],
                "parameter \"onebot_url\": its token goes to another machine",
            ),
            (&[("onebot_listen", "0.0.0.0:1")], "parameter \"onebot_listen\": other machines come"),
        ] {
            let error = bench.check(given).unwrap_err();
            assert!(error.contains(why), "{given:?}: {error}");
        }
        assert!(bench.check(&[(&"a".repeat(64), &"x".repeat(4096))]).is_ok());
    }

    #[test]
    fn files_stay_where_they_may_be() {
        let bench = Bench::new();
        symlink(bench.path("other"), bench.path("tmp/out")).unwrap();
        symlink(bench.path("allowed"), bench.path("tmp/in")).unwrap();
        let text = |path: &str| bench.root.path().join(path).to_str().unwrap().to_owned();
        assert!(bench.check(&[("qrcode_path", &text("tmp/out/x.jpg"))]).unwrap_err().contains("outside of"));
        let given = [("tmpdir", text("tmp/in/sub")), ("state_path", text("allowed/s.json"))];
        let given: Vec<(&str, &str)> = given.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let spec = bench.check(&given).unwrap();
        assert_eq!(spec.params["tmpdir"].path, Some(bench.path("allowed/sub")));
        assert_eq!(spec.files.state, bench.path("allowed/s.json"));
        assert_eq!(spec.files.qrcode, bench.path("allowed/sub/mojo_webqq_qrcode_小明.jpg"));
    }
}
