//! What `[onebot_server]` gives to clients that are units.

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

#[test]
fn token_of_all_applications_reaches_a_unit_and_is_renewed() {
    let Some(machine) = Machine::boot() else { return };
    let write = |token: &str| {
        machine.shell(&format!(
            "echo bot={token} | install -D -m 600 -o wqcontroller /dev/stdin /etc/wqcontroller/applications.token"
        ));
    };
    write("WORD-ONE");
    machine.configure("[onebot_server]\ntoken_file = '/etc/wqcontroller/applications.token'\n");
    machine.start_service();
    machine.start_client("bot", &["backend=sandbox", "sandbox_login_time=0"]);
    machine.wait_for_client("bot", "runs", is_running);
    let client = machine.client("bot");
    let status = |token: &str| {
        machine.shell(&format!(
            "curl --silent --output /dev/null --write-out '%{{http_code}}' --header 'Authorization: Bearer {token}' \
             http://127.0.0.1:{}/onebot/v11/get_login_info",
            client["port"]
        ))
    };
    assert_eq!((status("WORD-ONE").as_str(), status("WORD-TWO").as_str()), ("200", "403"));
    let readable =
        "find /run/wqclient/bot/ -type f -perm /077 -exec grep --files-with-matches WORD- {} + || true";
    assert_eq!(machine.shell(readable), "", "no other user can read it");
    write("WORD-TWO");
    wait_until("the new token opens the account", || status("WORD-TWO") == "200");
    assert_eq!(status("WORD-ONE"), "403");
    // It was not started again for it.
    assert_eq!(machine.client("bot")["pid"], client["pid"]);
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_client("bot", "still runs", is_running);
    assert_eq!((status("WORD-TWO").as_str(), status("WORD-ONE").as_str()), ("200", "403"));
    let said = machine.journal(&[]);
    assert!(!said.contains("WORD-"), "{said}");
    let shown = machine
        .shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c 'WORD[-]' || true");
    assert_eq!(shown, "0");
}
