//! The launch file: the environment of a client for its unit, and its format.
//!
//! The environment holds passwords, and every user can read the properties of a unit over D-Bus. So the controller writes the
//! environment to a file that only it can read, and systemd opens that file as the standard input of the unit. (A credential
//! would be a mount for each client. The mount namespace of each unit copies all mounts, and with 200 clients starts took four
//! times as long.)
//!
//! It may set nothing but `MOJO_WEBQQ_*`. An attacker in the controller can write launch files, and must not be able to load
//! code into what systemd executes (`LD_PRELOAD`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::environ::PREFIX;
use crate::files::{FileError, private_folder, replace};
use crate::model::client::Generation;
use crate::model::name::UnitId;
use crate::template;

/// The key of the template.
const TEMPLATE: &str = "TEMPLATE";
/// The key of the generation of the launch, for the next controller.
const GENERATION: &str = "GENERATION";
/// The key of the version of the format. A file of 0.1.0 has none.
const VERSION: &str = "VERSION";
/// The key of the ID of the unit.
const ID: &str = "ID";
/// The key that requests a relay of the output.
const RELAY: &str = "RELAY";
/// The version that is written. Version 1, of 0.1.0, had neither `VERSION` nor `ID`. 0.1.0 refuses a file with an unknown key.
const CURRENT: u32 = 2;

/// The content of a launch file: records `NAME=VALUE`, each ended by NUL.
#[derive(Default, PartialEq, Eq)]
pub(in crate::supervisor) struct LaunchFile {
    /// The launch that it is for.
    pub generation: Generation,
    /// The ID of the unit that it is for. None in a file of 0.1.0, where it follows from the name of the account.
    pub id: Option<UnitId>,
    /// Whether the output of the client goes through a relay, which adds its name to the journal entries.
    pub relay: bool,
    /// The template to execute; None for the built-in client.
    pub template: Option<PathBuf>,
    /// The variables.
    pub env: BTreeMap<OsString, OsString>,
}

impl fmt::Debug for LaunchFile {
    /// Without the values of the variables, which are passwords, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchFile")
            .field("generation", &self.generation)
            .field("id", &self.id)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Why a launch file is not used.
#[derive(Debug, thiserror::Error)]
pub(in crate::supervisor) enum LaunchFileError {
    #[error("the launch file is damaged")]
    Damaged,
    #[error(
        "the launch file is of version {0}, and this version of wqcontroller reads up to {CURRENT}; install a newer wqcontroller again"
    )]
    Newer(u32),
    #[error("the launch file sets {0:?}, but only {PREFIX}* is allowed")]
    Foreign(OsString),
}

impl LaunchFile {
    /// Takes the part of `env` that a client in a unit is given. systemd sets the rest.
    pub(in crate::supervisor) fn new(
        generation: Generation,
        (id, relay): (UnitId, bool),
        template: Option<PathBuf>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let ours = |(name, _): &(OsString, OsString)| name.as_bytes().starts_with(PREFIX.as_bytes());
        Self { generation, id: Some(id), relay, template, env: env.into_iter().filter(ours).collect() }
    }

    pub(in crate::supervisor) fn to_bytes(&self) -> Vec<u8> {
        // The version comes first, so that an earlier reader stops there and not at a key that it does not know.
        let mut bytes = format!("{VERSION}={CURRENT}\0{GENERATION}={}\0", self.generation).into_bytes();
        let mut line = |name: &OsStr, value: &OsStr| {
            for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
                bytes.extend_from_slice(part);
            }
        };
        if let Some(id) = &self.id {
            line(OsStr::new(ID), OsStr::new(id.as_str()));
        }
        if self.relay {
            line(OsStr::new(RELAY), OsStr::new("1"));
        }
        if let Some(template) = &self.template {
            line(OsStr::new(TEMPLATE), template.as_os_str());
        }
        for (name, value) in &self.env {
            line(name, value);
        }
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LaunchFileError> {
        let mut file = Self::default();
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let number = |bytes: &[u8]| {
            let number = std::str::from_utf8(bytes).ok().and_then(|number| number.parse::<u64>().ok());
            number.ok_or(LaunchFileError::Damaged)
        };
        // A file that does not end with NUL is cut short, and its last value with it.
        let lines = bytes.strip_suffix(b"\0").ok_or(LaunchFileError::Damaged)?;
        for line in lines.split(|byte| *byte == 0) {
            let at = line.iter().position(|byte| *byte == b'=').ok_or(LaunchFileError::Damaged)?;
            let (name, value) = (&line[..at], &line[at + 1..]);
            if name == VERSION.as_bytes() {
                let version = number(value)?;
                if version > u64::from(CURRENT) {
                    return Err(LaunchFileError::Newer(u32::try_from(version).unwrap_or(u32::MAX)));
                }
            } else if name == ID.as_bytes() {
                let id = std::str::from_utf8(value).map_err(|_| LaunchFileError::Damaged)?;
                file.id = Some(UnitId::try_from(id.to_owned()).map_err(|_| LaunchFileError::Damaged)?);
            } else if name == RELAY.as_bytes() {
                file.relay = value == b"1";
            } else if name == TEMPLATE.as_bytes() {
                file.template = Some(text(value).into());
            } else if name == GENERATION.as_bytes() {
                file.generation = Generation(number(value)?);
            } else if name.starts_with(PREFIX.as_bytes())
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            {
                file.env.insert(text(name), text(value));
            } else {
                return Err(LaunchFileError::Foreign(text(name)));
            }
        }
        Ok(file)
    }

    /// Replaces the secrets that the client was launched with. Returns whether any of them changes. A secret that it was launched
    /// without is left out: the client knows no file of it.
    pub(super) fn renew<'a>(&mut self, secrets: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>) -> bool {
        let mut changed = false;
        for (variable, value) in secrets {
            if let Some(known) = self.env.get_mut(variable).filter(|known| **known != *value) {
                value.clone_into(known);
                changed = true;
            }
        }
        changed
    }

    /// Writes the file of the unit with this ID, and returns its content. Blocks on the file system.
    pub(super) fn write(&self, folder: &Path, id: &UnitId) -> Result<Vec<u8>, FileError> {
        let content = self.to_bytes();
        write(folder, id, &content)?;
        Ok(content)
    }

    /// Reads the file of the unit with this ID in `folder`. None where it is missing or damaged.
    pub(super) fn read(folder: &Path, id: &UnitId) -> Option<Self> {
        Self::parse(&fs::read(folder.join(id.as_str())).ok()?).ok()
    }

    /// The launch that the file of the unit with this ID in `folder` is for. None where it is missing or damaged.
    pub(super) fn generation_in(folder: &Path, id: &UnitId) -> Option<Generation> {
        Some(Self::read(folder, id)?.generation)
    }

    /// Whether it starts the built-in client. Blocks on the file system.
    pub(super) fn is_built_in(&self) -> bool {
        self.template.as_deref().is_none_or(template::executes_built_in)
    }
}

/// Writes the launch file of the unit with this ID. Blocks on the file system.
pub(super) fn write(folder: &Path, id: &UnitId, content: &[u8]) -> Result<(), FileError> {
    private_folder(folder)?;
    replace(&folder.join(id.as_str()), content, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ClientName;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn launch_file_is_private_and_round_trips() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("launch");
        let name = ClientName::new("小明").unwrap();
        let id = UnitId::of(&name);
        let file = LaunchFile {
            generation: Generation(7),
            id: Some(id.clone()),
            relay: true,
            template: Some("/etc/wq/a=b".into()),
            env: env(&[("MOJO_WEBQQ_ACCOUNT", "小明"), ("MOJO_WEBQQ_PWD", "a=b \"c\" $d")]),
        };
        file.write(&folder, &id).unwrap();
        let path = folder.join(id.as_str());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LaunchFile::parse(&fs::read(path).unwrap()).unwrap(), file);
        assert_eq!(LaunchFile::generation_in(&folder, &id), Some(Generation(7)));
        let shown = format!("{file:?}");
        assert!(shown.contains("/etc/wq/a=b") && !shown.contains("PWD") && !shown.contains("$d"), "{shown}");
    }

    #[test]
    fn only_secrets_that_a_client_was_launched_with_are_renewed() {
        let first = [("MOJO_WEBQQ_ACCOUNT", "a"), ("MOJO_WEBQQ_ONEBOT_TOKEN", "old")];
        let mut file = LaunchFile { env: env(&first), ..LaunchFile::default() };
        let mut renew = |name: &str, value: &str| file.renew([(OsStr::new(name), OsStr::new(value))]);
        assert!(!renew("MOJO_WEBQQ_ONEBOT_TOKEN", "old") && !renew("MOJO_WEBQQ_OTHER_TOKEN", "new"));
        assert!(renew("MOJO_WEBQQ_ONEBOT_TOKEN", "new") && !renew("MOJO_WEBQQ_ONEBOT_TOKEN", "new"));
        assert_eq!(file.env, env(&[("MOJO_WEBQQ_ACCOUNT", "a"), ("MOJO_WEBQQ_ONEBOT_TOKEN", "new")]));
    }

    #[test]
    fn launch_file_with_foreign_variable_is_refused() {
        for foreign in
            ["LD_PRELOAD=/x", "PATH=/x", "mojo_webqq_x=1", "MOJO_WEBQQ_A-B=1", "=x", "PERL5OPT=-Mx"]
        {
            let error = LaunchFile::parse(format!("GENERATION=1\0{foreign}\0").as_bytes()).unwrap_err();
            assert!(matches!(error, LaunchFileError::Foreign(_)), "{foreign}");
        }
        for damaged in ["", "GENERATION=1", "GENERATION=x\0", "MOJO_WEBQQ_X\0"] {
            let error = LaunchFile::parse(damaged.as_bytes()).unwrap_err();
            assert!(matches!(error, LaunchFileError::Damaged), "{damaged}");
        }
        for version in ["3", "4294967297"] {
            let newer = format!("VERSION={version}\0GENERATION=1\0SOMETHING=new\0");
            let error = LaunchFile::parse(newer.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("newer wqcontroller"), "{error}");
        }
        let old = LaunchFile::parse(b"GENERATION=1\0MOJO_WEBQQ_ACCOUNT=a\0").unwrap();
        assert_eq!((old.id, old.generation), (None, Generation(1)), "as 0.1.0 wrote it");
        for id in ["ID=a/b", "ID=-a", "ID="] {
            let error = LaunchFile::parse(format!("GENERATION=1\0{id}\0").as_bytes()).unwrap_err();
            assert!(matches!(error, LaunchFileError::Damaged), "{id}");
        }
    }
}
