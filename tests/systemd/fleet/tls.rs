//! Machines that are reached by TLS, through a reverse proxy there.

use super::{Fleet, reach};
use crate::machine::{Machine, not_run};
use crate::service::UNIT;

/// The token that tokyo asks for.
const TOKEN: &str = "of-tokyo-0123456789abcdef";

/// A proxy as an operator has it in front of a controller: the headers of a change of protocol are passed on, and nothing is buffered.
const PROXY: &str = "
server {
    listen 4443 ssl;
    ssl_certificate /etc/ssl/tokyo.pem;
    ssl_certificate_key /etc/ssl/tokyo.key;
    location / {
        proxy_pass http://127.0.0.1:4000;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_read_timeout 1h;
    }
}
";

/// Makes an authority of its own, and a certificate for tokyo; both machines get them.
fn certify(door: &Machine, tokyo: &Machine, name: &str) {
    tokyo.shell(&format!(
        "cd /etc/ssl
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=Authority of a test' \
           -keyout ca.key -out ca.pem 2>/dev/null
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout tokyo.key -out tokyo.csr 2>/dev/null
         printf 'subjectAltName=DNS:{name}\\nextendedKeyUsage=serverAuth\\n' >extensions
         openssl x509 -req -in tokyo.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile extensions -out tokyo.pem \
           2>/dev/null"
    ));
    door.write("/usr/local/share/ca-certificates/test.crt", &tokyo.shell("cat /etc/ssl/ca.pem"));
    door.shell("echo >>/usr/local/share/ca-certificates/test.crt");
}

/// Has the door reach tokyo by TLS, without trusting the authority yet.
fn connect(fleet: &Fleet) {
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    tokyo.shell(&format!(
        "echo {TOKEN} | install -o wqcontroller -m 600 /dev/stdin /etc/wqcontroller/door.token"
    ));
    // Its name for the proxy, and a token for what comes through that.
    tokyo.configure(
        "[http]\nhosts = [\"tokyo\"]\n[[auth.tokens]]\nname = \"door\"\nfile = \"/etc/wqcontroller/door.token\"\n",
    );
    tokyo.systemctl(&["restart", UNIT]);
    tokyo.write("/etc/nginx/conf.d/tokyo.conf", PROXY);
    tokyo.shell("rm -f /etc/nginx/sites-enabled/*; systemctl restart nginx");
    door.shell(&format!(
        "echo {TOKEN} | install -o wqcontroller -m 600 /dev/stdin /etc/wqcontroller/tokyo.token"
    ));
    door.configure(
        "[machines.tokyo]\nurl = \"https://tokyo:4443\"\ntoken_file = \"/etc/wqcontroller/tokyo.token\"\n",
    );
    door.systemctl(&["reload", UNIT]);
}

#[test]
fn machine_behind_proxy_with_tls_is_reached_once_its_authority_is_trusted() {
    let Some(fleet) = Fleet::boot(&["door", "tokyo"]) else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    if !tokyo.try_run("test", &["-x", "/usr/sbin/nginx"]).status.success() {
        return not_run("nginx is not installed (package nginx-light)");
    }
    certify(door, tokyo, "tokyo");
    connect(&fleet);
    door.wait_for_log("tokyo: its controller can't be reached: its certificate is not of an authority that this system trusts");
    door.shell("update-ca-certificates 2>&1");
    // The connections that follow find it, without a restart.
    fleet.wait_until_reached(0, "tokyo");
    reach::call_everything(&fleet, Some(TOKEN));
    let log = door.journal(&["--unit", UNIT]) + &tokyo.journal(&["--unit", UNIT]);
    assert!(!log.contains(TOKEN), "{log}");

    // A certificate for another name is refused, although its authority is trusted.
    door.start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", super::is_reachable_and_running);
    certify(door, tokyo, "osaka");
    door.shell("update-ca-certificates 2>&1");
    tokyo.systemctl(&["restart", "nginx"]);
    door.wait_for_log("certificate not valid for name \"tokyo\"");
    let (status, answer) = super::ask(door, "/openqq/get_user_info?client=far");
    assert_eq!(status, 503, "{answer}");
}
