//! Checks a start by the rules of the built-in client, which would end at once where it can't use its settings.

use std::path::Path;

use super::{SpecError, environment, implementation, implementation_of, param, with_implementation};
use crate::backends::{Account, BackendContract};
use crate::client_dirs::ClientDirs;
use crate::client_settings::{ClientSettings, SettingsError};
use crate::config::Settings;
use crate::model::client::ClientSpec;

/// The port in an environment that is only checked.
const ANY_PORT: u16 = 1;

/// Checks that the parameters do not contradict the configuration and, where the template `runs_built_in`, that the built-in
/// client accepts all of them. Another program may accept other values.
///
/// # Errors
/// The first parameter, or setting of the configuration, that can't be used. No secret is in it.
pub fn check_start(
    spec: &ClientSpec,
    settings: &Settings,
    client_dirs: &ClientDirs,
    runs_built_in: bool,
) -> Result<(), SpecError> {
    if let (Some(kind), Some(given)) = (settings.accounts.kind_of(&spec.name), backend(spec))
        && given != kind.name()
    {
        return Err(SpecError::OtherBackend(kind.name()));
    }
    implementation::check(spec, settings)?;
    if !runs_built_in {
        return Ok(());
    }
    // Which port its implementation will have is not known yet.
    let tried =
        implementation_of(spec).map(|_| with_implementation(settings, spec, ANY_PORT, Path::new("/")));
    let settings = tried.as_ref().unwrap_or(settings);
    // Nothing is inherited here, since a launch passes on no `MOJO_WEBQQ_*` of the controller's own.
    let env = environment([], spec, ANY_PORT, settings, client_dirs, None);
    match ClientSettings::from_vars(env) {
        Ok(_) => Ok(()),
        // A drop-in of its unit may set what is missing here, so only wrong values are certain mistakes.
        Err(SettingsError::Missing(_) | SettingsError::Needed(..)) if client_dirs.are_units() => Ok(()),
        Err(error) => Err(explain(&error, spec, settings)),
    }
}

/// The backend that a call asks for.
fn backend(spec: &ClientSpec) -> Option<&str> {
    param(spec, "backend").filter(|given| !given.is_empty())
}

/// Names the parameter, or the key of the configuration, that a variable comes from.
fn explain(error: &SettingsError, spec: &ClientSpec, settings: &Settings) -> SpecError {
    let (variable, why) = error.variable_and_rule();
    // The configuration first, since its value wins over a parameter.
    if let Some((kind, account)) = settings.accounts.get(&spec.name)
        && let Some((option, key)) = configured_key(kind.contract(), account, variable)
    {
        return SpecError::Configured { option, account: spec.name.to_string(), key, why };
    }
    // The short name is the one that is documented for callers.
    let parameter = variable.strip_prefix("PLUGIN_OPENQQ_").unwrap_or(variable).to_ascii_lowercase();
    let given = |name: &str| spec.params.keys().find(|given| given.eq_ignore_ascii_case(name));
    let given = given(variable).or_else(|| given(&parameter)).cloned();
    SpecError::Setting(given.unwrap_or(parameter), why)
}

/// The table of accounts and the key that a variable has its value from.
fn configured_key(
    contract: &dyn BackendContract,
    account: &Account,
    variable: &str,
) -> Option<(&'static str, &'static str)> {
    let of_key = |key: &str| format!("{}_{key}", contract.name()).eq_ignore_ascii_case(variable);
    let (key, _) = account.iter().find(|(key, _)| of_key(key))?;
    Some((contract.accounts()?.option, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::BackendKind;
    use crate::backends::tests::Pigeon;
    use crate::model::client::{ClientFiles, ParamValue};
    use crate::model::name::{ClientName, UnitId};

    fn check(params: &[(&str, &str)], entry: Option<Account>, runs_built_in: bool) -> Result<(), String> {
        let client_dirs = ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() };
        check_in(&client_dirs, params, entry, runs_built_in)
    }

    fn check_in(
        client_dirs: &ClientDirs,
        params: &[(&str, &str)],
        entry: Option<Account>,
        runs_built_in: bool,
    ) -> Result<(), String> {
        let name = ClientName::new("小红").unwrap();
        let value = |text: &str| ParamValue { text: text.into(), secret: false, path: None };
        let params = params.iter().map(|(name, text)| ((*name).into(), value(text))).collect();
        let (files, id) = (ClientFiles::in_folder("/run/wq".into(), &name), UnitId::of(&name));
        let spec = ClientSpec { name, id, params, files };
        let mut settings = Settings::default();
        if let Some(entry) = entry {
            settings.accounts.add("小红".into(), BackendKind::OneBot, entry);
        }
        check_start(&spec, &settings, client_dirs, runs_built_in).map_err(|error| error.to_string())
    }

    fn entry(url: Option<&str>, listen: Option<&str>) -> Option<Account> {
        let keys = [("url", url), ("listen", listen)];
        Some(keys.into_iter().filter_map(|(key, value)| Some((key, value?.to_owned()))).collect())
    }

    #[test]
    fn values_that_the_built_in_client_refuses_are_refused_with_the_parameter() {
        for (given, why) in [
            (&[("backend", "onebot11")][..], "parameter \"backend\" must be sandbox, onebot or milky"),
            (&[("backend", "onebot")], "parameter \"onebot_url\" is missing: ws://HOST:PORT/"),
            (
                &[("backend", "onebot"), ("onebot_url", "127.0.0.1:3001")],
                "parameter \"onebot_url\" must be ws://",
            ),
            (
                &[("backend", "onebot"), ("onebot_listen", "here")],
                "parameter \"onebot_listen\" must be an IP address",
            ),
            (&[("send_interval", "abc")], "parameter \"send_interval\" must be a number of seconds"),
            (&[("SEND_INTERVAL", "abc")], "parameter \"SEND_INTERVAL\" must be"),
            (&[("log_level", "loud")], "parameter \"log_level\" must be one of debug, info"),
            (&[("post_queue", "0")], "parameter \"post_queue\" must be a number from 1 to"),
            (&[("plugin_openqq_post_queue", "0")], "parameter \"plugin_openqq_post_queue\" must be"),
            (&[("sandbox_login", "never")], "parameter \"sandbox_login\" must be auto or scan"),
            (&[("keep_cookie", "1.5")], "parameter \"keep_cookie\" must be a whole number"),
        ] {
            let error = check(given, None, true).unwrap_err();
            assert!(error.starts_with(why), "{given:?}: {error}");
            assert_eq!(
                check(given, None, false),
                Ok(()),
                "a foreign template takes what it likes: {given:?}"
            );
        }
        let good = [
            ("backend", "onebot"),
            ("onebot_url", "ws://127.0.0.1:3001"),
            ("own_thing", "x"),
            ("log_level", ""),
        ];
        assert_eq!(check(&good, None, true), Ok(()));
        assert_eq!(check(&[], None, true), Ok(()));
    }

    #[test]
    fn account_of_onebot_is_never_in_the_sandbox() {
        let url = || entry(Some("ws://127.0.0.1:1/"), None);
        for params in [&[][..], &[("backend", "")], &[("backend", "onebot")], &[("Backend", "onebot")]] {
            assert_eq!(check(params, url(), true), Ok(()), "{params:?}");
        }
        for runs_built_in in [true, false] {
            let error = check(&[("backend", "sandbox")], url(), runs_built_in).unwrap_err();
            assert!(
                error.starts_with(
                    "parameter \"backend\" must be onebot or left out: the account is in [onebot]"
                ),
                "{error}"
            );
        }
        // Without the entry's backend this would be a start of the sandbox.
        let error = check(&[], entry(None, None), true).unwrap_err();
        assert!(error.starts_with("parameter \"onebot_url\" is missing"), "{error}");
    }

    #[test]
    fn unit_may_be_given_by_a_drop_in_what_is_missing() {
        let client_dirs =
            ClientDirs::Units { runtime: "/run".into(), meeting: "/run/w".into(), lasting: Vec::new() };
        assert_eq!(check_in(&client_dirs, &[("backend", "onebot")], None, true), Ok(()));
        assert_eq!(check_in(&client_dirs, &[], entry(None, None), true), Ok(()));
        let wrong = [("backend", "onebot"), ("onebot_url", "127.0.0.1:3001")];
        assert!(check_in(&client_dirs, &wrong, None, true).unwrap_err().contains("must be ws://"));
        assert!(check(&[("backend", "onebot")], None, true).is_err(), "a child process has no drop-in");
    }

    #[test]
    fn mistake_in_an_account_is_reported_by_its_key() {
        let error = check(&[], entry(Some("ws://h/"), Some("127.0.0.1:1")), true).unwrap_err();
        assert!(
            error.starts_with("`url` of [onebot.clients.\"小红\"] in the configuration must be ws://"),
            "{error}"
        );
        let http = entry(Some("http://h/"), None);
        assert!(check(&[], http.clone(), true).unwrap_err().starts_with("`url` of [onebot.clients"));
        assert_eq!(check(&[("onebot_listen", "127.0.0.1:1")], http, true), Ok(()));
    }

    #[test]
    fn variable_of_a_new_network_is_explained_by_its_key() {
        let account = [("base_url", "http://h/".to_owned())].into_iter().collect();
        let found = |variable| configured_key(&Pigeon, &account, variable);
        assert_eq!(found("PIGEON_BASE_URL"), Some(("pigeon.clients", "base_url")));
        assert_eq!((found("PIGEON_RING_FILE"), found("ONEBOT_URL")), (None, None));
    }
}
