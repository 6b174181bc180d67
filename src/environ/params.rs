//! The rules for the parameters of a start: which names and values callers may give, and where files may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::info;

use super::{applications, with_client};
use crate::backends::{BackendKind, ContractError, Start};
use crate::client_dirs::ClientDirs;
use crate::config::Settings;
use crate::files::{FileError, inside};
use crate::model::client::{ClientFiles, ClientSpec, ParamValue};
use crate::model::name::{ClientName, UnitId};

/// The most bytes in the value of a parameter.
const MAX_VALUE: usize = 4096;
/// The most characters in the name of a parameter.
const MAX_NAME: usize = 64;

/// Parameters that the controller sets itself. Callers may give them without effect, as in the original.
/// So are the keys of an account that are the operator's alone.
const RESERVED: [&str; 7] =
    ["account", "client", "controller_pid", "plugin_openqq_port", "port", "registration", "state_directory"];

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
    /// A value that is no URL.
    #[error("parameter {0:?}: not an http or https URL")]
    Url(String),
    /// Something that the network of the account refuses.
    #[error(transparent)]
    Refused(#[from] ContractError),
    /// A value that the built-in client refuses, or one that it needs; with the rest of the sentence.
    #[error("parameter {0:?} {1}")]
    Setting(String, String),
    /// The same for a value of the configuration.
    #[error("`{key}` of [{option}.{account:?}] in the configuration {why}")]
    Configured {
        /// The table of accounts, for example `onebot.clients`.
        option: &'static str,
        /// The account.
        account: String,
        /// The key.
        key: &'static str,
        /// The rest of the sentence.
        why: String,
    },
    /// Another backend than that of the table in the configuration that has the account.
    #[error(
        "parameter \"backend\" must be {0} or left out: the account is in [{0}] of the configuration; to run it elsewhere, \
         take it out there"
    )]
    OtherBackend(&'static str),
    /// A path that is not allowed.
    #[error("parameter {0:?}")]
    Path(String, #[source] FileError),
}

/// Checks the parameters of a start. `client_dirs` is where clients keep their files unless told otherwise; what names a
/// file must lie there or in one of the configured `allowed_dirs`. Asks the file system about links.
pub fn client_spec(
    (name, id): (ClientName, UnitId),
    given: impl IntoIterator<Item = (String, String)>,
    client_dirs: &ClientDirs,
    settings: &Settings,
) -> Result<ClientSpec, SpecError> {
    let mut allowed = client_dirs.allowed(&id);
    allowed.extend_from_slice(&settings.client.allowed_dirs);

    let mut params = BTreeMap::new();
    let mut without_effect = Vec::new();
    for (param, text) in given {
        // The name becomes a part of a variable's name, where other characters have no place.
        let mut letters = param.bytes();
        let is_name = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || param.len() > MAX_NAME {
            // Cut, since the reply and the log repeat it.
            return Err(SpecError::Name(param.chars().take(MAX_NAME).collect()));
        }
        let lower = param.to_ascii_lowercase();
        // No error: the original passed such parameters on, and they did no harm there.
        if is_reserved(&lower) {
            without_effect.push(param);
            continue;
        }
        if params.keys().any(|there: &String| there.eq_ignore_ascii_case(&param)) {
            return Err(SpecError::Twice(param));
        }
        if text.len() > MAX_VALUE || text.bytes().any(|b| matches!(b, b'\0' | b'\n' | b'\r')) {
            return Err(SpecError::Value(param));
        }
        // By the ending, as they have a longer name as well: `plugin_openqq_post_api`.
        let is_url = ["post_api", "poll_api"].iter().any(|name| lower.ends_with(name));
        // By the function that the launch will use, so that it can't fail there.
        if is_url && !text.is_empty() && with_client(&text, &name).is_none() {
            return Err(SpecError::Url(param));
        }
        let path = (names_a_file(&lower) && !text.is_empty()).then(|| inside(Path::new(&text), &allowed));
        let path = path.transpose().map_err(|error| SpecError::Path(param.clone(), error))?;
        let secret = settings.is_secret_param(&param);
        params.insert(param, ParamValue { text, secret, path });
    }
    // One line a call, however many there are.
    if !without_effect.is_empty() {
        let without_effect = without_effect.join(", ");
        info!(
            client = %name, params = without_effect,
            "set by the controller, so what the call gives has no effect: {without_effect}"
        );
    }
    let spec = ClientSpec { files: files(&name, &client_dirs.folder(&id), &params), name, id, params };
    // Last, since a contract looks at the parameters together and not one by one.
    for (contract, start) in Start::of_each(&spec, &settings.accounts, client_dirs) {
        contract.check_params(&start)?;
        contract.check_files(&start)?;
    }
    Ok(spec)
}

/// Whether the controller alone sets the parameter, its name in lower case.
fn is_reserved(name: &str) -> bool {
    let is_operators = |kind: &BackendKind| {
        let key = name.strip_prefix(kind.name()).and_then(|rest| rest.strip_prefix('_'));
        let keys = kind.contract().accounts().map_or(&[][..], |table| table.keys);
        keys.iter().any(|known| !known.is_parameter && Some(known.name) == key)
    };
    RESERVED.contains(&name) || applications::is_reserved(name) || BackendKind::ALL.iter().any(is_operators)
}

/// The same start, with its files where clients keep them now: an earlier controller may have kept them elsewhere.
pub fn resettled(spec: &ClientSpec, client_dirs: &ClientDirs) -> ClientSpec {
    ClientSpec { files: files(&spec.name, &client_dirs.folder(&spec.id), &spec.params), ..spec.clone() }
}

/// Whether the value of a parameter, its name in lower case, is a file or folder that the client reads or writes.
fn names_a_file(name: &str) -> bool {
    // By the ending, since a template of the operator may read parameters that are unknown here.
    ["dir", "path", "file", "world", "network"].iter().any(|ending| name.ends_with(ending))
}

/// Where the client keeps its files, after the parameters that say so.
fn files(name: &ClientName, tmpdir: &Path, params: &BTreeMap<String, ParamValue>) -> ClientFiles {
    let path = |wanted: &str| -> Option<PathBuf> {
        let found = params.iter().find(|(given, _)| given.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value.path.clone())
    };
    // `tmpdir` first: the others lie in it unless they have paths of their own.
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
    use crate::model::error_chain::ErrorChain;
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
            let account = [("token_file", "/token".to_owned())].into_iter().collect();
            settings.accounts.add("小明".into(), BackendKind::OneBot, account);
            Self { root, settings }
        }

        fn path(&self, path: &str) -> PathBuf {
            std::fs::canonicalize(self.root.path()).unwrap().join(path)
        }

        fn check(&self, given: &[(&str, &str)]) -> Result<ClientSpec, String> {
            let name = ClientName::new("小明").unwrap();
            let given = given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            let client_dirs = ClientDirs::Shared { tmpdir: self.path("tmp"), lasting: self.path("tmp") };
            client_spec((name.clone(), UnitId::of(&name)), given, &client_dirs, &self.settings)
                .map_err(|error| ErrorChain(&error).to_string())
        }
    }

    #[test]
    fn valid_parameters_become_a_spec() {
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
    fn reserved_parameters_are_dropped() {
        let bench = Bench::new();
        let given = [
            ("port", "1"),
            ("CONTROLLER_PID", "1"),
            ("account", "root"),
            ("plugin_openqq_port", "1"),
            ("onebot_token_file", "/etc/shadow"),
            ("onebot_qrcode_path", "/etc/shadow"),
            ("onebot_server_default_token_file", "/etc/shadow"),
            ("ONEBOT_SERVER_DEFAULT_CONNECT", "ws://h/"),
        ];
        assert!(bench.check(&given).unwrap().params.is_empty());
    }

    #[test]
    fn invalid_parameters_are_refused_with_the_reason() {
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
    fn paths_outside_of_allowed_folders_are_refused() {
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
