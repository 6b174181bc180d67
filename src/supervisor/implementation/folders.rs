//! The files and links that an implementation finds when it starts. All is done as its own user, in its own folders.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Error;
use crate::files::{FileError, make_parent, replace};
use crate::implementations::{ConfigFile, Content, ImplementationSettings, Link, StartValues, from_template};

/// The largest configuration file that is completed, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What the last request to drop the saved login was, below the home.
const FORGOTTEN: &str = ".wqcontroller-forgotten";

/// Drops the saved login, unless this request was carried out before: systemd can start a unit again with the same launch file.
pub(super) fn forget(
    settings: &ImplementationSettings,
    values: &StartValues,
    request: &str,
) -> Result<(), Error> {
    let done = values.home.join(FORGOTTEN);
    if request.is_empty() || read(&done)?.is_some_and(|last| last == request.as_bytes()) {
        return Ok(());
    }
    for file in settings.kind.contract().login_files(values) {
        let path = values.home.join(file);
        let removed = match path.symlink_metadata() {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::Forget(path, error)),
            _ => {}
        }
    }
    // Last, so that a start that breaks off here drops it all.
    Ok(replace(&done, request.as_bytes(), 0o600)?)
}

/// Removes the login code of an earlier start, writes the configuration of this one, and makes the links to the folder of the login
/// code.
pub(super) fn prepare(settings: &ImplementationSettings, values: &StartValues) -> Result<(), Error> {
    let contract = settings.kind.contract();
    if let Some(code) = contract.code_file().map(|code| values.runtime.join(code)) {
        // It would be shown as one that can be scanned.
        match fs::remove_file(&code) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::OldCode(code, error)),
            _ => {}
        }
    }
    for file in contract.files(settings, values) {
        write(&file, values)?;
    }
    for link in contract.links() {
        let path = values.home.join(link.from);
        make(link, &path, values).map_err(|error| Error::Link(path, error))?;
    }
    Ok(())
}

fn write(file: &ConfigFile, values: &StartValues) -> Result<(), Error> {
    let path = values.home.join(&file.path);
    let text = match &file.content {
        Content::Template(template) => {
            let missing = || FileError::Io { path: template.clone(), source: io::ErrorKind::NotFound.into() };
            let text = read(template)?.ok_or_else(missing)?;
            Some(from_template(template, &String::from_utf8_lossy(&text), values)?)
        }
        content => content.text(&path, read(&path)?.as_deref())?,
    };
    if let Some(text) = text {
        make_parent(&path)?;
        // Private, for the token is in it.
        replace(&path, text.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// The content of a file; none where it does not exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned(), limit: MAX_BYTES });
    }
    Ok(Some(content))
}

/// Makes a link at `path`. What an earlier version of the implementation left there is of no use any more: a login code is, and
/// folders of temporary files are.
fn make(link: &Link, path: &Path, values: &StartValues) -> io::Result<()> {
    let target = values.runtime.join(link.to);
    if link.is_folder {
        match fs::create_dir(&target) {
            // systemd makes the runtime folder of a unit anew. That of a child process still has what its last start made.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if fs::read_link(path).is_ok_and(|there| there == target) {
        return Ok(());
    }
    match path.symlink_metadata() {
        // `symlink_metadata` follows no link, so a link to a folder is removed and the folder is left alone.
        Ok(there) if there.is_dir() => fs::remove_dir_all(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
        }
        Err(error) => return Err(error),
    }
    symlink(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::implementations::ImplementationSettings;
    use std::os::unix::fs::PermissionsExt;

    fn values(folder: &Path) -> StartValues {
        StartValues {
            port: 15_000,
            token: "0123".into(),
            uin: "10001".into(),
            auth_token: "site".into(),
            home: folder.join("home"),
            runtime: folder.join("run"),
        }
    }

    fn prepared(folder: &Path, keys: &[(&'static str, &str)]) -> Result<(), Error> {
        let keys = keys.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let settings = ImplementationSettings::new(keys).unwrap();
        let values = values(folder);
        for folder in [&values.home, &values.runtime] {
            fs::create_dir_all(folder).unwrap();
        }
        prepare(&settings, &values)
    }

    #[test]
    fn code_lies_in_the_runtime_folder_whatever_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let llbot = [("kind", "llbot"), ("program", "/n"), ("script", "/l.js"), ("auth_token_file", "/t")];
        let temp = folder.path().join("home/data/temp");
        fs::create_dir_all(temp.join("old")).unwrap();
        let code = folder.path().join("run/temp/login-qrcode.png");
        // The second start finds what the first one made, as a child process does, the third a new folder, as a unit does.
        for is_unit in [false, true, true] {
            prepared(folder.path(), &llbot).unwrap();
            assert!(!code.exists(), "it is that of an earlier start");
            fs::write(temp.join("login-qrcode.png"), "code").unwrap();
            assert_eq!(fs::read(&code).unwrap(), b"code");
            if is_unit {
                fs::remove_dir_all(folder.path().join("run")).unwrap();
            }
        }
        let token = folder.path().join("home/data/auth_token.txt");
        assert_eq!(fs::read(&token).unwrap(), b"site");
        assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn login_is_dropped_once_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let yogurt = [("kind", "yogurt"), ("program", "/y"), ("sign_url", "http://h/")];
        let settings =
            ImplementationSettings::new(yogurt.map(|(key, value)| (key, value.to_owned()))).unwrap();
        let values = values(folder.path());
        fs::create_dir_all(&values.home).unwrap();
        let (login, other) = (values.home.join("session-store.json"), values.home.join("config.json"));
        for (request, is_dropped) in [("", false), ("1", true), ("1", false), ("2", true)] {
            fs::write(&login, "login").unwrap();
            fs::write(&other, "{}").unwrap();
            forget(&settings, &values, request).unwrap();
            assert_eq!((login.exists(), other.exists()), (!is_dropped, true), "{request:?}");
        }
        // It may not be there, or be a folder.
        fs::create_dir_all(login.join("x")).unwrap();
        forget(&settings, &values, "3").unwrap();
        forget(&settings, &values, "4").unwrap();
        assert!(!login.exists());
    }

    #[test]
    fn file_is_filled_in_from_its_template() {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("template");
        let keys = [
            ("kind", "command"),
            ("command", "/bin/true"),
            ("url", "ws://127.0.0.1:{port}/"),
            ("file", "etc/bot.ini"),
            ("file_template", template.to_str().unwrap()),
        ];
        fs::write(&template, "port={port}\ntoken={token}\n").unwrap();
        prepared(folder.path(), &keys).unwrap();
        assert_eq!(fs::read(folder.path().join("home/etc/bot.ini")).unwrap(), b"port=15000\ntoken=0123\n");
        fs::write(&template, "{secret}").unwrap();
        let error = prepared(folder.path(), &keys).unwrap_err();
        assert!(error.to_string().contains("unknown placeholder {secret}"), "{error}");
        fs::remove_file(&template).unwrap();
        assert!(matches!(prepared(folder.path(), &keys), Err(Error::File(FileError::Io { .. }))));
    }

    #[test]
    fn large_configuration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        fs::write(folder.path().join("home/config.json"), vec![b' '; 1024 * 1024 + 1]).unwrap();
        let yogurt = [("kind", "yogurt"), ("program", "/y"), ("sign_url", "http://h/")];
        assert!(matches!(prepared(folder.path(), &yogurt), Err(Error::File(FileError::TooLarge { .. }))));
    }
}
