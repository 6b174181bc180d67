//! What ssh's words mean, for people: what is wrong, and what to do.
//!
//! The words are those of OpenSSH 9.2 and 10.0 (`sshconnect.c`, `sshconnect2.c`, `channels.c`), which it does not translate.

use super::ssh::Route;

/// Why a tunnel does not lead to a controller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// For people.
    pub(super) text: String,
    /// Whether it stays so until a person does something.
    pub(super) is_refusal: bool,
}

/// What these lines mean, the oldest first; none where the last of them says it well enough.
pub(super) fn meaning(said: &[String], route: &Route) -> Option<Meaning> {
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    let refusal = |text: String| Some(Meaning { text, is_refusal: true });
    let (host, login) = (&route.host, route.by_hand());
    let user = match &route.user {
        Some(user) => format!("the user {user}"),
        None => "the user".to_owned(),
    };
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return refusal(format!(
            "{host} shows another host key than the one that is known, so it was installed anew or is another machine: compare its \
             fingerprint there, and if it is right, run `ssh-keygen -R {}` and then `{login}` as the user of this controller",
            route.known_as()
        ));
    }
    if has("host key is known for") || has("Host key verification failed") {
        return refusal(format!(
            "its host key is not known: run `{login}` once as the user of this controller, and compare the fingerprint"
        ));
    }
    if has("Permission denied (") || has("Too many authentication failures") {
        return refusal(format!(
            "{host} does not accept the key of this controller's user: it belongs into ~/.ssh/authorized_keys of {user} there, as \
             wqcontroller(8) shows"
        ));
    }
    if has("open failed: administratively prohibited") {
        return refusal(format!(
            "sshd on {host} forwards nothing for {user}: it needs AllowStreamLocalForwarding local and AllowTcpForwarding local in \
             sshd_config, and port-forwarding after restrict in authorized_keys, as wqcontroller(8) shows"
        ));
    }
    // sshd says it of what it refuses, too.
    if has("open failed: connect failed") {
        return Some(Meaning {
            text: format!(
                "sshd on {host} does not connect {user} to {}: start the controller there (wqcontroller-unix.socket), and see that this user \
                 is in the group of that socket, wqctl, and that sshd_config and authorized_keys let it forward there, as \
                 wqcontroller(8) shows",
                route.socket.display()
            ),
            // It may be about to start.
            is_refusal: false,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[&str]) -> Option<(String, bool)> {
        let route = Route {
            user: Some("wq".into()),
            host: "tokyo".into(),
            port: Some(2222),
            socket: "/run/wqcontroller.sock".into(),
        };
        let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
        meaning(&said, &route).map(|found| (found.text, found.is_refusal))
    }

    #[test]
    fn refusals_say_what_to_do() {
        let unknown = of(&[
            "No ED25519 host key is known for [tokyo]:2222 and you have requested strict checking.",
            "Host key verification failed.",
        ]);
        let (text, is_refusal) = unknown.unwrap();
        assert!(is_refusal && text.contains("not known: run `ssh -p 2222 wq@tokyo` once"), "{text}");
        let changed = of(&[
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
            "Host key for [tokyo]:2222 has changed and you have requested strict checking.",
            "Host key verification failed.",
        ]);
        let (text, is_refusal) = changed.unwrap();
        assert!(is_refusal && text.contains("`ssh-keygen -R [tokyo]:2222`"), "{text}");
        let (text, is_refusal) = of(&["wq@tokyo: Permission denied (publickey)."]).unwrap();
        assert!(is_refusal && text.contains("authorized_keys of the user wq there"), "{text}");
        let prohibited = of(&["channel 2: open failed: administratively prohibited: open failed"]);
        let (text, is_refusal) = prohibited.unwrap();
        assert!(is_refusal && text.contains("AllowStreamLocalForwarding local"), "{text}");
        let (text, is_refusal) = of(&["channel 2: open failed: connect failed: open failed"]).unwrap();
        assert!(!is_refusal && text.contains("wq to /run/wqcontroller.sock: start the controller"), "{text}");
    }

    #[test]
    fn other_words_speak_for_themselves() {
        assert_eq!(of(&["ssh: connect to host tokyo port 22: Connection refused"]), None);
        assert_eq!(of(&[]), None);
    }
}
