//! What accounts need for the applications of `[onebot_server]`.

use super::Preflight;
use crate::client_settings::{ApplicationFileError, ApplicationToken, PostSecret};
use crate::config::Settings;
use crate::model::error_chain::ErrorChain;

impl Preflight {
    /// The files of `[onebot_server]`.
    pub(super) fn applications(&mut self, settings: &Settings) {
        let table = &settings.onebot_server;
        let token = table.token_file.as_deref().map(|file| ApplicationToken::read_all(file).map(drop));
        let secret = table.secret_file.as_deref().map(|file| PostSecret::read(file).map(drop));
        for (key, read) in [("token_file", token), ("secret_file", secret)] {
            let what = format!("onebot_server.{key}");
            match read {
                None | Some(Ok(())) => {}
                Some(Err(ApplicationFileError::File(error))) => self.file(&what, &error),
                Some(Err(error)) => self.problems.push(format!("{what}: {}", ErrorChain(&error))),
            }
        }
        if table.secret_file.is_some() && table.post.is_empty() {
            let line = "onebot_server.secret_file: it signs posts, and onebot_server.post has no URL";
            self.ineffective.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_of_applications_must_have_what_can_be_sent() {
        let folder = tempfile::tempdir().unwrap();
        let found = |token: &[u8], mode| {
            let path = folder.path().join("token");
            fs::write(&path, token).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut settings = Settings::default();
            settings.onebot_server.token_file = Some(path);
            settings.onebot_server.secret_file = Some(folder.path().join("none"));
            let mut found = Preflight::default();
            found.applications(&settings);
            assert_eq!(found.ineffective.len(), 1, "{found:?}");
            found.problems
        };
        for (token, mode, why) in [
            (&b""[..], 0o600, "must have one line with tokens of visible ASCII"),
            (b"hu\x07sh", 0o600, "must have one line with tokens of visible ASCII"),
            (b"hush", 0o644, "not private (mode 0644); run chmod go= on it"),
        ] {
            let problems = found(token, mode);
            assert!(
                problems[0].starts_with("onebot_server.token_file: ") && problems[0].contains(why),
                "{problems:?}"
            );
            assert!(
                problems[1].starts_with("onebot_server.secret_file: ") && !problems.concat().contains("hush")
            );
        }
        assert_eq!(found(b"a=hush,hush", 0o600).len(), 1);
    }
}
